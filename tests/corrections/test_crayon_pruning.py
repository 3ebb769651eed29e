"""CRAYON-Pruning and Attention+Pruning: votes, zeros that stay zero, one optimum, masked maps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import xfeedback_widgets as xf
from xfeedback_widgets import units
from xfeedback_widgets.corrections import (
    Crayon,
    CrayonAttention,
    CrayonPruning,
    DeepFeatureReweighting,
    PlainFineTuning,
    RandomFeedback,
)
from xfeedback_widgets.corrections.crayon_pruning import kept_units
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, UnitVerdict, Verdict
from xfeedback_widgets.saliency import GradCAM

REJECTED = [1, 4, 7]
SETTINGS = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 16, "lr": 1e-2}


@pytest.fixture
def feedback(digits) -> Feedback:
    answers = [Verdict(i, "accept" if n % 2 else "reject") for n, i in enumerate(digits.ids[:20])]
    return Feedback.of([*answers, *(UnitVerdict(unit, "reject") for unit in REJECTED)])


def _pruned(model: nn.Module) -> list[int]:
    weight = units.find_head(model).classifier.weight
    return (weight.detach() == 0).all(0).nonzero()[:, 0].tolist()


def test_votes_ties_and_unasked_units():
    said = {0: ["reject", "reject", "accept"], 1: ["reject", "accept"], 2: ["reject", "unsure"]}
    feedback = Feedback.of(
        UnitVerdict(unit, answer, annotator=str(n))
        for unit, answers in said.items()
        for n, answer in enumerate(answers)
    )
    assert kept_units(feedback, 4).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="about unit 2, but the model has 2 units"):
        kept_units(feedback, 2)
    with pytest.raises(ValueError, match="all 1 units are rejected"):
        kept_units(Feedback.of([UnitVerdict(0, "reject")]), 1)


@pytest.mark.parametrize("correction", [CrayonPruning(), CrayonPruning.published()], ids=repr)
def test_only_the_last_layer_changes_and_rejected_columns_are_zero(
    correction, make_model, digits, feedback
):
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    history = xf.fine_tune(model, digits, feedback, correction, validation=digits, **SETTINGS)
    assert _pruned(model) == REJECTED
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"8.weight", "8.bias"}
    assert len(history.epochs) == 2  # before, and after the one solve
    assert history.epochs[-1].metrics["accuracy"] >= history.epochs[0].metrics["accuracy"]


def test_the_minimum_is_that_of_the_masked_model_trained_directly(make_model, digits, feedback):
    """Features against images: the whole masked model, its head trained by gradient descent."""
    model = make_model().eval()
    direct = copy.deepcopy(model)
    l2 = 0.05
    xf.fine_tune(model, digits, feedback, CrayonPruning(l2=l2), **SETTINGS)

    head = units.find_head(direct)
    images, labels = digits.batch(range(len(digits))).images, digits.labels
    keep = torch.ones(12)
    keep[REJECTED] = 0
    scale = head.read(direct, images)[1].var(0, correction=0).mean().sqrt()
    handle = head.target.module.register_forward_hook(
        lambda _m, _i, out: out * keep[None, :, None, None]
    )
    solver = torch.optim.LBFGS(
        head.classifier.parameters(), max_iter=400, line_search_fn="strong_wolfe"
    )

    def objective():
        solver.zero_grad()
        loss = F.cross_entropy(direct(images), labels)
        loss = loss + l2 / 2 * (head.classifier.weight * keep * scale).square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images).softmax(1), direct(images).softmax(1), atol=5e-3, rtol=0
        )
        assert torch.equal(model(images).argmax(1), direct(images).argmax(1))
    handle.remove()


def test_taking_an_answer_back_gives_what_never_giving_it_would_have(make_model, digits, feedback):
    once, twice = make_model(), make_model()
    none = Feedback.of([])
    xf.fine_tune(once, digits, none, CrayonPruning(), **SETTINGS)
    xf.fine_tune(twice, digits, feedback, CrayonPruning(), **SETTINGS)
    assert _pruned(twice) == REJECTED
    xf.fine_tune(twice, digits, none, CrayonPruning(), **SETTINGS)
    assert _pruned(twice) == []
    images = digits.batch(range(len(digits))).images
    with torch.no_grad():
        torch.testing.assert_close(
            twice.eval()(images).softmax(1), once.eval()(images).softmax(1), atol=5e-3, rtol=0
        )


def test_a_second_run_reads_no_image(make_model, digits, feedback):
    class Counting(nn.Sequential):
        forwards = 0

        def forward(self, images):
            type(self).forwards += len(images)
            return super().forward(images)

    model = Counting(*make_model())
    xf.fine_tune(model, digits, feedback, CrayonPruning(), **SETTINGS)
    Counting.forwards = 0
    xf.fine_tune(model, digits, feedback, CrayonPruning(l2=1.0), **SETTINGS)
    assert Counting.forwards < 10  # the probes that find the layer


def test_attention_keeps_pruned_units_out_of_weights_and_maps(make_model, digits, feedback):
    model = make_model()
    correction = Crayon(attention=CrayonAttention(alpha=0.1, beta=0.1, centred=False))
    history = xf.fine_tune(model, digits, feedback, correction, weight_decay=0.1, **SETTINGS)
    assert _pruned(model) == REJECTED
    assert [step.step for step in history.steps] == list(range(1, len(history.steps) + 1))
    # equation 1.3: Grad-CAM with the channel weights multiplied by the unit mask
    images, labels = digits.batch(range(8)).images, digits.labels[:8]
    head = units.find_head(model)
    activations, _ = head.read(model, images)
    keep = torch.ones(12)
    keep[REJECTED] = 0
    alpha = head.classifier.weight.detach()[labels] * keep / activations[0, 0].numel()
    by_hand = torch.einsum("nk,nkij->nij", alpha, activations).relu()
    torch.testing.assert_close(GradCAM(model).explain(images, labels), by_hand)
    assert not units.find_head(model).classifier.weight._backward_hooks


def test_the_step_is_one_forward(make_model, digits, feedback):
    model = make_model().eval()
    correction = Crayon()
    correction.prepare(model, digits, feedback)
    for _ in correction.solve(model):
        pass
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    losses = correction.loss(model, digits.batch(range(16)))
    losses.total.backward()
    assert len(calls) == 1
    assert not model[8].weight.grad[:, REJECTED].any()
    assert model[8].weight.grad.any()
    correction.finish()


def test_controls_scramble_units_as_well(make_model, digits):
    said = Feedback.of(UnitVerdict(u, "reject" if u < 4 else "accept") for u in range(12))
    dealt = make_model()
    control = RandomFeedback(CrayonPruning(), how="shuffled", seed=1)
    xf.fine_tune(dealt, digits, said, control, **SETTINGS)
    assert len(_pruned(dealt)) == 4
    assert _pruned(dealt) != [0, 1, 2, 3]


def test_a_model_without_units_is_refused_before_anything_changes(digits, feedback):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(units.NoLinearHeadError, match="CrayonAttention"):
        xf.fine_tune(model, digits, feedback, CrayonPruning(), **SETTINGS)


def test_bad_options_are_named():
    for options in ({"solver": "newton"}, {"l2": -1}, {"lr": 0}, {"epochs": 0}, {"iterations": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            CrayonPruning(**options)


def test_dfr_balances_the_groups_it_is_told(make_model, digits):
    """A group that is nine tenths of the held-out images weighs no more than the other."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 1, 8, 8, generator=generator) / 10
    labels = torch.zeros(200, dtype=torch.long)
    labels[100:] = 1
    groups = labels.clone()
    images[100:, :, :4] += 0.5
    held_out = ImageSet(
        [(image, int(label)) for image, label in zip(images, labels, strict=True)],
        groups=groups,
        class_names=digits.class_names,
    )
    few = held_out.subset([*range(100), *range(100, 110)])
    model = make_model()
    xf.fine_tune(model, digits, Feedback.of([]), DeepFeatureReweighting(few), **SETTINGS)
    right = model.eval()(images).argmax(1) == labels
    assert float(right.float().mean()) > 0.95
    with pytest.raises(ValueError, match="groups="):
        DeepFeatureReweighting(digits)


def test_plain_correction_solves_nothing(make_model):
    assert list(PlainFineTuning().solve(make_model())) == []
