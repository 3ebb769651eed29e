"""A picture with a map above it: two canvases of one size, one upon the other.

The picture crosses the wire once, as PNG or JPEG; a new map is a few hundred bytes, drawn scaled and
smoothed; a new opacity is a redraw without any data. The map has a canvas of its own so that the
browser can hide it at once while a key is held (`bridge.js`), without asking the kernel. All methods
are for the UI pump.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipycanvas
import ipywidgets
import numpy as np

from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.canvas import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Lines = Sequence[tuple[float, NDArray[np.float32]]]
    Decoration = Callable[[ipycanvas.Canvas, float], None]

_BLANK = colors.encode_png(np.zeros((1, 1, 4), dtype=np.uint8))
# A dark halo below a light line can be seen on any picture; dashes tell the levels apart without colour.
_HALO, _LINE = "#000000a0", "#ffe945"
_DASHES = {0.25: [2, 4], 0.5: [7, 4], 0.75: []}


class Stage(ipywidgets.Box):
    """Two stacked canvases with what is needed to paint them again at any time.

    Parameters
    ----------
    width, height : int
        Size on the page in CSS pixels.
    on_ready : callable
        Called, on any thread, when a page has just got empty canvases (after a reload, in a second
        tab); post :meth:`redraw` to the pump from there.
    """

    def __init__(self, width: int, height: int, on_ready: Callable[[], None]) -> None:
        self._picture = ipywidgets.Image(value=_BLANK, format="png")
        self._heat = ipywidgets.Image(value=_BLANK, format="png")
        self._lower, self._upper = (
            ipycanvas.Canvas(
                width=width, height=height, layout=ipywidgets.Layout(width="100%", height="auto")
            )
            for _ in range(2)
        )
        self._lower.add_class("xf-picture")
        self._upper.add_class("xf-overlay")
        for canvas in (self._lower, self._upper):
            canvas.on_client_ready(on_ready)
        self._size = (width, height)
        self._ratio = 1.0
        self._pixelated = False
        self._lines: Lines = ()
        self._opacity = 1.0
        self._decoration: Decoration | None = None
        super().__init__(
            [self._lower, self._upper],
            layout=ipywidgets.Layout(width=f"{width}px", max_width="100%"),
        )
        self.add_class("xf-stage")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in CSS pixels."""
        return self._size

    @property
    def sources(self) -> tuple[ipywidgets.Image, ipywidgets.Image]:
        """The hidden images that picture and map are drawn from."""
        return self._picture, self._heat

    def resize(self, width: int, height: int, ratio: float) -> None:
        """Set the size in CSS pixels and the device pixels per CSS pixel (hi-dpi screens)."""
        if (width, height, ratio) == (*self._size, self._ratio):
            return
        self._size, self._ratio = (width, height), ratio
        self.layout.width = f"{width}px"
        for canvas in (self._lower, self._upper):
            canvas.width, canvas.height = round(width * ratio), round(height * ratio)

    def set_picture(
        self, data: bytes, *, pixelated: bool = False, decoration: Decoration | None = None
    ) -> None:
        """Set what lies below: an encoded picture that covers the stage.

        Parameters
        ----------
        data : bytes
            PNG or JPEG.
        pixelated : bool
            Enlarge without smoothing, for pictures of few pixels.
        decoration : callable
            ``decoration(canvas, ratio)`` draws on top of the picture.
        """
        self._pixelated, self._decoration = pixelated, decoration
        _set_image(self._picture, data)

    def set_map(self, heat: bytes | None, lines: Lines = ()) -> None:
        """Set what lies above: a coloured map as PNG and contour lines in CSS pixels; both may be empty."""
        _set_image(self._heat, heat or _BLANK)
        self._lines = lines

    def redraw(self, opacity: float | None = None) -> None:
        """Paint both canvases in one message."""
        with frame():
            self._paint_lower()
            self.redraw_map(opacity)

    def redraw_map(self, opacity: float | None = None) -> None:
        """Paint the upper canvas only, with another opacity where one is given."""
        if opacity is not None:
            self._opacity = opacity
        with frame():
            canvas = self._upper
            canvas.clear()
            canvas.global_alpha = self._opacity
            canvas.image_smoothing_enabled = True
            canvas.draw_image(self._heat, 0, 0, canvas.width, canvas.height)
            canvas.global_alpha = 1.0
            for level, points in self._lines:
                _stroke(canvas, points * self._ratio, _DASHES[level], self._ratio)

    def clear(self) -> None:
        """Show nothing."""
        self._decoration = None
        _set_image(self._picture, _BLANK)
        self.set_map(None)
        self.redraw()

    def close(self) -> None:
        """Close the canvases and the hidden images too."""
        # the page still may have drawing to do: it fails quietly once its models are gone, and only
        # our own models go, after the last batch has been sent
        for child in (self._lower, self._upper, self._picture, self._heat):
            child.layout.close()
            child.close()
        self.layout.close()
        super().close()

    def _paint_lower(self) -> None:
        canvas = self._lower
        canvas.clear()
        canvas.image_smoothing_enabled = not self._pixelated
        canvas.draw_image(self._picture, 0, 0, canvas.width, canvas.height)
        if self._decoration is not None:
            self._decoration(canvas, self._ratio)


def _set_image(image: ipywidgets.Image, data: bytes) -> None:
    if image.value != data:
        image.value = data


def _stroke(canvas: Any, points: NDArray[np.float32], dash: Sequence[float], ratio: float) -> None:
    rounded = np.round(points, 1)
    canvas.set_line_dash([])
    canvas.stroke_style, canvas.line_width = _HALO, 4 * ratio
    canvas.stroke_lines(rounded)
    canvas.set_line_dash([length * ratio for length in dash])
    canvas.stroke_style, canvas.line_width = _LINE, 1.75 * ratio
    canvas.stroke_lines(rounded)
    canvas.set_line_dash([])
