"""What the two labelling pages share: a page reports in batches, and one thread writes down what it tells.

:class:`LabellingWidget` is the frame of `browse/` and `tag/`. Whatever a person does, on the page or by
button, is handed to one thread that does it in order, so that a press finds written what was clicked before
it. What is shown and what a record is, is the subclasses' business.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.widgets import keys
from xfeedback_widgets.widgets.base import SessionWidget
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.hand import Hand
from xfeedback_widgets.widgets.pump import PICTURE, SURROUNDINGS, UNASKED, USUAL
from xfeedback_widgets.widgets.text import escape

if TYPE_CHECKING:
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.capture import Batch, Capture
    from xfeedback_widgets.widgets.loader import Loader

TRAINING_KEYS = {
    action: keys.DEFAULTS[action]
    for action in ("train", "pause", "stop", "target_older", "target_newer", "rollback")
}
KEPT = (
    "The journal keeps what is clicked and where the pointer goes over the pictures, with times. Names are "
    "hashed when byproducts are exported."
)


class LabellingWidget(SessionWidget):
    """The frame around a page on which people label.

    A subclass makes its page, desk, controls, loader and painter, and then calls :meth:`_begin`.
    """

    _page: Capture

    def _start(self, session: Session) -> None:
        self.session = session
        self._hand = Hand(lambda error: self._fail("That did not work.", error))

    def _make_bridge(self, label: str, chosen: dict[str, str]) -> Bridge:
        bridge = Bridge(
            label, on_key=self._on_key, on_click=lambda *_: None, on_size=lambda *_: None
        )
        bridge.use(chosen)
        # arrow keys are the page's own: it must answer at once
        bridge.hot_keys = [key for key in bridge.hot_keys if key not in keys.MOVES]
        return bridge

    def _begin(self, chosen: dict[str, str], loader: Loader) -> None:
        self._loader = loader
        self._assemble(chosen, background=self._hand, workers=(self._hand, loader, self._hand))
        self._refresh()

    @abstractmethod
    def _take(self, batch: Batch) -> bool:
        """Write down what a batch tells; return whether there is something to say about it."""

    @abstractmethod
    def _write(self) -> None:
        """Write down what happened and is not on disk yet."""

    @abstractmethod
    def _saved(self, batch: Batch) -> str:
        """Return in words what a batch that was written down has led to."""

    @abstractmethod
    def _refresh(self) -> None:
        """Fetch what is shown now and next, and paint what is there already."""

    # ------------------------------------------------------------------ what happens

    def close(self) -> None:
        """Write down what happened, close every widget of this one and stop its threads. Idempotent."""
        if not self._closed:
            self._hand.do(self._guarded("write the page down", self._write))
            self._hand.flush()
        super().close()

    def _press(self, action: str) -> None:
        self._hand.do(functools.partial(super()._press, action))

    def _on_batch(self, batch: Batch) -> None:
        follow = functools.partial(self._follow, batch)
        self._hand.do(self._guarded("save this; what is done next tries again", follow))

    def _follow(self, batch: Batch) -> None:
        tell = self._take(batch)
        self._page.note_written(batch)
        self.pump.post("content", self._painter.content, priority=PICTURE)
        if tell:
            self._say(self._saved(batch))

    def _on_bad_message(self, error: Exception) -> None:
        self._fail("A message of the page could not be used.", error)

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        """Arrow keys are the page's own."""

    # ------------------------------------------------------------------ what is painted

    def _paint_soon(self) -> None:
        self.pump.post("content", self._painter.content, priority=PICTURE)
        self.pump.post("header", self._painter.header, priority=SURROUNDINGS)  # type: ignore[attr-defined]

    def _on_session(self, event: str, _: Any) -> None:
        post, painter = self.pump.post, self._painter
        if event in {"recorded", "undone", "redone"}:
            post("header", painter.header, priority=USUAL)  # type: ignore[attr-defined]
        elif event == "published":
            post("versions", painter.versions, priority=UNASKED)
        if event in {"published", "progress", "error"}:
            post("training", painter.training, priority=UNASKED)


def learning_notice(session: Session) -> str:
    """Return, as HTML, that training will not use what is captured here; empty where it will."""
    if "points" in session.correction.learns_from:
        return ""
    name = escape(session.correction.name)
    return (
        f'<p class="xf-badge">Training will not use this: the session corrects with {name}. '
        "Set session.correction = xf.corrections.Luab().</p>"
    )
