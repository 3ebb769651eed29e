"""The loop learns, repeats itself to the bit, leaves the model as it was, and survives bad luck."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from xfeedback_widgets import audit
from xfeedback_widgets.corrections import Correction, CrayonAttention, Losses, PlainFineTuning
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, RegionMask
from xfeedback_widgets.training import Epoch, NonFiniteLossError, Settings, fine_tune, iterate
from xfeedback_widgets.training.loop import _schedule


def test_learns(make_model, digits, answers):
    model = make_model()
    history = fine_tune(
        model,
        digits,
        answers,
        CrayonAttention(alpha=0.01, beta=0.01),
        epochs=30,
        lr=2e-2,
        batch_size=32,
        freeze_batchnorm=False,
        validation=digits,
    )
    accuracies = [epoch.metrics["accuracy"] for epoch in history.epochs]
    assert len(accuracies) == 31  # before the first step, and after each epoch
    assert accuracies[0] < 0.6
    assert accuracies[-1] > 0.9
    assert history.steps[-1].losses["total"] < history.steps[0].losses["total"] / 2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("correction", [CrayonAttention(), PlainFineTuning()])
def test_the_same_seed_gives_the_same_bits(make_model, digits, answers, dropout, correction):
    def weights(seed):
        model = make_model(dropout)
        fine_tune(model, digits, answers, correction, epochs=2, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.state_dict().values()])

    first = weights(3)
    torch.rand(5)  # what the user draws in between must not matter
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_the_users_random_numbers_are_left_alone(make_model, digits, answers):
    torch.manual_seed(11)
    expected = torch.rand(3)
    for dropout in (0.0, 0.5):
        model = make_model(dropout)
        torch.manual_seed(11)
        fine_tune(model, digits, answers, PlainFineTuning(), epochs=1)
        assert torch.equal(torch.rand(3), expected)


def test_modes_and_frozen_parameters_stay(make_model, digits, answers):
    model = make_model()
    model.eval()
    model[3].train()
    model[0].requires_grad_(requires_grad=False)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    fine_tune(model, digits, answers, CrayonAttention(), epochs=1)
    after = model.state_dict()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["8.weight"], before["8.weight"])
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])  # BatchNorm is frozen
    assert not any(p.requires_grad for p in model[0].parameters())


def test_batchnorm_can_be_trained(make_model, digits, answers):
    model = make_model()
    before = model[1].running_mean.clone()
    fine_tune(model, digits, answers, PlainFineTuning(), epochs=1, freeze_batchnorm=False)
    assert not torch.equal(model[1].running_mean, before)


def test_half_of_each_batch_is_answered(digits, answers):
    settings = Settings(batch_size=20, answered_share=0.5)
    steps, batches = _schedule(digits, answers, settings)
    answered = {digits.index(i) for i in answers.verdicts}
    drawn = [next(batches).tolist() for _ in range(2 * steps)]
    assert steps == 12  # 120 images at 10 a step
    assert {len(batch) for batch in drawn} == {20}
    assert all(set(batch[10:]) <= answered for batch in drawn)
    assert sorted(i for batch in drawn[:steps] for i in batch[:10]) == list(range(120))
    # all 30 answers come before any comes again
    assert len({i for batch in drawn[:3] for i in batch[10:]}) == 30


def test_the_papers_batches_ignore_who_was_answered(digits, answers):
    steps, batches = _schedule(digits, answers, Settings(batch_size=32, answered_share=0))
    drawn = [next(batches) for _ in range(steps)]
    assert steps == 4
    assert torch.cat(drawn).tolist()[:120] != list(range(120))
    assert sorted(torch.cat(drawn).tolist()[:120]) == list(range(120))


class _MemoryHungry(Correction):
    """Runs out of memory above eight images, as a full GPU would."""

    name = "hungry"

    def __init__(self, inner: Correction) -> None:
        self.inner = inner
        self.sizes: list[int] = []

    def prepare(self, model, data, feedback):
        self.inner.prepare(model, data, feedback)

    def loss(self, model, batch):
        self.sizes.append(len(batch))
        if len(batch) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return self.inner.loss(model, batch)


@pytest.mark.parametrize(
    "inner", [CrayonAttention(), CrayonAttention.published(alpha=3, beta=3), PlainFineTuning()]
)
def test_out_of_memory_splits_the_batch_and_changes_nothing_else(
    make_model, digits, answers, inner
):
    whole, split = make_model(), make_model()
    sgd = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.01), "epochs": 1, "batch_size": 30}
    fine_tune(whole, digits, answers, inner, **sgd)
    hungry = _MemoryHungry(inner)
    history = fine_tune(split, digits, answers, hungry, **sgd)
    assert max(hungry.sizes[2:]) <= 8
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert history.steps[0].losses["total"] > 0


class _Poison(Correction):
    name = "poison"

    def loss(self, model, batch):
        total = model(batch.images).sum() * float("nan")
        return Losses(total, {"everything": total.detach()})


def test_a_loss_that_is_not_finite_changes_no_weight(make_model, digits, answers):
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteLossError, match=r"step 1 is nan \(everything nan\); lower lr"):
        fine_tune(model, digits, answers, _Poison(), epochs=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_that_are_not_finite_end_the_run(make_model, digits, answers):
    """The loss of the only step was finite; what it did to the weights is found out all the same."""
    settings = {"epochs": 1, "steps_per_epoch": 1}
    with pytest.raises(NonFiniteLossError, match="no longer finite after epoch 1; lower lr"):
        fine_tune(
            make_model(), digits, answers, PlainFineTuning(), **settings,
            optimizer=lambda p: torch.optim.SGD(p, lr=float("inf")),
        )  # fmt: skip


def test_a_model_in_double_precision_trains(make_model, digits, answers):
    model = make_model().double()
    history = fine_tune(model, digits, answers, CrayonAttention(), epochs=1, validation=digits)
    assert history.epochs[-1].metrics["train_loss"] > 0
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_batches_are_measured_no_larger_than_they_are_trained(make_model, digits, answers):
    sizes = []
    model = make_model()
    model[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    fine_tune(model, digits, answers, PlainFineTuning(), epochs=1, batch_size=8, validation=digits)
    assert max(sizes) == 8


class _Rotten:
    """A dataset some of whose files cannot be read."""

    def __init__(self, digits, bad) -> None:
        self.digits, self.bad = digits, bad

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError("image file is truncated")
        return self.digits[index]


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_unreadable_images_are_named_and_skipped(make_model, digits, answers):
    rotten = ImageSet(_Rotten(digits, {3, 50}), ids=digits.ids, labels=digits.labels)
    history = fine_tune(make_model(), rotten, answers, CrayonAttention(), epochs=1)
    assert set(history.skipped) == {"digit-3", "digit-50"}
    assert "truncated" in history.skipped["digit-3"]


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_the_loss_of_an_epoch_is_the_mean_over_the_batches_that_were_read(
    make_model, digits, answers
):
    rotten = ImageSet(_Rotten(digits, set(range(60))), ids=digits.ids, labels=digits.labels)
    history = fine_tune(make_model(), rotten, Feedback(), PlainFineTuning(), epochs=1, batch_size=1)
    losses = [step.losses["total"] for step in history.steps]
    assert len(losses) == 60
    assert history.epochs[-1].metrics["train_loss"] == pytest.approx(sum(losses) / 60)


def test_a_correction_may_serve_two_runs_at_once(make_model, digits, answers):
    correction = CrayonAttention()
    one = iterate(make_model(), digits, answers, correction, Settings(epochs=1))
    other = iterate(make_model(), digits, answers, correction, Settings(epochs=1))
    losses = [
        [e.losses for e in events if not isinstance(e, Epoch)]
        for events in zip(*zip(one, other, strict=True), strict=True)
    ]
    assert losses[0] == losses[1]


def test_nothing_to_train_is_said(digits, answers):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        fine_tune(model, digits, answers, PlainFineTuning())


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"epoch": 3}, TypeError, "unknown training setting 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"lr": float("nan")}, ValueError, "lr must be positive and finite, got nan"),
        ({"answered_share": 1.0}, ValueError, r"answered_share must be in \[0, 1\)"),
        ({"precision": "fp16"}, ValueError, "precision must be"),
        ({"lr_schedule": "linear"}, ValueError, "lr_schedule must be 'constant' or 'cosine'"),
    ],
)
def test_wrong_settings_are_named(make_model, digits, answers, setting, error, message):
    with pytest.raises(error, match=message):
        fine_tune(make_model(), digits, answers, PlainFineTuning(), **setting)


@pytest.mark.parametrize("lr_schedule", ["constant", "cosine"])
def test_the_learning_rate_falls_along_half_a_cosine(make_model, digits, answers, lr_schedule):
    rates, made = [], []
    fine_tune(
        make_model(), digits, answers, PlainFineTuning(),
        epochs=2, steps_per_epoch=5, lr_schedule=lr_schedule,
        optimizer=lambda p: made.append(torch.optim.Adam(p, 1e-2)) or made[0],
        on_step=lambda step: rates.append(made[0].param_groups[0]["lr"]),
    )  # fmt: skip
    after = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(1, 11)]
    expected = after if lr_schedule == "cosine" else [1.0] * 10
    assert rates == pytest.approx([1e-2 * share for share in expected], abs=1e-9)


def test_bfloat16_and_channels_last_train(make_model, digits, answers):
    model = make_model()
    history = fine_tune(
        model,
        digits,
        answers,
        PlainFineTuning(),
        epochs=30,
        lr=2e-2,
        batch_size=32,
        freeze_batchnorm=False,
        precision="bfloat16",
        channels_last=True,
        validation=digits,
    )
    assert history.epochs[-1].metrics["accuracy"] > 0.8
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_images_are_augmented_with_numbers_of_the_run(make_model, digits, answers):
    """The same seed gives the same bits, whatever the user draws; another seed others."""

    def weights(seed, augment):
        model, state = make_model(), torch.get_rng_state()
        fine_tune(model, digits, answers, CrayonAttention(), epochs=1, seed=seed, augment=augment)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([p.detach().flatten() for p in model.state_dict().values()])

    shift = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(10, translate=(0.1, 0.1))])
    first = weights(3, shift)
    torch.rand(5)
    assert torch.equal(first, weights(3, shift))
    assert not torch.equal(first, weights(4, shift))
    assert not torch.equal(first, weights(3, None))


def test_an_augmentation_must_move_masks_too():
    with pytest.raises(TypeError, match=r"torchvision\.transforms\.v2"):
        Settings(augment=lambda image: image)


def test_a_mask_that_was_taken_back_is_no_answer(digits):
    drawn, back = RegionMask(digits.ids[0], [[1]]), RegionMask(digits.ids[1], [[0]])
    _, batches = _schedule(digits, Feedback.of([drawn, back]), Settings(batch_size=4))
    assert [next(batches)[-1].item() for _ in range(3)] == [0, 0, 0]


def test_each_epoch_is_audited_on_the_same_images_of_the_validation_set(digits, make_model):
    """The curve is what an audit of those images says, and changes nothing of the training."""
    fast = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16, "lr": 1e-2}
    scored, bare = make_model(), make_model()
    history = fine_tune(
        scored, digits, Feedback(), PlainFineTuning(), validation=digits, audited=40, **fast
    )
    measured = [epoch.metrics["robustness_score"] for epoch in history.epochs]
    draw = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    sample = digits.subset(draw[:40])
    assert measured[-1] == pytest.approx(audit.audit(scored, sample).summary()["crs"], abs=1e-6)
    assert len(set(measured)) == 3, "it follows the model"
    without = fine_tune(
        bare, digits, Feedback(), PlainFineTuning(), validation=digits, audited=0, **fast
    )
    assert "robustness_score" not in without.epochs[-1].metrics
    assert all(
        torch.equal(a, b) for a, b in zip(scored.parameters(), bare.parameters(), strict=True)
    )
