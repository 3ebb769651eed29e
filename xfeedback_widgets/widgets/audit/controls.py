"""All that can be seen and pressed in an audit, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.audit.desk import SHOWN
from xfeedback_widgets.widgets.audit.gallery import Gallery
from xfeedback_widgets.widgets.board import Buttons, classed, progress_bar, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.widgets.bridge import Bridge

KEYS = {
    "review": "r",
    "again": "m",
    "all": "1",
    "right": "2",
    "wrong": "3",
    "sort": "s",
    "reverse": "d",
    "peek": "space",
    "next_page": "pagedown",
    "previous_page": "pageup",
}
"""Keys of the audit; the arrow keys go up and down the classes, and left and right through the images."""

NAMES = {
    ".xf-audit-bar .progress": "Progress of the audit",
    ".xf-filter input": "Filter the classes by name",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""


class AuditControls(Buttons):
    """The widgets of an audit and their arrangement.

    Parameters
    ----------
    bridge, chosen, press
        As for :class:`~.board.Buttons`.
    """

    def __init__(
        self, bridge: Bridge, chosen: dict[str, str], press: Callable[[str], None]
    ) -> None:
        super().__init__(bridge, chosen, press)
        self.summary = ipywidgets.HTML()
        self.filter = classed(
            ipywidgets.Text(placeholder="Filter by name …", continuous_update=True), "xf-filter"
        )
        self.table = classed(ipywidgets.HTML(), "xf-facts", "xf-class-table")
        self.facts = ipywidgets.HTML()
        self.gallery = Gallery()
        self.note = ipywidgets.HTML()
        self.bar = progress_bar("xf-audit-bar")
        classes = classed(
            ipywidgets.VBox([row([self.filter, *self._list_buttons()]), self.table]), "xf-column"
        )
        images = classed(
            ipywidgets.VBox([self.facts, row(self._image_buttons()), self.gallery]), "xf-column"
        )
        again = self.button("again", "Audit again", "Audit the model as it is now, and compare")
        self.children = [
            bridge,
            self.summary,
            classed(ipywidgets.HBox([classes, images]), "xf-columns", "xf-audit"),
            row([again, self.bar, self.note]),
            self.status,
        ]

    def _list_buttons(self) -> list[ipywidgets.Widget]:
        return [
            self.button("sort", "Sort", "Sort by the next column; or press a heading"),
            self.button("reverse", "Reverse", "Sort the other way round"),
            self.button("previous_page", "Back", "Go to the classes before"),
            self.button("next_page", "More", "Go to the next classes"),
        ]

    def _image_buttons(self) -> list[ipywidgets.Widget]:
        texts = {
            "all": "Show the images with the least attention on the object",
            "right": "Of these, only those the model is right about, for the wrong reason",
            "wrong": "Of these, only those the model is wrong about",
        }
        shown = [
            classed(self.button(name, title, texts[name]), "xf-view")
            for name, title in SHOWN.items()
        ]
        review = self.button(
            "review", "Review these", "Judge the maps of these images, worst first"
        )
        return [*shown, classed(review, "xf-apart")]
