"""All that can be seen and pressed in the review of units, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets import grid, keys
from xfeedback_widgets.widgets.board import Board, classed, dropdown, progress_bar, row
from xfeedback_widgets.widgets.neurons.collector import ORDERS
from xfeedback_widgets.widgets.neurons.grid import UnitGrid
from xfeedback_widgets.widgets.neurons.single import UnitView
from xfeedback_widgets.widgets.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge

VIEWS = {"one": "One unit", "grid": "Grid"}

NAMES = {
    ".xf-answer-bar .progress": "Share of units answered",
    ".xf-collect-bar .progress": "Progress of collecting the patches",
    ".xf-training-bar .progress": "Progress of the training",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""

_ANSWERS = {
    "accept": (
        "Relevant",
        "What this unit responds to belongs to the classes it speaks for; next unit",
    ),
    "reject": ("Irrelevant", "What this unit responds to should not count: prune it; next unit"),
    "unsure": ("Unsure", "Cannot be decided; go to the next unit"),
    "skip": ("Skip", "Go to the next unit without an answer"),
    "back": ("Back", "Go to the unit before"),
}


class UnitControls(Board):
    """The widgets of a review of units and their arrangement.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    order : str
    target : int or None
    page_size : int
        First values of the fields.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
        *,
        order: str,
        target: int | None,
        page_size: int,
    ) -> None:
        super().__init__(session, bridge, chosen, press)
        names = tuple(session.data.class_names)
        self.summary = ipywidgets.HTML()
        self.bar = progress_bar("xf-answer-bar")
        self.notice = ipywidgets.HTML()
        self._make_collecting()
        self.order_field = dropdown(
            "Order",
            [(text, name) for name, text in ORDERS.items()],
            order,
            "Which units come first",
        )
        classes = [(shorten(name), index) for index, name in enumerate(names)]
        self.target_field = dropdown(
            "Class",
            [("All classes", -1), *classes],
            -1 if target is None else target,
            "Order by the influence on this class, and always show it",
        )
        sizes = [(str(size), size) for size in grid.PAGE_SIZES]
        self.page_size_field = dropdown("Tiles", sizes, page_size, "Tiles on a page")
        self.single = UnitView(names, keys.caption(chosen.get("peek", "")))
        self.grid = UnitGrid(
            names,
            [
                self.button("previous_page", "Previous page", "Go to the page before"),
                self.button("next_page", "Next page", "Go to the page after"),
                self.button("open", "Open", "Show the selected tile as one unit"),
                self.page_size_field,
            ],
        )
        self.views: dict[str, ipywidgets.Box] = {"one": self.single, "grid": self.grid}
        self.preview = classed(ipywidgets.HTML(), "xf-facts", "xf-panel")
        self.preview.layout.display = "none"  # until there is something in it
        settings = classed(ipywidgets.HBox([self.order_field, self.target_field]), "xf-settings")
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            self.notice,
            self.collecting,
            row(self._top_buttons()),
            *self.views.values(),
            classed(row(self._answer_buttons()), "xf-answers"),
            self.status,
            settings,
            self.preview,
            self.training,
        ]

    def _make_collecting(self) -> None:
        self.collect_text = ipywidgets.HTML()
        self.collect_bar = progress_bar("xf-collect-bar")
        button = self.button(
            "collect", "Stop collecting", "Stop collecting patches, or start again"
        )
        self.collecting = ipywidgets.VBox([self.collect_text, row([button, self.collect_bar])])

    def _top_buttons(self) -> list[ipywidgets.Widget]:
        views = [
            classed(self.button(name, text, f"Show: {text.lower()}"), "xf-view")
            for name, text in VIEWS.items()
        ]
        undo = self.button("undo", "Undo", "Take back the last answer and return to its unit")
        redo = self.button("redo", "Redo", "Give the answer again that was taken back")
        return [*views, classed(undo, "xf-apart"), redo]

    def _answer_buttons(self) -> list[ipywidgets.Widget]:
        return [
            classed(self.button(action, text, tooltip), f"xf-{action}")
            for action, (text, tooltip) in _ANSWERS.items()
        ]
