"""Accuracy, groups and calibration against hand-worked cases and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
import torchmetrics.functional.classification as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from xfeedback_widgets import metrics

seeds = st.integers(0, 2**31 - 1)


def drawn(seed: int, count: int = 200, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    groups = torch.randint(5, (count,), generator=generator)
    return logits, labels, groups


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_accuracy_agrees_with_torchmetrics(seed):
    logits, labels, _ = drawn(seed)
    expected = reference.multiclass_accuracy(logits, labels, 4, average="micro")
    assert metrics.accuracy(logits, labels) == pytest.approx(float(expected))
    assert metrics.accuracy(logits.argmax(1), labels) == metrics.accuracy(logits, labels)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1, 5, 15]))
def test_calibration_agrees_with_torchmetrics(seed, bins):
    logits, labels, _ = drawn(seed)
    probabilities = logits.softmax(1)
    expected = reference.multiclass_calibration_error(
        probabilities, labels, 4, n_bins=bins, norm="l1"
    )
    measured = metrics.expected_calibration_error(probabilities, labels, bins=bins)
    assert measured == pytest.approx(float(expected), abs=1e-5)


def test_calibration_by_hand():
    # two bins: {0.6 right, 0.8 wrong, 1.0 right}; accuracy 2/3, confidence 0.8 -> gap 0.1333
    probabilities = torch.tensor([[0.6, 0.4], [0.2, 0.8], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    assert metrics.expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(
        0.8 - 2 / 3
    )


def test_groups_by_hand():
    predictions = torch.tensor([0, 0, 1, 1, 1])
    labels = torch.tensor([0, 1, 1, 1, 0])
    groups = torch.tensor([0, 0, 3, 3, 1])
    assert metrics.group_accuracies(predictions, labels, groups).tolist()[:2] == [0.5, 0.0]
    by_group = metrics.group_accuracies(predictions, labels, groups, num_groups=6)
    assert [math.isnan(value) for value in by_group] == [False, False, True, False, True, True]
    assert metrics.worst_group_accuracy(predictions, labels, groups) == 0.0
    assert (
        metrics.mean_group_accuracy(predictions, labels, groups) == 0.5
    )  # (0.5 + 0 + 1) / 3, not 3 / 5


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_order_does_not_matter_and_the_worst_is_the_lowest(seed):
    logits, labels, groups = drawn(seed, count=30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    for metric in (metrics.worst_group_accuracy, metrics.mean_group_accuracy):
        assert metric(logits, labels, groups) == pytest.approx(
            metric(logits[order], labels[order], groups[order])
        )
    worst = metrics.worst_group_accuracy(logits, labels, groups)
    assert worst <= metrics.accuracy(logits, labels) + 1e-12
    assert worst <= metrics.mean_group_accuracy(logits, labels, groups) + 1e-12
    single = torch.zeros(30, dtype=torch.int64)
    assert metrics.worst_group_accuracy(logits, labels, single) == metrics.accuracy(logits, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy(torch.zeros(0, 2), torch.zeros(0).long()), "at least one image"),
        (lambda: metrics.accuracy(torch.zeros(3, 2), torch.zeros(2).long()), "for 3 predictions"),
        (lambda: metrics.accuracy(torch.zeros(3), torch.zeros(3).long()), "integer classes"),
        (
            lambda: metrics.group_accuracies(*[torch.zeros(3).long()] * 2, torch.zeros(2).long()),
            "one group per image",
        ),
        (
            lambda: metrics.group_accuracies(
                *[torch.zeros(3).long()] * 2, torch.tensor([0, 1, -1])
            ),
            r"values -1",
        ),
        (
            lambda: metrics.group_accuracies(
                *[torch.zeros(2).long()] * 2, torch.tensor([0, 4]), num_groups=2
            ),
            r"expected 0 … 1",
        ),
        (
            lambda: metrics.expected_calibration_error(torch.randn(3, 2), torch.zeros(3).long()),
            r"softmax\(1\)",
        ),
        (
            lambda: metrics.expected_calibration_error(
                torch.full((1, 2), 0.5), torch.zeros(1).long(), bins=0
            ),
            "at least one bin",
        ),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
