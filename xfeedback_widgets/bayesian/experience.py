"""What an uncertainty has meant so far: how often predictions like this one were right.

Entropy in nats says little to people, and a model may be sure and wrong. :class:`Experience` looks up a new
uncertainty among those of images with known labels, so that words can be chosen by what happened there. The
words themselves are the widgets' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from xfeedback_widgets.bayesian.posterior import Prediction

NEIGHBOURS = 40
"""How many images an uncertainty is compared with, at most a fifth of those there are."""

FEWEST = 10
"""Fewer neighbours say nothing."""


class Record(NamedTuple):
    """How many of some images were predicted right."""

    right: int
    of: int


@dataclass(frozen=True)
class Experience:
    """Uncertainty of images whose labels are known, and whether they were predicted right.

    Parameters
    ----------
    entropy, mutual_information
        float ``[M]``, as in :class:`~.posterior.Prediction`.
    right
        bool ``[M]``.
    """

    entropy: Tensor
    mutual_information: Tensor
    right: Tensor

    @classmethod
    def of(cls, prediction: Prediction, labels: Tensor) -> Experience:
        """Gather it from a prediction of M images and their labels, int64 ``[M]``."""
        right = prediction.probabilities.argmax(1).cpu() == labels.cpu()
        return cls(prediction.entropy.cpu(), prediction.mutual_information.cpu(), right)

    @classmethod
    def joined(cls, parts: Sequence[Experience]) -> Experience:
        """Put what was gathered in parts together; nothing at all is an experience of no image."""
        if not parts:
            return cls(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.bool))
        fields = ("entropy", "mutual_information", "right")
        return cls(*(torch.cat([getattr(part, field) for part in parts]) for field in fields))

    def __len__(self) -> int:
        return len(self.right)

    def like(self, entropy: float) -> Record | None:
        """Count how many of the images with the most similar entropy were predicted right.

        Returns
        -------
        Record or None
            None with fewer than 50 images: too few to be compared with.
        """
        count = min(NEIGHBOURS, len(self) // 5)
        if count < FEWEST:
            return None
        nearest = (self.entropy - entropy).abs().argsort(stable=True)[:count]
        return Record(int(self.right[nearest].sum()), count)

    def rank(self, mutual_information: float) -> float:
        """Return the share of images, in [0, 1], whose mutual information is smaller; ties count half."""
        below = (self.mutual_information < mutual_information).double()
        equal = (self.mutual_information == mutual_information).double()
        return float((below + equal / 2).mean()) if len(self) else torch.nan
