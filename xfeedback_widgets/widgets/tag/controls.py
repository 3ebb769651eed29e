"""What surrounds the tagging page in particular, and how it is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.labelling.controls import (
    TRAINING_KEYS,
    LabellingControls,
    LabellingPainter,
)
from xfeedback_widgets.widgets.text import counted, escape, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.tag.board import TagBoard
    from xfeedback_widgets.widgets.tag.desk import TagDesk

KEYS = {"skip": "pagedown", "back": "pageup", **TRAINING_KEYS}

_TURNING = {
    "back": ("Previous picture", "Go to the picture before"),
    "skip": ("Next picture", "Write this picture down and go to the next one"),
}


class TagControls(LabellingControls):
    """The widgets of the tagging page.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    page : TagBoard
    """

    page: TagBoard

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
        page: TagBoard,
    ) -> None:
        super().__init__(session, bridge, chosen, press, page=page, turning=_TURNING)


class TagPainter(LabellingPainter):
    """Paints the tagging page; the parameters are those of :class:`LabellingPainter`."""

    _controls: TagControls
    _desk: TagDesk
    _share = "Share of pictures tagged"

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

    def _progress(self) -> tuple[int, str]:
        done = len(self._desk.seen())
        total = counted(self._desk.length, "picture")
        return done, f"<strong>{done} of {total}</strong> tagged"
