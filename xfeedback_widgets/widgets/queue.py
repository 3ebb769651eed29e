"""What comes next: class filter, order, and the way back, as plain logic over indices.

No widget and no model here. Orders take what they need as arrays; as long as predictions are not
there, every order that needs them is the order of the dataset; so it is with robustness scores.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

ORDERS = {
    "least_confident": "Least confident",
    "misclassified": "Misclassified",
    "random": "Random",
    "disagreement": "Disagreement",
    "robustness": "Low robustness score",
    "dataset": "Dataset",
    "most_uncertain": "Most uncertain",
    "mutual_information": "Most mutual information",
    "rejected_overlap": "Most like what was rejected",
}
WORTH = {
    "most_uncertain": "entropy",
    "mutual_information": "mutual_information",
    "rejected_overlap": "overlap",
}
"""What :meth:`.Session.worth_asking` has to be asked for, by order."""
BAYESIAN = frozenset({"most_uncertain", "mutual_information"})
"""Orders that need a model made Bayesian by ``xf.bayesian.convert``."""


def arrange(
    order: str,
    labels: NDArray[np.integer],
    *,
    classes: Collection[int] | None = None,
    probabilities: NDArray[np.floating] | None = None,
    disagreement: NDArray[np.floating] | None = None,
    robustness: NDArray[np.floating] | None = None,
    worth: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> list[int]:
    """Return the positions of the images to review, in order.

    Parameters
    ----------
    order : str
        ``least_confident``: lowest top probability first. ``misclassified``: confident mistakes
        first, then the rest by rising confidence. ``disagreement``: images on which annotators
        disagree first. ``robustness``: the least of the map on the object first, what has no score
        last. ``random``: shuffled by `seed`. ``dataset``: as they come. Those of :data:`WORTH`: the
        highest `worth` first.
    labels : ndarray of int, shape [N]
    classes : collection of int, optional
        Keep only images of these true classes.
    probabilities : ndarray of float, shape [N, C], optional
        Current predictions; without them the orders that need them fall back to the dataset's.
    disagreement : ndarray of float, shape [N], optional
        Per image, from 0 (all agree, or nobody answered) upwards.
    worth : ndarray of float, shape [N], optional
        Per image, how much it is worth asking about it; NaN, where that is not known, comes last.
    robustness : ndarray of float, shape [N], optional
        Robustness score of each image in [0, 1], NaN where there is none.
    seed : int

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        For an order that does not exist.
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}: choose one of {', '.join(ORDERS)}")
    positions = np.arange(len(labels))
    if order == "random":
        positions = np.random.default_rng(seed).permutation(len(labels))
    elif order == "disagreement" and disagreement is not None:
        positions = np.argsort(-disagreement, kind="stable")
    elif order in WORTH and worth is not None:
        positions = np.argsort(-worth, kind="stable")  # NaN goes to the end
    elif order == "robustness" and robustness is not None:
        positions = np.argsort(robustness, kind="stable")  # NaN last
    elif probabilities is not None and order in {"least_confident", "misclassified"}:
        confidence = np.nan_to_num(probabilities.max(axis=1))
        if order == "misclassified":
            wrong = probabilities.argmax(axis=1) != labels
            confidence = np.where(wrong, -1.0 - confidence, confidence)
        positions = np.argsort(confidence, kind="stable")
    if classes is not None:
        positions = positions[np.isin(labels[positions], list(classes))]
    return [int(position) for position in positions]


class Queue:
    """A walk through ordered images: forward to the next unanswered one, back to where one was.

    Parameters
    ----------
    order : sequence of int
        Positions as :func:`arrange` returns them.
    answered : callable
        Whether an image has been answered; such images are passed over on the way forward.
    """

    def __init__(self, order: Sequence[int], answered: Callable[[int], bool]) -> None:
        self.order = list(order)
        self._answered = answered
        self._trail: list[int] = []
        self._at = -1
        self.forward()

    @property
    def current(self) -> int | None:
        """The image to look at; None when the order is empty or everything is answered."""
        return self._trail[self._at] if 0 <= self._at < len(self._trail) else None

    @property
    def can_go_back(self) -> bool:
        """Whether there is an image before the current one."""
        return self._at > 0

    def forward(self) -> int | None:
        """Go to the next image: along the trail after going back, else the next unanswered one.

        Images that were skipped come round again when nothing else is left. Returns None at the end.
        """
        if self._at + 1 < len(self._trail):
            self._at += 1
            return self.current
        upcoming = self.upcoming(1)
        if upcoming:
            self._trail.append(upcoming[0])
        self._at = len(self._trail) - (1 if upcoming else 0)
        return self.current

    def back(self) -> int | None:
        """Go to the image before; stays at the first one."""
        if self._at > 0:
            self._at -= 1
        return self.current

    def go_to(self, position: int) -> None:
        """Go to an image wherever it is: the latest visit on the trail, or a new end of the trail."""
        if position == self.current:
            return
        if position in self._trail:
            self._at = len(self._trail) - 1 - self._trail[::-1].index(position)
        else:
            self._trail.append(position)
            self._at = len(self._trail) - 1

    def upcoming(self, count: int) -> list[int]:
        """Return the next `count` images after the current one, without moving."""
        return list(itertools.islice(self._ahead(), count))

    def _ahead(self) -> Iterator[int]:
        later = self._trail[self._at + 1 :]
        yield from later
        seen = set(self._trail)
        fresh = (p for p in self.order if p not in seen and not self._answered(p))
        nothing_else = not later
        for position in fresh:
            nothing_else = False
            yield position
        # what was skipped comes round again, the longest ago first, the current one only when alone
        listed, here = set(self.order), self.current
        by_last_visit = reversed(dict.fromkeys(reversed(self._trail)))
        skipped = [p for p in by_last_visit if p in listed and p not in later]
        for position in skipped:
            if position != here and not self._answered(position):
                nothing_else = False
                yield position
        if nothing_else and here is not None and here in listed and not self._answered(here):
            yield here

    def reorder(self, order: Sequence[int], *, restart: bool = False) -> None:
        """Take a new order for what comes next; the trail stays unless `restart`."""
        self.order = list(order)
        if restart:
            self._trail, self._at = [], -1
            self.forward()
        elif self.current is None:
            self.forward()
        else:
            del self._trail[self._at + 1 :]
