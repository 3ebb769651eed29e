"""A walk through a queue: which item and which tile is current, as plain state without any widget.

What the review of images (`desk.py`) and the review of units (`neurons/desk.py`) share: a queue of
positions, a grid's page of it, and the rule that nothing moves by itself once a person has begun. One
lock guards it, because a press may arrive on any thread while the pump is reading.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNTOUCHED = 3.0  # seconds after which the first item stays, whatever order arrives


class Walk:
    """Where a person is in a queue of positions, which is empty at first.

    Parameters
    ----------
    page_size : int
        Tiles on a page of the grid.

    Attributes
    ----------
    lock : RLock
        Taken by every method; hold it over several calls that belong together.
    mode : str
        The open view; ``"grid"`` is the one in which a tile is selected.
    answered : set of int
        Positions that need not be offered any more.
    page_start, selected : int
        Where the grid's page begins in the queue, and the selected tile on it.
    """

    def __init__(self, page_size: int) -> None:
        self.lock = threading.RLock()
        self.mode = "one"
        self.answered: set[int] = set()
        self.page_start = 0
        self.selected = 0
        self._page_size = page_size
        self._queue = Queue([], self.is_done)
        self._touched = False
        self._made = self._since = time.monotonic()

    # ------------------------------------------------------------------ where

    @property
    def position(self) -> int | None:
        """The one item; None at the end of the queue."""
        with self.lock:
            return self._queue.current

    @property
    def positions(self) -> list[int]:
        """The items on the grid's page."""
        with self.lock:
            return self._queue.order[self.page_start : self.page_start + self._page_size]

    @property
    def target_position(self) -> int | None:
        """What an answer is about: the selected tile, or the one item."""
        with self.lock:
            if self.mode != "grid":
                return self.position
            page = self.positions
            return page[self.selected] if page else None

    @property
    def length(self) -> int:
        """Number of items in the queue, answered or not."""
        return len(self._queue.order)

    @property
    def looked(self) -> float | None:
        """Seconds since the one item came up; unknown in the grid."""
        return None if self.mode == "grid" else time.monotonic() - self._since

    def is_done(self, position: int) -> bool:
        """Whether an item is passed over on the way forward."""
        return position in self.answered

    # ------------------------------------------------------------------ moving

    def touch(self) -> None:
        """Note that somebody has begun to work: from now on nothing moves by itself."""
        self._touched = True

    def forward(self) -> None:
        """Go to the next item or tile."""
        with self.lock:
            if self.mode == "grid":
                self.select(self.selected + 1)
            else:
                self._queue.forward()
                self._since = time.monotonic()

    def back(self) -> None:
        """Go to the item or tile before."""
        with self.lock:
            if self.mode == "grid":
                self.select(self.selected - 1)
            else:
                self._queue.back()
                self._since = time.monotonic()

    def select(self, index: int) -> None:
        """Select a tile; beyond the ends, the first or last one."""
        with self.lock:
            self.selected = min(max(0, index), max(0, len(self.positions) - 1))

    def go_to_position(self, position: int) -> None:
        """Go to an item, wherever it is in the queue; select its tile if it has one on this page."""
        with self.lock:
            page = self.positions
            if self.mode == "grid" and position in page:
                self.selected = page.index(position)
            self._queue.go_to(position)
            self._since = time.monotonic()

    def turn(self, pages: int) -> None:
        """Go on or back by some pages of the grid."""
        with self.lock:
            last = max(0, (self.length - 1) // self._page_size * self._page_size)
            self.page_start = min(max(0, self.page_start + pages * self._page_size), last)
            self.selected = 0

    def switch(self, mode: str) -> None:
        """Open another view; the grid opens on the page of the current item."""
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

    def resize_page(self, page_size: int) -> None:
        """Show so many tiles on a page, beginning with the page of the selected one."""
        with self.lock:
            at = self.page_start + self.selected
            self._page_size = page_size
            self.page_start, self.selected = at // page_size * page_size, at % page_size

    def begin(self, order: Sequence[int], page_size: int | None = None) -> None:
        """Begin anew with another order, and from its first unanswered item."""
        with self.lock:
            self._page_size = page_size or self._page_size
            self._queue.reorder(order, restart=True)
            self.page_start = self.selected = 0
            self._touched = False
            self._made = self._since = time.monotonic()

    def rearrange(self, order: Sequence[int]) -> None:
        """Order what is still to come.

        This may also change the item on screen while nobody has touched anything, but not under
        anyone's hands.
        """
        with self.lock:
            fresh = not self._touched and time.monotonic() - self._made < _UNTOUCHED
            self._touched = True
            page = self.positions
            self._queue.reorder(order, restart=fresh)
            if self.mode == "grid":
                self._keep_page(page)

    def _keep_page(self, page: list[int]) -> None:
        """Leave the tiles of an open page where they are: they are being answered."""
        shown = set(page)
        rest = [position for position in self._queue.order if position not in shown]
        self._queue.order = rest[: self.page_start] + page + rest[self.page_start :]
