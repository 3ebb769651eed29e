"""The training panel: what the trainer does now, its curves, and the buttons that steer it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets import curves
from xfeedback_widgets.widgets.stepper import Stepper, describe, metrics_text
from xfeedback_widgets.widgets.text import duration, error_html, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.training import Progress, Version

_STATES = {
    "idle": "Not training",
    "queued": "▷ Starting",
    "running": "▶ Training",
    "paused": "❚❚ Paused",
    "stopping": "■ Stopping",
    "done": "✓ Finished",
    "stopped": "■ Stopped",
    "failed": "✕ Failed",
}

_CURVES_EVERY = 0.5  # seconds; they are the largest text that training sends
# What is drawn as a curve, in this order: all are fractions, so that they can share an axis.
_METRICS = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "worst group",
    "mean_group_accuracy": "mean of groups",
    "attribution_overlap": "overlap",
    "robustness_score": "robustness score",
}


class TrainingPanel(ipywidgets.VBox):
    """State, progress, estimate, curves; Train, Pause, Stop, Roll back.

    Parameters
    ----------
    session : Session
    button : callable
        ``button(action, text, tooltip)`` makes a button for a named action of the review widget.
    """

    def __init__(self, session: Session, button: Callable[..., ipywidgets.Button]) -> None:
        self._session = session
        self._state = ipywidgets.HTML()
        self._bar = ipywidgets.IntProgress(min=0, max=1, value=0)
        self._bar.add_class("xf-progress")
        self._bar.add_class("xf-training-bar")
        self._curves = ipywidgets.HTML()
        self._drawn = 0.0
        self._train = button("train", "Train", "Correct the model with the answers given so far")
        self._pause = button("pause", "Pause", "Hold the training between two batches, or go on")
        self._stop = button("stop", "Stop", "End the training; the last good version stays")
        self.stepper = Stepper(
            "Roll back to:",
            button("target_older", "Older", "Choose an older version to roll back to"),
            button("target_newer", "Newer", "Choose a newer version to roll back to"),
            follow=False,
        )
        self._rollback = button(
            "rollback", "Roll back", "Put the chosen version into the model; nothing is deleted"
        )
        controls = ipywidgets.HBox([self._train, self._pause, self._stop, self._bar])
        self.stepper.add_class("xf-rollback")
        versions = ipywidgets.HBox([self.stepper, self._rollback])
        for row in (controls, versions):
            row.add_class("xf-row")
        super().__init__([self._state, controls, self._curves, versions])
        self.add_class("xf-panel")
        self.add_class("xf-training")

    def paint(self, versions: Sequence[Version]) -> None:
        """Show the session's progress and these versions of it (for the UI pump)."""
        progress, live = self._session.progress, self._session.version
        active = progress.active
        self._state.value = _summary(progress, versions, live)
        self._bar.max = max(1, progress.steps)
        self._bar.value = min(progress.step, self._bar.max)
        if not active or time.monotonic() - self._drawn >= _CURVES_EVERY:
            self._drawn = time.monotonic()
            self._curves.value = f'<div class="xf-curves">{_curves(progress)}</div>'
        self._train.disabled = active
        self._pause.disabled = progress.state not in {"queued", "running", "paused"}
        key = self._pause.description.partition(" (")[2]
        text = "Resume" if progress.state == "paused" else "Pause"
        self._pause.description = f"{text} ({key}" if key else text
        self._stop.disabled = not active or progress.state == "stopping"
        self.stepper.paint(versions, live)
        self._rollback.disabled = active or self.stepper.chosen == live


def _summary(progress: Progress, versions: Sequence[Version], live: int) -> str:
    parts = [f'<span class="xf-badge">{_STATES[progress.state]}</span>']
    if progress.active and progress.steps:
        parts.append(
            f"epoch {max(1, progress.epoch)} of {progress.epochs}, "
            f"step {progress.step} of {progress.steps}"
        )
        if progress.eta is not None:
            parts.append(f"about {duration(progress.eta)} left")
    version = next((v for v in versions if v.number == live), None)
    parts.append(f"in the model: <strong>{describe(live)}</strong>")
    if version is not None and (text := metrics_text(version.metrics)):
        parts.append(escape(text))
    lines = [f"<div>{' · '.join(parts)}</div>"]
    if progress.error is not None:
        lines.append(error_html("Training failed.", progress.traceback or progress.error))
    elif progress.message:
        lines.append(f'<div class="xf-muted">{escape(progress.message)}</div>')
    return "".join(lines)


def _curves(progress: Progress) -> str:
    measured = _series(progress.metrics_history)
    return curves.figure("Loss per step", _series(progress.losses_history)) + curves.figure(
        "Validation after each epoch",
        {label: measured[name] for name, label in _METRICS.items() if name in measured},
    )


def _series(
    history: tuple[tuple[int, dict[str, float]], ...],
) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for at, values in curves.thinned(history):  # first: this runs twice a second on thousands
        for name, value in values.items():
            series.setdefault(name, []).append((float(at), float(value)))
    return series
