"""The controls: same images, same seam, no information."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xfeedback_widgets.corrections import CrayonAttention, PlainFineTuning, RandomFeedback
from xfeedback_widgets.corrections.base import Correction
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict


class Seen(Correction):
    """Keeps what it was prepared with."""

    name = "seen"
    feedback: list[Feedback] = []  # noqa: RUF012 - the copies made for runs write to the same list

    def prepare(self, model, data, feedback):
        self.feedback.append(feedback)

    def loss(self, model, batch):
        raise AssertionError


@pytest.fixture
def feedback() -> Feedback:
    maps = torch.rand(40, 3, 3)
    return Feedback.of(
        Verdict(str(i), "accept" if i < 10 else "reject", map=maps[i].numpy()) for i in range(40)
    )


def _prepared(how, feedback, seed=0):
    Seen.feedback.clear()
    RandomFeedback(Seen(), how=how, seed=seed).prepare(None, None, feedback)
    return Seen.feedback[0]


def test_random_answers_are_of_the_same_images_and_number(feedback):
    drawn = _prepared("random", feedback)
    assert drawn.verdicts.keys() == feedback.verdicts.keys()
    assert 10 <= drawn.counts()["accept"] <= 30  # 3 standard deviations around 20
    assert drawn.verdicts != feedback.verdicts
    assert drawn.verdicts == _prepared("random", feedback).verdicts
    assert drawn.verdicts != _prepared("random", feedback, seed=1).verdicts


def test_shuffled_answers_keep_their_proportions(feedback):
    dealt = _prepared("shuffled", feedback)
    assert dealt.counts() == feedback.counts()
    assert dealt.verdicts != feedback.verdicts


def test_shuffled_maps_keep_the_answers(feedback):
    dealt = _prepared("maps", feedback)
    assert {i: v.answer for i, v in dealt.verdicts.items()} == {
        i: v.answer for i, v in feedback.verdicts.items()
    }
    moved = sum(dealt.verdicts[i] != feedback.verdicts[i] for i in feedback.verdicts)
    assert moved > 30


def test_plain_fine_tuning_is_cross_entropy():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    data = ImageSet([(torch.rand(1, 2, 2), i % 2) for i in range(6)])
    batch = data.batch(range(6))
    losses = PlainFineTuning().loss(model, batch)
    torch.testing.assert_close(
        losses.total, nn.functional.cross_entropy(model(batch.images), batch.labels)
    )
    assert losses.correct == int((model(batch.images).argmax(1) == batch.labels).sum())


def test_the_shown_maps_are_those_of_the_correction_under_test():
    assert RandomFeedback(CrayonAttention(centred=False)).saliency == "gradcam"
    assert RandomFeedback(CrayonAttention()).saliency == "centred_gradcam"


@pytest.fixture
def masks() -> Feedback:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-1, 2, (20, 24, 32), generator=generator)
    said = [RegionMask(str(i), mask.numpy()) for i, mask in enumerate(drawn)]
    return Feedback.of([*said, *(Verdict(str(i), "reject") for i in range(0, 20, 2))])


@pytest.mark.parametrize("how", ["masks", "shuffled"])
def test_masks_are_dealt_to_other_images(masks, how):
    dealt = _prepared(how, masks)
    assert dealt.verdicts == masks.verdicts  # all are rejected
    before = [m.mask.tobytes() for m in masks.masks.values()]
    after = [m.mask.tobytes() for m in dealt.masks.values()]
    assert sorted(before) == sorted(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) > 15
    assert list(dealt.masks) == list(masks.masks)


def test_random_masks_are_blobs_of_the_same_area(masks):
    drawn = _prepared("random", masks)
    for one, other in zip(masks.masks.values(), drawn.masks.values(), strict=True):
        values = [torch.tensor(m.mask).unique(return_counts=True) for m in (one, other)]
        assert torch.equal(values[0][1], values[1][1])
        # neighbours are alike, and unlike what was drawn
        mask = torch.tensor(other.mask).float()
        assert (mask[:, 1:] - mask[:, :-1]).abs().mean() < 0.4  # 0.9 by chance
        assert (one.mask == other.mask).mean() < 0.7
    assert drawn.masks == _prepared("random", masks).masks
    assert drawn.masks != _prepared("random", masks, seed=1).masks


def test_answers_are_kept_where_only_masks_are_dealt_out(feedback):
    assert _prepared("masks", feedback).verdicts == feedback.verdicts


def test_an_unknown_way_is_named():
    with pytest.raises(ValueError, match=r"how must be one of .*'masks', got 'drawings'"):
        RandomFeedback(Seen(), how="drawings")
