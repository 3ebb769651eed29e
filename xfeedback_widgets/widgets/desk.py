"""The desk: what a person is looking at now, as plain state without any widget.

Which view is open, which image and which tile is current, what has been answered, what comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xfeedback_widgets.widgets.queue import WORTH, arrange
from xfeedback_widgets.widgets.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.feedback import Verdict
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.explainer import Explained


class Desk(Walk):
    """Where a person is in the data.

    Parameters
    ----------
    session : Session
    classes : sequence of int, optional
        The only true classes offered; None: all.
    order : str
        See :func:`~.queue.arrange`.
    page_size : int
        Tiles on a page of the grid.
    seed : int
        Of the random order.

    Attributes
    ----------
    mode : str
        ``"one"``, ``"grid"`` or ``"compare"``.
    shown : Explained or None
        What the pump painted last as one image.
    scored : int or None
        Version whose predictions are known.
    """

    def __init__(
        self,
        session: Session,
        *,
        classes: Sequence[int] | None,
        order: str,
        page_size: int,
        seed: int,
    ) -> None:
        super().__init__(page_size)
        self.shown: Explained | None = None
        self._session, self._data = session, session.data
        self._labels: NDArray[np.integer] = session.data.labels.numpy()
        self._offered = classes
        self._order, self._class, self._seed = order, -1, seed
        self._probabilities: NDArray[np.floating] | None = None
        self.scored: int | None = None
        self._robustness: NDArray[np.floating] | None = None
        self._worth: dict[str, NDArray[np.floating]] = {}
        self._only: tuple[int, ...] | None = None
        self._again: set[int] = set()
        self.reread_answers()
        self.begin(self._arranged())

    # ------------------------------------------------------------------ where

    @property
    def current(self) -> str | None:
        """Id of the image shown as one; None at the end of the queue."""
        position = self.position
        return None if position is None else self._data.ids[position]

    @property
    def page(self) -> list[str]:
        """Ids of the images on the grid's page."""
        return [self._data.ids[position] for position in self.positions]

    @property
    def target(self) -> str | None:
        """Id of the image that an answer is about: the selected tile, or the one image."""
        position = self.target_position
        return None if position is None else self._data.ids[position]

    def upcoming(self, count: int) -> list[str]:
        """Ids of the next images after the current one."""
        with self.lock:
            return [self._data.ids[position] for position in self._queue.upcoming(count)]

    def open_tiles(self) -> list[str]:
        """Ids of the images on the grid's page that have no answer."""
        return [self._data.ids[p] for p in self.positions if not self.is_done(p)]

    def is_done(self, position: int) -> bool:
        """Whether an image needs no answer (any more)."""
        return position in self.answered and position not in self._again

    def go_to(self, image_id: str) -> None:
        """Go to an image, wherever it is in the queue."""
        self.go_to_position(self._data.index(image_id))

    # ------------------------------------------------------------------ order

    @property
    def needs_scores(self) -> bool:
        """Whether the chosen order depends on predictions."""
        return self._order in {"least_confident", "misclassified"} and self._only is None

    @property
    def needs_robustness(self) -> bool:
        """Whether the chosen order depends on robustness scores."""
        return self._order == "robustness" and self._only is None

    @property
    def needs_worth(self) -> str | None:
        """The chosen order where it goes by what an image is worth asking about, :data:`~.queue.WORTH`."""
        return self._order if self._order in WORTH and self._only is None else None

    def choose(self, *, order: str, only: int, page_size: int | None = None) -> None:
        """Begin anew with another order, true class (-1: all) or page size."""
        with self.lock:
            self._order, self._class = order, only
            self._only, self._again = None, set()
            self.begin(self._arranged(), page_size)

    def offer(self, image_ids: Sequence[str]) -> None:
        """Begin anew with these images, in this order, answered before or not."""
        with self.lock:
            self._only = tuple(self._data.index(image_id) for image_id in image_ids)
            self._again = self.answered & set(self._only)
            self.begin(self._arranged())
            self.touch()  # it was asked for: a new order must not change it

    def set_scores(self, probabilities: NDArray[np.floating], version: int) -> None:
        """Order by these predictions [N, C] of a version what is still to come."""
        with self.lock:
            self._probabilities, self.scored = probabilities, version
            self.rearrange(self._arranged())

    def set_robustness(self, scores: NDArray[np.floating]) -> None:
        """Order by these robustness scores [N], NaN where there is none, what is still to come."""
        with self.lock:
            self._robustness = scores
            self.rearrange(self._arranged())

    def set_worth(self, order: str, worth: NDArray[np.floating]) -> None:
        """Order by what images are worth [N], for the order it belongs to, what is still to come."""
        with self.lock:
            self._worth[order] = worth
            self.rearrange(self._arranged())

    def _arranged(self) -> list[int]:
        if self._only is not None:
            return list(self._only)
        return arrange(
            self._order,
            self._labels,
            classes=self._offered if self._class == -1 else [self._class],
            probabilities=self._probabilities,
            disagreement=self._disagreement() if self._order == "disagreement" else None,
            robustness=self._robustness,
            worth=self._worth.get(self._order),
            seed=self._seed,
        )

    def _disagreement(self) -> NDArray[np.floating]:
        """How many different answers every image has got beyond the first, [N]."""
        amount = np.zeros(len(self._labels))
        for image_id, votes in self._session.feedback.votes.items():
            if image_id in self._data:
                amount[self._data.index(image_id)] = len({vote.answer for vote in votes}) - 1
        return amount

    # ------------------------------------------------------------------ answers

    def note_answer(self, image_id: str) -> None:
        """Count an image as answered."""
        self.answered.add(self._data.index(image_id))
        self._again.discard(self._data.index(image_id))

    def reread_answers(self) -> None:
        """Read from the session what this annotator has answered."""
        with self.lock:
            votes = self._session.feedback.votes
            own = {i for i, given in votes.items() if self.own_answer(given) is not None}
            self.answered.clear()
            self.answered.update(self._data.index(i) for i in own if i in self._data)

    def own_verdict(self, votes: Sequence[Verdict]) -> Verdict | None:
        """Return this annotator's verdict among votes."""
        me = self._session.annotator
        return next((vote for vote in votes if vote.annotator == me), None)

    def own_answer(self, votes: Sequence[Verdict]) -> str | None:
        """Return this annotator's answer among votes."""
        own = self.own_verdict(votes)
        return None if own is None else own.answer
