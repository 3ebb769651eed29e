"""The background worker: one thread that trains copies of the live model.

:class:`Worker` is the in-kernel executor. It knows four calls (submit, poll, stop, latest version; and
pause/resume), a queue of one run, and how to turn the events of :func:`~.loop.iterate` into a
:class:`Progress` that a panel can show. What a run is made of it gets as a :class:`Run`; deciding *when*
to train is the session's business.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from xfeedback_widgets.training.live import load_in_place
from xfeedback_widgets.training.loop import Epoch, Settings, Step, iterate
from xfeedback_widgets.training.precedence import Precedence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import Feedback
    from xfeedback_widgets.training.guard import Guard
    from xfeedback_widgets.training.live import LiveModel
    from xfeedback_widgets.training.versions import Version, VersionStore

#: What listeners are told.
TrainingEvent = Literal["progress", "published", "error"]

State = Literal["idle", "queued", "running", "paused", "stopping", "done", "stopped", "failed"]

#: States in which a run exists and has not ended.
ACTIVE: frozenset[State] = frozenset({"queued", "running", "paused", "stopping"})

_SAMPLE = 256  # training images that are measured where there is no validation set

_NICE = 10  # steps of priority the trainer stands back

_TURN = 1e-3  # seconds a busy cell may hold the interpreter while the trainer waits for it

_HISTORY = 2000  # points of a loss curve kept; older ones are thinned to every second


@dataclass(frozen=True)
class Progress:
    """A snapshot of the present or last run; immutable, so any thread may read it.

    ``eta`` is in seconds, None where not yet known. ``losses`` are those of the last step, ``metrics``
    those of the last epoch; the histories are for curves: ``(step, losses)`` and ``(epoch, metrics)``.
    ``message`` says in words what happened last, for example why the guard refused an epoch; ``error``
    and ``traceback`` are set in state "failed" only.
    """

    state: State = "idle"
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    eta: float | None = None
    message: str = ""
    error: str | None = None
    traceback: str | None = None
    losses_history: tuple[tuple[int, dict[str, float]], ...] = ()
    metrics_history: tuple[tuple[int, dict[str, float]], ...] = ()

    @property
    def active(self) -> bool:
        """Whether a run exists and has not ended."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class Run:
    """Everything one run needs. ``feedback`` is called on the worker's thread when the run starts.

    Without ``validation``, up to 256 training images inform the guard; what is measured on them is
    named ``train_accuracy``, ``train_empty_maps``, ….
    """

    data: ImageSet
    feedback: Callable[[], Feedback]
    correction: Correction
    settings: Settings
    validation: ImageSet | None
    guard: Guard


class Executor(Protocol):
    """Who trains: this thread, or another process that shares the session directory."""

    def submit(self, run: Run) -> None:
        """Start a run; raises ``RuntimeError`` while another is active."""

    def poll(self) -> Progress:
        """Return the newest snapshot, at once."""

    def stop(self) -> None:
        """End the run between two batches; the last published version stays."""

    def latest_version(self) -> int:
        """Return the number of the version published last."""


class _StopRun(Exception):  # noqa: N818
    """Raised inside the run when somebody pressed Stop."""


class Worker:
    """Train copies of a live model on one background thread and publish what passes the guard.

    Parameters
    ----------
    live
        The model to publish into.
    store
        Where versions are written.
    notify
        ``notify(event, payload)`` with "progress" (:class:`Progress`), "published"
        (:class:`~.versions.Version`) and "error" (:class:`Progress`); called on the worker's thread,
        or the caller's. It must not raise.
    threads
        Torch threads of the trainer; None: one fewer than there are cores.
    precedence
        To whom the trainer gives way; None: to nobody.
    """

    def __init__(
        self,
        live: LiveModel,
        store: VersionStore,
        notify: Callable[[TrainingEvent, Any], None],
        *,
        threads: int | None = None,
        precedence: Precedence | None = None,
    ) -> None:
        self._live = live
        self._store = store
        self._notify = notify
        self._threads = threads or max(1, _cores() - 1)
        self._precedence = precedence or Precedence()
        self._changed = threading.Condition()
        self._progress = Progress()
        self._run: Run | None = None
        self._paused = False
        self._stopping = False
        self._closed = False
        self._shadow: nn.Module | None = None
        self._thread = threading.Thread(target=self._main, name="xfeedback-trainer", daemon=True)
        self._thread.start()

    def submit(self, run: Run) -> None:
        """Start a run.

        Raises
        ------
        RuntimeError
            Another run is active, or the worker is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the session is closed")
            if self._progress.active:
                raise RuntimeError("a training run is already under way; stop it or wait for it")
            self._run = run
            self._paused = self._stopping = False
            self._progress = Progress(
                state="queued", epochs=run.settings.epochs, message="waiting for the trainer"
            )
        self._notify("progress", self._progress)
        with self._changed:
            self._changed.notify_all()

    def poll(self) -> Progress:
        """Return the newest snapshot."""
        return self._progress

    def pause(self) -> None:
        """Hold the run between two batches; does nothing without one."""
        with self._changed:
            if self._progress.state in ("queued", "running"):
                self._paused = True

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stop(self) -> None:
        """End the run between two batches; the last published version stays live."""
        with self._changed:
            if not self._progress.active:
                return
            self._stopping = True
            self._progress = replace(self._progress, state="stopping", message="stopping")
            self._changed.notify_all()
        self._notify("progress", self._progress)

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Keep runs from starting while the context lasts.

        Raises
        ------
        RuntimeError
            A run is active.
        """
        with self._changed:
            if self._progress.active:
                raise RuntimeError("a training run is under way; stop it before rolling back")
            yield

    def latest_version(self) -> int:
        """Return the number of the live version."""
        return self._live.version

    def wait(self, timeout: float | None = None) -> Progress:
        """Block until no run is active.

        Raises
        ------
        TimeoutError
            It still is after ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._progress.active, timeout):
                raise TimeoutError(f"training is still {self._progress.state} after {timeout:g} s")
            return self._progress

    def close(self) -> None:
        """Stop the run and end the thread."""
        self.stop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)

    def _main(self) -> None:
        torch.set_num_threads(self._threads)  # of this thread's kernels
        _step_back()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._run is not None or self._closed)
                run, self._run = self._run, None
                if run is None:
                    return
            try:
                with _own_stream(self._live.model), _SHORT_TURNS:
                    self._train(run)
            except _StopRun:
                self._end("stopped", message="stopped; the last published version is live")
            except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the screen
                self._end(
                    "failed",
                    message="failed; the last published version is live",
                    error=f"{type(error).__name__}: {error}",
                    traceback=traceback.format_exc(),
                )

    def _train(self, run: Run) -> None:
        if self._stopping:
            raise _StopRun
        feedback = run.feedback()
        parent = self._live.version
        shadow = self._copy_of_live()
        start: dict[str, float] = {}
        published = 0
        ended: list[int] = []
        refused = ""
        clock = _Clock()
        events = iterate(
            shadow,
            run.data,
            feedback,
            run.correction,
            run.settings,
            validation=_sample(run) if run.validation is None else run.validation,
        )
        with self._precedence.between_layers(shadow), contextlib.closing(events):  # type: ignore[type-var]
            self._show(state="running", message="measuring before training", step=0)
            for event in events:
                if self._stopping:  # also while an epoch was measured: nothing more is published
                    raise _StopRun
                if isinstance(event, Epoch) and run.validation is None:
                    event = replace(event, metrics=_of_training(event.metrics))  # noqa: PLW2901
                if isinstance(event, Step):
                    self._show_step(event, clock)
                elif event.epoch == 0:
                    # the second time: after what was solved, whose emptier maps are not vanishing attention
                    start = start | _empty_maps(event.metrics) if start else event.metrics
                    self._show_epoch(event, "training")
                    clock.start()
                else:
                    if not run.correction.by_batches:
                        start = start | _empty_maps(event.metrics)
                    ended.append(event.epoch)
                    reasons = run.guard.reasons(event.metrics, start)
                    if reasons:
                        refused = f"epoch {event.epoch} was not published: {'; '.join(reasons)}"
                        self._show_epoch(event, refused)
                    else:
                        version = self._publish(shadow, event, parent, len(feedback.records), run)
                        published += 1
                        self._show_epoch(event, f"version {version.number} is live")
                self._breathe(clock)
        summary = _summary(published, ended, self._progress.epochs, refused)
        self._end("done", message=summary, eta=0.0)

    def _copy_of_live(self) -> nn.Module:
        if self._shadow is None:
            self._shadow = self._live.shadow()
        else:
            load_in_place(self._shadow, self._live.state())
            for own, users in zip(
                self._shadow.parameters(), self._live.model.parameters(), strict=True
            ):
                own.requires_grad_(users.requires_grad)
        return self._shadow

    def _publish(
        self, shadow: nn.Module, event: Epoch, parent: int, answers: int, run: Run
    ) -> Version:
        self._precedence.give_way()  # a press writes to the same disk
        state = shadow.state_dict()
        version = self._store.write(
            state,
            metrics=event.metrics,
            parent=parent,
            answers=answers,
            correction=repr(run.correction),
        )
        self._store.point_to(version.number)
        self._live.publish(state, version.number)
        self._notify("published", version)
        return version

    def _breathe(self, clock: _Clock) -> None:
        """The point between two batches where a run gives way and can be paused and stopped."""
        self._precedence.give_way()
        with self._changed:
            if self._paused and not self._stopping:
                self._progress = replace(self._progress, state="paused", message="paused", eta=None)
                paused = self._progress
            else:
                paused = None
        if paused is not None:
            self._notify("progress", paused)
            with self._changed, clock.stopped():
                self._changed.wait_for(lambda: not self._paused or self._stopping)
            if not self._stopping:
                self._show(state="running", message="training")
        if self._stopping:
            raise _StopRun

    def _show(self, **changes: Any) -> None:
        with self._changed:
            if self._progress.state == "stopping":
                changes.pop("state", None)
                changes.pop("message", None)
            self._progress = replace(self._progress, **changes)
        self._notify("progress", self._progress)

    def _show_step(self, event: Step, clock: _Clock) -> None:
        history = self._progress.losses_history
        if len(history) >= _HISTORY:
            history = history[::2]
        self._show(
            step=event.step,
            steps=event.steps,
            epoch=event.epoch,
            epochs=event.epochs,
            losses=event.losses,
            losses_history=(*history, (event.step, event.losses)),
            eta=clock.remaining(event.step, event.steps),
        )

    def _show_epoch(self, event: Epoch, message: str) -> None:
        self._show(
            epoch=event.epoch,
            epochs=event.epochs,
            metrics=event.metrics,
            metrics_history=(*self._progress.metrics_history, (event.epoch, event.metrics)),
            message=message,
        )

    def _end(self, state: State, **changes: Any) -> None:
        with self._changed:
            self._progress = replace(self._progress, state=state, **changes)
            ended = self._progress
        # Listeners first: whoever waits for the end then finds everything said.
        self._notify("error" if state == "failed" else "progress", ended)
        with self._changed:
            self._changed.notify_all()


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 2


def _step_back() -> None:
    """Let the person's threads go first where cores are few: by priority, and by leaving one core to them.

    On Linux; threads that this one's kernels start inherit both. Elsewhere they belong to the whole
    process. A scheduling policy for idle times would go further, and stop training while a cell computes.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(nice + _NICE, 19))
            cores = sorted(os.sched_getaffinity(thread))
            if len(cores) > 1:  # several kernels should not all leave the same one
                os.sched_setaffinity(thread, {*cores} - {cores[os.getpid() % len(cores)]})


class _ShortTurns:
    """Make threads take shorter turns at the interpreter while any trainer of this process runs.

    Torch gives the interpreter up at nearly every operation, and a cell that computes in Python gives
    it back only after Python's switch interval, 5 ms: a training step of a hundred operations then
    takes half a second, and the screen waits as well. (Measured beside a busy cell, on two cores: 3
    steps a second at 5 ms, 25 at 1 ms, 75 at 0.1 ms, with the cell at 0.95 and 0.8 of its speed in
    the last two.)
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._guard:
            self._users += 1
            if self._users == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(_TURN, self._before))

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                sys.setswitchinterval(self._before)


_SHORT_TURNS = _ShortTurns()


class _Clock:
    """Time per step, pauses left out."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def start(self) -> None:
        self._start = time.monotonic()

    @contextlib.contextmanager
    def stopped(self) -> Any:
        before = time.monotonic()
        yield
        self._start += time.monotonic() - before

    def remaining(self, step: int, steps: int) -> float:
        return (time.monotonic() - self._start) / step * (steps - step)


def _sample(run: Run) -> ImageSet:
    """Some training images, to be measured where there is no validation set."""
    generator = torch.Generator().manual_seed(run.settings.seed)
    return run.data.subset(torch.randperm(len(run.data), generator=generator)[:_SAMPLE])


def _empty_maps(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.endswith("empty_maps")}


def _of_training(metrics: dict[str, float]) -> dict[str, float]:
    """Name what was measured on training images so; it replaces the running ``train_accuracy``."""
    told = ("train_", "steadiness")  # which are of training images anyway
    return {k if k.startswith(told) else f"train_{k}": v for k, v in metrics.items()}


def _summary(published: int, ended: list[int], epochs: int, refused: str) -> str:
    early = max(ended, default=epochs) < epochs
    done = f"ended after {max(ended)} of {epochs} epochs" if early else "done"
    best = f"; epoch {ended[-1]} was the best" if ended and ended[-1] < max(ended) else ""
    why = f"; {refused}" if published < len(ended) else ""
    return f"{done}: {published} of {len(ended)} epochs published{best}{why}"


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _own_stream(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """On a GPU the trainer's kernels queue beside, not before, those of the user's cells."""
    device = _device_of(model)
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
