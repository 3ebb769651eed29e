"""What surrounds the browsing pages in particular, and how they are painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.labelling.controls import (
    TRAINING_KEYS,
    LabellingControls,
    LabellingPainter,
)
from xfeedback_widgets.widgets.text import counted, escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.browse.desk import BrowseDesk
    from xfeedback_widgets.widgets.browse.pages import Pages
    from xfeedback_widgets.widgets.explainer import Picture

KEYS = {"next_page": "pagedown", "previous_page": "pageup", **TRAINING_KEYS}

_TURNING = {
    "previous_page": ("Previous page", "Go to the page before"),
    "next_page": ("Next page", "Write this page down and go to the next"),
}


class BrowseControls(LabellingControls):
    """The widgets of the browsing pages.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    pages : Pages
    class_name, description : str
        What is asked for, as plain text.
    """

    page: Pages

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
        *,
        pages: Pages,
        class_name: str,
        description: str,
    ) -> None:
        super().__init__(session, bridge, chosen, press, page=pages, turning=_TURNING)
        about = f"<p>{escape(description)}</p>" if description else ""
        self.question.value = (
            f"Click every picture that shows: <strong>{escape(class_name)}</strong>{about}"
        )


class BrowsePainter(LabellingPainter):
    """Paints the browsing pages; the parameters are those of :class:`LabellingPainter`."""

    _controls: BrowseControls
    _desk: BrowseDesk
    _share = "Share of pictures seen"

    def content(self) -> None:
        """Paint the open page, and bring its neighbours into the browser."""
        desk, pages = self._desk, self._controls.page
        here = desk.number
        near = [n for n in (here, here + 1, here - 1) if 0 <= n < desk.pages]
        found = {n: pictures for n in near if (pictures := self._loader.ready(n)) is not None}
        if here in found:
            pages.put(here, _tiles(found[here]))
        count = counted(len(desk.positions_of(here)), "picture")
        label = f"{count}, page {here + 1} of {desk.pages}; arrow keys move, Space selects"
        pages.turn(here, {n: desk.chosen(n) for n in found}, label)
        for number, pictures in found.items():
            pages.put(number, _tiles(pictures))

    def header(self) -> None:
        """Paint how much has been seen, and whether there is a page before."""
        super().header()
        self._controls.buttons["previous_page"].disabled = self._desk.number == 0

    def _progress(self) -> tuple[int, str]:
        desk, seen = self._desk, self._desk.seen()
        selected = sum(trace.selected for trace in seen.values())
        return len(seen), (
            f"<strong>Page {desk.number + 1} of {desk.pages}</strong> · {len(seen)} of "
            f"{counted(desk.length, 'picture')} seen, {selected} selected"
        )


def _tiles(pictures: tuple[Picture | None, ...]) -> list[dict[str, object]]:
    return [
        {"picture": b"", "width": 1, "height": 1}
        if picture is None
        else {
            "picture": picture.encoded,
            "width": picture.size[0],
            "height": picture.size[1],
        }
        for picture in pictures
    ]
