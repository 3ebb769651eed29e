"""GRADIA against hand-worked cases and against the published structure of the step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from xfeedback_widgets.corrections import Gradia
from xfeedback_widgets.corrections.gradia import WEIGHTS, attention_loss, human_map, stretched
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict


def test_the_drawn_map_by_hand():
    shares = torch.zeros(2, 4, 4)
    shares[0, 1, 1] = 1
    shares[0, 3, 3] = 0.5
    # 1-2-1 along each axis, the border continued: the lower right corner keeps 9/16 of its 0.5
    blurred = torch.tensor([[1, 2, 1, 0], [2, 4, 2, 0], [1, 2, 1.5, 1.5], [0, 0, 1.5, 4.5]]) / 16
    torch.testing.assert_close(human_map(shares)[0], blurred / (4.5 / 16))
    assert not human_map(shares)[1].any()  # nothing drawn


def test_maps_are_stretched_by_hand():
    maps = torch.tensor([[[-1.0, 3.0], [1.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]], requires_grad=True)
    both = stretched(maps, low=True, peak="differentiable")
    assert both.tolist() == [[[0.0, 1.0], [0.5, 0.25]], [[0.0, 0.0], [0.0, 0.0]]]
    up = stretched(maps.relu(), low=False, peak="constant")
    torch.testing.assert_close(up[0], torch.tensor([[0.0, 1.0], [1 / 3, 0.0]]))
    both[0, 1, 0].backward()
    # (c - a) / (b - a): the ends are differentiated, too
    torch.testing.assert_close(maps.grad[0], torch.tensor([[-0.125, -0.125], [0.25, 0.0]]))


def test_misses_weigh_where_less_was_looked_than_drawn():
    maps, drawn = torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0.5, 0.7]]])
    for misses, wanted in ((1.0, 0.5), (0.5, 0.35), (0.0, 0.2)):
        loss = attention_loss(maps, drawn, misses=misses)
        torch.testing.assert_close(loss, torch.tensor([wanted]))
    with pytest.raises(ValueError, match=r"misses must be in \[0, 1\], got 2"):
        Gradia(misses=2)


def test_objective_by_hand(net, data, corner):
    """Two cells of the matrix and an image without feedback, every number written out."""
    model = net().eval()
    batch = data.batch([0, 1, 2])
    with torch.no_grad():
        model[7].bias += F.one_hot(batch.labels[0], 3) * 10.0  # image "a" is right, "b" is wrong
        logits = model(batch.images)
        assert (logits.argmax(1) == batch.labels).tolist() == [True, False, False]
        h = nn.Sequential(*list(model)[:5])(batch.images)
        maps = (model[7].weight[batch.labels][:, :, None, None] * h).sum(1) / 36  # mean gradient
    feedback = Feedback.of(
        [RegionMask("a", corner()), RegionMask("b", corner()), Verdict("b", "reject")]
    )
    correction = Gradia.published(weights={"UIA": (0.9, 1.1)})
    correction.prepare(model, data, feedback)
    each = F.cross_entropy(logits, batch.labels, reduction="none")
    drawn = F.adaptive_avg_pool2d(torch.tensor(corner())[None].float(), 6)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    distance = ((maps - low) / (high - low) - human_map(drawn)).abs().mean((1, 2))
    losses = correction.loss(model, batch)
    # a: UA, the paper's (0.4, 1.6); b: UIA, as given; c: unlabelled
    torch.testing.assert_close(
        losses.parts["cross_entropy"], (0.4 * each[0] + 0.9 * each[1] + each[2]) / 3
    )
    torch.testing.assert_close(
        losses.parts["attention"], (1.6 * distance[0] + 1.1 * distance[1]) / 2
    )
    assert losses.correct == 1


def _published_step(model, batch, weights, masks):
    """The step with the structure of the authors' code: a forward and a map for each drawing."""
    each = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
    loss = sum(p * ce for (p, _), ce in zip(weights, each, strict=True)) / len(batch)
    terms = []
    for row, mask in masks.items():
        seen = []
        handle = model[4].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        score = model(batch.images[row : row + 1])[0, batch.labels[row]]
        handle.remove()
        (gradient,) = torch.autograd.grad(score, seen[0], retain_graph=True)
        cam = (gradient[0].mean((1, 2))[:, None, None].detach() * seen[0][0]).sum(0)
        cam = (cam - cam.min()) / (cam.max() - cam.min())
        small = F.interpolate(mask[None, None].float(), cam.shape, mode="area")
        kernel = torch.tensor([1.0, 2, 1])[:, None] * torch.tensor([1.0, 2, 1]) / 16
        padded = F.pad(small, (1, 1, 1, 1), mode="replicate")
        human = F.conv2d(padded, kernel[None, None])[0, 0]
        terms.append(weights[row][1] * (cam - human / human.max()).abs().mean())
    return loss + sum(terms) / len(terms)


def _prepared(net, data, corner, make=Gradia.published):
    """A model that has moved since it was prepared, and what each image of the set weighs."""
    original, model = net().eval(), net().eval()
    masks = {
        0: corner(),
        1: corner()[::-1].copy(),
        3: corner().T * 0 + 1,
        4: corner()[:, ::-1].copy(),
    }
    feedback = Feedback.of(
        [
            *(RegionMask(data.ids[row], mask) for row, mask in masks.items()),
            Verdict(data.ids[1], "reject"),
            Verdict(data.ids[3], "unsure"),
            Verdict(data.ids[2], "accept"),
        ]
    )
    correction = make()
    correction.prepare(original, data, feedback)
    with torch.no_grad():
        right = original(data.batch(range(12)).images).argmax(1) == data.labels
        model.load_state_dict(original.state_dict())
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    correction._cam = correction._cam.on(model)
    weights = [WEIGHTS["RA"]] * 12
    for row in masks:
        weights[row] = WEIGHTS["UA" if right[row] else "UIA"]
    weights[2] = WEIGHTS["RA" if right[2] else "RIA"]
    return model, correction, weights, {row: torch.tensor(m) for row, m in masks.items()}


def test_equals_the_published_step(net, data, corner):
    model, correction, weights, masks = _prepared(net, data, corner)
    batch = data.batch(range(12))
    losses = correction.loss(model, batch)
    expected = _published_step(model, batch, weights, masks)
    torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(losses.total, list(model.parameters()))
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Gradia, Gradia.published])
def test_a_batch_costs_what_its_images_cost(net, data, corner, make):
    model, correction, _, masks = _prepared(net, data, corner, make)
    whole = correction.loss(model, data.batch(range(12))).parts
    alone = [correction.loss(model, data.batch([row])).parts for row in range(12)]
    for part, count in (("cross_entropy", 12), ("attention", len(masks))):
        total = sum(parts[part] for parts in alone) / count
        torch.testing.assert_close(whole[part], total, rtol=1e-5, atol=1e-6)


def test_reasonable_maps_are_not_redrawn(net, data, corner):
    model = net().eval()
    batch = data.batch([0, 1, 2])
    with torch.no_grad():
        right = (model(batch.images).argmax(1) == batch.labels).tolist()
    said = [RegionMask(i, corner()) for i in "abc"] + [Verdict(i, "accept") for i in "abc"]
    correction = Gradia()
    correction.prepare(model, data, Feedback.of(said))
    cells = ["RA" if r else "RIA" for r in right]
    assert {"RA", "RIA"} == set(cells)
    assert correction._p[:4].tolist() == pytest.approx([WEIGHTS[c][0] for c in cells] + [1.0])
    assert correction._a[:4].tolist() == pytest.approx([WEIGHTS[c][1] for c in cells] + [0.0])
    only = data.batch([cells.index("RA")])
    assert correction.loss(model, only).parts["attention"] == 0


@pytest.mark.parametrize("make", [Gradia, Gradia.published])
def test_what_only_is_irrelevant_is_erased_from_the_models_own_map(net, data, corner, make):
    model = net().eval()
    correction = make()
    correction.prepare(model, data, Feedback.of([RegionMask("a", -corner())]))
    batch = data.batch([0])
    _, maps = correction._maps(batch)
    own = correction._stretched(maps)[0].detach()
    assert own[:3, :3].any()
    assert own[3:].any()
    erased = own.clone()
    erased[:3, :3] = 0
    torch.testing.assert_close(correction._human(batch, (6, 6))[0], erased / erased.max())
    correction.prepare(model, data, Feedback.of([RegionMask("a", -corner() * 0 - 1)]))
    assert correction.loss(model, batch).parts["attention"] == 0  # nothing is left to look at


def test_labels_do_not_learn_from_the_channel_weights_unless_asked(net, data, corner):
    model = net().eval()
    for alpha, learns in (("constant", False), ("differentiable", True)):
        correction = Gradia(alpha=alpha)
        correction.prepare(model, data, Feedback.of([RegionMask("a", corner())]))
        _, maps = correction._maps(data.batch([0]))
        (gradient,) = torch.autograd.grad(maps.sum(), [model[7].weight], allow_unused=True)
        assert (gradient is not None) == learns


@given(st.integers(0, 2**31), st.booleans(), st.sampled_from(["constant", "differentiable"]))
@settings(max_examples=30, deadline=None)
def test_maps_and_losses_are_bounded(seed, low, peak):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(4, 5, 5, generator=generator)
    maps[0] = 0
    maps.requires_grad_()
    drawn = human_map(torch.randint(0, 2, (4, 5, 5), generator=generator).float())
    loss = attention_loss(stretched(maps if low else maps.relu(), low=low, peak=peak), drawn)
    loss.sum().backward()
    assert (loss >= 0).all()
    assert (loss <= 1).all()
    assert maps.grad.isfinite().all()


def test_what_is_used_and_what_people_are_shown():
    feedback = Feedback.of([Verdict("a", "reject"), RegionMask("a", [[1]]), Verdict("b", "accept")])
    assert [Gradia().uses(feedback, i) for i in "abc"] == ["mask and verdict", "verdict", ""]
    assert Gradia().saliency == "centred_gradcam"
    assert Gradia.published().saliency == "gradcam"
    assert "weights" not in repr(Gradia())
    assert "'UA': (0.5, 1.0)" in repr(Gradia(weights={"UA": (0.5, 1.0)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"AU": (1, 1)}}, "unknown cell 'AU'"),
        ({"weights": {"UA": (1, -1)}}, r"weights of UA must be \(p, a\)"),
        ({"weights": {"UA": (1,)}}, r"weights of UA must be \(p, a\)"),
        ({"alpha": "detached"}, "alpha must be one of .* got 'detached'"),
        ({"scale": "minmax"}, "scale must be one of"),
        ({"peak": "fixed"}, "peak must be one of"),
        ({"attention": -1}, "attention must be >= 0"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Gradia(**options)
