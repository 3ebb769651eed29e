"""Energy and RRR against hand-worked cases, and what all losses on masks must bear."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from xfeedback_widgets.corrections import Energy, Gradia, PlainFineTuning, ResG, RightReasons
from xfeedback_widgets.corrections.mask_losses import energy_loss, gradient_penalty
from xfeedback_widgets.data.augment import augmented
from xfeedback_widgets.feedback import Feedback, RegionMask

ALL = [Gradia(), Gradia.published(), ResG(), Energy(), Energy(centred=False), RightReasons()]
EXTRA = {"attention", "gradient"}


def extra(losses) -> torch.Tensor:
    """The part that masks add to the cross-entropy."""
    return sum(part for name, part in losses.parts.items() if name in EXTRA)


def test_energy_by_hand():
    maps = torch.tensor([[[3.0, 1.0], [-5.0, 0.0]], [[0.0, -1.0], [0.0, 0.0]]], requires_grad=True)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    loss = energy_loss(maps, mask)
    assert loss.tolist() == [0.25, 0.0]  # a quarter lies outside; an empty map has nothing there
    loss.sum().backward()
    # d(1 - A/(A+B))/dA = -B/(A+B)²
    assert maps.grad[0, 0].tolist() == [-1 / 16, 3 / 16]
    assert not maps.grad[1].any()


def test_gradient_penalty_by_hand():
    gradients = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert gradient_penalty(gradients, torch.tensor([[[0.0, 1.0]]])).tolist() == [4 + 16]


def test_rrr_is_the_squared_gradient_of_the_log_probabilities(net, data, corner):
    """For a linear model, ∂/∂x Σ_c log p_c = Σ_c (w_c - Σ_k p_k w_k)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    correction = RightReasons(weight=2)
    correction.prepare(model, data, Feedback.of([RegionMask("b", corner(rest=-1))]))
    batch = data.batch([0, 1])
    losses = correction.loss(model, batch)
    weight = model[1].weight
    p = model(batch.images[1:]).softmax(1)[0]
    gradient = (weight.sum(0) - 3 * (p @ weight)).reshape(12, 12)
    gradient[:6, :6] = 0  # relevant
    expected = 2 * gradient.square().sum()
    torch.testing.assert_close(losses.parts["gradient"], expected.detach())
    torch.testing.assert_close(
        losses.total, F.cross_entropy(model(batch.images), batch.labels) + expected
    )


@pytest.mark.parametrize("correction", ALL, ids=repr)
def test_one_forward_and_finite_gradients(net, data, corner, correction):
    model = net()
    feedback = Feedback.of([RegionMask(i, corner(rest=-(n % 2))) for n, i in enumerate("abcd")])
    correction.prepare(model, data, feedback)
    model.forwards = 0
    losses = correction.loss(model, data.batch(range(8)))
    losses.total.backward()
    assert model.forwards == 1
    assert extra(losses) > 0
    assert sum(losses.parts.values()).item() == pytest.approx(losses.total.item(), rel=1e-6)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("correction", ALL, ids=repr)
def test_empty_maps_empty_masks_and_masks_of_everything(net, data, correction):
    model = net()
    with torch.no_grad():
        model[7].weight.zero_()  # no evidence anywhere: every map is empty
    ones = torch.ones(12, 12, dtype=torch.int8)
    masks = [RegionMask("a", ones), RegionMask("b", -ones), RegionMask("c", 0 * ones)]
    correction.prepare(model, data, Feedback.of(masks))
    for images in (range(12), [2, 5]):
        losses = correction.loss(model, data.batch(images))
        losses.total.backward()
        assert losses.total.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    # a mask with nothing drawn is none at all
    plain = PlainFineTuning().loss(model, data.batch([2, 5])).total
    torch.testing.assert_close(losses.total, plain)


@pytest.mark.parametrize("correction", ALL, ids=repr)
def test_masks_follow_the_images(net, data, corner, correction):
    """This network cannot tell left from right: a mirrored image costs what the image does."""
    model = net().eval()
    feedback = Feedback.of([RegionMask("a", corner(rest=-1)), RegionMask("b", corner(30))])
    correction.prepare(model, data, feedback)
    batch = data.batch([0, 1, 2])
    flipped = augmented(batch, v2.RandomHorizontalFlip(1))
    expected = extra(correction.loss(model, batch))
    torch.testing.assert_close(
        extra(correction.loss(model, flipped)), expected, rtol=1e-4, atol=1e-6
    )
    unmoved = type(batch)(flipped.images, batch.labels, batch.indices)
    assert not torch.isclose(extra(correction.loss(model, unmoved)), expected, rtol=1e-3)


@pytest.mark.parametrize("correction", ALL, ids=repr)
def test_a_mask_in_a_crop_is_the_mask_of_the_crop(net, data, corner, correction):
    model = net().eval()
    correction.prepare(model, data, Feedback.of([RegionMask("a", corner(rest=-1))]))
    cropped = augmented(data.batch([0]), v2.RandomCrop(8))
    expected = extra(correction.loss(model, cropped))
    # the same picture as a set of its own, its mask cut out by the positions of the crop
    whence = ((cropped.source[0] + 1) * 12 / 2).long()
    mask = torch.tensor(corner(rest=-1))[whence[..., 1], whence[..., 0]]
    alone = type(data)([(cropped.images[0], 0)], ids=["a"])
    correction.prepare(model, alone, Feedback.of([RegionMask("a", mask.numpy())]))
    torch.testing.assert_close(extra(correction.loss(model, alone.batch([0]))), expected)


@pytest.mark.parametrize("correction", [ResG(), Energy(), RightReasons()], ids=repr)
def test_masks_alone_are_used(correction):
    feedback = Feedback.of([RegionMask("a", [[1]]), RegionMask("b", [[0]])])
    assert [correction.uses(feedback, i) for i in "abc"] == ["mask", "", ""]


def test_what_is_not_marked_counts_as_the_other_kind(net, data, corner):
    model = net().eval()
    batch = data.batch([0])

    def energy(mask):
        correction = Energy()
        correction.prepare(model, data, Feedback.of([RegionMask("a", mask)]))
        return float(correction.loss(model, batch).parts["attention"])

    only_relevant, only_irrelevant = corner(rest=0), corner(rest=-1).clip(max=0)
    assert energy(only_relevant) == pytest.approx(energy(only_irrelevant), abs=1e-6)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_impossible_weights_are_refused(weight):
    for make in (Energy, RightReasons, ResG):
        with pytest.raises(ValueError, match="weight must be >= 0"):
            make(weight=weight)
