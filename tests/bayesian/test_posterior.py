"""Predictions and maps over draws of the weights: equations by hand, reproducible, without a trace."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from xfeedback_widgets.bayesian import (
    DrawsStoppedError,
    beliefs,
    convert,
    draws,
    lenet,
    posterior_maps,
    predict,
)
from xfeedback_widgets.saliency import GradCAM, create, normalize


@pytest.fixture
def images():
    return torch.rand(4, 1, 28, 28)


def test_draws_have_the_posteriors_mean_and_deviation():
    model = convert(nn.Linear(3, 2), rho=-1.0)
    weights = torch.stack([n.weight.detach().clone() for n in draws(model, 4000)])
    std = model.stds()[0]
    assert ((weights.mean(0) - model.weight).abs() <= 5 * std / 4000**0.5).all()
    assert ((weights.var(0) / std**2 - 1).abs() <= 5 * (2 / 4000) ** 0.5).all()


def test_a_prediction_is_its_equations(images):
    model = lenet(rho=-2.0)
    p = torch.stack([n(images).softmax(1) for n in draws(model, 5, seed=3)]).double()
    prediction = predict(model, images, samples=5, seed=3)
    mean = p.mean(0)
    entropy = -(mean * mean.log()).sum(1)
    information = entropy + (p * p.log()).sum(2).mean(0)
    for value, expected in zip(prediction, (mean, entropy, information), strict=True):
        torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)
    assert (prediction.mutual_information > 0.01).all()
    assert (prediction.entropy <= math.log(10)).all()


def test_without_deviation_nothing_is_epistemic(images):
    model = lenet(rho=-40.0).eval()
    prediction = predict(model, images, samples=3)
    torch.testing.assert_close(prediction.probabilities, model(images).softmax(1))
    assert prediction.mutual_information.max() < 1e-5


def test_draws_do_not_depend_on_the_batch_or_on_the_process(images):
    model = lenet(rho=-2.0)
    whole = predict(model, images, samples=3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    halves = [predict(model, part, samples=3) for part in images.split(2)]
    assert torch.equal(torch.get_rng_state(), state)
    parts = torch.cat([half.probabilities for half in halves])
    torch.testing.assert_close(whole.probabilities, parts)
    other = predict(model, images, samples=3, seed=1)
    assert not torch.allclose(whole.probabilities, other.probabilities)


def test_the_model_is_left_as_it_was(images):
    model = lenet(rho=-2.0).train()
    model.fc1.eval()
    state = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    with torch.inference_mode():
        predict(model, images, samples=2)
        posterior_maps(model, images, samples=2)
    assert [m.training for m in model.modules()] == modes
    assert all(map(torch.equal, state.values(), model.state_dict().values()))
    assert all(p.grad is None and not p.is_inference() for p in model.parameters())


@pytest.mark.parametrize("method", ["gradcam", "saliency", "occlusion", "deeplift"])
def test_maps_are_mean_and_deviation_over_draws(method, images):
    model = lenet(rho=-2.0)
    expected = torch.stack(
        [normalize(create(method, n).explain(images, 3)) for n in draws(model, 3, seed=1)]
    )
    maps = posterior_maps(model, images, 3, method=method, samples=3, seed=1)
    torch.testing.assert_close(maps.mean, expected.mean(0))
    torch.testing.assert_close(maps.std, expected.std(0, correction=0), atol=1e-5, rtol=1e-4)
    assert maps.std.max() > 0.01


def test_the_closed_form_sees_the_drawn_head(make_model):
    """Where Grad-CAM reads the head's weight, the spread must hold that of the head."""
    model = make_model()
    convert(model[-1], rho=0.0)
    assert GradCAM(model).closed_form
    maps = posterior_maps(model, torch.rand(2, 1, 8, 8), 0, samples=4)
    assert maps.std.max() > 0.01


def test_maps_explain_what_the_means_predict(images):
    model = lenet(rho=-2.0).eval()
    predicted = posterior_maps(model, images, samples=2)
    named = posterior_maps(model, images, model(images).argmax(1), samples=2)
    assert torch.equal(predicted.mean, named.mean)


@pytest.mark.parametrize("call", [predict, posterior_maps])
def test_wrong_input_is_named(call, images):
    with pytest.raises(ValueError, match="at least 1"):
        call(lenet(), images, samples=0)
    with pytest.raises(ValueError, match=r"xf\.bayesian\.convert"):
        call(nn.Linear(3, 3), images)
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        call(lenet(), images[0])
    with pytest.raises(ValueError, match="NaN"):
        call(lenet(), images * torch.nan)


def test_beliefs_are_prediction_and_maps_of_the_same_draws(images):
    model = lenet(rho=-2.0)
    found = beliefs(model, images, samples=3, seed=1)
    for ours, expected in zip(
        found.prediction, predict(model, images, samples=3, seed=1), strict=True
    ):
        assert torch.equal(ours, expected)
    for ours, expected in zip(
        found.maps, posterior_maps(model, images, samples=3, seed=1), strict=True
    ):
        assert torch.equal(ours, expected)
    assert torch.equal(found.targets, model.eval()(images).argmax(1))
    assert beliefs(model, images, 3, samples=1).targets.tolist() == [3] * len(images)


def test_drawing_can_be_stopped(images):
    asked = []
    with pytest.raises(DrawsStoppedError):
        beliefs(lenet(), images, stop=lambda: asked.append(1) or len(asked) == 3)
    assert len(asked) == 3
