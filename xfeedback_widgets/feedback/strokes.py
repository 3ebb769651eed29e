"""How a region mask was drawn: one :class:`Stroke` for each thing a person did with a tool.

The mask itself is the truth; strokes say how it came about, so that a drawing can be undone step by
step, replayed at another size and studied. A record keeps them as columns and one packed array
(:class:`KeptStrokes`), which cost next to nothing until somebody looks. Turning strokes into pixels is
the widgets' business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from .packing import ByValue, Packed

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    points: npt.NDArray[np.float32] = ()  # type: ignore[assignment]  # an array from __post_init__ on

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise ValueError(f"unknown tool {self.tool!r}; use one of {', '.join(TOOLS)}")
        if isinstance(self.value, bool) or self.value not in (-1, 0, 1):
            raise ValueError(f"value must be -1, 0 or +1, got {self.value!r}")
        object.__setattr__(self, "value", int(self.value))
        object.__setattr__(self, "size", _size(self.size))
        object.__setattr__(self, "points", _points(self.points))

    def _key(self) -> tuple[object, ...]:
        return self.tool, self.value, self.size, self.points.shape, self.points.tobytes()


@dataclass(frozen=True, slots=True)
class KeptStrokes:
    """Strokes as a record keeps them: columns with one entry a stroke; immutable, equal by value.

    Make it with :meth:`of` or, from the JSON form, with :meth:`read`.

    Attributes
    ----------
    tools, values, sizes
        As in :class:`Stroke`.
    lengths, columns
        Shape of each stroke's points.
    points
        The points of all strokes, one number after the other: float32 [k, 1].
    """

    tools: tuple[Tool, ...]
    values: tuple[int, ...]
    sizes: tuple[float, ...]
    lengths: tuple[int, ...]
    columns: tuple[int, ...]
    points: Packed
    origin: str = field(default="", compare=False)

    @classmethod
    def of(cls, strokes: Iterable[Stroke]) -> KeptStrokes:
        """Put strokes away.

        Parameters
        ----------
        strokes
            Oldest first.

        Returns
        -------
        KeptStrokes

        Raises
        ------
        TypeError
            For anything that is not a stroke.
        """
        given = tuple(strokes) if isinstance(strokes, Iterable) else (strokes,)
        for stroke in given:
            if not isinstance(stroke, Stroke):
                raise TypeError(f"strokes must be Stroke objects, got {stroke!r}")
        flat = [stroke.points.reshape(-1, 1) for stroke in given]
        return cls(
            tuple(stroke.tool for stroke in given),
            tuple(stroke.value for stroke in given),
            tuple(stroke.size for stroke in given),
            tuple(stroke.points.shape[0] for stroke in given),
            tuple(stroke.points.shape[1] for stroke in given),
            Packed.of(np.concatenate([np.zeros((0, 1), np.float32), *flat]), "points"),
        )

    @classmethod
    def read(cls, data: object, origin: str | None) -> KeptStrokes:
        """Read the JSON form.

        Parameters
        ----------
        data
            What ``json.loads`` gave; anything at all, it is checked.
        origin
            Where trusted data came from, which errors will name: the strokes are then checked only when
            they are looked at. None: they are checked now.

        Returns
        -------
        KeptStrokes

        Raises
        ------
        TypeError, ValueError
            When the data is not strokes, saying what is wrong with it.
        """
        if not isinstance(data, dict) or data.keys() != {*_COLUMNS, "points"}:
            raise ValueError(f"strokes must be an object of {', '.join(_COLUMNS)} and points")
        columns = [data[name] for name in _COLUMNS]
        if not all(isinstance(c, list) for c in columns) or len(set(map(len, columns))) != 1:
            raise ValueError(f"strokes: {', '.join(_COLUMNS)} must be lists of equal length")
        points = Packed.read("points", data["points"], "float32")
        tools, values, sizes, lengths, widths = map(tuple, columns)
        named = f"{origin}: " if origin else ""
        kept = cls(tools, values, sizes, lengths, widths, points, named)
        if origin is None:
            kept.strokes()
        return kept

    def to_dict(self) -> dict[str, Any] | None:
        """Give the JSON form.

        Returns
        -------
        dict or None
            A list for each column, and ``points`` as an object of ``dtype``, ``shape`` and
            ``zlib_base64``; None when there are no strokes.
        """
        if not self.tools:
            return None
        columns = {name: list(getattr(self, name)) for name in _COLUMNS}
        return {**columns, "points": self.points.to_dict()}

    def strokes(self) -> tuple[Stroke, ...]:
        """Unpack.

        Returns
        -------
        tuple of Stroke
            Fresh objects at each call.

        Raises
        ------
        ValueError
            When the data is damaged.
        """
        try:
            return tuple(self._unpacked())
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.origin}strokes: {error}") from error

    def _unpacked(self) -> Iterator[Stroke]:
        numbers = self.points.array(np.ravel)
        start = 0
        for tool, value, size, length, columns in zip(
            *(getattr(self, name) for name in _COLUMNS), strict=True
        ):
            if type(length) is not int or type(columns) is not int or length < 0:
                raise ValueError(f"[{length!r}, {columns!r}] is no shape of points")
            end = start + length * columns
            yield Stroke(tool, value, size, numbers[start:end].reshape(length, columns))
            start = end
        if start != len(numbers):
            raise ValueError(f"there are {len(numbers)} numbers for {start} in points")


_COLUMNS = ("tools", "values", "sizes", "lengths", "columns")


class StrokesField:
    """A dataclass field that holds strokes, put away until somebody looks at them."""

    def __get__(self, record: object | None, owner: type) -> tuple[Stroke, ...]:
        kept = () if record is None else vars(record)["strokes"].strokes()
        return cast("tuple[Stroke, ...]", kept)

    def __set__(self, record: object, value: Iterable[Stroke] | KeptStrokes) -> None:
        kept = value if isinstance(value, KeptStrokes) else KeptStrokes.of(value)
        vars(record)["strokes"] = kept

    def read(self, data: object, origin: str | None) -> KeptStrokes:
        """Read the JSON form; as :meth:`KeptStrokes.read`."""
        return KeptStrokes.read(data, origin)
