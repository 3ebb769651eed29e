"""evaluate: the figures of a model it can be told beforehand, at the price of one forward per batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from xfeedback_widgets import metrics
from xfeedback_widgets.data import ImageSet, UnreadableImageError
from xfeedback_widgets.saliency import GradCAM


class TwoPlanes(nn.Module):
    """Predicts class k where channel k is brighter; its Grad-CAM of class k is channel k."""

    def __init__(self):
        super().__init__()
        self.forwards = 0
        self.features = nn.Conv2d(2, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(2)[:, :, None, None])
            self.fc.weight.copy_(torch.eye(2))

    def forward(self, images):
        self.forwards += 1
        return self.fc(self.pool(self.norm(self.features(images))).flatten(1))


def image(left: float, right: float, other: float) -> torch.Tensor:
    """Channel 0 has its light on the left and right half, channel 1 is flat."""
    planes = torch.full((2, 4, 8), other)
    planes[0, :, :4], planes[0, :, 4:] = left, right
    return planes


@pytest.fixture
def data():
    images = [
        image(3, 1, 0.5),
        image(0, 4, 0.5),
        image(0, 0, 1),
        image(0.2, 0.2, 1),
        image(1, 1, 0),
    ]
    left = torch.zeros(4, 8, dtype=torch.bool)
    left[:, :4] = True
    return ImageSet(
        list(zip(images, [0, 0, 0, 1, 1], strict=True)),
        ids=[f"image {i}" for i in range(5)],
        groups=[0, 0, 1, 1, 2],
        masks=[left, left, left, None, ~left],
    )


def test_figures_by_hand(data):
    model = TwoPlanes().train()
    method = GradCAM(model, layer="norm")
    model.forwards = 0  # finding the layer took some
    measured = metrics.evaluate(model, data, batch_size=2, saliency=method)
    # right: images 0, 1 and 3; groups {1, 1/2, 0}
    assert measured["accuracy"] == pytest.approx(3 / 5)
    assert measured["worst_group_accuracy"] == 0
    assert measured["mean_group_accuracy"] == pytest.approx(1 / 2)
    # maps of the label: image 0 has 3/4 on the left, image 1 nothing; images 2 and 4 have an empty map
    assert measured["attribution_overlap"] == pytest.approx((1 / 4 + 1) / 2, abs=1e-5)
    assert measured["energy_pointing_game"] == pytest.approx((3 / 4 + 0) / 2, abs=1e-5)
    assert measured["empty_maps"] == pytest.approx(2 / 5)
    assert model.forwards == 3  # five images, two at a time
    assert model.training
    assert model.norm.training
    assert int(model.norm.num_batches_tracked) == 0
    assert model.fc.weight.grad is None


def test_without_saliency(data):
    model = TwoPlanes()
    model.norm.eval()  # a model whose modes differ must get each of them back
    measured = metrics.evaluate(model, data, batch_size=64)
    assert set(measured) == {
        "accuracy",
        "ece",
        "top_class_share",
        "worst_group_accuracy",
        "mean_group_accuracy",
    }
    assert model.training
    assert not model.norm.training
    assert model.forwards == 1
    logits = model.eval()(data.batch(range(5)).images)
    counts = logits.argmax(1).bincount()
    assert measured["top_class_share"] == counts.max().item() / 5
    expected = metrics.expected_calibration_error(logits.softmax(1).detach(), data.labels)
    assert measured["ece"] == pytest.approx(expected, abs=1e-6)


def test_batch_size_does_not_matter(data):
    model = TwoPlanes()
    one, many = (metrics.evaluate(model, data, batch_size=n, saliency="gradcam") for n in (1, 5))
    assert one == pytest.approx(many, abs=1e-6)


def test_subsets_without_masks_or_groups(data):
    model = TwoPlanes()
    nothing = metrics.evaluate(model, data.subset([3]), saliency="gradcam")
    assert math.isnan(nothing["attribution_overlap"])  # the only image has no mask
    plain = ImageSet([data[i] for i in range(5)])
    assert set(metrics.evaluate(model, plain, saliency="gradcam")) == {
        "accuracy",
        "ece",
        "top_class_share",
        "empty_maps",
    }


def test_masks_may_differ_in_size(data):
    sizes = [torch.ones(4, 8).bool(), torch.ones(9, 3).bool(), None, torch.ones(4, 8).bool(), None]
    mixed = ImageSet([data[i] for i in range(5)], masks=sizes)
    measured = metrics.evaluate(TwoPlanes(), mixed, saliency="gradcam")
    assert measured["attribution_overlap"] == 0
    assert measured["energy_pointing_game"] == pytest.approx(1)


def test_unreadable_images_are_left_out(data):
    images = [data[i] for i in range(5)]
    images[2][0][0, 0, 0] = math.nan
    broken = ImageSet(images, ids=data.ids, groups=data.groups)
    with pytest.warns(RuntimeWarning, match="'image 2'"):
        measured = metrics.evaluate(TwoPlanes(), broken)
    assert measured["accuracy"] == pytest.approx(3 / 4)
    assert measured["mean_group_accuracy"] == pytest.approx(2 / 3)
    with pytest.warns(RuntimeWarning), pytest.raises(UnreadableImageError, match="'image 2'"):
        metrics.evaluate(TwoPlanes(), ImageSet(images, ids=data.ids).subset([2]))


def test_model_that_raises_is_left_as_it_was(data):
    model = TwoPlanes()
    model.fc = nn.Linear(3, 2)
    with pytest.raises(RuntimeError):
        metrics.evaluate(model, data)
    assert model.training
    assert model.norm.training
