"""The desk of the alignment: which step, which image, which part of the queue. No widget here.

Two queues on the same images: all of them are judged, the unreasonable ones are adjusted. Either can be
narrowed to a cell of the reasonability matrix, and the first to what was judged under earlier weights.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.widgets.desk import Desk
from xfeedback_widgets.widgets.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.feedback import RegionMask
    from xfeedback_widgets.feedback.reasonability import Cell
    from xfeedback_widgets.session import Session

STEPS = ("judge", "adjust")
WORDS = {"accept": "✓ reasonable", "reject": "✕ unreasonable", "unsure": "? unsure"}
"""How answers are called here."""


class AlignmentDesk(Desk):
    """Where a person is in the two steps.

    Parameters
    ----------
    session : Session
    **options
        As for :class:`~.desk.Desk`.

    Attributes
    ----------
    mode : str
        ``"judge"``, ``"adjust"`` or ``"compare"``.
    step : str
        ``"judge"`` or ``"adjust"``: whose queue it is.
    judged, outdated : set of int
        Positions this annotator has judged at all, and those of them judged under other weights than
        the live ones.
    unreasonable : set of int
        Positions whose merged verdict is "reject".
    adjusted : set of int
        Positions of those that have a mask with something on it.
    labels, predicted : dict of image id to int
        True class, and class predicted by the version :attr:`scored`.
    cell : str or None
        Cell of the matrix that the queue is narrowed to.
    again : bool
        Whether the first step offers what was judged under earlier weights.
    """

    def __init__(self, session: Session, **options: Any) -> None:
        self.step = "judge"
        self.cell: Cell | None = None
        self.again = False
        self.judged: set[int] = set()
        self.outdated: set[int] = set()
        self.unreasonable: set[int] = set()
        self.adjusted: set[int] = set()
        self.labels = dict(zip(session.data.ids, session.data.labels.tolist(), strict=True))
        self.predicted: dict[str, int] = {}
        self._members: frozenset[int] = frozenset()
        self._chosen_at = 0.0  # when the cell was: what is answered later is done with
        self._empty: dict[str, tuple[RegionMask, bool]] = {}
        self._read: tuple[Any, ...] = (None,)  # what the sets above were made from
        self._done_adjusting: set[int] = set()
        self._other_queue = Queue([], self._done_adjusting.__contains__)
        super().__init__(session, page_size=1, **options)
        self.mode = "judge"

    @property
    def needs_scores(self) -> bool:
        """Whether predictions are needed: always, for the matrix."""
        return True

    def set_scores(self, probabilities: NDArray[np.floating], version: int) -> None:
        """Order by these predictions [N, C] of a version what is still to come, and judge right or wrong."""
        with self.lock:
            super().set_scores(probabilities, version)
            known = ~np.isnan(probabilities).any(axis=1)
            classes = np.where(known, np.nan_to_num(probabilities).argmax(axis=1), -1)
            pairs = zip(self._data.ids, classes.tolist(), strict=True)
            self.predicted = {image_id: index for image_id, index in pairs if index >= 0}

    # ------------------------------------------------------------------ which queue

    def offer(self, image_ids: Sequence[str]) -> None:
        """Have these images judged, in this order, judged before or not."""
        with self.lock:
            self.cell, self.again = None, False
            self.switch("judge")
            super().offer(image_ids)

    def switch(self, mode: str) -> None:
        """Open a step where it was left, or the comparison.

        A map that has just been judged unreasonable is the first to be adjusted.
        """
        with self.lock:
            if mode in STEPS and mode != self.step:
                here = self.position if mode == "adjust" else None
                self.step = mode
                self._queue, self._other_queue = self._other_queue, self._queue
                self._queue.reorder(self._arranged())
                if here is not None and here in self._queue.order:
                    self._queue.go_to(here)
                elif self._queue.current not in self._queue.order:
                    self._queue.forward()
                self._since = time.monotonic()
            super().switch(mode)

    def narrow(self, cell: Cell | None, members: Collection[int] = ()) -> None:
        """Offer only the images of a cell, answered or not, or all again.

        Cells of reasonable maps leave nothing to adjust: they open the first step.
        """
        with self.lock:
            self.cell, self._members = cell, frozenset(members)
            self._chosen_at = time.time()
            if self.step == "adjust" and not self._members & self.unreasonable:
                self.switch("judge")
            elif self.mode == "compare":
                self.switch(self.step)
            self._restart()

    def judge_again(self, on: bool) -> None:
        """Offer what was judged under earlier weights, or what was not judged yet."""
        with self.lock:
            self.again = on
            self.switch("judge")
            self._restart()

    def _restart(self) -> None:
        self.reread_answers()
        self.begin(self._arranged())
        self.touch()  # it was asked for: a new order must not change it

    def _arranged(self) -> list[int]:
        order = super()._arranged()
        if self.step == "adjust":
            order = [position for position in order if position in self.unreasonable]
        elif self.again:
            order = [position for position in order if position in self.judged]
        if self.cell is not None:
            order = [position for position in order if position in self._members]
        return order

    # ------------------------------------------------------------------ answers

    def note_answer(self, image_id: str) -> None:
        """Count an image as answered."""
        self._again.discard(self._data.index(image_id))
        self.reread_answers()

    def reread_answers(self) -> None:
        """Read from the session what was judged and drawn."""
        with self.lock:
            feedback, here, version = self._session.feedback, self._data, self._session.version
            known, self._read = self._read, (feedback, version, self.again, self._chosen_at)
            if known[0] is feedback and known[1:] == self._read[1:]:
                return
            own = {
                here.index(image_id): vote
                for image_id, votes in feedback.votes.items()
                if image_id in here and (vote := self.own_verdict(votes)) is not None
            }
            self.judged = set(own)
            self.outdated = {p for p, vote in own.items() if vote.version != version}
            unreasonable = {
                here.index(image_id)
                for image_id, verdict in feedback.verdicts.items()
                if verdict.answer == "reject" and image_id in here
            }
            changed, self.unreasonable = unreasonable != self.unreasonable, unreasonable
            masks = {here.index(i): mask for i, mask in feedback.masks.items() if i in here}
            self.adjusted = {
                p for p in self.unreasonable if p in masks and not self._is_empty(masks[p])
            }
            if self.cell is not None:
                judged = {p for p, vote in own.items() if (vote.time or 0.0) >= self._chosen_at}
                adjusted = {p for p in self.adjusted if (masks[p].time or 0.0) >= self._chosen_at}
            else:
                judged, adjusted = self.judged, self.adjusted
            if self.again:
                judged = self.judged - self.outdated
            # the queues look into these very sets
            for kept, new in ((self.answered, judged), (self._done_adjusting, adjusted)):
                kept.clear()
                kept.update(new)
            if changed and self.step == "adjust":
                self._queue.order = self._arranged()

    def _is_empty(self, mask: RegionMask) -> bool:
        """Whether nothing is drawn; a mask is unpacked for that only once."""
        known = self._empty.get(mask.image_id)
        if known is None or known[0] is not mask:
            known = self._empty[mask.image_id] = (mask, mask.empty)
        return known[1]
