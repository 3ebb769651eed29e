"""Before and after: one image and its map under any two versions of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets import layout
from xfeedback_widgets.widgets.stage import Stage
from xfeedback_widgets.widgets.stepper import Stepper
from xfeedback_widgets.widgets.text import error_html, escape, percent, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.training import Version
    from xfeedback_widgets.widgets.explainer import Explained, Picture

SIZE = 300


class CompareView(ipywidgets.HBox):
    """Two stages side by side, each with a version to choose.

    Parameters
    ----------
    class_names : sequence of str
    button : callable
        ``button(action, text, tooltip)`` makes a button for a named action of the review widget.
    on_ready : callable
        See :class:`~.stage.Stage`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        button: Callable[..., ipywidgets.Button],
        on_ready: Callable[[], None],
    ) -> None:
        self._names = class_names
        self.steppers = {
            side: Stepper(
                f"{side.capitalize()}:",
                button(f"{side}_older", "Older", f"Choose an older version for “{side}”"),
                button(f"{side}_newer", "Newer", f"Choose a newer version for “{side}”"),
                follow=side == "after",
            )
            for side in ("before", "after")
        }
        self.stages = {side: Stage(SIZE, SIZE, on_ready) for side in self.steppers}
        self._facts = {side: ipywidgets.HTML() for side in self.steppers}
        columns = []
        for side, stepper in self.steppers.items():
            column = ipywidgets.VBox([stepper, self.stages[side], self._facts[side]])
            column.add_class("xf-column")
            columns.append(column)
        super().__init__(columns)
        self.add_class("xf-columns")
        self.add_class("xf-compare")

    @property
    def versions(self) -> dict[str, int]:
        """The versions chosen "before" and "after"."""
        return {side: stepper.chosen for side, stepper in self.steppers.items()}

    def paint(
        self,
        *,
        picture: Picture | None,
        items: dict[str, Explained | None],
        failure: Exception | None,
        versions: Sequence[Version],
        live: int,
        look: layout.Look,
        box: int,
        ratio: float,
    ) -> None:
        """Show one image under both versions (for the UI pump)."""
        for side, stepper in self.steppers.items():
            stepper.paint(versions, live)
            item = items.get(side)
            if picture is None:
                self.stages[side].clear()
            else:
                size = min(box, SIZE)
                layout.show(self.stages[side], picture, item, look, box=size, ratio=ratio)
            if item is None and failure is not None:
                self._facts[side].value = error_html("This image, or its map, failed.", failure)
            else:
                self._facts[side].value = self._text(item)

    def paint_end(self, text: str) -> None:
        """Show that there is nothing more to look at (for the UI pump)."""
        for side, stage in self.stages.items():
            stage.clear()
            self._facts[side].value = escape(text)

    def _text(self, item: Explained | None) -> str:
        if item is None:
            return '<span class="xf-muted">Computing the map …</span>'
        mark = "✓ right" if item.predicted == item.label else "✕ wrong"
        name = escape(shorten(self._names[item.predicted]))
        empty = " · no attention" if item.empty else ""
        return (
            f"Predicted <strong>{name}</strong> {percent(item.confidence)} "
            f'<span class="xf-badge">{mark}</span>{empty}'
        )
