"""Which image to ask about next, and what an uncertainty has meant so far."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xfeedback_widgets import bayesian
from xfeedback_widgets.bayesian import Experience, Prediction, overlap_with, predict, worth_asking
from xfeedback_widgets.metrics.localization import overlap_each
from xfeedback_widgets.saliency import create


@pytest.fixture
def images():
    return torch.rand(6, 1, 28, 28)


def test_uncertainties_are_those_of_the_prediction(images):
    model = bayesian.lenet(rho=-2.0)
    found = predict(model, images, samples=4, seed=3)
    options = {"samples": 4, "seed": 3}
    assert torch.equal(worth_asking(model, images, by="entropy", **options), found.entropy)
    assert torch.equal(worth_asking(model, images, **options), found.mutual_information)


def test_overlap_is_equation_17_with_what_was_irrelevant_elsewhere(images):
    model = bayesian.lenet()
    corner = torch.zeros(8, 8, dtype=torch.bool)
    corner[:3, :3] = True
    maps = create("gradcam", model).explain(images, 2)
    expected = overlap_each(maps, corner.expand(6, 8, 8)).nan_to_num()
    torch.testing.assert_close(
        worth_asking(model, images, by="overlap", regions=[corner], targets=2), expected
    )
    assert expected.max() > 0


def test_a_cell_counts_by_how_often_it_was_irrelevant():
    maps = torch.tensor([[[3.0, 1.0]], [[0.0, 1e-30]], [[0.0, 0.0]]])
    left, both = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    torch.testing.assert_close(overlap_with(maps, [left, both]), torch.tensor([0.875, 0.5, 0.0]))
    # a region drawn on a larger picture is averaged over the cells
    drawn = torch.zeros(4, 8, dtype=torch.bool)
    drawn[:2, :4] = True
    torch.testing.assert_close(overlap_with(maps[:1], [drawn]), torch.tensor([0.375]))
    assert torch.equal(overlap_with(maps, []), torch.zeros(3))


def test_overlap_needs_no_draws_but_uncertainty_does(make_model):
    images = torch.rand(2, 1, 8, 8)
    region = torch.ones(8, 8, dtype=torch.bool)
    worth = worth_asking(make_model(), images, by="overlap", regions=[region])
    assert worth.max() <= 1
    with pytest.raises(ValueError, match=r"xf\.bayesian\.convert"):
        worth_asking(make_model(), images)
    with pytest.raises(ValueError, match="entropy, mutual_information, overlap"):
        worth_asking(nn.Linear(2, 2), images, by="luck")


def test_experience_counts_what_happened_to_similar_images():
    entropy = torch.linspace(0, 1, 100)
    probabilities = torch.tensor([[0.9, 0.1]]).repeat(100, 1)
    labels = (entropy > 0.7).long()  # right where the entropy is small
    known = Experience.of(Prediction(probabilities, entropy, entropy / 2), labels)
    assert len(known) == 100
    assert known.like(0.2) == (20, 20)
    assert known.like(0.95) == (0, 20)
    assert 5 <= known.like(0.7).right <= 15
    assert known.rank(0.25) == pytest.approx(0.5, abs=0.02)
    assert (known.rank(-1.0), known.rank(1.0)) == (0, 1)


def test_few_images_are_no_experience():
    few = Experience(torch.rand(49), torch.rand(49), torch.ones(49, dtype=torch.bool))
    assert few.like(0.5) is None
