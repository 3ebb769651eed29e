"""Which classifiers have units, and that features are what enters their last layer."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from xfeedback_widgets import units


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 512),
        ("densenet121", 1024),  # a ReLU stands between its last layer and the pool
        ("mobilenet_v2", 1280),
        ("efficientnet_b0", 1280),
        ("regnet_y_400mf", 440),
        ("shufflenet_v2_x0_5", 1024),
        ("swin_t", 768),  # [N, H, W, C]
    ],
)
def test_torchvision_models_that_end_in_pool_and_linear(name, count):
    model = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    head = units.find_head(model)
    assert head.units == count
    images = torch.rand(2, 3, 224, 224)
    activations, pooled = head.read(model, images)
    assert activations.shape[:2] == (2, count)
    assert pooled.shape == (2, count)
    with torch.no_grad():
        torch.testing.assert_close(head.classifier(pooled), model(images))
    rectified = activations.relu() if name == "densenet121" else activations
    torch.testing.assert_close(pooled, rectified.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "swin_tiny_patch4_window7_224"])
def test_timm_models(name):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=4).eval()
    head = units.find_head(model)
    assert head.classifier.out_features == 4


@pytest.mark.parametrize("name", ["vgg11", "convnext_tiny", "vit_b_32", "mobilenet_v3_small"])
def test_others_are_told_why_and_what_to_use(name):
    model = torchvision.models.get_model(name, weights=None, num_classes=3)
    with pytest.raises(units.NoLinearHeadError, match="CrayonAttention"):
        units.find_head(model)


def test_a_model_without_positions_is_told_the_same():
    with pytest.raises(units.NoLinearHeadError, match=r"spatial output.*CrayonAttention"):
        units.find_head(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)))


def test_masking_before_the_pool_is_a_zero_column(make_model):
    """CRAYON masks the feature map; we zero columns. The logits are the same."""
    model = make_model().eval()
    head = units.find_head(model)
    images = torch.rand(4, 1, 8, 8)
    keep = torch.tensor([True, False] * 6)
    handle = head.target.module.register_forward_hook(
        lambda _m, _i, out: out * keep[None, :, None, None]
    )
    with torch.no_grad():
        masked = model(images)
        handle.remove()
        head.classifier.weight[:, ~keep] = 0
        torch.testing.assert_close(model(images), masked, rtol=1e-6, atol=1e-7)


def test_the_fingerprint_is_of_the_trunk_alone(make_model):
    model = make_model()
    head = units.find_head(model)
    before = units.fingerprint(model, head)
    with torch.no_grad():
        head.classifier.weight.zero_()
    assert units.fingerprint(model, head) == before
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-6
    assert units.fingerprint(model, head) != before


def test_finding_leaves_the_model_as_it_was(make_model):
    model = make_model().train()
    units.find_head(model)
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
