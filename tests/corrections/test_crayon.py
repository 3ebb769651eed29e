"""CRAYON-Attention against hand-worked cases and against the published structure of the step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from xfeedback_widgets.corrections import (
    CrayonAttention,
    PlainFineTuning,
    RandomFeedback,
    attention_penalties,
)
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.data.augment import augmented
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict


class Net(nn.Sequential):
    """Two convolutions, pool, linear; counts its forwards."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )
        self.forwards = 0
        with torch.no_grad():  # evidence for every class somewhere: maps are rarely empty
            self[8].weight.copy_(torch.eye(3, 6) + torch.rand(3, 6) / 10)
            self[4].bias.fill_(0.3)

    def forward(self, images):
        self.forwards += 1
        return super().forward(images)


@pytest.fixture
def data() -> ImageSet:
    images = torch.rand(12, 1, 10, 10)
    return ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdefghijkl"))


@pytest.fixture
def feedback() -> Feedback:
    answers = {"a": "accept", "b": "reject", "c": "unsure", "d": "accept", "e": "reject"}
    return Feedback.of(Verdict(i, answer) for i, answer in answers.items())


def test_penalties_by_hand():
    frozen = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]] * 2)
    maps = torch.tensor([[[0.2, 1.0], [0.4, 0.0]]] * 2)
    accepted = torch.tensor([True, False])
    # yes: (0.2·0 + 1·0.5 + 0.4·1 + 0·1) / 2.5;  no: (0.2·1 + 1·0.5) / 1.5
    expected = torch.tensor([0.9 / 2.5, 0.7 / 1.5])
    torch.testing.assert_close(attention_penalties(maps, frozen, accepted), expected)
    torch.testing.assert_close(
        attention_penalties(maps, frozen, accepted, reduction="sum"), torch.tensor([0.9, 0.7])
    )


def test_nothing_judged_costs_nothing():
    maps = torch.rand(2, 3, 3, requires_grad=True)
    frozen = torch.stack([torch.ones(3, 3), torch.zeros(3, 3)])
    # everything accepted leaves nothing outside; an empty rejected map leaves nothing inside
    penalties = attention_penalties(maps, frozen, torch.tensor([True, False]))
    assert penalties.tolist() == [0.0, 0.0]
    penalties.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


@given(st.integers(0, 2**31), st.sampled_from(["mean", "sum"]))
@settings(max_examples=30, deadline=None)
def test_penalties_are_finite_and_bounded(seed, reduction):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(5, 4, 4, generator=generator)
    frozen = torch.rand(5, 4, 4, generator=generator).round(decimals=0)
    accepted = torch.rand(5, generator=generator) > 0.5
    penalties = attention_penalties(maps, frozen, accepted, reduction=reduction)
    assert (penalties >= 0).all()
    assert (penalties <= (1 if reduction == "mean" else 16)).all()


def _published_step(model, original, images, labels, answers, alpha, beta, counts):
    """The step with the structure of the authors' code: two forwards, create_graph, normalised maps."""

    def maps_of(net, create_graph):
        seen = []
        handle = net[5].register_forward_hook(lambda _m, _i, out: seen.append(out))
        logits = net(images)
        handle.remove()
        score = logits.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, seen[0], create_graph=create_graph)
        weights = gradient.mean((2, 3), keepdim=True)
        maps = (weights * seen[0]).sum(1).relu()
        return maps / maps.amax((1, 2), keepdim=True)

    cross_entropy = F.cross_entropy(model(images), labels, reduction="sum")
    now = maps_of(model, create_graph=True)
    then = maps_of(original, create_graph=False).detach()
    loss = cross_entropy
    for n, answer in answers.items():
        if answer == "accept":
            outside = 1 - then[n]
            loss = loss + alpha / counts[0] * (now[n] * outside).sum() / outside.sum()
        elif answer == "reject":
            loss = loss + beta / counts[1] * (now[n] * then[n]).sum() / then[n].sum()
    return loss


def test_equals_the_published_step(data, feedback):
    model, original = Net().eval(), Net().eval()
    correction = CrayonAttention.published(alpha=40, beta=30)
    correction.prepare(original, data, feedback)
    model.load_state_dict(original.state_dict())
    with torch.no_grad():  # move away from the original, so that Ĝ differs from Ĝ₀
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    correction._cam = correction._cam.on(model)
    batch = data.batch([0, 1, 2, 7])
    losses = correction.loss(model, batch)
    answers = {0: "accept", 1: "reject", 2: "unsure"}
    # the weights come from the counts over the whole set (2 yes, 2 no), not over the batch
    expected = _published_step(
        model, original, batch.images, batch.labels, answers, 40, 30, counts=(2, 2)
    )
    torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(losses.total, list(model.parameters()))
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_one_forward(data, feedback):
    model = Net()
    correction = CrayonAttention()
    correction.prepare(model, data, feedback)
    model.forwards = 0
    correction.loss(model, data.batch(range(8))).total.backward()
    assert model.forwards == 1


def test_a_batch_of_empty_maps_is_finite(data, feedback):
    model = Net()
    with torch.no_grad():
        model[8].weight.zero_()  # no evidence anywhere: every map is empty
    correction = CrayonAttention.published(alpha=1, beta=1)
    correction.prepare(model, data, feedback)
    losses = correction.loss(model, data.batch(range(12)))
    losses.total.backward()
    # an empty Ĝ is no attention outside and none inside: cross-entropy is all that remains
    expected = F.cross_entropy(model(data.batch(range(12)).images), data.labels, reduction="sum")
    torch.testing.assert_close(losses.total, expected)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("ids", [["c", "f"], ["a", "d"], ["b", "e"]])
def test_no_yes_or_no_no_in_the_batch(data, feedback, ids):
    model = Net()
    correction = CrayonAttention(alpha=1, beta=1)
    correction.prepare(model, data, feedback)
    losses = correction.loss(model, data.batch([data.index(i) for i in ids]))
    parts = {name: float(part) for name, part in losses.parts.items()}
    assert losses.total.item() == pytest.approx(sum(parts.values()), rel=1e-6)
    assert (parts["accepted"] > 0) == (ids == ["a", "d"])
    assert (parts["rejected"] > 0) == (ids == ["b", "e"])


def test_weight_per_item_does_not_depend_on_how_many_answers_there_are(data):
    def accepted_part(answers):
        model = Net().eval()
        model.load_state_dict(state)
        correction = CrayonAttention(alpha=1, weighting="item")
        correction.prepare(model, data, Feedback.of(answers))
        return float(correction.loss(model, data.batch([0])).parts["accepted"])

    state = Net().state_dict()
    one = [Verdict("a", "accept")]
    many = [Verdict(i, "accept") for i in "abcdef"]
    assert accepted_part(one) == pytest.approx(accepted_part(many))
    assert accepted_part(one) > 0


def test_a_constant_peak_lets_rejected_attention_only_fall(data):
    """With the peak differentiated, raising the peak elsewhere or here also lowers the penalty."""
    map_ = torch.tensor([[[1.0, 0.5], [0.25, 0.0]]], requires_grad=True)
    correction = CrayonAttention(peak="constant")
    correction._normalized(map_).sum().backward()
    assert (map_.grad >= 0).all()  # less map is always less penalty
    map_.grad = None
    CrayonAttention(peak="differentiable")._normalized(map_).sum().backward()
    assert map_.grad[0, 0, 0] < 0


def test_the_map_that_was_judged_is_the_frozen_map(data):
    model = Net().eval()
    judged = torch.zeros(5, 5)
    judged[1, 2] = 1
    stored = Feedback.of([Verdict("a", "reject", map=judged.numpy())])
    correction = CrayonAttention(reduction="mean", beta=1, peak="differentiable", centred=False)
    correction.prepare(model, data, stored)
    batch = data.batch([0])
    _, maps = correction._cam.logits_and_maps(batch.images, batch.labels)
    expected = (maps / maps.max())[0, 1, 2]
    assert float(correction.loss(model, batch).parts["rejected"]) == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_a_judged_map_of_another_resolution_is_brought_to_the_grid(data):
    model = Net().eval()
    fine = torch.zeros(20, 20)
    fine[:8, :8] = 1
    correction = CrayonAttention()
    correction.prepare(model, data, Feedback.of([Verdict("a", "reject", map=fine.numpy())]))
    frozen = correction._frozen_at((5, 5))[0]
    expected = torch.zeros(5, 5)
    expected[:2, :2] = 1
    torch.testing.assert_close(frozen, expected)


def test_the_class_that_was_judged_is_the_class_explained(data):
    model = Net().eval()
    correction = CrayonAttention()
    feedback = Feedback.of([Verdict("a", "reject", target=2), Verdict("b", "accept")])
    correction.prepare(model, data, feedback)
    targets = correction._targets_of(data.batch([0, 1, 2]))
    assert targets.tolist() == [2, 1, 2]  # judged; label of b; label of c


@pytest.mark.parametrize(
    ("name", "value"),
    [("weighting", "batch"), ("reduction", "max"), ("target", "true"), ("peak", "fixed")],
)
def test_unknown_options_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .* got '{value}'"):
        CrayonAttention(**{name: value})


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="alpha and beta"):
        CrayonAttention(alpha=-1)


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_judged_maps_follow_the_images(data, answer):
    """A network that cannot tell left from right gives a mirrored image the penalty of the image."""
    model = Net().eval()
    with torch.no_grad():
        for convolution in (model[0], model[4]):
            convolution.weight.copy_((convolution.weight + convolution.weight.flip(3)) / 2)
    judged = torch.rand(5, 5)
    correction = CrayonAttention()
    correction.prepare(model, data, Feedback.of([Verdict("a", answer, map=judged.numpy())]))
    batch = data.batch([0, 1])
    flipped = augmented(batch, v2.RandomHorizontalFlip(1))
    part = f"{answer}ed"
    expected = correction.loss(model, batch).parts[part]
    torch.testing.assert_close(correction.loss(model, flipped).parts[part], expected)
    unmoved = dataclasses.replace(flipped, source=None)
    assert not torch.isclose(correction.loss(model, unmoved).parts[part], expected, rtol=1e-3)


def test_which_answers_are_used():
    said = [Verdict("a", "accept"), RegionMask("a", [[1]]), Verdict("b", "unsure")]
    feedback = Feedback.of(said)
    assert [CrayonAttention().uses(feedback, i) for i in "abc"] == ["verdict", "", ""]
    assert RandomFeedback(CrayonAttention()).uses(feedback, "a") == "verdict"
    assert PlainFineTuning().uses(feedback, "a") == ""
