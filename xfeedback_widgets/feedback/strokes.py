"""How a region mask was drawn: one :class:`Stroke` for each thing a person did with a tool.

The mask itself is the truth; strokes say how it came about, so that a drawing can be undone step by
step, replayed at another size and studied. Turning strokes into pixels is the widgets' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, SupportsFloat, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .packing import ByValue, packed

Tool: TypeAlias = Literal[
    "brush", "eraser", "rectangle", "polygon", "fill", "invert", "clear", "copy", "cells"
]
TOOLS: tuple[str, ...] = get_args(Tool)


def _points(value: Any) -> npt.NDArray[np.float32]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    points = np.array(value, dtype=np.float32, order="C")
    if points.size == 0 and points.ndim <= 2:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(
            f"points must be [n, 2] (x, y) or [n, 3] (x, y, pressure), got shape {points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError("points must be finite, got NaN or infinity")
    pressure = points[:, 2:]
    if ((pressure < 0) | (pressure > 1)).any():
        raise ValueError(
            f"pressure must be within [0, 1], got values from {pressure.min()} to {pressure.max()}"
        )
    points.setflags(write=False)
    return points


def _size(value: object) -> float:
    if isinstance(value, (bool, str)) or not isinstance(value, (float, SupportsFloat)):
        raise TypeError(f"size must be a number of pixels, got {value!r}")
    size = float(value)
    if not (math.isfinite(size) and size >= 0):
        raise ValueError(f"size must be finite and 0 or larger, got {size}")
    return size


@dataclass(frozen=True, eq=False)
class Stroke(ByValue):
    """One thing a person did with one tool.

    Parameters
    ----------
    tool
        ``"brush"``, ``"eraser"``: a path; ``"rectangle"``: two opposite corners; ``"polygon"``: its
        vertices; ``"cells"`` (of the map), ``"fill"`` (everything hotter than a threshold) and
        ``"copy"`` (another mask in this one's place): two opposite corners of each rectangle they
        consist of, in turn; ``"invert"`` (swaps its value with unset, or relevant with irrelevant
        where that is 0) and ``"clear"`` need no points.
    value
        What was painted: -1 irrelevant, 0 unset, +1 relevant.
    size
        Diameter in image pixels of brush and eraser, the threshold in [0, 1] of a fill, else 0.
    points
        [n, 2] x and y in image pixels (0 to W and 0 to H, pixel centres at .5; outside the picture
        where the stroke left it) or [n, 3] with the pen's pressure in [0, 1], by which the diameter
        is multiplied; of a copy, 1 where a rectangle is relevant and 0 where it is irrelevant.
        Kept as a read-only float32 copy.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the value and the remedy.

    Examples
    --------
    >>> Stroke("rectangle", -1, points=[[0, 0], [32, 24]]).points.shape
    (2, 2)
    """

    tool: Tool
    value: int
    size: float = 0.0
    points: npt.NDArray[np.float32] = packed("float32", _points, default=())  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise ValueError(f"unknown tool {self.tool!r}; use one of {', '.join(TOOLS)}")
        if isinstance(self.value, bool) or self.value not in (-1, 0, 1):
            raise ValueError(f"value must be -1, 0 or +1, got {self.value!r}")
        object.__setattr__(self, "value", int(self.value))
        object.__setattr__(self, "size", _size(self.size))

    def to_dict(self) -> dict[str, Any]:
        """Give the stroke as JSON-safe values.

        Returns
        -------
        dict
            ``tool``, ``value``, ``size`` and ``points`` (an object of ``dtype``, ``shape`` and
            ``zlib_base64``).
        """
        return {**vars(self), "points": vars(self)["points"].to_dict()}

    @classmethod
    def from_dict(cls, data: object, *, origin: str | None = None) -> Stroke:
        """Build a stroke from its JSON form.

        Parameters
        ----------
        data
            What ``json.loads`` gave; anything at all, it is checked.
        origin
            Where trusted data came from: its points are then checked when they are looked at.

        Returns
        -------
        Stroke

        Raises
        ------
        TypeError, ValueError
            When the data is not a stroke, saying what is wrong with it.
        """
        if not isinstance(data, dict) or data.keys() != _NAMES:
            raise ValueError(f"a stroke must be an object with {', '.join(sorted(_NAMES))}")
        points = vars(cls)["points"].read(data["points"], origin)
        return cls(data["tool"], data["value"], data["size"], points)


_NAMES = {field.name for field in fields(Stroke)}
