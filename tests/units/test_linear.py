"""The refit of the last layer: its optimum, its zeros, and the preview."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from xfeedback_widgets import units


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (400,), generator=generator)
    centres = torch.randn(3, 20, generator=generator)
    pooled = 5 + 3 * (centres[labels] + torch.randn(400, 20, generator=generator))
    return pooled, labels


def test_the_minimum_is_scikit_learns(problem):
    pooled, labels = problem
    keep = torch.ones(20, dtype=torch.bool)
    keep[::3] = False
    l2 = 0.05
    fit = units.LinearProblem(pooled, labels, 3, l2=l2).solve(keep, iterations=500)
    inputs = pooled[:, keep] - pooled.mean(0)[keep]
    inputs = inputs / pooled.var(0, correction=0).mean().sqrt()
    reference = LogisticRegression(C=1 / (400 * l2), tol=1e-8, max_iter=2000).fit(
        inputs.numpy(), labels.numpy()
    )
    expected = torch.tensor(reference.predict_proba(inputs.numpy())).float()
    logits = F.linear(pooled, fit.weight, fit.bias)
    torch.testing.assert_close(logits.softmax(1), expected, atol=2e-3, rtol=0)
    assert not fit.weight[:, ~keep].any()


def test_the_minimum_does_not_depend_on_what_was_pruned_before(problem):
    layer = units.LinearProblem(*problem, 3, l2=0.01)
    all_units, some = torch.ones(20, dtype=torch.bool), torch.arange(20) > 7
    fresh = layer.solve(all_units)
    again = layer.solve(all_units, start=layer.solve(some, start=fresh))
    outputs = [F.linear(problem[0], fit.weight, fit.bias).softmax(1) for fit in (fresh, again)]
    torch.testing.assert_close(*outputs, atol=5e-3, rtol=0)


def test_without_a_bias_there_is_none(problem):
    layer = units.LinearProblem(*problem, 3, l2=0.01, bias=False)
    fit = layer.solve(torch.ones(20, dtype=torch.bool))
    assert fit.bias.tolist() == [0, 0, 0]
    assert float((F.linear(problem[0], fit.weight).argmax(1) == problem[1]).float().mean()) > 0.9


def test_the_preview_measures_by_group_and_refuses_to_prune_all(make_model, digits):
    model = make_model().eval()
    features = units.pooled_features(model, digits)
    grouped = type(digits)(
        [digits[i] for i in range(len(digits))],
        groups=digits.labels % 2,
        group_names=["even", "odd"],
        class_names=digits.class_names,
    )
    weight, bias = units.parameters_of(units.find_head(model).classifier)
    preview = units.Preview(features, features, grouped, weight, bias, l2=0.01)
    right = F.linear(features.pooled, weight, bias).argmax(1) == features.labels
    assert preview.now["accuracy"] == pytest.approx(float(right.float().mean()))
    assert preview.now["group: odd"] == pytest.approx(
        float(right[digits.labels % 2 == 1].float().mean())
    )
    refitted = preview.measure([])
    assert refitted["accuracy"] > preview.now["accuracy"]
    assert refitted["worst_group_accuracy"] == min(refitted["group: even"], refitted["group: odd"])
    assert preview.measure(range(11))["accuracy"] < refitted["accuracy"]
    with pytest.raises(ValueError, match="every unit is rejected"):
        preview.measure(range(12))
