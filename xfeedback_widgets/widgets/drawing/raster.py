"""From strokes to pixels: which pixels of a picture a stroke covers, exactly.

A pixel belongs to a stroke when its centre does. Shapes are cut into one interval per pixel row, found
in closed form, so that the work grows with the outline of a shape and not with its area, and the same
points give the same mask at any time, on any machine. Pure numpy: what is on the page is drawn by
`ink.js` from the same points, and which stroke comes when is `drawing.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from xfeedback_widgets.feedback.strokes import Stroke

    Floats: TypeAlias = npt.NDArray[np.float64]
    Integers: TypeAlias = npt.NDArray[np.int64]
    Mask: TypeAlias = npt.NDArray[np.int8]

THINNEST = 0.7072
"""Smallest radius of a brush: half a pixel's diagonal, so that no stroke slips between the centres."""

_ROWS_AT_ONCE = 2**18  # bounds the memory that a long stroke takes


def replay(strokes: Iterable[Stroke], width: int, height: int) -> Mask:
    """Return what strokes leave on an empty picture.

    Parameters
    ----------
    strokes : iterable of Stroke
        From the first to the last.
    width, height : int
        Size of the picture in pixels.

    Returns
    -------
    ndarray of int8, shape [height, width]
        -1 irrelevant, 0 unset, +1 relevant.
    """
    mask = np.zeros((height, width), np.int8)
    for stroke in strokes:
        apply(mask, stroke)
    return mask


def apply(mask: Mask, stroke: Stroke) -> None:
    """Draw one stroke into a mask.

    Parameters
    ----------
    mask : ndarray of int8, shape [H, W]
        Changed in place. What lies outside of it is cut off.
    stroke : Stroke
        Brush and eraser sweep a disc along their points, its diameter being the stroke's size times
        the pressure; polygons are closed and filled by winding number; rectangles, fills, cells and
        copies are pairs of opposite corners. ``invert`` swaps its value with "unset", or, when the
        value is 0, relevant with irrelevant.
    """
    points = np.asarray(stroke.points, np.float64)
    if stroke.tool in {"brush", "eraser"}:
        _paint(mask, stroke.value, *_discs(points, stroke.size))
    elif stroke.tool == "polygon":
        _wind(mask, stroke.value, points)
    elif stroke.tool == "invert":
        _invert(mask, stroke.value)
    elif stroke.tool == "clear":
        mask[:] = 0
    elif stroke.tool == "copy":
        mask[:] = 0
        _rectangles(mask, np.where(points[::2, 2:] > 0.5, 1, -1).ravel(), points)
    else:
        _rectangles(mask, np.full(len(points) // 2, stroke.value), points)


def rectangles(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Cut an area into rectangles that do not overlap: the points of a fill or a copy.

    Parameters
    ----------
    area : ndarray of bool, shape [H, W]

    Returns
    -------
    ndarray of float32, shape [2k, 2]
        Opposite corners (x, y) of each rectangle in turn; painting them gives `area` back.
    """
    padded = np.pad(area, ((0, 0), (1, 1)))
    row, left = np.nonzero(padded[:, 1:] & ~padded[:, :-1])
    right = np.nonzero(padded[:, :-1] & ~padded[:, 1:])[1]
    # runs of neighbouring rows that begin and end alike are one rectangle
    order = np.lexsort((row, right, left))
    row, left, right = row[order], left[order], right[order]
    joined = (np.diff(left) == 0) & (np.diff(right) == 0) & (np.diff(row) == 1)
    first = np.flatnonzero(np.concatenate([[True], ~joined])[: len(row)])
    last = np.flatnonzero(np.concatenate([~joined, [True]])[: len(row)])
    corners = np.stack([left[first], row[first], right[first], row[last] + 1], axis=1)
    return corners.reshape(-1, 2).astype(np.float32)


def _rectangles(mask: Mask, values: npt.NDArray[np.int64], points: Floats) -> None:
    height, width = mask.shape
    corners = points[: len(points) // 2 * 2, :2].reshape(-1, 2, 2)
    low = _columns(corners.min(axis=1, initial=np.inf), width, height)
    high = _columns(corners.max(axis=1, initial=-np.inf), width, height)
    for value, (left, top), (right, bottom) in zip(values, low, high, strict=False):
        mask[top:bottom, left:right] = value


def _columns(corners: Floats, width: int, height: int) -> Integers:
    """Return the first pixels whose centres are not left of, or above, some positions."""
    return np.clip(np.ceil(corners - 0.5), 0, (width, height)).astype(np.int64)


def _invert(mask: Mask, value: int) -> None:
    if value == 0:
        np.negative(mask, out=mask)
    else:
        mask[:] = np.where(mask == value, 0, np.where(mask == 0, value, mask))


# --------------------------------------------------------------------- brush and eraser


def _discs(points: Floats, size: float) -> tuple[Floats, Floats]:
    """Return centres and radii along a stroke; a single point is a stroke from it to itself."""
    pressure = points[:, 2] if points.shape[1] > 2 else np.ones(len(points))
    radius = np.maximum(0.5 * size * pressure, THINNEST)
    if len(points) == 1:
        points, radius = points.repeat(2, axis=0), radius.repeat(2)
    return points[:, :2], radius


def _paint(mask: Mask, value: int, centres: Floats, radius: Floats) -> None:
    """Set every pixel that the disc covers on its way from point to point."""
    height, width = mask.shape
    if not len(centres):
        return
    low, high = (centres - radius[:, None]).min(axis=0), (centres + radius[:, None]).max(axis=0)
    left, top = np.clip(np.floor(low), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(high), 0, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return
    width = right - left + 1
    edges = np.zeros(width * (bottom - top), np.int32)
    centres = centres - (left, top)
    tangents = _tangents(centres, radius)
    for segments, rows in _rows(centres, radius, bottom - top):
        start, stop = _interval(centres, radius, tangents, segments, rows)
        start = np.clip(np.ceil(start - 0.5), 0, width - 1).astype(np.int64)
        stop = np.clip(np.floor(stop + 0.5), 0, width - 1).astype(np.int64)
        inside = stop > start
        # of the same type as the edges: forty times faster
        np.add.at(edges, (rows * width + start)[inside], np.int32(1))
        np.add.at(edges, (rows * width + stop)[inside], np.int32(-1))
    edges = edges.reshape(-1, width)
    covered = np.cumsum(edges, axis=1, out=edges)[:, :-1] > 0
    mask[top:bottom, left:right][covered] = value


def _rows(centres: Floats, radius: Floats, height: int) -> Iterator[tuple[Integers, Integers]]:
    """Yield (number of a segment, row that it may cover) as two long arrays, in parts."""
    low, high = centres[:, 1] - radius, centres[:, 1] + radius
    first = np.clip(np.ceil(np.minimum(low[:-1], low[1:]) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.floor(np.maximum(high[:-1], high[1:]) - 0.5) + 1, 0, height).astype(np.int64)
    yield from _expand(first, last)


def _expand(first: Integers, last: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield (index, row) for every row from ``first[index]`` up to ``last[index]``, in parts."""
    counts = np.maximum(last - first, 0)
    part = np.cumsum(counts) // _ROWS_AT_ONCE
    for number in np.unique(part):
        chosen = np.flatnonzero(part == number)
        lengths = counts[chosen]
        index = np.repeat(chosen, lengths)
        ahead = np.cumsum(lengths) - lengths
        yield index, np.arange(len(index)) - np.repeat(ahead, lengths) + first[index]


def _tangents(centres: Floats, radius: Floats) -> Floats:
    """Return the two tangents of each pair of neighbouring discs.

    Returns
    -------
    ndarray of float, shape [2, 5, segments]
        A point (x, y), the slope dx / dy, and the range of y; an empty range where there is none.
    """
    (x0, y0), (x1, y1), r0, r1 = centres[:-1].T, centres[1:].T, radius[:-1], radius[1:]
    way = np.hypot(x1 - x0, y1 - y0)
    apart = way > np.abs(r0 - r1)  # else one disc holds the other
    length = np.where(apart, way, 1.0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    cosine = np.clip((r0 - r1) / length, -1.0, 1.0)
    sine = np.sqrt(1.0 - cosine**2)
    lines = []
    for side in (-1.0, 1.0):
        # the normal of the tangent on this side leads from both centres to where it touches
        nx, ny = ux * cosine - side * uy * sine, uy * cosine + side * ux * sine
        x, y, rise = x0 + r0 * nx, y0 + r0 * ny, y1 + r1 * ny - (y0 + r0 * ny)
        there = apart & (rise != 0)
        slope = (x1 + r1 * nx - x) / np.where(there, rise, 1.0)
        low = np.where(there, np.minimum(y, y + rise), np.inf)
        lines.append([x, y, slope, low, np.maximum(y, y + rise)])
    return np.array(lines)


def _interval(
    centres: Floats, radius: Floats, tangents: Floats, segments: Integers, rows: Integers
) -> tuple[Floats, Floats]:
    """Return where the middle of a row enters and leaves what a disc covers on a straight way.

    That is the convex hull of the two discs: bounded by arcs of both and by two tangents, so that
    the outermost crossings of these four are the ends of the interval.
    """
    y = rows + np.float64(0.5)
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for end in (segments, segments + 1):
        x, middle = centres[end].T
        squared = radius[end] ** 2 - (y - middle) ** 2
        half = np.where(squared >= 0, np.sqrt(np.maximum(squared, 0.0)), -np.inf)
        np.minimum(left, x - half, out=left)
        np.maximum(right, x + half, out=right)
    for line in tangents:
        from_x, from_y, slope, low, high = line[:, segments]
        x = from_x + (y - from_y) * slope
        hit = (y >= low) & (y <= high)
        np.minimum(left, x, out=left, where=hit)
        np.maximum(right, x, out=right, where=hit)
    return left, right


# --------------------------------------------------------------------- polygons


def _wind(mask: Mask, value: int, points: Floats) -> None:
    """Set every pixel that a closed line runs around (winding number other than 0)."""
    height, width = mask.shape
    here, there = points[:, :2], np.roll(points[:, :2], -1, axis=0)
    edges = np.zeros(height * (width + 1), np.int32)
    low, high = np.minimum(here[:, 1], there[:, 1]), np.maximum(here[:, 1], there[:, 1])
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (low, high))
    for side, rows in _expand(first, last):
        (x0, y0), (x1, y1) = here[side].T, there[side].T
        x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(edges, rows * (width + 1) + column, np.where(y1 > y0, 1, -1).astype(np.int32))
    turns = np.cumsum(edges.reshape(height, width + 1), axis=1)[:, :-1]
    mask[turns != 0] = value
