"""What every widget has: keys, a status line, threads, and an end; on a session, a training panel as well.

:class:`Frame` and :class:`SessionWidget` decide nothing about what is looked at or answered; that is in
`review.py` for images, in `neurons/` for units and in `audit/` for classes. The frame turns presses and
keys into actions, shows what goes wrong in them, and closes everything it opened; the other one steers
the trainer.
"""

from __future__ import annotations

import base64
import functools
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.parts import close_with_models, tree
from xfeedback_widgets.widgets.pump import SURROUNDINGS, WORDS, Pump
from xfeedback_widgets.widgets.stepper import describe
from xfeedback_widgets.widgets.text import error_html, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.board import Board, Buttons
    from xfeedback_widgets.widgets.keyed import KeyedThread
    from xfeedback_widgets.widgets.painter import BasePainter, FramePainter
    from xfeedback_widgets.widgets.walk import Walk


class Frame(ipywidgets.VBox):
    """The frame around everything. A subclass makes its parts and then calls :meth:`_assemble`.

    Attributes
    ----------
    buttons : dict of action to Button
        A script can press them: ``widget.buttons["undo"].click()``.
    bridge : Bridge
    pump : Pump
    """

    _closed = True  # until it is whole, so that a half-made one can be collected
    _controls: Buttons
    _painter: FramePainter

    def _assemble(
        self, keys: dict[str, str], *, background: KeyedThread, workers: Sequence[KeyedThread]
    ) -> None:
        """Start the pump and show the controls.

        Parameters
        ----------
        keys : dict of action to key
        background : KeyedThread
            Does what a press asks for and a callback has no time for.
        workers : sequence of KeyedThread
            All threads of the widget, `background` included; each may post to the pump and to those
            after it.
        """
        self._keys, self._background, self._workers = keys, background, tuple(workers)
        self.bridge, self.buttons = self._controls.bridge, self._controls.buttons
        self.pump = Pump(self._painter.failed, self._painter.resend, self._held_back)
        self._show(self._controls.children)
        self._closed = False
        self._actions = self._table()

    def _show(self, children: Sequence[ipywidgets.Widget]) -> None:
        """Put all that is shown into this widget."""
        super().__init__(children)
        self.add_class("xf-root")

    # ------------------------------------------------------------------ for subclasses

    @abstractmethod
    def _table(self) -> dict[str, Callable[[], None]]:
        """Return what every action does, those of a training panel excepted."""

    @abstractmethod
    def _move_by_arrow(self, columns: int, rows: int) -> None:
        """Move by an arrow key."""

    @abstractmethod
    def _static(self) -> bytes:
        """Return the picture, PNG, for readers without a kernel."""

    def _held_back(self) -> float:
        """Return for how many seconds nothing is to be painted that nobody waits for."""
        return 0.0

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def status(self) -> str:
        """The status line, as HTML."""
        return str(self._controls.status.value)

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until all that was asked for is computed and painted; not for callbacks.

        Returns
        -------
        bool
            False when `timeout` seconds passed first.
        """
        until = time.monotonic() + timeout
        # what a thread brings is painted, and what is painted may ask the next one
        threads = [thread for worker in self._workers for thread in (worker, self.pump)]
        return all(thread.flush(max(0.0, until - time.monotonic())) for thread in threads)

    def close(self) -> None:
        """Close every widget of this one and stop its threads; the session stays open. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for thread in (*self._workers, self.pump):
            thread.close()
        self._controls.close()
        for widget in reversed(list(tree(self))):
            close_with_models(widget)

    # ------------------------------------------------------------------ presses and keys

    def _press(self, action: str) -> None:
        """Do what a button or a key stands for, and show what goes wrong."""
        self._guarded(action.replace("_", " "), self._actions[action])()

    def _on_key(self, name: str) -> None:
        if name in key_table.MOVES:
            self._guarded("move", self._move_by_arrow)(*key_table.MOVES[name])
            return
        action = next((action for action, key in self._keys.items() if key == name), None)
        if action is not None and action in self.buttons and self._allowed(action):
            self._press(action)

    def _allowed(self, action: str) -> bool:
        """Whether a key may do what its button does."""
        return not self.buttons[action].disabled

    # ------------------------------------------------------------------ saying

    def _say(self, text: str) -> None:
        self._post_status(f'<span class="xf-said" role="status">{escape(text)}</span>')

    def _fail(self, message: str, error: Exception) -> None:
        self._post_status(error_html(message, error))

    def _post_status(self, html: str) -> None:
        self.pump.post("status", functools.partial(self._painter.status, html), priority=WORDS)

    def _guarded(self, doing: str, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap a callback: what it raises would be invisible, so it is shown in the status line."""

        def call(*arguments: Any) -> None:
            if self._closed:
                return
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001
                self._fail(f"Could not {doing}.", error)

        return call

    def _in_background(self, doing: str, function: Callable[[], None]) -> None:
        self._background.post(doing, self._guarded(doing, function))

    # ------------------------------------------------------------------ without a kernel

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle: dict[str, Any] | None = super()._repr_mimebundle_(**kwargs)
        if bundle and not self._closed:
            bundle["image/png"] = base64.b64encode(self._static()).decode("ascii")
        return bundle


class SessionWidget(Frame):
    """The frame around a review of a session's data.

    Attributes
    ----------
    session : Session
        It stays open when the widget is closed.
    """

    _controls: Board
    _desk: Walk
    _painter: BasePainter
    session: Session

    def _assemble(
        self, keys: dict[str, str], *, background: KeyedThread, workers: Sequence[KeyedThread]
    ) -> None:
        """Start the pump, show the controls and listen to the session."""
        super()._assemble(keys, background=background, workers=workers)
        self._actions = {**self._training_actions(), **self._actions}
        self._unsubscribe = self.session.subscribe(self._on_session)
        self.pump.post("training", self._painter.training, priority=SURROUNDINGS)

    @abstractmethod
    def _on_session(self, event: str, payload: Any) -> None:
        """Hear what happened, on any thread: only post."""

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def mode(self) -> str:
        """The open view: ``"one"``, ``"grid"`` or another that the widget has a button for."""
        return self._desk.mode

    @property
    def selected(self) -> int:
        """Number of the selected tile on the grid's page, from 0."""
        return self._desk.selected

    def close(self) -> None:
        """Close every widget of this one and stop its threads; the session stays open. Idempotent."""
        if not self._closed:
            self._unsubscribe()
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.session!r}>"

    # ------------------------------------------------------------------ presses and keys

    def _press(self, action: str) -> None:
        self._touch()
        super()._press(action)

    def _on_key(self, name: str) -> None:
        if name in key_table.MOVES:
            self._touch()
        super()._on_key(name)

    def _touch(self) -> None:
        """A person does something: it goes first."""
        self.session.precedence.claim()
        self._desk.touch()

    def _held_back(self) -> float:
        return self.session.precedence.left

    # ------------------------------------------------------------------ the trainer

    def _training_actions(self) -> dict[str, Callable[[], None]]:
        return {
            "train": self.session.train,
            "pause": self._pause_or_resume,
            "stop": self.session.stop,
            "target_older": functools.partial(self._choose_target, -1),
            "target_newer": functools.partial(self._choose_target, 1),
            "rollback": self._roll_back,
        }

    def _choose_target(self, by: int) -> None:
        self._controls.training.stepper.step(by)
        self.pump.post("training", self._painter.training, priority=SURROUNDINGS)

    def _pause_or_resume(self) -> None:
        if self.session.progress.state == "paused":
            self.session.resume()
        else:
            self.session.pause()

    def _roll_back(self) -> None:
        # reading and publishing weights is work, so it is not done in the callback
        version = self._controls.training.stepper.chosen

        def roll_back() -> None:
            self.session.rollback(version)
            self._say(f"Rolled back: {describe(version)} is in the model.")

        self._in_background("roll back", roll_back)
