"""One pass finds what many passes would find, and forgets what it need not keep."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from xfeedback_widgets import units
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, Verdict
from xfeedback_widgets.units import store


@pytest.fixture
def model(make_model):
    return make_model().eval()


@pytest.fixture
def surveyed(model, digits):
    return units.survey(model, digits, batch_size=32)


def test_the_running_top_k_is_that_of_all_images_at_once(model, digits, surveyed):
    activations, pooled = units.find_head(model).read(
        model, digits.batch(range(len(digits))).images
    )
    peaks, cells = activations.flatten(2).max(2)
    best = peaks.sort(dim=0, descending=True, stable=True)
    torch.testing.assert_close(surveyed.peaks, best.values[:3].T)
    assert torch.equal(surveyed.images, best.indices[:3].T)
    assert torch.equal(surveyed.cells, cells.gather(0, best.indices[:3]).T)
    for unit, place in ((0, 0), (5, 2), (11, 1)):
        image = int(surveyed.images[unit, place])
        expected = activations[image, unit] / peaks[image, unit]
        torch.testing.assert_close(surveyed.maps[unit, place].float(), expected, atol=1e-3, rtol=0)
    for label in range(3):
        torch.testing.assert_close(
            surveyed.class_means[label], pooled[digits.labels == label].mean(0)
        )
    torch.testing.assert_close(surveyed.std, pooled.std(0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        surveyed.fires, (peaks >= peaks.amax(0) / 2).float().mean(0), atol=0.02, rtol=0
    )


def test_what_is_kept_does_not_grow_with_the_set(model, digits):
    small = units.survey(model, digits.subset(range(60)), sample=20)
    large = units.survey(model, digits, sample=20)
    for field in dataclasses.fields(small):
        mine, theirs = getattr(small, field.name), getattr(large, field.name)
        if torch.is_tensor(mine):
            assert mine.shape == theirs.shape
    assert len(small.sample) == len(large.sample) == 20


class Channels(nn.Module):
    """Its units are the channels of the image itself, so that patches can be planted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.trunk = nn.Conv2d(4, 4, 1, bias=False)
        self.trunk.weight.data = torch.eye(4)[:, :, None, None]
        self.fc = nn.Linear(4, 2)

    def forward(self, images):
        return self.fc(self.trunk(images).mean((2, 3)))


def _planted() -> ImageSet:
    images = torch.zeros(8, 4, 6, 8)
    for number in range(8):
        images[number, 0, 2, number] = 1 + number  # brightest in 7, then 6, 5
    images[:, 1] = images[:, 0] * 3  # a twin of unit 0
    images[2, 2, 5, 0] = 1.0  # fires once
    return ImageSet([(image, n % 2) for n, image in enumerate(images)])


def test_planted_patches_twins_and_silent_units():
    found = units.survey(Channels(), _planted())
    assert found.images[0].tolist() == [7, 6, 5]
    assert found.cells[0].tolist() == [2 * 8 + 7, 2 * 8 + 6, 2 * 8 + 5]
    assert found.images[2].tolist() == [2, -1, -1]
    assert found.images[3].tolist() == [-1, -1, -1]
    assert found.twins == {0: (0, 1), 2: (2,)}
    top, left, bottom, right = found.box(2, 0)
    assert left == 0.0  # at the border, moved inside
    assert top < 5.5 / 6 < bottom <= 1.0
    assert bottom - top == pytest.approx(found.extent[0])
    assert right - left == pytest.approx(found.extent[1])
    assert found.fires[2] == pytest.approx(1 / 8)
    assert found.fires[3] == 0


def test_a_model_of_an_unusual_size_is_tried_on_its_own_images():
    class Fixed(Channels):
        def forward(self, images):
            assert images.shape[2:] == (6, 8)
            return super().forward(images)

    assert units.survey(Fixed(), _planted()).units == 4
    with pytest.raises(units.NoLinearHeadError, match="none of the usual image sizes"):
        units.find_head(Fixed())


def test_a_stopped_survey_says_so(model, digits):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(units.SurveyStoppedError, match="nothing was kept"):
        units.survey(model, digits, batch_size=16, stop=stop)


def test_a_survey_survives_the_disk(surveyed, digits, tmp_path):
    path = tmp_path / store.name_of_survey(surveyed.fingerprint, digits, 3)
    store.save(surveyed, path)
    again = store.load(path)
    for field in dataclasses.fields(surveyed):
        mine, theirs = getattr(surveyed, field.name), getattr(again, field.name)
        if torch.is_tensor(mine):
            assert torch.equal(mine, theirs)
    assert again.twins == surveyed.twins
    assert torch.equal(again.sample.pooled, surveyed.sample.pooled)
    path.write_bytes(path.read_bytes()[:-100])
    assert store.load(path) is None
    path.write_bytes(b"no survey")
    assert store.load(path) is None


def test_evidence_shares_sum_to_one_and_influence_is_shift_free(surveyed):
    weight = torch.randn(3, 12)
    shares = units.evidence(surveyed, weight)
    torch.testing.assert_close(shares.abs().sum(1), torch.ones(3))
    shifted = weight + torch.randn(12)  # the same for all classes: softmax does not see it
    torch.testing.assert_close(units.evidence(surveyed, shifted), shares, atol=1e-5, rtol=1e-4)
    by_hand = (weight[1] - weight.mean(0)).abs() * surveyed.std
    torch.testing.assert_close(units.influence(surveyed, weight, 1), by_hand)


def test_orders(surveyed):
    weight = torch.randn(3, 12)
    ranked = units.order(surveyed, weight, "influence")
    scores = units.influence(surveyed, weight)
    assert sorted(ranked) == sorted(surveyed.twins)
    assert scores[ranked].tolist() == sorted(scores[ranked].tolist(), reverse=True)
    assert units.order(surveyed, weight, "random", seed=1) == units.order(
        surveyed, weight, "random", seed=1
    )
    outside = torch.full((12,), float("nan"))
    outside[4] = 0.9
    assert units.order(surveyed, weight, "suspicion", outside=outside)[0] == 4
    with pytest.raises(ValueError, match="needs outside"):
        units.order(surveyed, weight, "suspicion")
    with pytest.raises(ValueError, match="'influence', 'suspicion' or 'random'"):
        units.order(surveyed, weight, "alphabetical")


def test_suspicion_is_activation_outside_masks():
    images = torch.zeros(2, 4, 6, 8)
    images[:, 0, :, :4] = 1.0  # all of it on the left half
    images[:, 1, 0, 3:5] = 1.0  # half and half
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[:, :, :4] = True
    data = ImageSet([(image, n) for n, image in enumerate(images)], masks=masks)
    outside = units.suspicion(Channels(), data)
    torch.testing.assert_close(outside[:2], torch.tensor([0.0, 0.5]))
    assert outside[2:].isnan().all()


def test_suspicion_listens_to_answers_where_there_are_no_masks():
    images = torch.zeros(2, 4, 6, 8)
    images[:, 0, :, :4] = 1.0
    data = ImageSet([(image, n) for n, image in enumerate(images)], ids=["a", "b"])
    left = torch.zeros(3, 4)
    left[:, :2] = 1.0
    for answer, expected in (("accept", 0.0), ("reject", 1.0)):
        feedback = Feedback.of([Verdict("a", answer, map=left.numpy())])
        assert float(units.suspicion(Channels(), data, feedback)[0]) == expected
    assert units.suspicion(Channels(), data).isnan().all()
