"""Paths of pointers as every widget keeps them: at most sixty places a second, near the picture, in order.

Plain numbers in, plain numbers out; the pages that send them are `browse/`, `tag/` and, while maps are
judged and drawn on, the bridge.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERTZ = 60
_APART = 1000 / HERTZ - 0.7  # ms; times were rounded to whole ones


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
