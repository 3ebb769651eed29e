"""What the training panel says about a run, for snapshots of every kind."""

from __future__ import annotations

import re

import pytest

from xfeedback_widgets.training import Progress
from xfeedback_widgets.widgets.training_panel import _curves, _summary


def text(progress: Progress) -> str:
    return re.sub("<.*?>", "", _summary(progress, [], live=0))


@pytest.mark.parametrize(
    ("epoch", "shown"), [(0, "epoch 1 of 10"), (2, "epoch 2 of 10"), (10, "epoch 10 of 10")]
)
def test_epochs_are_counted_as_the_trainer_counts_them(epoch, shown):
    running = Progress(state="running", step=66, steps=600, epoch=epoch, epochs=10, eta=21.4)
    assert shown in text(running)
    assert "step 66 of 600 · about 21 s left" in text(running)


@pytest.mark.parametrize(
    "state", ["idle", "queued", "running", "paused", "stopping", "done", "stopped", "failed"]
)
def test_every_state_has_words_and_names_the_live_model(state):
    assert re.match(r"^[^a-z]*[A-Z][a-z]+", text(Progress(state=state)))
    assert "in the model: original model" in text(Progress(state=state))


def test_messages_are_escaped():
    assert "<b>" not in _summary(Progress(state="done", message="<b>"), [], live=0)


def test_the_audit_of_each_epoch_is_a_curve():
    history = tuple(
        (epoch, {"accuracy": 0.5, "robustness_score": 0.2 + epoch / 10}) for epoch in range(3)
    )
    drawn = _curves(Progress(metrics_history=history))
    assert "robustness score <strong>0.4</strong>" in drawn
    assert drawn.count("<polyline") == 2
