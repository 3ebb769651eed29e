"""The desk: what a person is looking at now, as plain state without any widget.

Which view is open, which image and which tile is current, what has been answered, what comes next.
One lock guards it, because a press may arrive on any thread while the pump is reading.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from xfeedback_widgets.widgets.queue import Queue, arrange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.feedback import Verdict
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.explainer import Explained

_UNTOUCHED = 3.0  # seconds after which the first image stays, whatever order arrives


class Desk:
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
    lock : RLock
        Taken by every method; hold it over several calls that belong together.
    mode : str
        ``"one"``, ``"grid"`` or ``"compare"``.
    shown : Explained or None
        What the pump painted last as one image.
    answered : set of int
        Positions of the images that this annotator has answered.
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
        self.lock = threading.RLock()
        self.mode = "one"
        self.shown: Explained | None = None
        self.answered: set[int] = set()
        self.page_start = 0
        self.selected = 0
        self._session, self._data = session, session.data
        self._labels: NDArray[np.integer] = session.data.labels.numpy()
        self._offered = classes
        self._order, self._class, self._page_size, self._seed = order, -1, page_size, seed
        self._probabilities: NDArray[np.floating] | None = None
        self._touched = False
        self._made = self._since = time.monotonic()
        self.reread_answers()
        self._queue = Queue(self._arranged(), self.answered.__contains__)

    # ------------------------------------------------------------------ where

    @property
    def current(self) -> str | None:
        """Id of the image shown as one; None at the end of the queue."""
        with self.lock:
            position = self._queue.current
            return None if position is None else self._data.ids[position]

    @property
    def page(self) -> list[str]:
        """Ids of the images on the grid's page."""
        with self.lock:
            stop = self.page_start + self._page_size
            return [self._data.ids[p] for p in self._queue.order[self.page_start : stop]]

    @property
    def target(self) -> str | None:
        """Id of the image that an answer is about: the selected tile, or the one image."""
        with self.lock:
            if self.mode != "grid":
                return self.current
            page = self.page
            return page[self.selected] if page else None

    @property
    def length(self) -> int:
        """Number of images in the queue, answered or not."""
        return len(self._queue.order)

    @property
    def looked(self) -> float | None:
        """Seconds since the one image came up; unknown in the grid."""
        return None if self.mode == "grid" else time.monotonic() - self._since

    def upcoming(self, count: int) -> list[str]:
        """Ids of the next images after the current one."""
        with self.lock:
            return [self._data.ids[position] for position in self._queue.upcoming(count)]

    def open_tiles(self) -> list[str]:
        """Ids of the images on the grid's page that have no answer."""
        return [i for i in self.page if self._data.index(i) not in self.answered]

    # ------------------------------------------------------------------ moving

    def touch(self) -> None:
        """Note that somebody has begun to work: from now on nothing moves by itself."""
        self._touched = True

    def forward(self) -> None:
        """Go to the next image or tile."""
        with self.lock:
            if self.mode == "grid":
                self.select(self.selected + 1)
            else:
                self._queue.forward()
                self._since = time.monotonic()

    def back(self) -> None:
        """Go to the image or tile before."""
        with self.lock:
            if self.mode == "grid":
                self.select(self.selected - 1)
            else:
                self._queue.back()
                self._since = time.monotonic()

    def select(self, index: int) -> None:
        """Select a tile; beyond the ends, the first or last one."""
        with self.lock:
            self.selected = min(max(0, index), max(0, len(self.page) - 1))

    def go_to(self, image_id: str) -> None:
        """Go to an image, wherever it is in the queue; select its tile if it has one on this page."""
        with self.lock:
            page = self.page
            if self.mode == "grid" and image_id in page:
                self.selected = page.index(image_id)
            self._queue.go_to(self._data.index(image_id))
            self._since = time.monotonic()

    def turn(self, pages: int) -> None:
        """Go on or back by some pages of the grid."""
        with self.lock:
            last = max(0, (self.length - 1) // self._page_size * self._page_size)
            self.page_start = min(max(0, self.page_start + pages * self._page_size), last)
            self.selected = 0

    def switch(self, mode: str) -> None:
        """Open another view; the grid opens on the page of the current image."""
        with self.lock:
            if mode == "grid" and self.mode != "grid":
                self.page_start = self._page_of_current()
                self.selected = 0
            self.mode = mode
            self._since = time.monotonic()

    def _page_of_current(self) -> int:
        position = self._queue.current
        if position is None or position not in self._queue.order:
            return 0
        return self._queue.order.index(position) // self._page_size * self._page_size

    # ------------------------------------------------------------------ order

    @property
    def needs_scores(self) -> bool:
        """Whether the chosen order depends on predictions."""
        return self._order in {"least_confident", "misclassified"}

    def choose(self, *, order: str, only: int, page_size: int) -> None:
        """Begin anew with another order, true class (-1: all) or page size."""
        with self.lock:
            self._order, self._class, self._page_size = order, only, page_size
            self._queue.reorder(self._arranged(), restart=True)
            self.page_start = self.selected = 0
            self._touched = False
            self._made = self._since = time.monotonic()

    def set_scores(self, probabilities: NDArray[np.floating]) -> None:
        """Order by these predictions [N, C] what is still to come.

        The first scores may also change the image on screen, but not under anyone's hands.
        """
        with self.lock:
            fresh = not self._touched and time.monotonic() - self._made < _UNTOUCHED
            self._touched = True
            self._probabilities = probabilities
            page = self.page
            self._queue.reorder(self._arranged(), restart=fresh)
            if self.mode == "grid":
                self._keep_page(page)

    def _keep_page(self, page: list[str]) -> None:
        """Leave the tiles of an open page where they are: they are being answered."""
        positions = [self._data.index(image_id) for image_id in page]
        shown = set(positions)
        rest = [position for position in self._queue.order if position not in shown]
        self._queue.order = rest[: self.page_start] + positions + rest[self.page_start :]

    def _arranged(self) -> list[int]:
        return arrange(
            self._order,
            self._labels,
            classes=self._offered if self._class == -1 else [self._class],
            probabilities=self._probabilities,
            disagreement=self._disagreement() if self._order == "disagreement" else None,
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

    def reread_answers(self) -> None:
        """Read from the session what this annotator has answered."""
        with self.lock:
            votes = self._session.feedback.votes
            own = {i for i, given in votes.items() if self.own_answer(given) is not None}
            self.answered.clear()
            self.answered.update(self._data.index(i) for i in own if i in self._data)

    def own_answer(self, votes: Sequence[Verdict]) -> str | None:
        """Return this annotator's answer among votes."""
        me = self._session.annotator
        return next((vote.answer for vote in votes if vote.annotator == me), None)
