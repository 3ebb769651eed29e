"""The canvas as a widget: a stage with ink over it, what the mask says in words, and the tools.

It belongs to a host (a :class:`~.base.SessionWidget`), which makes the buttons, owns keys, journal and
undo, and tells which picture is on. Strokes and presses arrive on any thread: they change the drawing
under a lock and are handed to the host; what is seen is written by the UI pump alone.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from xfeedback_widgets.feedback.strokes import Stroke
from xfeedback_widgets.widgets import layout
from xfeedback_widgets.widgets.drawing.drawing import Drawing
from xfeedback_widgets.widgets.drawing.ink import Ink, encode
from xfeedback_widgets.widgets.drawing.toolbar import Toolbar
from xfeedback_widgets.widgets.drawing.toolbox import SHAPES, VALUES, Toolbox, grid
from xfeedback_widgets.widgets.parts import close_with_models, tree
from xfeedback_widgets.widgets.stage import Stage
from xfeedback_widgets.widgets.text import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    import numpy.typing as npt

    from xfeedback_widgets.widgets.explainer import Explained, Picture

    Masks = Sequence[tuple[str, npt.NDArray[np.integer]]]

SIZE = 480
_SHARPEST = 2048  # pixels on the longer side of the enlarged picture
_ZOOM = 1.5
_NAMES = {1: "relevant", -1: "irrelevant", 0: "not marked"}


class DrawingView(ipywidgets.VBox):
    """A picture one can draw a mask on.

    Parameters
    ----------
    button : callable
        ``button(action, text, tooltip)`` makes a button that calls :attr:`actions` [action]; see
        :meth:`.Board.button`.
    post : callable
        ``post(job)`` runs a function on the UI pump; not called before the first :meth:`put`.
    on_stroke : callable
        ``on_stroke(stroke)`` after a stroke has changed :attr:`drawing`, on whatever thread it came
        and under `lock`: write it down there.
    on_ready : callable
        See :class:`~.stage.Stage`.
    say : callable
        ``say(text)`` tells people what happened, in plain text.
    on_error : callable
        ``on_error(exception)``: a stroke that could not be used.
    lock : RLock, optional
        Held while the drawing changes; give the host's own, so that there is only one.

    Attributes
    ----------
    stage : Stage
        Picture, map and ink.
    ink : Ink
    words : HTML
        What the mask covers; also the legend.
    toolbar : Toolbar
    actions : dict of action to callable
        What the buttons and keys of :data:`~.toolbar.KEYS` do.
    """

    def __init__(
        self,
        *,
        button: Callable[[str, str, str], ipywidgets.Button],
        post: Callable[[Callable[[], None]], None],
        on_stroke: Callable[[Stroke], None],
        on_ready: Callable[[], None],
        say: Callable[[str], None],
        on_error: Callable[[Exception], None],
        lock: threading.RLock | None = None,
    ) -> None:
        self._post, self._on_stroke = post, on_stroke
        self._say, self._on_error = say, on_error
        self._lock: Any = lock or threading.RLock()
        self._toolbox = Toolbox()
        self._drawing = Drawing(1, 1)
        self._heat: npt.NDArray[np.floating] | None = None
        self._key: Hashable = None
        self._sheet = 0
        self._enabled = True
        self._previewing = False
        self._sources: list[tuple[str, npt.NDArray[np.integer]]] = []
        self._zoom = self._shown_zoom = 1.0
        self._show_again: Callable[[], None] | None = None
        self._looks: list[float | None] = []
        self.stage = Stage(SIZE, SIZE, on_ready)
        self.stage.add_class("xf-traced")
        self.ink = Ink(
            on_stroke=self._on_ink,
            on_size=self._resize,
            on_zoom=self._on_zoom,
            on_error=self._on_bad_message,
        )
        self.stage.children = (*self.stage.children, self.ink)
        self.words = ipywidgets.HTML()
        self.toolbar = Toolbar(button)
        self.toolbar.threshold.observe(lambda _: self._preview(), "value")
        self.actions = self._table()
        super().__init__([self.stage, self.words, self.toolbar])
        self.add_class("xf-drawing")

    def _table(self) -> dict[str, Callable[[], None]]:
        part = functools.partial
        return {
            **{name: part(self._choose_value, name) for name in VALUES},
            **{name: part(self._choose_shape, name) for name in SHAPES},
            "cells": self._switch_cells,
            "smaller": part(self._resize, -1),
            "larger": part(self._resize, 1),
            "fill": self._fill,
            "invert": lambda: self._draw_plain("invert", self._toolbox.value),
            "clear": lambda: self._draw_plain("clear", 0),
            "copy": self._copy,
            "source": self._next_source,
            "zoom_in": part(self._look, _ZOOM),
            "zoom_out": part(self._look, 1 / _ZOOM),
            "whole": part(self._look, None),
        }

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change what is shown, under the lock; it is painted soon, also when the change failed."""
        with self._lock:
            try:
                yield
            finally:
                self._post(self.paint)

    # ------------------------------------------------------------------ for the host

    @property
    def drawing(self) -> Drawing:
        """The drawing on screen."""
        return self._drawing

    def put(
        self, key: Hashable, drawing: Drawing, heat: npt.NDArray[np.floating] | None = None
    ) -> None:
        """Put a drawing on the canvas; any thread.

        Parameters
        ----------
        key : hashable
            Names the picture. While it stays the same (after an undo, with a new map), zoom and cell
            cursor stay, and a stroke that is being drawn goes on.
        drawing : Drawing
            Continued by what is drawn from now on.
        heat : ndarray of float, shape [h, w], optional
            The normalised map in [0, 1] that is shown, to fill from and to measure with.
        """
        with self._changing():
            if key != self._key:
                self._key = key
                self._sheet += 1
                self._zoom = 1.0
                self._sources = []
                self._toolbox.cell = None if self._toolbox.cell is None else (0, 0)
            self._drawing = drawing
            self._heat = heat if heat is not None and heat.any() else None
            self._previewing = False

    def offer(self, masks: Masks) -> None:
        """Name the masks that can be copied here, of any size, the most useful first; any thread."""
        with self._changing():
            self._sources = list(masks)

    def enable(self, on: bool) -> None:
        """Let people draw or not; the mask is shown either way. Any thread."""
        with self._changing():
            self._enabled = on

    def draw(self, stroke: Stroke) -> bool:
        """Draw a stroke as if a person had; any thread.

        Returns
        -------
        bool
            False when it changed nothing, which is then not written down either.
        """
        with self._changing():
            self._previewing = False
            if not self._drawing.add(stroke):
                return False
            try:
                self._on_stroke(stroke)
            except Exception:
                # what could not be written down must not look as if it had been
                self._drawing.take_back()
                raise
            return True

    def move(self, columns: int, rows: int) -> bool:
        """Move the cell cursor by an arrow key; False when it is off and the key means something else."""
        with self._changing():
            if not self._enabled or self._toolbox.cell is None:
                return False
            self._toolbox.move(columns, rows, self._grid)
            self._tell_cell()
        return True

    def describe(self) -> str:
        """Return in words what the mask covers."""
        with self._lock:
            return "; ".join(text for _, text in self._sentences())

    def show(
        self,
        picture: Picture,
        item: Explained | None,
        look: layout.Look,
        *,
        box: int,
        ratio: float,
    ) -> None:
        """Show a picture and its map, as sharp as the page enlarges them (for the UI pump).

        The parameters are those of :func:`.layout.show`.
        """

        def again() -> None:
            self._shown_zoom = self._zoom
            sharp = min(self._zoom * ratio, max(ratio, _SHARPEST / box))
            layout.show(self.stage, picture, item, look, box=box, ratio=sharp)

        self._show_again = again
        again()

    def paint(self) -> None:
        """Show the drawing, its words and the tools (for the UI pump)."""
        # the one job that is ever posted: a host may keep only the newest
        with self._lock:
            looks, self._looks = self._looks, []
            drawing, toolbox, ink = self._drawing, self._toolbox, self.ink
            width, height = drawing.size
            size = toolbox.size(max(width, height))
            with ink.hold_sync():
                ink.sheet, ink.width, ink.height = self._sheet, width, height
                ink.mask = encode(drawing.mask)
                ink.seen = ink.done
                ink.outline = self._preview_outline()
                ink.cell = [] if toolbox.cell is None else [*toolbox.cell, *self._grid]
                ink.tool = SHAPES[toolbox.shape] if self._enabled else ""
                ink.value, ink.size = toolbox.value, size
                ink.label = (
                    f"Picture to draw on. {'; '.join(text for _, text in self._sentences())}"
                )
            self.words.value = self._legend()
            self.toolbar.layout.display = "flex" if self._enabled else "none"
            self.toolbar.paint(
                toolbox,
                size=size,
                fillable=self._heat is not None,
                empty=not drawing.mask.any(),
                sources=tuple(name for name, _ in self._sources),
            )
        for factor in looks:
            ink.send({"kind": "look", "factor": factor})
        if self._show_again and self._zoom != self._shown_zoom and self._key is not None:
            self._show_again()

    def resend(self) -> None:
        """Send again what the page shows (for the UI pump): a message may have been dropped."""
        for part in (*self.stage.sources, self.ink):
            part.send_state()

    def close(self) -> None:
        """Close everything that was made here."""
        self.stage.close()
        for widget in reversed(list(tree(self))):
            close_with_models(widget)

    # ------------------------------------------------------------------ what the page reports

    def _on_ink(self, sheet: int, stroke: Stroke) -> None:
        with self._changing():
            if sheet == self._sheet:
                self.draw(stroke)
                return
        self._say("The picture had changed before this stroke arrived: it was dropped.")

    def _on_bad_message(self, error: Exception) -> None:
        self._post(self.paint)  # so that the page lets go of ink that is in no mask
        self._on_error(error)

    def _on_zoom(self, zoom: float) -> None:
        with self._changing():
            self._zoom = min(max(zoom, 1.0), 16.0)

    # ------------------------------------------------------------------ presses

    def _choose_value(self, name: str) -> None:
        with self._changing():
            value = VALUES[name]
            self._toolbox.value = value
            if self._toolbox.cell is not None:
                self.draw(self._drawing.cells([self._toolbox.cell], self._grid, value))
                self._tell_cell()
            else:
                self._tell_tool()

    def _choose_shape(self, name: str) -> None:
        with self._changing():
            self._toolbox.shape = name
            self._tell_tool()

    def _tell_tool(self) -> None:
        value = {1: "Relevant", -1: "Irrelevant", 0: "Erase"}[self._toolbox.value]
        self._say(f"{value}, {self._toolbox.shape}.")

    def _switch_cells(self) -> None:
        with self._changing():
            if self._toolbox.cell is None:
                self._toolbox.move(self._grid[1] // 2, self._grid[0] // 2, self._grid)
                self._tell_cell()
            else:
                self._toolbox.cell = None
                self._say("The cell cursor is off.")

    def _tell_cell(self) -> None:
        """Say where the cell cursor is, how hot it is there, and what is marked."""
        cell, (rows, columns), (width, height) = self._toolbox.cell, self._grid, self._drawing.size
        assert cell is not None  # noqa: S101  whoever calls has put it there
        row, column = cell
        x, y = (int((column + 0.5) * width / columns), int((row + 0.5) * height / rows))
        heat = ""
        if self._heat is not None:
            here = self._heat[
                int((row + 0.5) * self._heat.shape[0] / rows),
                int((column + 0.5) * self._heat.shape[1] / columns),
            ]
            heat = f"attention {percent(float(here))}, "
        marked = _NAMES[int(self._drawing.mask[y, x])]
        self._say(f"Row {row + 1} of {rows}, column {column + 1} of {columns}: {heat}{marked}.")

    def _resize(self, steps: int) -> None:
        with self._changing():
            self._toolbox.resize(steps, max(self._drawing.size))

    def _fill(self) -> None:
        with self._lock:
            if self._heat is None:
                self._say("There is no map to fill from.")
                return
            tau = float(self.toolbar.threshold.value)
            self.draw(self._drawing.fill(self._heat, tau, self._toolbox.value))

    def _preview(self) -> None:
        """Show what a fill would cover while the threshold is being chosen."""
        with self._changing():
            self._previewing = True

    def _preview_outline(self) -> bytes:
        if not (self._previewing and self._enabled) or self._heat is None:
            return b""
        hot = self._drawing.hotter(self._heat, float(self.toolbar.threshold.value))
        return encode(hot.astype(np.int8))

    def _draw_plain(self, tool: str, value: int) -> None:
        self.draw(Stroke(tool, value))  # type: ignore[arg-type]

    def _copy(self) -> None:
        with self._lock:
            if self._sources:
                self.draw(self._drawing.copy(self._sources[0][1]))

    def _next_source(self) -> None:
        with self._changing():
            self._sources = [*self._sources[1:], *self._sources[:1]]

    def _look(self, factor: float | None) -> None:
        with self._changing():
            self._looks.append(factor)

    # ------------------------------------------------------------------ words

    @property
    def _grid(self) -> tuple[int, int]:
        return grid(None if self._heat is None else self._heat.shape, self._drawing.size)

    def _sentences(self) -> list[tuple[str, str]]:
        """Return (what is marked, how much of map and picture that is)."""
        shares = self._drawing.shares(self._heat)
        found = []
        for name in ("relevant", "irrelevant"):
            area = getattr(shares, f"{name}_area")
            if area:
                mass = f"{percent(getattr(shares, name))} of the map's attention, "
                mass = mass if self._heat is not None else ""
                found.append((name, f"{name.capitalize()}: {mass}{percent(area)} of the picture"))
        return found or [("", "Nothing is marked")]

    def _legend(self) -> str:
        marked = "".join(
            f'<span>{f"""<i class="xf-{name}"></i>""" if name else ""}{text}</span>'
            for name, text in self._sentences()
        )
        return f'<div class="xf-legend">{marked}</div>'
