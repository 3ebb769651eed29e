"""Maps as colours: matplotlib's perceptually uniform tables, opacity by intensity, contour lines.

Plain numpy in, plain numpy out; nothing here knows a widget. Only colormaps that are perceptually
uniform and readable with colour-blindness are offered.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLORMAPS = ("cividis", "viridis", "magma", "inferno", "plasma")
CONTOUR_LEVELS = (0.25, 0.5, 0.75)


@functools.cache
def table(name: str) -> NDArray[np.uint8]:
    """Return the 256 colours of a colormap.

    Parameters
    ----------
    name : str
        One of :data:`COLORMAPS`.

    Returns
    -------
    ndarray of uint8, shape [256, 3]

    Raises
    ------
    ValueError
        When the name is not offered; the message lists those that are.
    """
    if name not in COLORMAPS:
        raise ValueError(f"unknown colormap {name!r}: choose one of {', '.join(COLORMAPS)}")
    import matplotlib as mpl

    return np.asarray(mpl.colormaps[name](np.arange(256), bytes=True)[:, :3], dtype=np.uint8)


def colorize(saliency: NDArray[np.floating], colormap: str = "cividis") -> NDArray[np.uint8]:
    """Colour a map, transparent where the model does not look.

    Parameters
    ----------
    saliency : ndarray of float, shape [h, w]
        Normalised map in [0, 1].
    colormap : str
        One of :data:`COLORMAPS`.

    Returns
    -------
    ndarray of uint8, shape [h, w, 4]
        RGBA; alpha is the intensity itself, so an empty map is invisible.
    """
    level = np.round(np.clip(np.nan_to_num(saliency), 0.0, 1.0) * 255).astype(np.uint8)
    return np.dstack([table(colormap)[level], level])


def resize(saliency: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Resize a map for the screen: bilinear, averaging when it shrinks, pixel centres kept.

    Parameters
    ----------
    saliency : ndarray of float, shape [h, w]
    height, width : int
        Size of the result.

    Returns
    -------
    ndarray of float32, shape [height, width]
    """
    image = Image.fromarray(np.ascontiguousarray(saliency, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def contours(
    saliency: NDArray[np.floating], height: float, width: float
) -> list[tuple[float, NDArray[np.float32]]]:
    """Contour lines of a map in screen coordinates.

    Parameters
    ----------
    saliency : ndarray of float, shape [h, w]
        Normalised map in [0, 1].
    height, width : float
        Size of the rectangle that the map covers.

    Returns
    -------
    list of (level, ndarray of float32, shape [n, 2])
        Polylines as (x, y); an empty map has none.
    """
    import contourpy

    grid = resize(saliency, 64, 64)
    # a frame of zeros closes the lines at the border of the picture
    padded = np.pad(grid, 1)
    position = np.clip((np.arange(66) - 0.5) / 64, 0.0, 1.0)
    lines = contourpy.contour_generator(position * width, position * height, padded)
    return [
        (level, np.asarray(line, dtype=np.float32))
        for level in CONTOUR_LEVELS
        for line in lines.lines(level)
        if len(line) > 2
    ]


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels [H, W, 3 or 4] as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def encode_picture(pixels: NDArray[np.uint8], longest: int = 800) -> bytes:
    """Return a picture for the screen: PNG when it is small (lossless), else JPEG.

    Parameters
    ----------
    pixels : ndarray of uint8, shape [H, W, 3]
    longest : int
        A larger picture is reduced to this many pixels on its longer side.
    """
    height, width = pixels.shape[:2]
    if max(height, width) <= 96:
        return encode_png(pixels)
    stream = io.BytesIO()
    Image.fromarray(shrink(pixels, longest)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def shrink(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] with at most `longest` pixels on its longer side, same shape."""
    if max(pixels.shape[:2]) <= longest:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8)
