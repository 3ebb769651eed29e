"""Paths of pointers as every widget keeps them: at most sixty places a second, near the picture, in order.

Plain numbers in, plain numbers out; the pages that send them are `browse/`, `tag/` and, while maps are
judged and drawn on, the bridge.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from xfeedback_widgets.feedback import Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

HERTZ = 60
_APART = 1000 / HERTZ - 0.7  # ms; times were rounded to whole ones
_LONGEST = 100_000  # places that are kept of one picture: half an hour of moving without a rest


def near(x: float, y: float) -> Point:
    """Return a place on or near the picture, no farther off than a side of it."""
    return Point(*(min(max(at, -1.0), 2.0) for at in (x, y)))


def due(path: Sequence[tuple[float, float, float]], time: float) -> bool:
    """Whether a path may have another place at a time in ms, or had one less than a sixtieth before."""
    return not path or time - path[-1][2] >= _APART


def whole(value: float) -> float:
    """Return a number without a fraction as int, as browsers write it, others as they are."""
    return int(value) if float(value).is_integer() else value


def check_row(row: Iterable[float]) -> None:
    """Refuse a row of numbers that no page can have sent: what happened, of five things, …, and when.

    Raises
    ------
    ValueError
    """
    numbers = tuple(row)
    sound = all(map(math.isfinite, numbers)) and 0 <= numbers[-1] < 2**53
    if not sound or numbers[0] not in range(5):
        raise ValueError(f"the page sent {numbers}, which cannot be: reload it")


class PointerPath:
    """The path of the pointer over the picture that is on, for the record that is made of it.

    Parts of it arrive on any thread, under the name that :meth:`begin` gave, which the page was told; what
    arrives under another name was about another picture, and is dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._image_id: str | None = None
        self._number = self._kept = 0
        self._parts: list[npt.NDArray[np.float32]] = []
        self._last = 0.0

    def begin(self, image_id: str | None) -> str:
        """Follow the pointer over a picture, or over none; return the name of what is followed.

        While the picture stays the same, so does its name.
        """
        with self._lock:
            if image_id != self._image_id:
                self._image_id = image_id
                self._number += 1
                self._kept, self._parts, self._last = 0, [], 0.0
            return "" if image_id is None else str(self._number)

    def add(self, name: str, rows: npt.ArrayLike) -> None:
        """Keep a part of the path: [n, 3], x, y and ms since the picture was shown."""
        part = np.array(rows, np.float32).reshape(-1, 3)
        part = part[np.isfinite(part).all(1) & (part[:, 2] >= 0)]
        part[:, :2] = part[:, :2].clip(-1, 2)
        with self._lock:
            if name != str(self._number) or not len(part) or self._kept >= _LONGEST:
                return
            if part[0, 2] < self._last:  # the page was loaded again, and counts from zero
                part[:, 2] += self._last
            part[:, 2] = np.maximum.accumulate(part[:, 2])
            self._last = float(part[-1, 2])
            self._kept += len(part)
            self._parts.append(part)

    def take(self, image_id: str) -> npt.NDArray[np.float32] | None:
        """Return the path over a picture since it was taken last; None where there is none."""
        with self._lock:
            if image_id != self._image_id or not self._parts:
                return None
            path, self._parts = np.concatenate(self._parts), []
            return path
