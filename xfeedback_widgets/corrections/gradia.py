"""GRADIA: learn from how people judged a map, and from how they adjusted it (Gao et al., CSCW 2022).

In Interactive Attention Alignment people first say whether the model's attention is reasonable, and then
redraw where it is not. The prediction, right or wrong, and that answer are the reasonability matrix; its cell
decides how much the label of an image and the drawing on it weigh. The arithmetic is :func:`human_map`,
:func:`stretched` and :func:`attention_loss`, pure functions over maps; the class looks up which images of a
batch were judged and drawn on. Grad-CAM itself is in ``saliency``, what a mask says in ``masks``.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.corrections.mask_losses import checked_weight
from xfeedback_widgets.corrections.masks import DrawnMasks
from xfeedback_widgets.data.augment import resample
from xfeedback_widgets.saliency import GradCAM
from xfeedback_widgets.saliency.base import evaluating, logits_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback

WEIGHTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"RA": (1.0, 0.0), "UA": (0.4, 1.6), "RIA": (0.8, 0.2), "UIA": (1.0, 1.0)}
)
"""The paper's (p, a): how much the label and the drawing of an image in each cell of the matrix weigh.

Reasonable or Unreasonable attention, Accurate or InAccurate prediction.
"""

_READ = 64  # images per forward where predictions are looked up


def human_map(shares: Tensor) -> Tensor:
    """Turn what people drew into a target for maps: blurred by a 3 × 3 Gaussian, divided by its maximum.

    Parameters
    ----------
    shares
        ``float [N, h, w]`` in [0, 1]: how much of each cell is marked relevant.

    Returns
    -------
    Tensor
        F, ``float [N, h, w]`` in [0, 1]; where nothing is marked it stays zero. The Gaussian's weights are
        1-2-1 along each axis, and the border is continued.
    """
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=shares.dtype, device=shares.device)
    padded = F.pad(shares[:, None], (1, 1, 1, 1), mode="replicate")
    return _divided(F.conv2d(padded, (kernel[:, None] * kernel)[None, None])[:, 0])


def stretched(
    maps: Tensor, *, low: bool = True, peak: Literal["constant", "differentiable"]
) -> Tensor:
    """Bring each map to [0, 1]; one that is the same everywhere becomes zero.

    Parameters
    ----------
    maps
        ``float [N, h, w]``, without ReLU where `low` is subtracted.
    low
        Subtract the minimum and divide by the range (min–max); else divide by the maximum.
    peak
        Whether minimum and maximum are differentiated or taken as numbers.

    Returns
    -------
    Tensor
        M, ``float [N, h, w]``.
    """
    ends = maps.detach() if peak == "constant" else maps
    least = ends.amin((1, 2), keepdim=True) if low else torch.zeros_like(ends[:, :1, :1])
    extent = ends.amax((1, 2), keepdim=True) - least
    return (maps - least) / torch.where(extent > 0, extent, 1.0)


def attention_loss(maps: Tensor, human: Tensor, *, misses: float = 1.0) -> Tensor:
    """Mean absolute difference of each map from what people drew, ``mean_ij |M − F|``.

    Parameters
    ----------
    maps, human
        M and F, ``float [N, h, w]`` in [0, 1].
    misses
        Weight, in [0, 1], of cells where attention is less than what was drawn, M < F.

    Returns
    -------
    Tensor
        ``float [N]`` in [0, 1].
    """
    excess = maps - human
    return torch.where(excess > 0, excess, -misses * excess).mean((1, 2))


class Gradia(Correction):
    """GRADIA: cross-entropy and distance to drawn maps, weighed by the reasonability matrix.

    ::

        L = mean_n( p_n · CE_n ) + attention · mean_{n drawn on, a_n > 0}( a_n · mean_ij |M_n − F_n| )

    with (p, a) from the cell of image n: its prediction by the weights the run starts from, in eval mode, and
    the verdict on its map. A mask without a verdict, or with "unsure", counts as unreasonable. Images nobody
    said anything about weigh (1, 0).

    M is Grad-CAM of the true class. F is what was marked relevant, averaged over the cells of the map, and
    then :func:`human_map`. Where only irrelevant regions are marked, F is the model's own map at the start
    of the run with these regions erased and divided by its maximum. An F that is empty drops its term.

    Parameters
    ----------
    weights
        Cells of the matrix ("RA", "UA", "RIA", "UIA") to (p, a), both ≥ 0; cells left out keep the paper's.
    attention
        Weight of the second term; 1 in the paper.
    misses
        Weight of ``|M − F|``, in [0, 1], where attention is less than what was drawn, M < F; 1 in the
        paper. With 0 only attention outside is penalised. Cells on an object hold some of what is around
        it; pressed to light up, they light up with that as well.
    alpha
        Whether Grad-CAM's channel weights are differentiated. With ``"constant"`` only the activations
        learn to look elsewhere; with ``"differentiable"`` the last layer also learns to do without the
        channels that look there.
    scale
        How maps are brought to [0, 1]. ``"min-max"`` takes the map without ReLU, so evidence against the
        class weighs like evidence for it; ``"max"`` divides what speaks for the class by its maximum.
    peak
        Whether the ends of that scale are differentiated. With ``"differentiable"`` the loss can be met by
        raising the peak, which lowers everything else; with ``"constant"`` attention in the wrong place
        has to go.
    centred
        Explain ``z_c − mean(z)`` instead of ``z_c``: as softmax does not see a shift of all logits, neither
        should the map.
    layer
        Target layer of Grad-CAM, by name or module; None finds it.

    Raises
    ------
    ValueError
        An unknown cell or option, or a weight below zero.

    See Also
    --------
    published : the paper's form.
    """

    name: ClassVar[str] = "GRADIA"
    learns_from: ClassVar[frozenset[str]] = frozenset({"verdicts", "masks"})

    def __init__(
        self,
        *,
        weights: Mapping[str, tuple[float, float]] = WEIGHTS,
        attention: float = 3.0,
        misses: float = 0.0,
        alpha: Literal["constant", "differentiable"] = "differentiable",
        scale: Literal["min-max", "max"] = "max",
        peak: Literal["constant", "differentiable"] = "constant",
        centred: bool = True,
        layer: str | nn.Module | None = None,
    ) -> None:
        for name, value, allowed in (
            ("alpha", alpha, ("constant", "differentiable")),
            ("scale", scale, ("min-max", "max")),
            ("peak", peak, ("constant", "differentiable")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        self.weights = _table(weights)
        self.attention = checked_weight("attention", attention)
        if not 0 <= misses <= 1:
            raise ValueError(f"misses must be in [0, 1], got {misses}")
        self.misses = misses
        self.alpha: Literal["constant", "differentiable"] = alpha
        self.scale: Literal["min-max", "max"] = scale
        self.peak: Literal["constant", "differentiable"] = peak
        self.centred = centred
        self.layer = layer

    @classmethod
    def published(cls, **overrides: Any) -> Gradia:
        """Return the paper's form: plain Grad-CAM without ReLU, min–max, channel weights constant.

        The paper trains it with Adam at 1e-4, batches of 100 drawn alike from all images, for 50 epochs:
        ``fine_tune(…, lr=1e-4, batch_size=100, epochs=50, answered_share=0)``.

        Parameters
        ----------
        **overrides
            Constructor arguments that replace the paper's.
        """
        paper: dict[str, Any] = {
            "attention": 1.0,
            "misses": 1.0,
            "alpha": "constant",
            "scale": "min-max",
            "peak": "differentiable",
            "centred": False,
        }
        return cls(**paper | overrides)

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option here
        """The method people should be shown: the one whose maps are trained."""
        return "centred_gradcam" if self.centred else "gradcam"

    def __repr__(self) -> str:
        table = "" if self.weights == WEIGHTS else f"weights={dict(self.weights)}, "
        return (
            f"Gradia({table}attention={self.attention:g}, misses={self.misses:g}, "
            f"alpha={self.alpha!r}, scale={self.scale!r}, peak={self.peak!r}, "
            f"centred={self.centred})"
        )

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Look up masks and verdicts, and in which cell of the matrix each image is."""
        device = next(model.parameters()).device
        self._cam = GradCAM(model, self.layer, centred=self.centred)
        self._drawn = DrawnMasks(data, feedback, device)
        reasonable = dict.fromkeys(self._drawn.positions, False)
        for image_id, verdict in feedback.verdicts.items():
            if image_id in data and verdict.answer != "unsure":
                reasonable[data.index(image_id)] = verdict.answer == "accept"
        # Tables over the whole set, so that looking up a batch is one indexing operation.
        self._p, self._a = torch.ones(len(data)), torch.zeros(len(data))
        own: dict[int, Tensor] = {}
        said = list(reasonable)
        for start in range(0, len(said), _READ):
            batch = data.batch(said[start : start + _READ]).to(device)
            if len(batch) == 0:
                continue
            with torch.no_grad(), evaluating(model):
                logits, maps = self._maps(batch)
            right = (logits.argmax(1) == batch.labels).tolist()
            own |= zip(batch.indices.tolist(), self._stretched(maps), strict=True)
            for position, accurate in zip(batch.indices.tolist(), right, strict=True):
                cell = ("R" if reasonable[position] else "U") + ("A" if accurate else "IA")
                self._p[position], self._a[position] = self.weights[cell]
        # of an image that cannot be opened any more there is no map, and none will be asked for
        unread = torch.zeros_like(next(iter(own.values()))) if own else torch.zeros(1, 1)
        found = [own.get(position, unread) for position in self._drawn.positions]
        self._own = torch.stack(found or [unread])
        self._p, self._a = self._p.to(device), self._a.to(device)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward: logits and maps together, the drawing's term where there is a drawing."""
        p, a = self._p[batch.indices], self._a[batch.indices]
        drawn = self._drawn.have(batch)
        if bool(drawn.any()):
            logits, maps = self._maps(batch)
            human = self._human(batch, (maps.shape[1], maps.shape[2]))
            counted = (a[drawn] > 0) & (human.amax((1, 2)) > 0)
            maps = self._stretched(maps[drawn])
            distance = attention_loss(maps, human, misses=self.misses)
            attention = (a[drawn] * distance)[counted].sum() / counted.sum().clamp(min=1)
        else:  # no map is needed, and a head without a closed form would charge for it
            logits = logits_of(model(batch.images))
            attention = logits.new_zeros(())
        logits = logits.float()
        cross_entropy = (p * F.cross_entropy(logits, batch.labels, reduction="none")).mean()
        attention = self.attention * attention.float()
        return Losses(
            cross_entropy + attention,
            {"cross_entropy": cross_entropy.detach(), "attention": attention.detach()},
            int((logits.argmax(1) == batch.labels).sum()),
        )

    def _maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._cam.logits_and_maps(
            batch.images, batch.labels, signed=self.scale == "min-max", alpha=self.alpha
        )

    def _stretched(self, maps: Tensor) -> Tensor:
        return stretched(maps.float(), low=self.scale == "min-max", peak=self.peak)

    def _human(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """F of the batch's images with a mask, ``[n, h, w]``."""
        relevant, irrelevant = self._drawn.shares(batch, size).unbind(1)
        own = self._own[self._drawn.rows(batch)][:, None]
        source = None if batch.source is None else batch.source[self._drawn.have(batch)]
        erased = _divided(resample(own, source, size)[:, 0] * (1 - irrelevant))
        return torch.where(self._drawn.marked(batch)[:, :1, None], human_map(relevant), erased)


def _divided(maps: Tensor) -> Tensor:
    peak = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(peak > 0, peak, 1.0)


def _table(weights: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    for cell, pair in weights.items():
        if cell not in WEIGHTS:
            raise ValueError(f"unknown cell {cell!r}; the matrix has {', '.join(WEIGHTS)}")
        if len(pair) != 2 or not all(w >= 0 and math.isfinite(w) for w in pair):
            raise ValueError(
                f"weights of {cell} must be (p, a), both >= 0 and finite, got {pair!r}"
            )
    return MappingProxyType({**WEIGHTS, **weights})
