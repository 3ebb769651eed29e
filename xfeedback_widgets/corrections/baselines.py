"""The controls without which no claim stands.

They use the same seam, the same batches and the same number of steps as the correction they are
compared with: :class:`PlainFineTuning` ignores the feedback, :class:`RandomFeedback` keeps the images
and their number but draws the answers by chance. A correction that does not beat both has shown that
more training, or pressure on the maps as such, helps; not that people do.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import TYPE_CHECKING, ClassVar, Literal

from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.feedback import Feedback
from xfeedback_widgets.saliency.base import logits_of

if TYPE_CHECKING:
    from torch import nn

    from xfeedback_widgets.data import Batch, ImageSet


class PlainFineTuning(Correction):
    """Cross-entropy on the same batches, feedback ignored."""

    name: ClassVar[str] = "plain fine-tuning"

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Mean cross-entropy of the batch."""
        logits = logits_of(model(batch.images)).float()
        total = F.cross_entropy(logits, batch.labels)
        correct = int((logits.argmax(1) == batch.labels).sum())
        return Losses(total, {"cross_entropy": total.detach()}, correct)


class RandomFeedback(Correction):
    """Another correction, fed with meaningless answers about the same images.

    Parameters
    ----------
    correction
        The correction under test, with the settings under test.
    how
        ``"random"`` draws each answer, accept or reject, with equal chance. ``"shuffled"`` deals the
        real answers out to other images, so that their proportions stay. ``"maps"`` keeps the answers
        and deals out the judged maps to other images.
    seed
        Of the draw.
    """

    name: ClassVar[str] = "random feedback"

    def __init__(
        self,
        correction: Correction,
        *,
        how: Literal["random", "shuffled", "maps"] = "random",
        seed: int = 0,
    ) -> None:
        if how not in ("random", "shuffled", "maps"):
            raise ValueError(f"how must be 'random', 'shuffled' or 'maps', got {how!r}")
        self.correction = correction
        self.how = how
        self.seed = seed

    def __repr__(self) -> str:
        return f"RandomFeedback({self.correction!r}, how={self.how!r}, seed={self.seed})"

    @property
    def saliency(self) -> str:  # type: ignore[override]  # the other correction's
        """What people should be shown."""
        return self.correction.saliency

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Prepare the other correction on meaningless answers."""
        rng = random.Random(self.seed)
        verdicts = list(feedback.verdicts.values())
        dealt = rng.sample(verdicts, len(verdicts))
        scrambled = []
        for verdict, other in zip(verdicts, dealt, strict=True):
            if self.how == "random":
                changed = dataclasses.replace(verdict, answer=rng.choice(("accept", "reject")))
            elif self.how == "shuffled":
                changed = dataclasses.replace(verdict, answer=other.answer)
            else:
                changed = dataclasses.replace(verdict, map=other.map)
            scrambled.append(changed)
        self._prepared: Correction = copy.copy(self.correction)
        self._prepared.prepare(model, data, Feedback.of(scrambled))

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """The other correction's loss."""
        return self._prepared.loss(model, batch)
