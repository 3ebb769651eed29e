"""Brings the pictures of pages from the data, on a thread of its own, those to come ahead of time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from xfeedback_widgets.data import UnreadableImageError
from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.explainer import Picture
from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.data import ImageSet

_KEPT = 6  # pages


class Loader(KeyedThread):
    """Reads the pictures of a page and keeps the latest pages.

    Parameters
    ----------
    data : ImageSet
    longest : int
        Pixels of the longer side of what is sent to the page.
    on_error : callable
        Receives the exception of a page that could not be read at all.
    """

    def __init__(self, data: ImageSet, longest: int, on_error: Callable[[Exception], None]) -> None:
        self._data, self._longest = data, longest
        self._memory = threading.Lock()
        self._pages: OrderedDict[int, tuple[Picture | None, ...]] = OrderedDict()
        super().__init__("xfeedback-pages", on_error)

    def ready(self, number: int) -> tuple[Picture | None, ...] | None:
        """Return the pictures of a page, None in place of an unreadable one; None until they are there."""
        with self._memory:
            return self._pages.get(number)

    def request(
        self, number: int, positions: Sequence[int], done: Callable[[], None], *, priority: int
    ) -> None:
        """Read a page, then call `done` on this thread; low priority numbers go first."""
        if self.ready(number) is not None:
            done()
            return

        def read() -> None:
            if self.ready(number) is None:
                pictures = tuple(map(self._picture, positions))
                with self._memory:
                    self._pages[number] = pictures
                    while len(self._pages) > _KEPT:
                        self._pages.popitem(last=False)
            done()

        self.post(number, read, priority=priority)

    def _picture(self, position: int) -> Picture | None:
        try:
            pixels = np.ascontiguousarray(self._data.picture(position))
            self._data.content_hash(position)  # the journal will ask for it, in a hurry
        except UnreadableImageError:
            return None
        return Picture(
            size=(pixels.shape[1], pixels.shape[0]),
            encoded=colors.encode_picture(pixels, self._longest),
            small=colors.shrink(pixels, 256),
        )
