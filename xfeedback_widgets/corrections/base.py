"""The seam between a paper and the training loop.

A correction turns what people said into a training objective. It is a small class: the paper's
hyper-parameters are constructor arguments, :meth:`Correction.prepare` does what is done once per run
(frozen maps, counts over *all* feedback), and :meth:`Correction.loss` is one forward over one batch.
What can be solved without images comes before the batches, in :meth:`Correction.solve`.
The loop knows nothing else about a correction, and a correction knows nothing about optimisers,
threads or versions. Adding a paper is adding one file beside this one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback


@dataclass(frozen=True)
class Losses:
    """What one batch costs.

    Parameters
    ----------
    total
        Scalar that is differentiated.
    parts
        Named scalars for curves and logs, already weighted as they stand in ``total``; detached.
    correct
        How many images of the batch were classified right: the guard watches training accuracy.
    reduction
        How ``total`` adds up over the images of the batch. ``"mean"`` lets the loop weigh
        micro-batches by their size, ``"sum"`` lets it add them, so that a batch that had to be split
        for memory has the same gradient as the whole one.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    correct: int = 0
    reduction: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True)
class Solving:
    """How far :meth:`Correction.solve` has come: step ``step`` of at most ``steps``, and its losses."""

    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)


def label_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return what the labels cost, averaged over images, and how many images were classified right.

    Parameters
    ----------
    logits
        ``[N, C]``.
    labels
        int64 ``[N]``: cross-entropy; bool ``[N, C]`` where images have several labels: binary
        cross-entropy, averaged over classes too, and an image is right where every class is.
    """
    if labels.ndim == 2:
        correct = int(((logits > 0) == labels.bool()).all(1).sum())
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype)), correct
    return F.cross_entropy(logits, labels), int((logits.argmax(1) == labels).sum())


class Correction(ABC):
    """A method that turns feedback into a training objective.

    An instance holds hyper-parameters only. The loop prepares a shallow copy for each run, so one
    instance may serve many runs, also at the same time.
    """

    name: ClassVar[str]
    #: Name of the saliency method people should be shown while they give feedback for it.
    saliency: ClassVar[str] = "gradcam"
    #: Whether the loop trains on batches of images with `loss`; if not, `solve` does everything.
    by_batches: ClassVar[bool] = True
    #: What it learns from, of "verdicts", "masks", "units" and "points".
    learns_from: ClassVar[frozenset[str]] = frozenset()
    #: Whether `loss` knows what to do where images have several labels.
    several_labels: ClassVar[bool] = False

    def __repr__(self) -> str:
        """Name the method and its settings, for a version's metadata."""
        return f"{type(self).__name__}()"

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:  # noqa: B027
        """Do once what the whole run needs.

        Parameters
        ----------
        model
            The model about to be trained, still with the weights the run starts from.
        data
            The training images. Answers about images it does not hold are ignored.
        feedback
            Everything people said, votes merged.
        """

    def uses(self, feedback: Feedback, image_id: str) -> str:
        """Say which of the things people said about an image training will use.

        Parameters
        ----------
        feedback
            What people said, votes merged.
        image_id
            Which image.

        Returns
        -------
        str
            ``"verdict"``, ``"mask"``, ``"mask and verdict"``, ``"points"``, or ``""`` for nothing: the
            image is not answered, was answered "unsure", or this correction learns from something else.
        """
        verdict, mask = feedback.verdicts.get(image_id), feedback.masks.get(image_id)
        used = []
        if "masks" in self.learns_from and mask is not None and not mask.empty:
            used.append("mask")
        if "verdicts" in self.learns_from and verdict is not None and verdict.answer != "unsure":
            used.append("verdict")
        if "points" in self.learns_from and image_id in feedback.points:
            used.append("points")
        return " and ".join(used)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Give what is trained beside the model and no part of it; asked once, after `prepare`."""
        return iter(())

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the objective of one batch, from exactly one forward of ``model``."""

    def solve(self, model: nn.Module) -> Iterator[Solving]:  # noqa: ARG002
        """Optimise what needs no batches, before the first of them; by default nothing.

        Parameters
        ----------
        model
            As in `prepare`; changed in place.

        Yields
        ------
        Solving
            After each step: the places where a run can be stopped.
        """
        return iter(())

    def finish(self) -> None:  # noqa: B027
        """Take back what `prepare` and `solve` attached to the model; called however the run ends."""


class Wrapped(Correction):
    """Another correction, with something changed around it: what it is told, or what it is trained on.

    Parameters
    ----------
    correction
        The other one. Subclasses prepare a copy of it by :meth:`prepare`.
    """

    def __init__(self, correction: Correction) -> None:
        self.correction = correction

    @property
    def saliency(self) -> str:  # type: ignore[override]  # the other correction's
        """What people should be shown."""
        return self.correction.saliency

    @property
    def learns_from(self) -> frozenset[str]:  # type: ignore[override]  # the other correction's
        """What it learns from."""
        return self.correction.learns_from

    @property
    def several_labels(self) -> bool:  # type: ignore[override]  # the other correction's
        """Whether images may have several labels."""
        return self.correction.several_labels

    @property
    def by_batches(self) -> bool:  # type: ignore[override]  # the other correction's
        """Whether batches are trained on."""
        return self.correction.by_batches

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Prepare the other correction."""
        self._prepared: Correction = copy.copy(self.correction)
        self._prepared.prepare(model, data, feedback)

    def solve(self, model: nn.Module) -> Iterator[Solving]:
        """Whatever the other correction solves."""
        return self._prepared.solve(model)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the other correction trains beside the model."""
        return self._prepared.parameters()

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """The other correction's loss."""
        return self._prepared.loss(model, batch)

    def finish(self) -> None:
        """Finish the other correction."""
        if hasattr(self, "_prepared"):
            self._prepared.finish()
