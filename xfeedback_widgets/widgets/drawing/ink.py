"""The ink: what a pointer does over a picture becomes strokes, and the mask is seen there (`ink.js`).

The page draws what is being drawn by itself, at once, and sends the points here; when the mask that
holds a stroke has come back, the page lets go of its own ink. All traits are written by the UI pump,
none by the page. What a stroke does to the mask is not known here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from xfeedback_widgets.feedback.strokes import Stroke

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

_HERE = Path(__file__).parent
_LONGEST = 1024  # of the mask as the page gets it; a larger one is thinned out
_UNFINISHED = 8  # strokes of which parts are kept while their end is on its way
_REMEMBERED = 32  # strokes that the page is told to be in the mask, or refused

SHAPES = ("brush", "rectangle", "polygon")


class Ink(anywidget.AnyWidget):
    """Layer over a :class:`~.stage.Stage` that takes pointers and shows a mask.

    Parameters
    ----------
    on_stroke : callable
        ``on_stroke(number, stroke)`` with a finished stroke, on whatever thread Jupyter picks;
        `number` is the sheet it was drawn on.
    on_size : callable
        ``on_size(steps)``: make the brush larger (1) or smaller (-1).
    on_zoom : callable
        ``on_zoom(zoom)``: how many times larger than the whole picture the page shows it now.
    on_error : callable
        ``on_error(exception)``: a message that could not be used.
    """

    _esm = _HERE / "ink.js"
    _css = _HERE / "ink.css"

    sheet = traitlets.Int(0).tag(sync=True)
    width = traitlets.Int(1).tag(sync=True)
    height = traitlets.Int(1).tag(sync=True)
    mask = traitlets.Bytes().tag(sync=True)
    outline = traitlets.Bytes().tag(sync=True)
    cell = traitlets.List(traitlets.Int()).tag(sync=True)
    tool = traitlets.Unicode().tag(sync=True)
    value = traitlets.Int(-1).tag(sync=True)
    size = traitlets.Float(1.0).tag(sync=True)
    seen = traitlets.List(traitlets.Unicode()).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        *,
        on_stroke: Callable[[int, Stroke], None],
        on_size: Callable[[int], None],
        on_zoom: Callable[[float], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self._on_stroke, self._on_size = on_stroke, on_size
        self._on_zoom, self._on_error = on_zoom, on_error
        self._parts: dict[str, list[npt.NDArray[np.float32]]] = {}
        self._done: list[str] = []
        self.add_class("xf-ink")
        self.on_msg(lambda _, content, buffers: self.receive(content, buffers))

    @property
    def done(self) -> list[str]:
        """The last strokes that have arrived; the page shows its own ink for all others."""
        return list(self._done)

    def receive(self, content: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        """Take a message of the page.

        Parameters
        ----------
        content : dict
            ``kind`` is ``points`` (a part of a stroke; the points are in the buffer, float32),
            ``stroke`` (its last part, and all about it), ``cancel``, ``size`` or ``zoom``.
        buffers : sequence of bytes-like
        """
        kind = content.get("kind")
        try:
            if kind == "size":
                self._on_size(1 if float(content["steps"]) > 0 else -1)
            elif kind == "zoom":
                self._on_zoom(float(content["zoom"]))
            elif kind == "cancel":
                self._parts.pop(str(content["stroke"]), None)
            elif kind in {"points", "stroke"}:
                self._take(str(content["stroke"]), int(content["columns"]), buffers)
                if kind == "stroke":
                    self._finish(content)
        except Exception as error:  # noqa: BLE001  an exception in a callback would be invisible
            self._on_error(error)

    def _take(self, number: str, columns: int, buffers: Sequence[Any]) -> None:
        parts = self._parts.setdefault(number, [])
        parts.extend(np.frombuffer(buffer, "<f4").reshape(-1, columns) for buffer in buffers)
        while len(self._parts) > _UNFINISHED:
            del self._parts[next(iter(self._parts))]

    def _finish(self, content: dict[str, Any]) -> None:
        number, shape, value = str(content["stroke"]), str(content["tool"]), int(content["value"])
        parts = self._parts.pop(number)
        # whatever becomes of it, the page need not keep it
        self._done = [*self._done, number][-_REMEMBERED:]
        points = np.concatenate(parts)
        if len(points) != int(content["count"]):
            raise ValueError(
                f"{len(points)} of {content['count']} points of a stroke arrived: draw it again"
            )
        if shape not in SHAPES:
            raise ValueError(f"the page sent an unknown tool {shape!r}: reload the page")
        is_brush = shape == "brush"
        tool = "eraser" if is_brush and value == 0 else shape
        size = float(content["size"]) if is_brush else 0.0
        self._on_stroke(int(content["sheet"]), Stroke(tool, value, size, points))  # type: ignore[arg-type]


def encode(mask: npt.NDArray[np.integer]) -> bytes:
    """Return a mask as the page reads it: width, height, and runs of equal values.

    Parameters
    ----------
    mask : ndarray of int, shape [H, W]
        Holds -1, 0 and +1.

    Returns
    -------
    bytes
        uint32, little-endian; of a run, the upper two bits are the value + 1 and the rest its length.
    """
    step = -(-max(mask.shape) // _LONGEST)
    mask = mask[step // 2 :: step, step // 2 :: step]
    flat = np.ravel(mask)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(starts, append=len(flat))
    runs = (flat[starts].astype(np.int64) + 1) << 30 | lengths
    return np.concatenate([mask.shape[::-1], runs]).astype("<u4").tobytes()
