"""The frame of a labelling page: the page reports in batches, and one thread writes down what it tells.

Whatever a person does, on the page or by button, is handed to that thread, which does it in order, so that a
press finds written what was clicked before it. What cannot be written is tried again with what is done next.
What is shown and what a record is, is the subclasses' business.
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

if TYPE_CHECKING:
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.capture import Batch, Capture
    from xfeedback_widgets.widgets.labelling.controls import LabellingPainter
    from xfeedback_widgets.widgets.labelling.desk import LabellingDesk
    from xfeedback_widgets.widgets.loader import Loader


class LabellingWidget(SessionWidget):
    """The frame around a page on which people label.

    A subclass makes its page, desk, controls, loader and painter, and then calls :meth:`_begin`.
    """

    _desk: LabellingDesk
    _page: Capture
    _painter: LabellingPainter

    def _start(self, session: Session) -> None:
        self.session = session
        self._unwritten: set[Any] = set()  # keys of what is to be on disk before the page is told
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
    def _note(self, batch: Batch) -> set[Any]:
        """Note what a batch tells; return the keys of what is to be on disk before the page is told."""

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
        noted = self._note(batch)
        self._unwritten |= noted
        for key in sorted(self._unwritten):
            self._record(key)
        self._page.note_written(batch)
        self._paint_content()
        if noted:
            self._say(self._saved(batch))

    def _record(self, key: Any) -> None:
        """Write down what has been seen of a picture."""
        with self._desk.lock:
            trace, record = self._desk.trace_of(key), self._desk.byproduct(key)
        try:
            self.session.record(record)
        except Exception:
            trace.dirty = True
            raise
        self._unwritten.discard(key)

    def _write(self) -> None:
        """Write down what happened and is not on disk yet."""
        for key in self._desk.due():
            self._record(key)

    def _on_bad_message(self, error: Exception) -> None:
        self._fail("A message of the page could not be used.", error)

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        """Arrow keys are the page's own."""

    # ------------------------------------------------------------------ what is painted

    def _paint_content(self) -> None:
        self.pump.post("content", self._painter.content, priority=PICTURE)

    def _paint_soon(self) -> None:
        self._paint_content()
        self.pump.post("header", self._painter.header, priority=SURROUNDINGS)

    def _on_session(self, event: str, _: Any) -> None:
        post, painter = self.pump.post, self._painter
        if event in {"recorded", "undone", "redone"}:
            post("header", painter.header, priority=USUAL)
        elif event == "published":
            painter.outdate()
        if event in {"published", "progress", "error"}:
            post("training", painter.training, priority=UNASKED)
