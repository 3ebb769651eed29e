"""Bayesian feedback, equation by equation, against torch's distributions and the network taken apart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F
from torchvision.models import VisionTransformer, resnet18
from torchvision.transforms import v2

from xfeedback_widgets import bayesian, fine_tune
from xfeedback_widgets.bayesian import BayesianConv2d, convert
from xfeedback_widgets.corrections import BayesianFeedback, PlainFineTuning
from xfeedback_widgets.corrections.bayesian import (
    evidence_density,
    evidence_on,
    inattention,
    irrelevant_region,
    scale_free_density,
)
from xfeedback_widgets.data import Batch, ImageSet, decoy_digits
from xfeedback_widgets.data.augment import augmented
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict
from xfeedback_widgets.metrics import evaluate
from xfeedback_widgets.saliency import GradCAM
from xfeedback_widgets.saliency.base import tapped

CORNER = np.zeros((28, 28), np.int8)
CORNER[:4, :4], CORNER[10:20, 10:20] = -1, 1


@pytest.fixture
def data() -> ImageSet:
    images = torch.rand(8, 1, 28, 28)
    return ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdefgh"))


@pytest.fixture
def feedback() -> Feedback:
    return Feedback.of(RegionMask(image_id, CORNER) for image_id in "cdf")


@pytest.fixture
def model() -> nn.Module:
    return bayesian.lenet(rho=-3.0)


def prepared(model, data, feedback, **options) -> BayesianFeedback:
    correction = BayesianFeedback(**options)
    correction.prepare(model.train(), data, feedback)
    return correction


def moments_at(model, images):
    """Mean and deviation of the second convolution, with the first one's draw; a LeNet taken apart."""
    hidden = F.max_pool2d(model.conv1(images).relu(), 2)
    return model.conv2.moments(hidden)


def head(model, activations):
    hidden = F.max_pool2d(activations.relu(), 2).flatten(1)
    return model.fc3(model.fc2(model.fc1(hidden).relu()).relu())


def test_evidence_is_the_adaptive_max_pool_of_the_feedback():  # eq. 10
    irrelevant = torch.zeros(4, 6, dtype=torch.bool)
    irrelevant[1, 2] = True
    assert evidence_on(irrelevant, (2, 3)).tolist() == [[False, True, False], [False] * 3]
    assert torch.equal(evidence_on(irrelevant, (4, 6)), irrelevant)
    assert evidence_on(irrelevant, (8, 12)).sum() == 4  # finer maps: every cell of the region
    many = torch.rand(5, 28, 28) < 0.02
    assert torch.equal(evidence_on(many, (8, 8)), nn.AdaptiveMaxPool2d((8, 8))(many.float()) > 0)
    # a pixel at the border of two windows touches both
    border = torch.zeros(28, 28, dtype=torch.bool)
    border[3, 0] = True
    assert evidence_on(border, (8, 8)).nonzero().tolist() == [[0, 0], [1, 0]]


def test_dense_density_equals_the_indexed_one():  # eqs. 14-16
    mean, std = torch.randn(3, 4, 5, 5), torch.rand(3, 4, 5, 5) + 0.1
    evidence = torch.rand(3, 1, 5, 5) < 0.3
    evidence[2] = False
    expected = torch.stack(
        [
            Normal(mean[i][e], std[i][e]).log_prob(torch.tensor(0.0)).sum()
            for i, e in enumerate(evidence.expand_as(mean))
        ]
    )
    density = evidence_density(mean, std, evidence)
    torch.testing.assert_close(density, expected)
    assert density[2] == 0
    beyond = mean.masked_fill(~evidence, torch.inf)  # what is no evidence does not enter
    torch.testing.assert_close(evidence_density(beyond, std, evidence), expected)


def test_the_scale_free_density_measures_activations_by_those_elsewhere():
    mean = torch.tensor([[[[3.0, -9.0], [1.0, -2.0]]]])  # elsewhere 1² and 0²: s² = 1/2
    evidence = torch.tensor([[[[True, True], [False, False]]]])
    assert scale_free_density(mean, evidence).tolist() == [-0.5 * 9 / 0.5]
    mean, evidence = torch.randn(3, 4, 5, 5, requires_grad=True), torch.rand(3, 1, 5, 5) < 0.3
    density = scale_free_density(mean, evidence)
    torch.testing.assert_close(scale_free_density(1e-3 * mean, evidence), density)
    (gradient,) = torch.autograd.grad(density.sum(), mean)
    torch.testing.assert_close((gradient * mean).sum((1, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    # nothing to measure: no evidence, nothing but evidence, nothing active elsewhere
    for active, marked in ((mean, False), (mean, True), (-mean.abs(), evidence)):
        marked = torch.as_tensor(marked).expand(3, 1, 5, 5)
        nothing = scale_free_density(active, marked)
        assert not nothing.any()
        assert torch.autograd.grad(nothing.sum(), mean)[0].isfinite().all()


def test_the_scale_free_loss_is_the_equation(model, data, feedback):
    correction = prepared(model, data, feedback, weight=0.01, scale_free=True)
    batch = data.batch(range(6))
    torch.manual_seed(5)
    losses = correction.loss(model, batch)
    torch.manual_seed(5)
    mean, std = moments_at(model, batch.images)
    drawn = mean + std * torch.randn_like(std)
    evidence = torch.zeros(6, 1, 8, 8, dtype=torch.bool)
    evidence[[2, 3, 5], :, :2, :2] = True
    logits = head(model, drawn.masked_fill(evidence, 0))
    density = scale_free_density(mean, evidence)
    assert (density != 0).tolist() == [False, False, True, True, False, True]
    total = F.cross_entropy(logits, batch.labels) + bayesian.kl(model) / len(data)
    torch.testing.assert_close(losses.total, total - 0.01 * density.mean())


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_is_the_equation(model, data, feedback, masked, draws):  # eqs. 11-16
    correction = prepared(
        model, data, feedback, weight=0.01, gradient_mask=masked, mc_samples=draws, kl_weight=0.5
    )
    batch = data.batch(range(6))
    torch.manual_seed(5)
    losses = correction.loss(model, batch)

    torch.manual_seed(5)
    mean, std = moments_at(model, batch.images.repeat(draws, 1, 1, 1))
    drawn = mean + std * torch.randn_like(std)
    evidence = torch.zeros(6, 1, 8, 8)
    evidence[[2, 3, 5], :, :2, :2] = 1  # pixels 0…3 touch the windows 0…3 and 3…6
    evidence = evidence.repeat(draws, 1, 1, 1).expand_as(drawn)
    if masked:  # eq. 12
        leaf = drawn.detach().requires_grad_()
        model.eval()
        (gradient,) = torch.autograd.grad(head(model, leaf).sum(), leaf)
        model.train()
        assert 0 < (gradient[evidence > 0] != 0).float().mean() < 1
        evidence = evidence * (gradient != 0)
    logits = head(model, drawn * (1 - evidence))  # a_F = 0
    log_likelihood = -F.cross_entropy(logits, batch.labels.repeat(draws), reduction="none")
    density = (evidence * Normal(mean, std).log_prob(torch.zeros(()))).sum((1, 2, 3))
    total = 0.5 * bayesian.kl(model) / len(data) - (log_likelihood + 0.01 * density).mean()
    torch.testing.assert_close(losses.total, total)
    torch.testing.assert_close(sum(losses.parts.values()), losses.total)
    assert losses.reduction == "mean"
    assert losses.correct == int((logits[:6].argmax(1) == batch.labels).sum())
    gradients = [
        torch.autograd.grad(loss, list(model.parameters())) for loss in (losses.total, total)
    ]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


def test_without_feedback_it_is_a_bayesian_network(model, data, feedback):
    correction = prepared(model, data, feedback)
    batch = data.batch([0, 1, 4])
    torch.manual_seed(5)
    losses = correction.loss(model, batch)
    torch.manual_seed(5)
    expected = F.cross_entropy(model(batch.images), batch.labels) + bayesian.kl(model) / 8
    torch.testing.assert_close(losses.total, expected)
    assert losses.parts["evidence"] == 0
    torch.manual_seed(5)
    torch.testing.assert_close(prepared(model, data, Feedback()).loss(model, batch).total, expected)


def test_a_split_batch_costs_the_same_on_average(model, data, feedback):
    with torch.no_grad():
        for layer in bayesian.bayesian_layers(model):
            layer.weight_rho.fill_(-40)
            layer.bias_rho.fill_(-40)
    correction = prepared(model, data, feedback, weight=1e-4, sigma_floor=0.1)
    whole = correction.loss(model, data.batch(range(6))).total
    parts = [correction.loss(model, p).total for p in data.batch(range(6)).split(4)]
    torch.testing.assert_close(whole, parts[0] * 4 / 6 + parts[1] * 2 / 6)


def test_each_layer_computes_its_moments_once(model, data, feedback, monkeypatch):
    calls = []
    original = BayesianConv2d.moments
    monkeypatch.setattr(
        BayesianConv2d, "moments", lambda self, x: (calls.append(self), original(self, x))[1]
    )
    prepared(model, data, feedback).loss(model, data.batch(range(8)))
    assert calls == [model.conv1, model.conv2]


def test_residual_networks_with_shared_modules(data):  # eq. 12 through any graph
    torch.manual_seed(1)
    model = convert(resnet18(num_classes=3), rho=-40.0)
    images = torch.rand(4, 3, 64, 64)
    set_ = ImageSet([(image, 0) for image in images], ids=list("abcd"))
    masks = Feedback.of(RegionMask(i, np.tri(8, dtype=np.int8) - 1) for i in "bd")
    correction = prepared(model, set_, masks, weight=1e-5)
    assert correction._convolution is model.layer4[1].conv2
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    seen = []
    original = evidence_density
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "xfeedback_widgets.corrections.bayesian.evidence_density",
            lambda mean, std, evidence: (
                seen.append((mean, evidence)),
                original(mean, std, evidence),
            )[1],
        )
        correction.loss(model, set_.batch(range(4)))
    mean, evidence = seen[0]  # of the images from the first answered one to the last
    leaf = mean.detach().requires_grad_()
    model.eval()
    with tapped(model.layer4[1].conv2, lambda _: leaf):
        (gradient,) = torch.autograd.grad(model(images[1:]).sum(), leaf)
    region = evidence_on(torch.tensor(np.tri(8) == 0), (2, 2))
    expected = torch.zeros_like(evidence)
    expected[[0, 2]] = (gradient[[0, 2]] != 0) & region
    # layers draw, however little, so that a rectifier may switch where its input is all but zero
    assert (evidence != expected).float().mean() < 1e-3
    assert 0 < evidence[0].sum() < 512 * region.sum()


def test_it_leaves_no_trace(data, feedback):
    class Breaking(nn.Module):
        def forward(self, values):
            if self.training and breaks:
                raise RuntimeError("on purpose")
            return values

    model = convert(
        nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.BatchNorm2d(4),
            nn.Dropout(0.2), nn.ReLU(), Breaking(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        )
    )  # fmt: skip
    correction = prepared(model, data, feedback)
    before = {m: (set(vars(m)), len(m._forward_hooks), m.training) for m in model.modules()}
    for breaks in (False, True):
        statistics = [m.num_batches_tracked.item() for m in (model[1], model[4])]
        if breaks:
            with pytest.raises(RuntimeError, match="on purpose"):
                correction.loss(model, data.batch(range(8)))
        else:
            correction.loss(model, data.batch(range(8)))
        after = {m: (set(vars(m)), len(m._forward_hooks), m.training) for m in model.modules()}
        assert after == before
        assert [model[1].num_batches_tracked.item(), model[4].num_batches_tracked.item()] == [
            n + 1 for n in statistics
        ]  # each once, though the head ran twice
    copy.deepcopy(model)


def irrelevant(model, data, records, **options):
    correction = prepared(model, data, Feedback.of(records), **options)
    cells = correction._evidence_of(data.batch(range(len(data))), (8, 8))
    return {data.ids[i] for i in range(len(data)) if cells[i].any()}, cells


def test_masks_rejections_and_programmes_say_what_is_irrelevant(model, data):
    hot = np.zeros((8, 8), np.float32)
    hot[6:, 6:], hot[0, 0] = 1.0, 0.4
    records = [
        RegionMask("a", CORNER),
        Verdict("a", "reject", map=hot),  # somebody drew: that counts
        Verdict("b", "reject", map=hot),
        Verdict("c", "accept", map=hot),
        Verdict("d", "unsure", map=hot),
        RegionMask("e", np.maximum(CORNER, 0)),  # nothing irrelevant marked
        Verdict("f", "reject", map=0 * hot),  # an empty map shows no region
        RegionMask("elsewhere", CORNER),
        RegionMask("g", np.full((3, 3), -1, np.int8)),  # coarser than the maps, and everything
    ]
    found, cells = irrelevant(model, data, records)
    assert found == {"a", "b", "g"}
    assert cells[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert cells[1, 0].nonzero().tolist() == [[6, 6], [6, 7], [7, 6], [7, 7]]
    assert cells[6].all()
    assert irrelevant(model, data, records, hot=0.3)[1][1].sum() == 5
    correction, given = BayesianFeedback(), Feedback.of(records)
    assert [correction.uses(given, i) for i in "abcdeg"] == ["mask", "verdict", "", "", "", "mask"]
    regions = {i: irrelevant_region(given, i) for i in "abcdefg"}
    assert {i for i, region in regions.items() if region is not None} == found
    assert torch.equal(regions["b"], torch.tensor(hot) > 0.5)


def test_a_rejected_map_that_was_not_stored_is_computed(model, data):
    records = [Verdict("a", "reject", target=2), RegionMask("b", np.maximum(CORNER, 0))]
    with torch.no_grad():  # so that every class has a map
        model.fc3.weight.abs_()
        model.fc2.weight.abs_()
        model.fc1.weight.abs_()
    records.append(Verdict("b", "reject"))
    assert irrelevant(model, data, records)[0] == {"a", "b"}


def test_evidence_follows_augmentation(model, data, feedback):
    correction = prepared(model, data, feedback)
    flipped = augmented(data.batch(range(8)), v2.RandomHorizontalFlip(1.0))
    cells = correction._evidence_of(flipped, (8, 8))
    plain = correction._evidence_of(data.batch(range(8)), (8, 8))
    assert torch.equal(cells, plain.flip(3))
    assert plain.any()
    away = Batch(flipped.images, flipped.labels, flipped.indices, flipped.source * torch.nan)
    assert not correction._evidence_of(away, (8, 8)).any()
    assert correction.loss(model, away).parts["evidence"] == 0


@pytest.mark.parametrize("rho", [-60.0, 20.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_everything_stays_finite(data, rho, scale):
    model = bayesian.lenet(rho=rho)
    with torch.no_grad():
        for parameter in (model.conv2.weight, model.conv2.bias):
            parameter.mul_(scale)
    everything = Feedback.of(RegionMask(i, np.full((28, 28), -1, np.int8)) for i in data.ids)
    losses = prepared(model, data, everything).loss(model, data.batch(range(8)))
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_floor_bounds_the_density(data, feedback):
    model = bayesian.lenet(rho=-60.0)
    with torch.no_grad():
        model.conv2.weight.zero_()
        model.conv2.bias.zero_()
    correction = prepared(model, data, feedback, sigma_floor=0.1, gradient_mask=False)
    evidence = correction.loss(model, data.batch([2])).parts["evidence"]
    expected = -Normal(0.0, 0.1).log_prob(torch.tensor(0.0)) * 16 * 4  # 16 channels, 4 cells
    torch.testing.assert_close(evidence, expected)


def test_training_repeats_itself_and_leaves_the_processes_numbers_alone(data, feedback):
    def weights():
        torch.manual_seed(0)
        model = bayesian.lenet()
        torch.manual_seed(torch.seed())  # another process
        state = torch.get_rng_state()
        fine_tune(
            model, data, feedback, BayesianFeedback(weight=1e-3),
            epochs=1, batch_size=4, seed=3, augment=v2.RandomHorizontalFlip(),
        )  # fmt: skip
        assert torch.equal(torch.get_rng_state(), state)
        return model.state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_plain_fine_tuning_of_a_bayesian_network_is_its_control(model, data, feedback):
    batch = data.batch(range(6))
    control = PlainFineTuning()
    control.prepare(model.train(), data, feedback)
    torch.manual_seed(5)
    plain = control.loss(model, batch)
    torch.manual_seed(5)
    torch.testing.assert_close(
        plain.total, prepared(model, data, Feedback()).loss(model, batch).total
    )


@pytest.mark.parametrize(
    ("form", "overlap"),
    [
        ({"weight": 1e-3, "sigma_floor": 0.01}, 0.9),
        ({"weight": 0.1, "scale_free": True}, 0.5),
    ],
)
def test_masks_turn_attention_away_from_decoys(form, overlap):
    torch.manual_seed(0)
    train = decoy_digits("train", masks="decoys")
    valid = decoy_digits("valid", masks="decoys")
    model, cold = bayesian.lenet(), 0.01
    common = {"lr": 2e-3, "batch_size": 64, "epochs": 1}
    plain = PlainFineTuning(kl_weight=cold)
    fine_tune(model, train, Feedback(), plain, steps_per_epoch=40, **common)
    decoys = (~train.mask(0)).numpy()
    masks = Feedback.of(RegionMask(i, np.where(decoys, -1, 0)) for i in train.ids[:60])
    told = BayesianFeedback(kl_weight=cold, **form)
    reached = []
    for correction in (plain, told):
        tuned = copy.deepcopy(model)
        fine_tune(tuned, train, masks, correction, steps_per_epoch=100, **common)
        reached.append(evaluate(tuned, valid, saliency="gradcam"))
    assert reached[1]["accuracy"] > reached[0]["accuracy"] + 0.04
    assert reached[1]["attribution_overlap"] < overlap * reached[0]["attribution_overlap"]


def test_inattention_is_one_minus_the_share_of_grad_cam_on_what_is_relevant(model, data):
    batch = data.batch(range(4))
    model.eval()
    relevant = torch.rand(4, 8, 8) * (torch.rand(4, 8, 8) > 0.5)
    relevant[3] = 0
    kept = []
    with tapped(model.conv2, lambda a: kept.append(a) or a):
        logits = model(batch.images)
    outside = inattention(kept[0], logits, batch.labels, relevant)
    maps = GradCAM(model, model.conv2).explain(batch.images, batch.labels)
    expected = 1 - (maps * relevant).sum((1, 2)) / maps.sum((1, 2))
    expected[3] = 0
    torch.testing.assert_close(outside, expected.nan_to_num())  # 0 / 0: no attention at all
    assert 0.2 < outside[0] < 1
    nothing = torch.zeros(4, 16, 8, 8, requires_grad=True)
    empty = inattention(nothing, head(model, nothing), batch.labels, relevant)
    assert torch.equal(empty, torch.zeros(4))


def test_relevant_marks_are_an_option(model, data):
    marks = {"a": CORNER, "b": np.maximum(CORNER, 0), "c": np.minimum(CORNER, 0)}
    hot = np.eye(8, dtype=np.float32)
    records = [RegionMask(i, mask) for i, mask in marks.items()]
    given = Feedback.of([*records, Verdict("b", "reject", map=hot), Verdict("d", "accept")])
    off, on = BayesianFeedback(), BayesianFeedback(relevant=2.0)
    assert [off.uses(given, i) for i in "abcd"] == ["mask", "verdict", "mask", ""]
    assert [on.uses(given, i) for i in "abcd"] == ["mask", "mask and verdict", "mask", ""]
    assert "relevant" not in repr(off)
    assert repr(on).endswith("relevant=2)")

    batch = data.batch(range(5))
    for draws in (1, 2):
        losses = []
        for relevant in (0.0, 0.5, 2.0):
            correction = prepared(model, data, given, relevant=relevant, mc_samples=draws)
            torch.manual_seed(5)
            losses.append(correction.loss(model, batch))
        plain, half, double = losses
        assert "relevant" not in plain.parts
        torch.testing.assert_close(4 * half.parts["relevant"], double.parts["relevant"])
        assert 0 < half.parts["relevant"] <= 0.5 * 2 / 5  # two of five images have such marks
        torch.testing.assert_close(half.total, plain.total + half.parts["relevant"])
    only = prepared(model, data, Feedback.of([RegionMask("b", marks["b"])]), relevant=1.0)
    assert only.loss(model, batch).parts["evidence"] == 0
    assert only.loss(model, batch).parts["relevant"] > 0
    assert prepared(model, data, Feedback(), relevant=1.0).loss(model, batch).total.isfinite()


def test_relevant_marks_raise_attention_and_follow_augmentation(model):
    images = torch.rand(8, 1, 28, 28)
    images[:, :, 10:18, 2:10] = torch.eye(8)  # something to look at
    data = ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdefgh"))
    centre = np.zeros((28, 28), np.int8)
    centre[10:18, 2:10] = 1
    masks = Feedback.of(RegionMask(i, centre) for i in data.ids)
    correction = prepared(model, data, masks, relevant=5.0, kl_weight=0)
    flipped = augmented(data.batch(range(8)), v2.RandomHorizontalFlip(1.0))
    shape = torch.zeros(8, 16, 8, 8)
    cells = correction._relevant(flipped, correction._drawn, shape)
    plain = correction._relevant(data.batch(range(8)), correction._drawn, shape)
    assert torch.equal(cells, plain.flip(2))

    def on_it():
        maps = GradCAM(model, model.conv2).explain(data.batch(range(8)).images, data.labels)
        return float(((maps * plain).sum((1, 2)) / maps.sum((1, 2))).nanmean())

    before, optimizer = on_it(), torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        correction.loss(model, data.batch(range(8))).total.backward()
        optimizer.step()
    assert on_it() > before + 0.2


def test_a_vision_transformer_learns_from_masks():
    """Its only convolution cuts the patches, so what is irrelevant is observed to give no token."""
    torch.manual_seed(0)
    network = VisionTransformer(16, 4, 2, 2, 32, 64, num_classes=3)
    model = convert(network, rho=-3.0)
    left = torch.zeros(16, 16, dtype=torch.int8)
    left[:, :8] = -1
    images = torch.rand(12, 3, 16, 16)
    images[:, :, :, :8] = 1.0
    data = ImageSet([(image, i % 3) for i, image in enumerate(images)], ids=list("abcdefghijkl"))
    masks = Feedback.of(RegionMask(i, left.numpy()) for i in data.ids)
    correction = BayesianFeedback(weight=1e-2, kl_weight=0)

    def told():
        """How strong the tokens of what is irrelevant are, beside the others."""
        tokens = model.conv_proj(images).detach().abs().mean((0, 1))
        return float(tokens[:, :2].mean() / tokens[:, 2:].mean())

    before = told()
    fine_tune(
        model, data, masks, correction, epochs=1, steps_per_epoch=40, batch_size=12, lr=3e-3,
        answered_share=0.9,
    )  # fmt: skip
    correction.prepare(model, data, masks)
    assert correction._convolution is model.conv_proj
    assert told() < 0.7 * before
    believed = bayesian.beliefs(model.eval(), images, samples=3)
    assert (believed.prediction.mutual_information > 0).all()
    assert believed.maps.std.max() > 0
    bayesian.to_deterministic(model)
    assert not bayesian.is_bayesian(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relevant": -1}, "relevant must be"),
        ({"weight": -1}, "weight must be"),
        ({"weight": float("nan")}, "weight must be"),
        ({"mc_samples": 0}, "mc_samples must be at least 1"),
        ({"kl_weight": -1}, "kl_weight must be"),
        ({"sigma_floor": 0}, "sigma_floor must be positive"),
        ({"hot": 1}, "hot must be in"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BayesianFeedback(**options)


def test_a_model_that_does_not_fit_is_named(data, feedback, model):
    with pytest.raises(ValueError, match=r"xf\.bayesian\.convert"):
        prepared(nn.Linear(2, 2), data, feedback)
    with pytest.raises(ValueError, match="no Bayesian 2-d convolution"):
        prepared(convert(nn.Sequential(nn.Flatten(), nn.Linear(784, 3))), data, feedback)
    with pytest.raises(ValueError, match="'fc1' is a BayesianLinear"):
        prepared(model, data, feedback, layer="fc1")
    assert prepared(model, data, feedback, layer="conv1")._convolution is model.conv1


def test_the_papers_form():
    assert repr(BayesianFeedback.published()) == repr(BayesianFeedback())
    assert BayesianFeedback.published(weight=3e-4).weight == 3e-4
    assert BayesianFeedback.published(weight=3e-4).gradient_mask
