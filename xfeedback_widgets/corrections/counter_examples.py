"""Counter-examples: what is irrelevant in an image may as well be something else.

CAIPI (Teso & Kersting, AIES 2019) answers "right for the wrong reasons" with new examples: the same image,
the irrelevant region filled with something else, and the same label. A model that learns from these cannot
use the region, whatever its maps show. What is irrelevant in one image can also be laid over others, whose
labels it does not change either. :class:`CounterExamples` trains any other correction on such images; it is
a matter of data, and the objectives are the other files' business.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Wrapped
from xfeedback_widgets.corrections.baselines import PlainFineTuning
from xfeedback_widgets.corrections.bayesian import irrelevant_region, irrelevant_regions
from xfeedback_widgets.data.augment import resample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xfeedback_widgets.corrections.base import Correction, Losses
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback


class CounterExamples(Wrapped):
    """Train with images whose irrelevant region is filled from another answered image.

    In every batch, each image with an irrelevant region is replaced by a counter-example, so that a step
    costs one forward of as many images as without. What fills the region is what is irrelevant in
    another answered image, drawn anew in each step; where that one shows its own object, the mean colour of
    its irrelevant region. CAIPI itself fills with noise, constants or samples of other images.

    Irrelevant is what a region mask marks −1, or else the hot region of a map that was rejected.

    Where all that is irrelevant belongs to one class (a sticker on half of the benign moles), exchanging
    it among answered images shows it with no other class. `plant` does: it lays the region of an
    answered image, at its own place, over images of other classes that nobody marked.

    Parameters
    ----------
    correction
        What is trained on these batches; None: :class:`PlainFineTuning`. ``CounterExamples(Energy())``
        moves attention as well.
    plant
        Probability, in [0, 1], that an image without a region is to have one laid over it; where the one
        drawn is of its own class, none is. With as much as the share of moles that have a sticker, it no
        longer tells the classes apart. Only for regions that leave the object of any image visible: not
        for whole backgrounds.
    images
        From how many of the answered images, drawn at random, regions are filled; they are kept in memory.
    seed
        Of these draws.

    Raises
    ------
    ValueError
        `images` is less than 2, or `plant` no probability.
    TypeError
        `correction` does not train on batches.

    Examples
    --------
    >>> CounterExamples()
    CounterExamples(PlainFineTuning())
    """

    name: ClassVar[str] = "counter-examples"

    def __init__(
        self,
        correction: Correction | None = None,
        *,
        plant: float = 0.0,
        images: int = 256,
        seed: int = 0,
    ) -> None:
        if images < 2:
            raise ValueError(f"images must be at least 2, got {images}")
        if not 0 <= plant <= 1:
            raise ValueError(f"plant must be in [0, 1], got {plant}")
        super().__init__(PlainFineTuning() if correction is None else correction)
        if not self.correction.by_batches:
            raise TypeError(
                f"{self.correction!r} does not train on batches of images; pass one that does, or None"
            )
        self.plant = plant
        self.images = images
        self.seed = seed

    def __repr__(self) -> str:
        planting = f", plant={self.plant}" if self.plant else ""
        return f"CounterExamples({self.correction!r}{planting})"

    @property
    def learns_from(self) -> frozenset[str]:  # type: ignore[override]  # and the other correction
        """Masks and rejected maps, and what the other correction learns from."""
        return self.correction.learns_from | {"masks", "verdicts"}

    def uses(self, feedback: Feedback, image_id: str) -> str:  # noqa: D102 - inherited
        said = self.correction.uses(feedback, image_id).split(" and ")
        if irrelevant_region(feedback, image_id) is not None:
            drawn = feedback.masks.get(image_id)
            said.append("mask" if drawn is not None and (drawn.mask < 0).any() else "verdict")
        return " and ".join(name for name in ("mask", "verdict", "points") if name in said)

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Collect the regions, what to fill them with, and what to lay over other images."""
        super().prepare(model, data, feedback)
        self._draws = torch.Generator().manual_seed(self.seed)
        self._regions = irrelevant_regions(data, feedback)
        positions = list(self._regions)
        order = torch.randperm(len(positions), generator=self._draws).tolist()
        batch = data.batch([positions[i] for i in order[: self.images]])
        self._sources, self._labels = batch.indices, batch.labels
        self._fillings = batch.images
        if len(batch):
            self._planted = irrelevant = self._irrelevant(batch)
            counts = irrelevant.sum((2, 3), keepdim=True).clamp(min=1)
            means = (batch.images * irrelevant).sum((2, 3), keepdim=True) / counts
            self._fillings = torch.where(irrelevant, batch.images, means)

    def _irrelevant(self, batch: Batch) -> Tensor:
        """What of each image is irrelevant, bool ``[N, 1, H, W]`` on the CPU, moved as the image was."""
        size = (batch.images.shape[2], batch.images.shape[3])
        found = torch.zeros(len(batch), 1, *size, dtype=torch.bool)
        for row, position in enumerate(batch.indices.tolist()):
            region = self._regions.get(position)
            if region is None:
                continue
            shown = F.interpolate(region[None, None].float(), size)
            if batch.source is not None:
                shown = resample(shown, batch.source[row, None].cpu(), size)
            found[row] = shown[0] > 0.5
        return found

    def _filled(self, batch: Batch) -> Batch:
        known = len(self._sources)
        answered = torch.tensor([at in self._regions for at in batch.indices.tolist()])
        changed = answered if known > 1 else torch.zeros_like(answered)
        if not known or not (self.plant or changed.any()):
            return batch
        drawn = torch.randint(known, (len(batch),), generator=self._draws)
        itself = self._sources[drawn] == batch.indices.cpu()
        drawn = torch.where(itself, (drawn + 1) % known, drawn)
        regions = self._irrelevant(batch)
        if self.plant:
            lot = torch.rand(len(batch), generator=self._draws)
            planted = ~answered & (lot < self.plant) & (self._labels[drawn] != batch.labels.cpu())
            regions[planted] = self._planted[drawn[planted]]
            changed = changed | planted
        rows = changed.nonzero()[:, 0]
        region, filling = regions[rows], self._fillings[drawn[rows]]
        images, rows = batch.images.clone(), rows.to(batch.images.device)
        images[rows] = torch.where(region.to(images.device), filling.to(images), images[rows])
        return dataclasses.replace(batch, images=images)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """The other correction's loss of a batch of counter-examples."""
        return super().loss(model, self._filled(batch))
