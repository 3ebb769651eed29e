"""What the guard refuses, and that it says why."""

from __future__ import annotations

import math

import pytest

from xfeedback_widgets.training import Guard

GOOD = {
    "train_loss": 0.3, "train_accuracy": 0.9, "accuracy": 0.9, "empty_maps": 0.1, "top_class_share": 0.2
}  # fmt: skip
START = {"accuracy": 0.95, "empty_maps": 0.1, "top_class_share": 0.2}


def test_good_weights_pass():
    assert Guard().reasons(GOOD, START) == []


@pytest.mark.parametrize(
    ("change", "guard", "word"),
    [
        ({"train_loss": math.nan}, Guard(), "train_loss is nan"),
        ({"accuracy": math.nan}, Guard(), "accuracy is nan"),
        ({"top_class_share": 1.0}, Guard(), "every image is predicted as the same class"),
        ({"accuracy": 0.80}, Guard(), "fell from 0.950 to 0.800"),
        ({}, Guard(min_accuracy=0.93), "below the floor 0.930"),
        ({"empty_maps": 0.5}, Guard(), "from 10% to 50%"),
    ],
)
def test_bad_weights_are_refused_with_the_reason(change, guard, word):
    reasons = guard.reasons(GOOD | change, START)
    assert len(reasons) == 1
    assert word in reasons[0]


def test_without_validation_the_training_accuracy_counts():
    metrics = {"train_loss": 0.3, "train_accuracy": 0.4}
    assert Guard(min_accuracy=0.5).reasons(metrics, {}) != []
    assert Guard(min_accuracy=0.3).reasons(metrics, {}) == []
    collapsed = {"train_loss": 0.3, "train_accuracy": 0.5, "train_top_class_share": 1.0}
    before = {"train_accuracy": 0.5, "train_top_class_share": 0.6}
    assert "same class" in Guard().reasons(collapsed, before)[0]
    assert "fell from 0.900" in Guard().reasons(metrics, {"train_accuracy": 0.9})[0]


def test_one_class_is_no_collapse_where_it_was_so_before_or_is_right():
    assert Guard().reasons(GOOD | {"top_class_share": 1.0}, START | {"top_class_share": 1.0}) == []
    assert Guard().reasons(GOOD | {"top_class_share": 1.0, "accuracy": 1.0}, START) == []
