"""Points follow their picture: by hand-worked crops and flips, and against what is drawn there."""

from __future__ import annotations

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

from xfeedback_widgets.data import Batch
from xfeedback_widgets.data.augment import augmented
from xfeedback_widgets.data.points import followed, pushed


class _Crop(v2.Transform):
    """A crop at a known place."""

    def __init__(self, *box):
        super().__init__()
        self.box = box

    def transform(self, inpt, params):
        return v2.functional.crop(inpt, *self.box)


def _moved(transform, points, size):
    images = torch.zeros(1, 1, *size)
    batch = augmented(Batch(images, torch.zeros(1).long(), torch.zeros(1).long()), transform)
    points = torch.as_tensor(points)
    return followed(points, batch.source.expand(len(points), -1, -1, -1))


@pytest.mark.parametrize(("flip", "x"), [(0.0, 0.75), (1.0, 0.25)])
def test_the_papers_crop_and_flip(flip, x):
    transform = v2.Compose([_Crop(10, 100, 200, 200), v2.RandomHorizontalFlip(flip)])
    moved, seen = _moved(transform, [[0.5, 0.4]], (375, 500))
    torch.testing.assert_close(moved, torch.tensor([[x, 0.7]]), atol=1e-5, rtol=0)
    assert seen.tolist() == [True]


def test_a_point_that_left_the_crop_is_not_seen():
    corners = [[0.2, 10 / 375], [0.6, 210 / 375], [0.19, 0.4], [0.61, 0.4], [0.5, 0.02], [0.5, 0.6]]
    moved, seen = _moved(_Crop(10, 100, 200, 200), corners, (375, 500))
    assert seen.tolist() == [True, True, False, False, False, False]
    torch.testing.assert_close(moved[:2], torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    "transform",
    [
        v2.Compose([_Crop(12, 8, 40, 50), v2.Resize((96, 128))]),
        v2.Resize((31, 29)),
        v2.RandomAffine((25, 25), translate=(0.1, 0.1), scale=(0.7, 0.7), shear=(8, 8)),
        v2.RandomPerspective(0.4, p=1.0),
        v2.RandomRotation((90, 90), expand=True),
    ],
)
def test_points_stay_on_what_was_drawn_under_them(transform):
    """A spot is drawn at each point and found again in the augmented image."""
    torch.manual_seed(3)
    height, width = 80, 64
    points = torch.tensor([[0.3, 0.4], [0.5, 0.6], [0.62, 0.35]])
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    spots = [
        torch.exp(-((x - px * width) ** 2 + (y - py * height) ** 2) / 12)
        for px, py in points.tolist()
    ]
    batch = Batch(torch.stack(spots)[None], torch.zeros(1).long(), torch.zeros(1).long())
    done = augmented(batch, transform)
    moved, seen = followed(points, done.source.expand(3, -1, -1, -1))
    assert seen.all()
    found = done.images[0] * (done.images[0] > 0.05)
    high, wide = found.shape[1:]
    weight = found / found.sum((1, 2), keepdim=True)
    where = torch.stack(
        [
            (weight * (torch.arange(wide) + 0.5)).sum((1, 2)) / wide,
            (weight * (torch.arange(high) + 0.5)[:, None]).sum((1, 2)) / high,
        ],
        1,
    )
    torch.testing.assert_close(moved, where, atol=0.6 / min(high, wide, height, width), rtol=0)


def test_nothing_is_seen_where_nothing_of_the_picture_is_left():
    source = torch.full((1, 6, 5, 2), torch.nan)
    moved, seen = followed(torch.tensor([[0.5, 0.5]]), source)
    assert seen.tolist() == [False]
    assert moved.isfinite().all()


IMAGENET = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]


def test_points_go_through_what_every_picture_goes_through():
    # 375 × 500 becomes 256 × 341, of which rows 16…240 and columns 58…282 are kept
    x, y = pushed((0.5, 0.4), (375, 500), IMAGENET, (224, 224))
    assert (x, y) == pytest.approx(((0.5 * 341 - 58) / 224, (0.4 * 256 - 16) / 224))
    assert pushed((0.1, 0.4), (375, 500), IMAGENET, (224, 224)) is None
    still = [transforms.Normalize([0.5], [0.5])]
    assert pushed((0.1, 0.4), (375, 500), still, (375, 500)) == pytest.approx((0.1, 0.4))


def test_an_unknown_step_is_tried_out():
    steps = [transforms.Lambda(lambda image: image.crop((100, 10, 300, 210)))]
    assert pushed((0.5, 0.4), (375, 500), steps, (200, 200)) == pytest.approx((0.75, 0.7), abs=0.01)
    assert pushed((0.1, 0.4), (375, 500), steps, (200, 200)) is None
    with pytest.raises(ValueError, match="200×200"):
        pushed((0.5, 0.4), (375, 500), steps, (64, 64))
