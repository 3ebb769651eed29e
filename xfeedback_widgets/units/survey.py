"""One pass over the images: the patches that activate each unit most, and how units behave on average.

Whatever the size of the set, what is kept is the best few patches of every unit, sums per class, and the
pooled features of a bounded sample. CRAYON shows people the top patches (arXiv 2410.22312, section
"Pruning"). Ordering units by these figures is ``influence``'s business, showing them the widgets'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xfeedback_widgets.saliency.base import evaluating, prepared
from xfeedback_widgets.units.features import Features, remember
from xfeedback_widgets.units.head import Head, find_head, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from xfeedback_widgets.data import ImageSet

#: Share of a cell's sensitivity that its patch must hold.
_SEEN = 0.75

#: Images the receptive field is measured on.
_PROBED = 2


class SurveyStoppedError(RuntimeError):
    """Somebody stopped the survey before it had seen every image."""


@dataclass(frozen=True, eq=False)
class UnitSurvey:
    """What every unit responds to; all tensors are on the CPU.

    Attributes
    ----------
    peaks
        ``float32 [K, k]``, the activation of each unit's strongest patches, descending; 0 where it has
        fewer. One patch per image, at the most active cell.
    images
        ``int64 [K, k]``, positions of their images in the set; -1 where there is none.
    cells
        ``int64 [K, k]``, the cell of the peak, counted along the rows of the grid.
    maps
        ``float16 [K, k, h, w]`` ≥ 0, the unit's activation over the whole image of each patch, divided by
        its peak.
    grid
        (h, w) of the feature map.
    extent
        Height and width of a patch as shares of the image: what a cell mostly looks at, measured.
    fires
        ``float32 [K]``, share of the sampled images in which a unit reaches half of its strongest peak.
    class_means
        ``float32 [C, K]``, pooled activation averaged over the images of each class.
    std
        ``float32 [K]``, standard deviation of the pooled activation over all images.
    images_seen
        How many images could be read.
    sample
        Pooled features of at most the number of images asked for, drawn at random.
    fingerprint
        Of the weights before the linear layer.
    """

    peaks: Tensor
    images: Tensor
    cells: Tensor
    maps: Tensor
    grid: tuple[int, int]
    extent: tuple[float, float]
    fires: Tensor
    class_means: Tensor
    std: Tensor
    images_seen: int
    sample: Features
    fingerprint: str
    twins: dict[int, tuple[int, ...]] = field(init=False)
    """Units that show people the same patches are asked about once: representative → all of them.

    Units that never fire show nothing and are in no group.
    """

    def __post_init__(self) -> None:
        groups: dict[frozenset[tuple[int, int]], list[int]] = {}
        places = zip(self.images.tolist(), self.cells.tolist(), strict=True)
        for unit, (images, cells) in enumerate(places):
            shown = frozenset((i, c) for i, c in zip(images, cells, strict=True) if i >= 0)
            if shown:
                groups.setdefault(shown, []).append(unit)
        object.__setattr__(self, "twins", {units[0]: tuple(units) for units in groups.values()})

    @property
    def units(self) -> int:
        """K, the number of units."""
        return len(self.peaks)

    def box(self, unit: int, place: int) -> tuple[float, float, float, float]:
        """Say where a patch lies in its image.

        Parameters
        ----------
        unit, place
            Which patch; place 0 is the strongest.

        Returns
        -------
        tuple of float
            (top, left, bottom, right) in [0, 1] of the image's height and width; a patch at the border is
            moved inside, so all patches have the same size.
        """
        row, column = divmod(int(self.cells[unit, place]), self.grid[1])
        edges = []
        for position, cells, extent in zip((row, column), self.grid, self.extent, strict=True):
            start = min(max((position + 0.5) / cells - extent / 2, 0.0), 1.0 - extent)
            edges.append((start, start + extent))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right


def survey(
    model: nn.Module,
    data: ImageSet,
    *,
    patches: int = 3,
    sample: int = 5000,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> UnitSurvey:
    """Collect the patches that activate each unit most, in one pass with a running top-k per unit.

    Parameters
    ----------
    model
        Classifier that ends in pooling and one linear layer; run in evaluation mode.
    data
        The training images.
    patches
        k, patches per unit.
    sample
        For how many images the pooled features are kept, ≥ 1.
    batch_size
        Images per forward.
    seed
        Of the sample.
    progress
        Called with (images done, images in all) after every batch.
    stop
        Asked before every batch; True ends the survey.

    Returns
    -------
    UnitSurvey
        Takes memory for ``patches`` and ``sample``, not for the size of the set.

    Raises
    ------
    NoLinearHeadError
        The model does not end in pooling and one linear layer.
    SurveyStoppedError
        ``stop`` returned True.
    UnreadableImageError
        Not a single image can be read.
    ValueError
        ``patches`` or ``sample`` is below 1.
    """
    for name, value in (("patches", patches), ("sample", sample)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    head = find_head(model, data)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[torch.randperm(len(data), generator=generator)[:sample]] = True
    tally: _Tally | None = None
    probes: Tensor | None = None
    for batch in data.batches(batch_size):
        if stop is not None and stop():
            raise SurveyStoppedError("stopped before every image was seen; nothing was kept")
        activations, pooled = head.read(model, batch.images)
        if tally is None:
            probes = batch.images[:_PROBED]
            classes = max(data.num_classes, head.classifier.out_features)
            tally = _Tally(activations, patches, classes)
        tally.add(activations, pooled, batch.labels, batch.indices, chosen[batch.indices])
        if progress is not None:
            progress(int(batch.indices[-1]) + 1, len(data))
    assert tally is not None  # noqa: S101 - batches() raises rather than yield nothing
    assert probes is not None  # noqa: S101 - likewise
    trunk = fingerprint(model, head)
    if len(tally.kept) == tally.seen:
        remember(data, trunk, tally.kept)
    return tally.finish(_extent(model, head, probes), trunk)


class _Tally:
    """Running sums and running top-k, on the model's device."""

    def __init__(self, like: Tensor, patches: int, classes: int) -> None:
        units, device = like.shape[1], like.device
        self._grid = (like.shape[2], like.shape[3])
        # a peak must be above zero to count: a unit that never fires has no patch
        self._peaks = torch.zeros(patches, units, device=device)
        self._images = torch.full((patches, units), -1, device=device)
        self._cells = torch.zeros(patches, units, dtype=torch.long, device=device)
        self._maps = torch.zeros(patches, units, *self._grid, device=device)
        self._sums = torch.zeros(classes, units, dtype=torch.double, device=device)
        self._squares = torch.zeros(units, dtype=torch.double, device=device)
        self._counts = torch.zeros(classes, dtype=torch.double, device=device)
        self._sampled: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self.seen = 0

    def add(
        self, activations: Tensor, pooled: Tensor, labels: Tensor, indices: Tensor, chosen: Tensor
    ) -> None:
        device = activations.device
        peaks, cells = activations.flatten(2).max(2)
        k = len(self._peaks)
        images = indices.to(device)[:, None].expand_as(cells)
        # of equal peaks the earlier image stays: stable, so the same set gives the same patches
        best = torch.cat([self._peaks, peaks]).sort(dim=0, descending=True, stable=True)
        rows = best.indices[:k]
        self._move_maps(activations, rows)
        self._peaks = best.values[:k]
        self._images = torch.cat([self._images, images]).gather(0, rows)
        self._cells = torch.cat([self._cells, cells]).gather(0, rows)
        wide, own = pooled.double(), labels.to(device)
        self._sums.index_add_(0, own, wide)
        self._squares += wide.square().sum(0)
        self._counts += own.bincount(minlength=len(self._counts))
        self.seen += len(indices)
        if chosen.any():
            kept = chosen.to(device)
            self._sampled.append(
                (pooled[kept].cpu(), peaks[kept].half().cpu(), labels[chosen], indices[chosen])
            )

    def _move_maps(self, activations: Tensor, rows: Tensor) -> None:
        """Let the maps follow their peaks; only the few new ones are copied out of the batch."""
        k, units = rows.shape
        own = torch.arange(units, device=rows.device).expand(k, units)
        new = rows >= k
        maps = self._maps[rows.clamp_max(k - 1), own]
        maps[new] = activations[rows[new] - k, own[new]]
        self._maps = maps

    @property
    def kept(self) -> Features:
        pooled, _, labels, indices = zip(*self._sampled, strict=True)
        return Features(torch.cat(pooled), torch.cat(labels), torch.cat(indices))

    def finish(self, extent: tuple[float, float], trunk: str) -> UnitSurvey:
        peaks = torch.cat([p for _, p, _, _ in self._sampled]).float()
        strongest = self._peaks[0].cpu()
        fires = ((peaks >= strongest / 2) & (peaks > 0)).float().mean(0)
        mean = self._sums.sum(0) / self.seen
        variance = (self._squares / self.seen - mean.square()).clamp_min(0)
        return UnitSurvey(
            peaks=self._peaks.T.contiguous().cpu(),
            images=self._images.T.contiguous().cpu(),
            cells=self._cells.T.contiguous().cpu(),
            maps=(self._maps.relu() / self._peaks.clamp_min(1e-12)[..., None, None])
            .transpose(0, 1)
            .half()
            .contiguous()
            .cpu(),
            grid=self._grid,
            extent=extent,
            fires=fires,
            class_means=(self._sums / self._counts.clamp_min(1)[:, None]).float().cpu(),
            std=variance.sqrt().float().cpu(),
            images_seen=self.seen,
            sample=self.kept,
            fingerprint=trunk,
        )


def _extent(model: nn.Module, head: Head, images: Tensor) -> tuple[float, float]:
    """Measure what a cell mostly looks at: its effective receptive field (Luo et al., NeurIPS 2016).

    The theoretical field of a deep network is larger than the image and says nothing. So the gradient
    of the middle cell's activations is taken with respect to some images; the patch is the smallest
    window around the cell that holds three quarters of its absolute values.
    """
    # the gradient must not depend on where the caller stands, nor leave anything in .grad
    with torch.inference_mode(mode=False), torch.enable_grad(), evaluating(model):
        images = prepared(images.clone(), model).detach().requires_grad_()
        activations = head.activations(model, images)
        h, w = activations.shape[2:]
        (gradient,) = torch.autograd.grad(activations[:, :, h // 2, w // 2].sum(), images)
    seen = gradient.abs().sum((0, 1)).double()
    if not bool(seen.isfinite().all()) or float(seen.sum()) == 0:
        return min(1.0, 3 / h), min(1.0, 3 / w)
    height, width = seen.shape
    middle = ((h // 2 + 0.5) / h * height, (w // 2 + 0.5) / w * width)
    for share in torch.linspace(1 / max(h, w), 1, 64).tolist():
        window = tuple(
            slice(max(0, round(m - share * side / 2)), round(m + share * side / 2))
            for m, side in zip(middle, (height, width), strict=True)
        )
        if float(seen[window].sum()) >= _SEEN * float(seen.sum()):
            return share, share
    return 1.0, 1.0
