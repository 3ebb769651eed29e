"""What is known about an image follows it through flips, crops, resizing and affine transforms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms import v2

from xfeedback_widgets.data import Batch
from xfeedback_widgets.data.augment import augmented, check_augmentation, resample

EXACT = {
    "nothing": v2.Identity(),
    "flip": v2.RandomHorizontalFlip(1),
    "upside down": v2.RandomVerticalFlip(1),
    "crop": v2.RandomCrop((48, 56)),
    "crop with padding": v2.RandomCrop(64, padding=12),
    "quarter turn": v2.RandomRotation((90, 90)),
}
CLOSE = {
    "resize": v2.Resize((100, 88), antialias=False),
    "resized crop": v2.RandomResizedCrop(64, scale=(0.4, 1), antialias=False),
    "affine": v2.RandomAffine(30, translate=(0.2, 0.2), scale=(0.8, 1.3), shear=10),
    "perspective": v2.RandomPerspective(0.2, p=1),
    "composed": v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(20), v2.CenterCrop(56)]),
}


def blobs(seed: int, n: int = 3) -> torch.Tensor:
    """Smooth masks ``[n, 1, 64, 64]`` in [0, 1], different in every corner."""
    coarse = torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)


def batch_of(images: torch.Tensor) -> Batch:
    n = torch.arange(len(images))
    return Batch(images, n % 2, n)


@pytest.mark.parametrize("name", [*EXACT, *CLOSE])
@given(seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_a_mask_moves_as_its_image_does(name, seed):
    """The mask itself is the image, so the transform says where it has to be."""
    masks = blobs(seed)
    torch.manual_seed(seed)
    moved = augmented(batch_of(masks), {**EXACT, **CLOSE}[name])
    size = tuple(moved.images.shape[2:])
    followed = resample(masks, moved.source, size)
    difference = (followed - moved.images).abs()
    if name in EXACT:
        assert difference.max() < 1e-5
    else:  # nearest against bilinear, of a mask that changes by up to 0.1 a pixel
        assert difference.mean() < 0.04
    cells = resample(masks, moved.source, (7, 7)) - F.adaptive_avg_pool2d(moved.images, 7)
    assert cells.abs().max() < (1e-5 if name in EXACT else 0.1)


@pytest.mark.parametrize("name", [*EXACT, *CLOSE])
def test_pixels_from_nowhere_are_said_to_be(name):
    torch.manual_seed(3)
    moved = augmented(batch_of(torch.ones(4, 1, 64, 64)), {**EXACT, **CLOSE}[name])
    nowhere = moved.source.isnan().any(3)
    filled = moved.images[:, 0] < 0.5  # transforms fill with zeros
    assert (nowhere == filled).float().mean() > 0.98
    assert torch.equal(moved.source[..., 0].isnan(), moved.source[..., 1].isnan())


def test_a_map_as_coarse_as_wanted_is_only_mirrored():
    maps = torch.rand(2, 1, 7, 7)
    flipped = augmented(batch_of(torch.rand(2, 3, 224, 224)), v2.RandomHorizontalFlip(1))
    torch.testing.assert_close(
        resample(maps, flipped.source, (7, 7)), maps.flip(3), atol=1e-4, rtol=0
    )
    cropped = augmented(batch_of(torch.rand(2, 3, 224, 224)), v2.CenterCrop(160))
    torch.testing.assert_close(
        resample(maps, cropped.source, (5, 5)), maps[:, :, 1:6, 1:6], atol=1e-4, rtol=0
    )


def test_without_augmentation_fields_only_change_size():
    fine, coarse = torch.rand(2, 2, 12, 8), torch.rand(2, 1, 3, 3)
    torch.testing.assert_close(resample(fine, None, (3, 4)), F.avg_pool2d(fine, (4, 2)))
    expected = F.interpolate(coarse, (6, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(coarse, None, (6, 9)), expected)


def test_what_comes_from_nowhere_is_zero_and_finite():
    source = torch.full((1, 8, 8, 2), torch.nan)
    for fields in (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 30, 30)):
        assert not resample(fields, source, (4, 4)).any()


def test_colours_change_the_image_and_not_the_positions():
    images = torch.rand(2, 3, 16, 16)
    jittered = augmented(batch_of(images), v2.ColorJitter(brightness=0.5))
    assert not torch.equal(jittered.images, images)
    plain = augmented(batch_of(images), v2.Identity())
    assert torch.equal(jittered.source, plain.source)
    assert type(jittered.images) is type(jittered.source) is torch.Tensor


def test_a_batch_is_split_and_moved_whole():
    moved = augmented(batch_of(torch.rand(5, 1, 8, 8)), v2.RandomHorizontalFlip())
    parts = moved.split(2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.source for part in parts]), moved.source)
    assert torch.equal(moved.to("cpu").source, moved.source)


def test_what_cannot_be_used_is_named():
    with pytest.raises(TypeError, match=r"torchvision\.transforms\.v2, got function.*Compose"):
        check_augmentation(lambda image: image)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="differ in shape"):
        augmented(batch_of(torch.rand(5, 1, 40, 40)), v2.RandomResize(20, 40))
