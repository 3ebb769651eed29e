"""Counter-examples keep what is relevant, take the rest from other answered images, and teach it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from xfeedback_widgets import fine_tune
from xfeedback_widgets.corrections import (
    Correction,
    CounterExamples,
    CrayonAttention,
    CrayonPruning,
    Energy,
    Losses,
    PlainFineTuning,
)
from xfeedback_widgets.data import ImageSet, decoy_digits
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict
from xfeedback_widgets.metrics import evaluate

LEFT = np.repeat(np.array([[-1, -1, 0, 0]], np.int8), 4, 0)


class Seen(Correction):
    """Keeps the batches it is given."""

    name = "seen"

    def prepare(self, model, data, feedback):
        self.batches = []

    def loss(self, model, batch):
        self.batches.append(batch)
        return Losses(model(batch.images).sum())


@pytest.fixture
def data():
    """Six images 4 x 4, each all of its own value 1 … 6 left and −value right."""
    values = torch.arange(1.0, 7)[:, None, None, None].expand(6, 1, 4, 4).clone()
    values[..., 2:] *= -1
    return ImageSet(
        [(image, i % 2) for i, image in enumerate(values)], ids=[str(i) for i in range(6)]
    )


def shown(data, feedback, positions, **options):
    correction = CounterExamples(Seen(), **options)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    correction.prepare(model, data, feedback)
    correction.loss(model, data.batch(positions))
    return correction._prepared.batches[0].images


def test_the_region_comes_from_another_answered_image(data):
    feedback = Feedback.of(RegionMask(str(i), LEFT) for i in (0, 2, 5))
    drawn = set()
    for seed in range(20):
        images = shown(data, feedback, [0, 1, 2, 5], seed=seed)
        original = data.batch([0, 1, 2, 5]).images
        assert torch.equal(images[..., 2:], original[..., 2:])  # what is relevant stays
        assert torch.equal(images[1], original[1])  # nobody said anything of it
        for row, own in ((0, 1.0), (2, 3.0), (3, 6.0)):
            (value,) = images[row, ..., :2].unique().tolist()
            assert value in {1.0, 3.0, 6.0} - {own}
            drawn.add((own, value))
    assert len(drawn) == 6


def test_where_the_other_image_shows_its_object_its_mean_colour_is_taken(data):
    top = np.zeros((4, 4), np.int8)
    top[0] = -1  # of image 1: value 2 left and −2 right, 0 on the mean
    feedback = Feedback.of([RegionMask("0", LEFT), RegionMask("1", top)])
    images = shown(data, feedback, [0])
    assert images[0, 0, :, 0].tolist() == [2.0, 0.0, 0.0, 0.0]


def test_rejected_maps_count_and_everything_else_does_not(data):
    hot = np.array([[1, 0], [0, 0]], np.float16)
    feedback = Feedback.of(
        [
            Verdict("0", "reject", target=0, map=hot),
            Verdict("1", "accept", target=0, map=hot),
            RegionMask("2", -LEFT),
            RegionMask("3", LEFT),
            RegionMask("not there", LEFT),
        ]
    )
    images, original = shown(data, feedback, range(6)), data.batch(range(6)).images
    changed = (images != original).any(1)
    assert changed[0, :2, :2].all()
    assert changed[0].sum() == 4
    assert [bool(c.any()) for c in changed] == [True, False, False, True, False, False]
    correction = CounterExamples()
    assert [correction.uses(feedback, str(i)) for i in range(5)] == ["verdict", "", "", "mask", ""]
    with_crayon = CounterExamples(CrayonAttention())
    assert with_crayon.uses(feedback, "1") == "verdict"


def test_alone_an_image_has_nothing_to_be_filled_from(data):
    for feedback in (Feedback(), Feedback.of([RegionMask("0", LEFT)])):
        assert torch.equal(shown(data, feedback, [0, 1]), data.batch([0, 1]).images)


def test_what_is_irrelevant_is_laid_over_unmarked_images_of_other_classes(data):
    top = np.zeros((4, 4), np.int8)
    top[0] = -1
    feedback = Feedback.of([RegionMask("0", LEFT), RegionMask("1", top)])
    original, planted = data.batch(range(6)).images, dict.fromkeys(range(2, 6), 0)
    for seed in range(40):
        images = shown(data, feedback, range(6), seed=seed, plant=0.5)
        for row in planted:
            if torch.equal(images[row], original[row]):
                continue
            donor = 1 - row % 2  # classes are 0 and 1 in turn
            where, expected = torch.as_tensor((LEFT, top)[donor] < 0), original[row].clone()
            expected[:, where] = original[donor][:, where]
            assert torch.equal(images[row], expected)
            planted[row] += 1
        assert torch.equal(images[0, ..., 2:], original[0, ..., 2:])  # exchanged as ever
    assert min(planted.values()) > 3  # of 40; the other class is drawn in half of them
    assert max(planted.values()) < 20
    alone = Feedback.of([RegionMask("0", LEFT)])
    images = shown(data, alone, range(6), plant=1.0)
    assert torch.equal(images[::2], original[::2])
    assert (images[1::2, ..., :2] == 1).all()
    assert torch.equal(shown(data, Feedback(), range(6), plant=1.0), original)


def test_regions_follow_augmentation_and_runs_repeat_themselves(data):
    feedback = Feedback.of(RegionMask(str(i), LEFT) for i in range(6))

    def weights(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        fine_tune(
            model, data, feedback, CounterExamples(seed=seed), epochs=1, steps_per_epoch=3,
            batch_size=4, seed=3, augment=v2.RandomHorizontalFlip(1.0),
        )  # fmt: skip
        return model[1].weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    # flipped, the relevant half is on the left; it must have been there in every step
    seen = CounterExamples(Seen())
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    caught = []
    keep = Seen.loss

    def loss(self, model, batch):
        caught.append(batch)
        return keep(self, model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Seen, "loss", loss)
        fine_tune(
            model, data, feedback, seen, epochs=1, steps_per_epoch=2, batch_size=4,
            augment=v2.RandomHorizontalFlip(1.0),
        )  # fmt: skip
    for batch in caught:
        own = -(batch.indices + 1.0)[:, None]
        assert torch.equal(batch.images[:, 0, :, 0], own.expand(-1, 4))
        assert (batch.images[:, 0, :, 3] > 0).all()
        assert (batch.images[:, 0, 0, 3] != -own[:, 0]).all()


def test_it_teaches_what_it_shows():
    train = decoy_digits("train", masks="decoys")
    valid = decoy_digits("valid", masks="decoys")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    common = {"lr": 2e-3, "batch_size": 64, "epochs": 1, "steps_per_epoch": 60}
    fine_tune(model, train, Feedback(), PlainFineTuning(), **common)
    decoys = np.where(train.mask(0).numpy(), 0, -1)
    masks = Feedback.of(RegionMask(i, decoys) for i in train.ids[:60])
    reached = {}
    corrections = (
        PlainFineTuning(), CounterExamples(), CounterExamples(Energy()), CounterExamples(plant=0.5),
    )  # fmt: skip
    for correction in corrections:
        tuned = copy.deepcopy(model)
        fine_tune(tuned, train, masks, correction, **common)
        reached[repr(correction)] = evaluate(tuned, valid)["accuracy"]
    plain, counter, both, planted = reached.values()
    assert counter > plain + 0.03
    assert both > plain + 0.03
    assert planted > plain + 0.03


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="images must be at least 2, got 1"):
        CounterExamples(images=1)
    with pytest.raises(ValueError, match=r"plant must be in \[0, 1\], got 2"):
        CounterExamples(plant=2)
    assert repr(CounterExamples(plant=0.5)) == "CounterExamples(PlainFineTuning(), plant=0.5)"
    with pytest.raises(TypeError, match="does not train on batches"):
        CounterExamples(CrayonPruning())
    assert repr(CounterExamples(Energy(weight=1.0))).startswith("CounterExamples(Energy(")
    assert CounterExamples(CrayonAttention()).saliency == CrayonAttention().saliency
