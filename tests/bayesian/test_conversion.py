"""Conversion in place and back: the graph, the weights, the versions and the maps stay what they were."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, vit_b_16

from xfeedback_widgets import bayesian
from xfeedback_widgets.bayesian import BayesianLayer, convert, is_bayesian, kl, to_deterministic
from xfeedback_widgets.saliency import GradCAM, create, find_target_layer
from xfeedback_widgets.training.live import load_in_place
from xfeedback_widgets.training.versions import VersionStore
from xfeedback_widgets.units import find_head


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return resnet18(num_classes=4).eval()


def test_a_residual_network_computes_the_same_and_comes_back(resnet):
    images = torch.randn(2, 3, 64, 64)
    original = copy.deepcopy(resnet)
    model = convert(copy.deepcopy(resnet))
    layers = [m for m in original.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(list(bayesian.bayesian_layers(model))) == len(layers)
    assert torch.equal(model(images), original(images))
    model.train()
    assert not torch.equal(model(images), model(images))
    model.load_state_dict(original.state_dict(), strict=False)  # batch statistics
    back = to_deterministic(model.eval())
    assert not is_bayesian(back)
    assert [type(m) for m in back.modules()] == [type(m) for m in original.modules()]
    assert back.state_dict().keys() == original.state_dict().keys()
    assert all(map(torch.equal, back.state_dict().values(), original.state_dict().values()))
    assert torch.equal(back(images), original(images))


def test_target_layer_head_and_maps_are_those_of_the_original(resnet):
    images = torch.randn(2, 3, 64, 64)
    model = convert(copy.deepcopy(resnet))
    before, after = find_target_layer(resnet), find_target_layer(model)
    assert (before.name, before.layout) == (after.name, after.layout)
    assert after.classifier is model.fc
    assert find_head(model).classifier is model.fc
    for method in ("gradcam", "centred_gradcam", "gradcam++", "saliency"):
        expected = create(method, resnet).explain(images, 1)
        assert torch.equal(create(method, model).explain(images, 1), expected), method
    logits, maps = GradCAM(model.train()).logits_and_maps(images, 1)
    (logits.sum() + maps.sum()).backward()
    assert model.conv1.weight_rho.grad.abs().max() > 0


@pytest.mark.parametrize("method", ["deeplift", "occlusion", "integrated_gradients"])
def test_pixel_methods_explain_the_means(method):
    model = bayesian.lenet().eval()
    images = torch.rand(2, 1, 28, 28)
    plain = to_deterministic(copy.deepcopy(model))
    expected = create(method, plain).explain(images, 3)
    assert torch.equal(create(method, model.train()).explain(images, 3), expected)


def test_objects_keep_their_identity():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    weight, calls = shared.weight, []
    shared.weight.requires_grad_(False)
    shared.register_forward_hook(lambda *_: calls.append(1))
    assert convert(model) is model
    assert model[0] is model[2] is shared
    assert shared.weight is weight
    assert not shared.weight_rho.requires_grad
    assert shared.bias_rho.requires_grad
    model(torch.randn(2, 4))
    assert len(calls) == 2
    one = convert(nn.Linear(4, 4))
    one.load_state_dict(shared.state_dict())
    torch.testing.assert_close(kl(model), kl(one))  # counted once


def test_tied_weights_share_their_deviation_and_count_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    model = convert(nn.Sequential(first, second))
    assert first.weight_rho is second.weight_rho
    assert len(list(model.parameters())) == 2
    torch.testing.assert_close(kl(model), kl(first))


def test_a_part_can_be_converted_and_the_rest_later():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    convert(model[2], prior_std=0.5)
    assert [isinstance(m, BayesianLayer) for m in model] == [False, False, True]
    convert(model)
    assert (model[0].prior_std, model[2].prior_std) == (0.1, 0.5)
    with pytest.raises(ValueError, match="all its layers are Bayesian"):
        convert(model)


def test_what_may_compute_something_else_is_left_alone():
    class Scaled(nn.Linear):
        def forward(self, values):
            return 2 * super().forward(values)

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = convert(nn.Sequential(Scaled(4, 4), normed, nn.Linear(4, 2)))
    assert [isinstance(m, BayesianLayer) for m in model] == [False, False, True]
    attention = convert(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    assert not isinstance(attention.self_attn.out_proj, BayesianLayer)
    assert attention(torch.randn(2, 3, 8)).isfinite().all()


def test_a_vision_transformer():
    model = vit_b_16(image_size=32, num_classes=3)
    model.encoder.layers = model.encoder.layers[:2]
    images = torch.randn(2, 3, 32, 32)
    expected = model.eval()(images)
    assert torch.equal(convert(model)(images), expected)
    maps = bayesian.posterior_maps(model, images, samples=2)
    assert maps.mean.shape == maps.std.shape == (2, 2, 2)


def test_versions_hold_means_and_deviations(tmp_path):
    model = bayesian.lenet()
    with torch.no_grad():
        model.conv2.weight_rho.normal_()
    store = VersionStore(tmp_path)
    version = store.write(
        model.state_dict(), metrics={}, parent=None, answers=0, correction="Bayesian"
    )
    other = bayesian.lenet()
    load_in_place(other, store.weights(version.number))
    images = torch.rand(3, 1, 28, 28)
    for one, two in zip(
        bayesian.predict(model, images, samples=3), bayesian.predict(other, images, samples=3),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(one, two)


def test_copies_are_independent_and_freed():
    model = bayesian.lenet()
    twin = copy.deepcopy(model)
    to_deterministic(twin)
    assert is_bayesian(model)
    gone = weakref.ref(twin)
    del twin
    assert gone() is None


def test_networks_of_the_paper():
    assert bayesian.lenet()(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with torch.device("meta"):
        model = bayesian.alexnet()
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 2)
    assert 113e6 < sum(p.numel() for p in model.parameters()) < 115e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convert(nn.ReLU()), "nothing to convert"),
        (lambda: convert(nn.Linear(2, 2), prior_std=0), "prior_std must be positive"),
        (lambda: convert(nn.Linear(2, 2), prior_std=float("nan")), "prior_std must be positive"),
        (lambda: convert(nn.Linear(2, 2), rho=float("inf")), "rho must be finite"),
        (lambda: convert(nn.Sequential(nn.LazyLinear(2))), "one batch"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got int"):
        convert(3)
