"""All that can be seen and pressed on the browsing pages, built once, and how it is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.board import Board, classed, row
from xfeedback_widgets.widgets.labelling import KEPT, TRAINING_KEYS, learning_notice
from xfeedback_widgets.widgets.painter import BasePainter
from xfeedback_widgets.widgets.text import counted, escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.browse.desk import BrowseDesk
    from xfeedback_widgets.widgets.browse.pages import Pages
    from xfeedback_widgets.widgets.explainer import Picture
    from xfeedback_widgets.widgets.loader import Loader

KEYS = {"next_page": "pagedown", "previous_page": "pageup", **TRAINING_KEYS}
NAMES = {
    ".xf-answer-bar .progress": "Share of pictures seen",
    ".xf-training-bar .progress": "Progress of the training",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""


class BrowseControls(Board):
    """The widgets of the browsing pages and their arrangement.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    pages : Pages
    class_name, description : str
        What is asked for, as plain text.
    """

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
        super().__init__(session, bridge, chosen, press)
        self.pages = pages
        about = f"<p>{escape(description)}</p>" if description else ""
        self.question = classed(
            ipywidgets.HTML(
                f"Click every picture that shows: <strong>{escape(class_name)}</strong>{about}"
            ),
            "xf-question",
        )
        self.summary = ipywidgets.HTML()
        self.bar = classed(
            ipywidgets.IntProgress(min=0, max=1, value=0), "xf-progress", "xf-answer-bar"
        )
        self.notice = ipywidgets.HTML()
        turning = row(
            [
                self.button("previous_page", "Previous page", "Go to the page before"),
                self.button("next_page", "Next page", "Write this page down and go to the next"),
                classed(ipywidgets.HTML(f'<span class="xf-muted">{KEPT}</span>'), "xf-kept"),
            ]
        )
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            self.question,
            self.notice,
            pages,
            turning,
            self.status,
            self.training,
        ]


class BrowsePainter(BasePainter):
    """Paints the browsing pages.

    Parameters
    ----------
    session : Session
    desk : BrowseDesk
    controls : BrowseControls
    loader : Loader
    """

    def __init__(
        self, session: Session, desk: BrowseDesk, controls: BrowseControls, loader: Loader
    ) -> None:
        super().__init__(session, controls)
        self._desk, self._controls, self._loader = desk, controls, loader

    def content(self) -> None:
        """Paint the open page, and bring its neighbours into the browser."""
        desk, pages = self._desk, self._controls.pages
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
        """Paint how much has been seen."""
        desk, controls = self._desk, self._controls
        seen, total = desk.seen(), desk.length
        selected = sum(trace.selected for trace in seen.values())
        controls.summary.value = (
            f"<strong>Page {desk.number + 1} of {desk.pages}</strong> · {len(seen)} of "
            f"{counted(total, 'picture')} seen, {selected} selected"
        )
        controls.bar.max, controls.bar.value = max(1, total), len(seen)
        controls.buttons["previous_page"].disabled = desk.number == 0
        controls.notice.value = notice = learning_notice(self._session)
        controls.notice.layout.display = "" if notice else "none"
        controls.bridge.names = NAMES

    def resend(self) -> None:
        """Send again all that is painted: a dropped message must not leave a wrong screen."""
        self._controls.pages.send_state()
        super().resend()


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
