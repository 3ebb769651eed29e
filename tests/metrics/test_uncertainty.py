"""Proper scores and OOD detection against scikit-learn and torchmetrics; overlap on Bayesian networks."""

from __future__ import annotations

import pytest
import torch
import torchmetrics.functional.classification as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from xfeedback_widgets import bayesian, metrics
from xfeedback_widgets.data import decoy_digits
from xfeedback_widgets.saliency import create

seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 5))
def test_proper_scores_agree_with_scikit_learn(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(50, classes, generator=generator)).double().softmax(1)
    labels = torch.randint(classes, (50,), generator=generator)
    expected = log_loss(labels, probabilities, labels=range(classes))
    assert metrics.negative_log_likelihood(probabilities, labels) == pytest.approx(expected)
    # scikit-learn's over one class at a time, summed over classes
    brier = sum(brier_score_loss(labels == c, probabilities[:, c]) for c in range(classes))
    assert metrics.brier_score(probabilities, labels) == pytest.approx(brier)


def test_scores_at_the_ends():
    certain, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert metrics.negative_log_likelihood(certain, labels) == 0
    assert metrics.brier_score(certain, labels) == 0
    assert metrics.brier_score(certain, labels.roll(1)) == 2
    assert 700 < metrics.negative_log_likelihood(certain, labels.roll(1)) < 710


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1, 10]))
def test_auroc_agrees_with_scikit_learn_and_torchmetrics_with_ties(seed, decimals):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(40, generator=generator).round(decimals=decimals)
    strange = (torch.rand(30, generator=generator) + 0.3).round(decimals=decimals).clamp(max=1)
    scores = torch.cat([known, strange])
    truth = torch.cat([torch.zeros(40), torch.ones(30)]).long()
    measured = metrics.out_of_distribution_auroc(known, strange)
    assert measured == pytest.approx(roc_auc_score(truth, scores))
    assert measured == pytest.approx(float(reference.binary_auroc(scores, truth)), abs=1e-6)
    assert metrics.out_of_distribution_auroc(strange, known) == pytest.approx(1 - measured)


@pytest.mark.parametrize("method", ["saliency", "deeplift", "gradcam", "occlusion"])
def test_overlap_of_table_2_on_a_bayesian_network(method):
    data = decoy_digits("test", masks="decoys")
    some = torch.utils.data.Subset(data, range(6))
    masks = torch.stack([data.mask(i) for i in range(6)])
    data = type(data)(some, labels=data.labels[:6], masks=masks)
    model = bayesian.lenet().train()
    measured = metrics.evaluate(model, data, saliency=method)["attribution_overlap"]
    batch = data.batch(range(6))
    maps = create(method, model).explain(batch.images, batch.labels)
    expected = metrics.attribution_overlap(maps, ~masks)
    assert measured == pytest.approx(expected, abs=1e-5)
    assert 0 < expected < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.brier_score(torch.randn(3, 2), torch.zeros(3).long()), r"softmax\(1\)"),
        (
            lambda: metrics.negative_log_likelihood(torch.eye(2), torch.tensor([0, 2])),
            "expected classes 0 … 1",
        ),
        (
            lambda: metrics.negative_log_likelihood(torch.eye(2), torch.tensor([0])),
            "for 2 predictions",
        ),
        (
            lambda: metrics.out_of_distribution_auroc(torch.zeros(0), torch.ones(2)),
            "known is",
        ),
        (
            lambda: metrics.out_of_distribution_auroc(torch.ones(2), torch.tensor([torch.nan])),
            "strange is",
        ),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
