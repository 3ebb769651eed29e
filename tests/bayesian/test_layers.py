"""The moments of local reparameterisation against sampled weights, and the divergence against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from xfeedback_widgets.bayesian import BayesianConv2d, BayesianLinear, convert, kl
from xfeedback_widgets.bayesian.layers import intercepted

LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (2, 5)),
    "linear, no bias, on tokens": (lambda: nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "1d": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 2, 9)),
    "1d, circular": (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 6)),
    "2d": (lambda: nn.Conv2d(2, 3, 3), (2, 2, 5, 5)),
    "2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
    "2d, stride and dilation": (
        lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=2, padding=(1, 2)),
        (2, 2, 7, 6),
    ),
    "2d, same": (lambda: nn.Conv2d(2, 3, 4, padding="same"), (2, 2, 5, 5)),
    "2d, reflect": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 2, 5, 5)),
    "2d, replicate": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"), (2, 2, 5, 5)),
}  # fmt: skip


@pytest.fixture(params=LAYERS.values(), ids=LAYERS.keys())
def layer_and_input(request):
    """A converted layer whose standard deviations all differ, and an input."""
    make, shape = request.param
    layer = convert(make(), rho=-1.0)
    with torch.no_grad():
        for rho in (layer.weight_rho, layer.bias_rho):
            if rho is not None:
                rho += torch.randn_like(rho)
    return layer, torch.randn(shape)


def test_mean_and_variance_equal_those_of_sampled_weights(layer_and_input):
    layer, images = layer_and_input
    count = 4000
    weight_std, bias_std = layer.stds()
    weight, bias = layer.weight.detach().clone(), layer.bias
    torch_forward = layer.eval()
    outputs = []
    with torch.no_grad():
        for _ in range(count):
            layer.weight.copy_(weight + weight_std * torch.randn_like(weight))
            drawn = torch_forward(images)
            if bias is not None:  # linear in the bias: its own draw is added, in its place
                noise = bias_std * torch.randn_like(bias)
                drawn = drawn + noise.reshape(
                    -1, *[1] * (images.ndim - 2) * ("Conv" in repr(layer))
                )
            outputs.append(drawn)
        layer.weight.copy_(weight)
        sampled = torch.stack(outputs).double()
        mean, std = layer.moments(images)
        # five standard errors of a mean and of a variance of Gaussians
        assert ((sampled.mean(0) - mean).abs() <= 5 * std / count**0.5).all()
        assert ((sampled.var(0) / std**2 - 1).abs() <= 5 * (2 / count) ** 0.5).all()


def test_training_draws_from_the_moments_and_evaluation_uses_the_means(layer_and_input):
    layer, images = layer_and_input
    with torch.no_grad():
        mean, std = layer.moments(images)
        scores = torch.stack([(layer.train()(images) - mean) / std for _ in range(2000)]).double()
        assert (scores.mean(0).abs() <= 5 / 2000**0.5).all()
        assert ((scores.var(0) - 1).abs() <= 5 * (2 / 2000) ** 0.5).all()
        # positions are drawn for themselves, as the method has it
        first, second = scores.flatten(1)[:, 0], scores.flatten(1)[:, -1]
        assert abs(float((first * second).mean())) < 5 / 2000**0.5
        assert torch.equal(layer.eval()(images), mean)


def test_divergence_equals_torchs(layer_and_input):
    layer, _ = layer_and_input
    expected = sum(
        kl_divergence(Normal(mean, std), Normal(0.0, 0.1)).sum()
        for mean, std in zip((layer.weight, layer.bias), layer.stds(), strict=True)
        if mean is not None
    )
    torch.testing.assert_close(kl(layer), expected)
    kl(layer).backward()
    assert layer.weight.grad.abs().min() > 0
    assert layer.weight_rho.grad.isfinite().all()


def test_everything_stays_finite_where_nothing_varies():
    layer = BayesianConv2d(1, 2, 3, bias=False, rho=-30.0)
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    _, std = layer.moments(images)
    assert (std > 0).all()
    (layer(images).sum() + std.log().sum() + kl(layer)).backward()
    for tensor in (images, layer.weight, layer.weight_rho):
        assert tensor.grad.isfinite().all()


def test_a_layer_can_be_made_directly():
    layer = BayesianLinear(4, 2, bias=False, prior_std=0.5, rho=-2.0)
    assert layer.prior_std == 0.5
    assert torch.equal(layer.stds()[0], F.softplus(torch.full((2, 4), -2.0)))
    assert layer.stds()[1] is None
    assert "prior_std=0.5" in repr(layer)


def test_intercepting_leaves_no_trace():
    layer = BayesianLinear(4, 2).eval()
    images, before = torch.randn(3, 4), dict(vars(layer))
    with intercepted(layer, lambda mean, std: mean + 10 * std):
        shifted = layer(images)
    mean, std = layer.moments(images)
    torch.testing.assert_close(shifted, mean + 10 * std)
    assert vars(layer) == before
    with pytest.raises(RuntimeError, match="on purpose"), intercepted(layer, _failing):
        layer(images)
    assert torch.equal(layer(images), mean)


def _failing(mean, std):
    raise RuntimeError("on purpose")
