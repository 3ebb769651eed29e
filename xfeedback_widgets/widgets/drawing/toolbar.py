"""The buttons of the canvas: what there is to press, and how it shows what is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.board import classed, row
from xfeedback_widgets.widgets.drawing.toolbox import SHAPES, VALUES, Toolbox
from xfeedback_widgets.widgets.text import escape, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = {
    "relevant": "+",
    "irrelevant": "-",
    "erase": "0",
    "brush": "d",
    "rectangle": "m",
    "lasso": "l",
    "pan": "v",
    "cells": "e",
    "smaller": "[",
    "larger": "]",
    "fill": "f",
    "invert": "shift+i",
    "clear": "delete",
    "copy": "shift+c",
    "source": "q",
    "zoom_out": "<",
    "zoom_in": ">",
    "whole": "w",
}
"""Default key of every action of the canvas."""

TAU = 0.5

_TEXTS = {
    "relevant": ("Relevant", "Paint what the model should look at"),
    "irrelevant": ("Irrelevant", "Paint what the model should not look at"),
    "erase": ("Erase", "Take painted regions away"),
    "brush": ("Brush", "Draw freely; Shift draws straight lines"),
    "rectangle": ("Rectangle", "Drag from corner to corner"),
    "lasso": ("Lasso", "Drag around a region, or click its corners and close it with Enter"),
    "pan": ("Move", "Drag the enlarged picture; the middle button does so with any tool"),
    "cells": (
        "Cells",
        "Walk over the map's cells with the arrow keys and mark them, without a mouse",
    ),
    "smaller": ("Smaller", "Smaller brush or eraser; Ctrl+Shift+wheel does so, too"),
    "larger": ("Larger", "Larger brush or eraser; Ctrl+Shift+wheel does so, too"),
    "fill": ("Fill hotter", "Paint everything where the map is hotter than the threshold"),
    "invert": ("Invert", "Swap what is painted and what is not"),
    "clear": ("Clear", "Take everything away"),
    "copy": ("Copy", "Put another mask of this picture here"),
    "source": ("Other mask", "Choose which mask to copy"),
    "zoom_out": ("Zoom out", "Show more of the picture; Ctrl+wheel does so, too"),
    "zoom_in": ("Zoom in", "Enlarge the picture; Ctrl+wheel does so at the pointer"),
    "whole": ("Whole", "Show the whole picture"),
}


class Toolbar(ipywidgets.VBox):
    """The buttons and the threshold.

    Parameters
    ----------
    button : callable
        ``button(action, text, tooltip)`` makes the button of an action, its key printed on it.

    Attributes
    ----------
    buttons : dict of action to Button
    threshold : FloatSlider
        Of the fill; edited by people and never written.
    """

    def __init__(self, button: Callable[[str, str, str], ipywidgets.Button]) -> None:
        self.buttons = {action: button(action, *text) for action, text in _TEXTS.items()}
        for action in (*VALUES, *SHAPES, "cells"):
            classed(self.buttons[action], "xf-view", f"xf-paint-{action}")
        self._size, self._source = ipywidgets.HTML(), ipywidgets.HTML()
        self.threshold = classed(
            ipywidgets.FloatSlider(
                value=TAU,
                min=0.05,
                max=0.95,
                step=0.05,
                description="Threshold τ",
                readout_format=".2f",
                style={"description_width": "initial"},
            ),
            "xf-tau",
        )
        super().__init__(
            [
                self._row("relevant", "irrelevant", "erase"),
                self._row(*SHAPES, "cells"),
                self._row("smaller", "larger", self._size, "zoom_out", "zoom_in", "whole"),
                self._row("fill", self.threshold, "invert", "clear"),
                self._row("copy", "source", self._source),
            ]
        )
        self.add_class("xf-tools")

    def _row(self, *parts: str | ipywidgets.Widget) -> ipywidgets.HBox:
        return row([self.buttons[part] if isinstance(part, str) else part for part in parts])

    def paint(
        self,
        toolbox: Toolbox,
        *,
        size: float,
        fillable: bool,
        empty: bool,
        sources: tuple[str, ...],
    ) -> None:
        """Show what is chosen and what can be pressed (for the UI pump).

        Parameters
        ----------
        toolbox : Toolbox
        size : float
            Of brush or eraser, in pixels of the picture.
        fillable : bool
            Whether there is a map with attention in it.
        empty : bool
            Whether nothing is painted.
        sources : tuple of str
            Names of the masks that can be copied, the chosen one first.
        """
        chosen = {toolbox.shape, *(a for a, value in VALUES.items() if value == toolbox.value)}
        if toolbox.cell is not None:
            chosen.add("cells")
        for action in (*VALUES, *SHAPES, "cells"):
            button = self.buttons[action]
            (button.add_class if action in chosen else button.remove_class)("xf-on")
        buttons = self.buttons
        buttons["fill"].disabled = not fillable
        buttons["clear"].disabled = empty
        buttons["copy"].disabled = not sources
        buttons["source"].disabled = len(sources) < 2
        for action in ("smaller", "larger"):
            buttons[action].disabled = toolbox.shape != "brush"
        name = "Eraser" if toolbox.value == 0 else "Brush"
        self._size.value = f"{name} {size:g} px" if toolbox.shape == "brush" else ""
        self._source.value = f"Copies: {escape(shorten(sources[0]))}" if sources else ""
        self.children[-1].layout.display = "" if sources else "none"
