"""How a picture and its map are prepared for a stage: sizes, colours, encoded bytes.

Between what the explainer fetched and what a stage draws. Used by the single view, the grid and the
comparison, each for its own rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets import colors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xfeedback_widgets.widgets.explainer import Explained, Picture
    from xfeedback_widgets.widgets.stage import Stage

# A picture this many times smaller than its place on the page is enlarged without smoothing.
PIXELATE_FROM = 3
_SMOOTHEST = 28  # coarser maps are interpolated to this before colouring, not after


@dataclass(frozen=True)
class Look:
    """How maps are drawn."""

    colormap: str
    opacity: float
    contour: bool


def fit(width: int, height: int, box_width: int, box_height: int) -> tuple[int, int]:
    """Return the largest size of the same shape that fits a box, at least one pixel each way."""
    scale = min(box_width / width, box_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def heat(saliency: NDArray[np.float32], colormap: str) -> bytes:
    """Return a map as a small coloured PNG with transparency."""
    height, width = saliency.shape
    if max(height, width) < _SMOOTHEST:
        factor = -(-_SMOOTHEST // max(height, width))
        saliency = colors.resize(saliency, height * factor, width * factor)
    return colors.encode_png(colors.colorize(saliency, colormap))


def show(
    stage: Stage,
    picture: Picture,
    item: Explained | None,
    look: Look,
    *,
    box: int,
    ratio: float,
) -> None:
    """Draw a picture and, where it is there, its map on a stage (for the UI pump).

    Parameters
    ----------
    stage : Stage
    picture : Picture
    item : Explained or None
        None while the map is being computed: the picture alone is shown.
    look : Look
    box : int
        Side in CSS pixels of the square that picture is fitted into.
    ratio : float
        Device pixels per CSS pixel.
    """
    width, height = fit(*picture.size, box, box)
    stage.resize(width, height, ratio)
    pixelated = width >= PIXELATE_FROM * picture.size[0]
    stage.set_picture(picture.encoded, pixelated=pixelated)
    if item is None:
        stage.set_map(None)
    elif look.contour:
        stage.set_map(None, colors.contours(item.saliency, height, width))
    else:
        stage.set_map(heat(item.saliency, look.colormap))
    stage.redraw(look.opacity)
