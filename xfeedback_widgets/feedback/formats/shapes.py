"""How outlines and run lengths become pixels: one rule for every format, that of COCO's own tools.

Polygons are filled by ``pycocotools``, so that a mask read here is the one every COCO tool sees. For
upright rectangles the rule is simply that a pixel belongs to it when its centre does, and needs nothing
installed. COCO's run lengths are read here and not by ``pycocotools``, which trusts them: it hands out
memory that was never written where they are too short. Finding outlines in files is the formats' business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MAX_OUTLINE = 2**20
"""Longest outline that is filled, in pixels."""


def coco_masks() -> Any:
    """Give the module ``pycocotools.mask``.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        Without pycocotools, naming the extra to install.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError(
            "polygons and COCO files need pycocotools: pip install 'xfeedback-widgets[coco]'"
        ) from error
    return mask


def polygon(points: object, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fill a polygon.

    Parameters
    ----------
    points
        [n, 2] x and y of at least three vertices, in pixels: pixel centres are at .5. A vertex may
        lie outside the picture, by no more than the picture's own size.
    size
        Height and width of the picture.

    Returns
    -------
    ndarray of bool, shape [H, W]

    Raises
    ------
    ValueError
        When the points do not make such a polygon.
    ImportError
        Without pycocotools, naming the extra to install.
    """
    vertices = _vertices(points)
    height, width = size
    low, high = vertices.min(0), vertices.max(0)
    if (low < (-width, -height)).any() or (high > (2 * width, 2 * height)).any():
        raise ValueError(f"the polygon reaches far outside the {height} × {width} picture")
    steps = np.abs(vertices - np.roll(vertices, 1, axis=0)).max(1).sum()
    if steps > MAX_OUTLINE:
        raise ValueError(f"the polygon's outline is {steps:.0f} pixels long")
    masks = coco_masks()
    (filled,) = masks.frPyObjects([vertices.ravel().tolist()], height, width)
    return runs(filled["counts"].decode("ascii"), size)


def _vertices(points: object) -> npt.NDArray[np.float64]:
    try:
        vertices = np.asarray(points)
    except ValueError as error:  # the lists are not equally long
        raise ValueError("a polygon must be a list of x and y") from error
    if vertices.dtype.kind not in "iuf" or vertices.ndim != 2 or vertices.shape[1] != 2:
        raise ValueError("a polygon must be a list of x and y, all of them numbers")
    if len(vertices) < 3 or not np.isfinite(vertices).all():
        raise ValueError("a polygon must have at least three vertices, all of them finite")
    return vertices.astype(np.float64)


def rectangle(
    corner: Sequence[Any], extent: Sequence[Any], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Fill an upright rectangle.

    Parameters
    ----------
    corner
        x and y of the upper left corner, in pixels.
    extent
        Width and height, in pixels.
    size
        Height and width of the picture.

    Returns
    -------
    ndarray of bool, shape [H, W]

    Raises
    ------
    ValueError
        When a number is not finite, or width or height is negative.
    """
    numbers = (*corner, *extent)
    if not all(type(n) in (int, float) and abs(n) < 1e9 for n in numbers) or min(extent) < 0:
        raise ValueError(f"a rectangle must be x, y, width and height, got {numbers}")
    spans = [
        slice(max(0, math.ceil(start - 0.5)), max(0, math.ceil(start + length - 0.5)))
        for start, length in zip(corner, extent, strict=True)
    ]
    filled = np.zeros(size, bool)
    filled[spans[1], spans[0]] = True
    return filled


def runs(counts: object, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode COCO's run lengths.

    Parameters
    ----------
    counts
        Lengths of runs of 0 and 1 in turn, column after column: a list, or compressed to a string.
    size
        Height and width of the picture.

    Returns
    -------
    ndarray of bool, shape [H, W]

    Raises
    ------
    ValueError
        When they are no run lengths, or do not fill the picture exactly.
    """
    if isinstance(counts, str):
        counts = _counts(counts)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("the RLE's counts must be a string or a list of whole numbers")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"the RLE fills {sum(counts)} pixels of {size[0]} × {size[1]}")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(values.reshape(size[::-1]).T, bool)


def _counts(text: str) -> list[int]:
    """Decode the string: 5 bits a character, signed, each number added to the one two before it."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"the RLE's counts hold {character!r}, which does not belong there")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) and 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the RLE's counts break off")
    return counts
