"""All that can be seen and pressed on the tagging page, built once, and how it is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.board import Board, classed, row
from xfeedback_widgets.widgets.labelling import KEPT, TRAINING_KEYS, learning_notice
from xfeedback_widgets.widgets.painter import BasePainter
from xfeedback_widgets.widgets.text import counted, escape, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.loader import Loader
    from xfeedback_widgets.widgets.tag.board import TagBoard
    from xfeedback_widgets.widgets.tag.desk import TagDesk

KEYS = {"skip": "pagedown", "back": "pageup", **TRAINING_KEYS}
NAMES = {
    ".xf-answer-bar .progress": "Share of pictures tagged",
    ".xf-training-bar .progress": "Progress of the training",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""


class TagControls(Board):
    """The widgets of the tagging page and their arrangement.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    page : TagBoard
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
        page: TagBoard,
    ) -> None:
        super().__init__(session, bridge, chosen, press)
        self.page = page
        self.summary = ipywidgets.HTML()
        self.bar = classed(
            ipywidgets.IntProgress(min=0, max=1, value=0), "xf-progress", "xf-answer-bar"
        )
        self.question = classed(ipywidgets.HTML(), "xf-question")
        self.notice = ipywidgets.HTML()
        turning = row(
            [
                self.button("back", "Previous picture", "Go to the picture before"),
                self.button(
                    "skip", "Next picture", "Write this picture down and go to the next one"
                ),
                classed(ipywidgets.HTML(f'<span class="xf-muted">{KEPT}</span>'), "xf-kept"),
            ]
        )
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            self.question,
            self.notice,
            page,
            turning,
            self.status,
            self.training,
        ]


class TagPainter(BasePainter):
    """Paints the tagging page.

    Parameters
    ----------
    session : Session
    desk : TagDesk
    controls : TagControls
    loader : Loader
    """

    def __init__(
        self, session: Session, desk: TagDesk, controls: TagControls, loader: Loader
    ) -> None:
        super().__init__(session, controls)
        self._desk, self._controls, self._loader = desk, controls, loader

    def content(self) -> None:
        """Paint the picture with its icons."""
        desk, page = self._desk, self._controls.page
        with desk.lock:
            position, current = desk.position, desk.current
            found = None if position is None else self._loader.ready(position)
            trace = None if position is None else desk.traces.get(position)
            placed = {} if trace is None else dict(trace.placed)
        if position is None or current is None:
            page.end()
            self._ask("Every picture is tagged. Train, or go back to change something.")
        elif found is None:
            return  # it is on its way
        elif found[0] is None or trace is None:
            page.end()
            self._ask(f"Picture {shorten(current)} cannot be read; go on to the next one.")
        else:
            icons = {desk.icons.index(name): point for name, point in placed.items()}
            count = counted(len(icons), "icon")
            label = f"Picture {desk.number(position) + 1} of {desk.length}, {count} on it"
            page.show(position, found[0], icons, label)
            self._ask("Drag the icon of each class onto an object of it; one icon for each class.")
            self.announce(current, label)

    def _ask(self, text: str) -> None:
        self._controls.question.value = escape(text)

    def header(self) -> None:
        """Paint how much has been tagged."""
        desk, controls = self._desk, self._controls
        done, total = len(desk.seen()), desk.length
        controls.summary.value = f"<strong>{done} of {counted(total, 'picture')}</strong> tagged"
        controls.bar.max, controls.bar.value = max(1, total), done
        controls.notice.value = notice = learning_notice(self._session)
        controls.notice.layout.display = "" if notice else "none"
        controls.bridge.names = NAMES

    def resend(self) -> None:
        """Send again all that is painted: a dropped message must not leave a wrong screen."""
        self._controls.page.send_state()
        super().resend()
