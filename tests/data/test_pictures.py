"""Pixels of every kind become the right picture and the right tensor."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import v2

from xfeedback_widgets.data import pictures

GREY = np.array([[0, 128], [64, 255]], dtype=np.uint8)
# 16 bits that round to the same picture, and are another one in their low bytes
DEEP = np.maximum(GREY.astype(np.int32) * 257 - 100, 0).astype(np.uint16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def reopened(image: Image.Image, form: str) -> Image.Image:
    """Send an image through a file format, as a user's file would come."""
    buffer = io.BytesIO()
    image.save(buffer, form)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("RGB"),
        Image.fromarray(GREY).convert("RGBA"),
        reopened(Image.fromarray(GREY).convert("P"), "PNG"),
        reopened(Image.fromarray(DEEP), "PNG"),
        reopened(Image.fromarray(DEEP), "TIFF"),
        Image.fromarray(GREY.astype(np.int32)),
        Image.fromarray(GREY.astype(np.float32) / 255),
        GREY,
        GREY[:, :, None],
        np.repeat(GREY[:, :, None], 4, axis=2),
        DEEP,
    ],
    ids=lambda image: getattr(image, "mode", None) or f"{image.dtype}{image.shape}",
)
def test_every_kind_of_image_shows_the_same_picture(image):
    picture = pictures.to_rgb(image)
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    np.testing.assert_array_equal(picture, np.repeat(GREY[:, :, None], 3, axis=2))


def test_transparent_palette_loses_its_transparency_not_its_colours():
    image = Image.new("RGBA", (2, 1), (200, 10, 30, 0)).quantize()
    image.info["transparency"] = bytes([0] * 256)
    assert pictures.to_rgb(reopened(image, "PNG"))[0, 0].tolist() == [200, 10, 30]


def test_one_bit_images_are_black_and_white():
    assert pictures.to_rgb(Image.fromarray(GREY > 100)).tolist()[0] == [[0] * 3, [255] * 3]


def test_grey_stays_one_channel_unless_the_model_needs_three():
    assert pictures.to_tensor(Image.fromarray(GREY)).shape == (1, 2, 2)
    assert pictures.to_pil(GREY).mode == "L"
    assert pictures.to_pil(GREY, rgb=True).mode == "RGB"


@pytest.mark.parametrize(
    "image", [np.zeros((3, 8, 8), np.uint8), np.zeros((0, 4), np.uint8), "a.png", None]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(TypeError, match=r"not a picture|is not an image"):
        pictures.to_rgb(image)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensor_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        pictures.to_tensor(torch.full((3, 2, 2), value))


@given(st.integers(0, 255), st.sampled_from([1, 3]))
def test_picture_survives_normalisation_and_back(value, channels):
    picture = np.full((2, 3, 3), value, dtype=np.uint8)
    tensor = pictures.to_tensor(picture)[:channels]
    mean, std = (
        torch.tensor(MEAN[:channels]).view(-1, 1, 1),
        torch.tensor(STD[:channels]).view(-1, 1, 1),
    )
    shown = pictures.show((tensor - mean) / std, pictures.Normalization(mean, std))
    np.testing.assert_array_equal(shown, picture)


def test_unknown_range_is_stretched_for_display():
    shown = pictures.show(torch.tensor([[[-3.0, 0.0, 7.0]]]))
    assert shown[0, :, 0].tolist() == [0, 76, 255]
    assert pictures.show(torch.full((1, 1, 1), 9.0)).tolist() == [
        [[0, 0, 0]]
    ]  # constant: nothing to see


@pytest.mark.parametrize(
    "transform",
    [
        transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)]),
        transforms.Compose(
            [transforms.Compose([transforms.ToTensor()]), transforms.Normalize(MEAN, STD)]
        ),
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]),
        torch.nn.Sequential(transforms.Normalize(MEAN, STD)),
        models.ResNet18_Weights.DEFAULT.transforms(),
    ],
)
def test_normalisation_is_found(transform):
    found = pictures.find_normalization(transform)
    assert found.mean.flatten().tolist() == pytest.approx(MEAN)
    assert found.std.flatten().tolist() == pytest.approx(STD)


def test_no_normalisation_is_invented():
    twice = transforms.Compose([transforms.Normalize(MEAN, STD)] * 2)
    for transform in (None, transforms.ToTensor(), twice, lambda image: image):
        assert pictures.find_normalization(transform) is None


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (transforms.RandomHorizontalFlip(), "RandomHorizontalFlip"),
        (transforms.RandomApply([transforms.Grayscale()]), "RandomApply"),
        (v2.ColorJitter(0.1), "ColorJitter"),
    ],
)
def test_random_step_is_refused_by_name(step, name):
    with pytest.raises(ValueError, match=f"random step, {name}"):
        pictures.check_deterministic(transforms.Compose([transforms.Resize(8), step]))


def test_masks_of_every_kind():
    wanted = torch.tensor([[False, True]])
    for mask in (
        wanted,
        wanted[None],
        torch.tensor([[0.4, 0.6]]),
        np.array([[0, 255]], np.uint8),
        np.array([[0, -1]]),
        Image.fromarray(np.array([[0, 255]], np.uint8)),
    ):
        assert torch.equal(pictures.to_mask(mask), wanted)
    with pytest.raises(TypeError, match=r"expected \[H, W\]"):
        pictures.to_mask(torch.zeros(2, 3, 4))


def test_mask_follows_the_crop_of_its_picture():
    mask = np.zeros((10, 20), np.uint8)
    mask[:, 5:10] = 255  # the middle square starts at column 5
    transform = transforms.Compose(
        [transforms.CenterCrop(10), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    seen = pictures.transform_mask(Image.fromarray(mask), transform)
    assert seen.shape == (10, 10)
    assert seen[:, :5].all()
    assert not seen[:, 5:].any()
