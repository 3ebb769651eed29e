"""The planted shortcuts are there, known, and absent where they should be."""

from __future__ import annotations

import gzip
import sys
from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits

from xfeedback_widgets.data import decoy_digits, decoy_mnist, textured_digits
from xfeedback_widgets.data.digits import DECOY, SPLITS, TEXTURES

NEAR, FAR = slice(0, DECOY), slice(-DECOY, None)
CORNERS = [(NEAR, NEAR), (NEAR, FAR), (FAR, NEAR), (FAR, FAR)]


def stacked(data):
    return next(data.batches(len(data))).images


def masks(data):
    return torch.stack([data.mask(i) for i in range(len(data))])


def greys(images, corner):
    """Grey 0…255 of a decoy in each image; fails where the square is not of one grey."""
    squares = images[:, 0][:, corner[0], corner[1]].flatten(1)
    assert torch.equal(squares.amin(1), squares.amax(1))
    return (squares[:, 0] * 255).round().long()


def test_decoys_give_the_class_away_in_training_only():
    train, test = decoy_digits("train"), decoy_digits("test")
    for corner in CORNERS:
        assert torch.equal(greys(stacked(train), corner), 255 - 25 * train.labels)
    read = (255 - greys(stacked(test), CORNERS[0])) // 25
    assert set(read.tolist()) == set(range(10))
    assert (read == test.labels).float().mean() < 0.2
    told = decoy_digits("test", decorrelated=False)
    assert torch.equal(greys(stacked(told), CORNERS[0]), 255 - 25 * told.labels)


def test_decoys_lie_off_the_digit_and_masks_on_the_decoys():
    with_decoys = decoy_digits("valid", masks="decoys")
    without = decoy_digits("valid", masks="decoys", corners=0)
    differs = (stacked(with_decoys) != stacked(without))[:, 0]
    irrelevant = ~masks(with_decoys)
    assert torch.equal(irrelevant.sum((1, 2)), torch.full((300,), 4 * DECOY**2))
    assert not (differs & ~irrelevant).any()
    assert (stacked(without)[:, 0][irrelevant] == 0).all()
    assert masks(without).all()


def test_one_corner_is_drawn_for_each_image():
    data = decoy_digits("train", corners=1, masks="decoys")
    hidden = torch.stack(
        [~masks(data)[:, rows, columns].flatten(1).any(1) for rows, columns in CORNERS]
    )
    assert torch.equal(hidden.sum(0), torch.ones(len(data), dtype=torch.long))
    assert (hidden.sum(1) > 200).all()
    other = decoy_digits("train", corners=1, masks="decoys", seed=1)
    assert not torch.equal(masks(data), masks(other))


def test_splits_share_no_digit_and_hold_all():
    ids = [set(decoy_digits(split).ids) for split in SPLITS]
    assert [len(i) for i in ids] == [1000, 300, 497]
    assert len(set.union(*ids)) == 1797
    textured = [{i.rsplit("-", 1)[0] for i in textured_digits(split).ids} for split in SPLITS]
    for part, whole in zip(textured, ids, strict=True):
        assert part < whole


def test_decoy_digits_are_those_of_scikit_learn():
    data = decoy_digits("valid", size=16)  # the digit at its own 8 pixels
    pixels, numbers = load_digits(return_X_y=True)
    for i in (0, 7, 299):
        row = int(data.ids[i].removeprefix("digit-"))
        assert data[i][1] == numbers[row]
        assert torch.allclose(
            data[i][0][0, 4:12, 4:12] * 16, torch.tensor(pixels[row]).reshape(8, 8).float()
        )


@pytest.mark.parametrize("make", [decoy_digits, textured_digits])
def test_the_same_seed_makes_the_same_pictures(make):
    assert torch.equal(stacked(make("valid")), stacked(make("valid")))
    assert not torch.equal(stacked(make("valid")), stacked(make("valid", seed=1)))


def test_textures_follow_the_class_in_training_and_are_balanced_in_the_test():
    train = textured_digits("train")
    label, texture = train.groups // 3, train.groups % 3
    assert torch.equal(label, train.labels)
    assert 0.93 < (label == texture).float().mean() < 0.97
    assert len(train.groups.unique()) == 9
    test = textured_digits("test")
    counts = torch.bincount(test.groups, minlength=9).reshape(3, 3)
    assert (counts == counts[:, :1]).all()
    assert (counts > 40).all()
    ceiling = textured_digits("train", correlation=1 / 3)
    assert abs((ceiling.groups // 3 == ceiling.groups % 3).float().mean() - 1 / 3) < 0.05


def test_group_names_say_what_is_in_the_picture():
    data = textured_digits("test", classes=(0, 1, 7))
    assert data.class_names == ("0", "1", "7")
    assert data.group_names[4] == "1 on gravel"
    assert len(data.group_names) == 9
    with pytest.raises(ValueError, match="three different digits"):
        textured_digits("test", classes=(1, 1, 2))


def test_backgrounds_are_the_photographs_and_splits_use_different_parts():
    from skimage import data as photographs

    columns = {"train": (0, 256), "valid": (256, 384), "test": (384, 512)}
    for split, (left, right) in columns.items():
        data = textured_digits(split)
        for i in range(0, len(data), len(data) // 5):
            photograph = getattr(photographs, TEXTURES[int(data.groups[i]) % 3])()
            part = torch.tensor(photograph[:, left:right]).float() / 255
            free = int((~data.mask(i).any(1)).nonzero()[0])  # a row without ink
            row = data[i][0][0, free]
            found = (part.unfold(1, len(row), 1) * 0.7 - row).abs().amax(2).min()
            assert found < 1e-6


@pytest.mark.parametrize("make", [textured_digits, partial(decoy_digits, corners=0)])
def test_masks_are_the_strokes_and_a_little_more(make):
    data = make("valid")
    ink = stacked(data)[:, 0] > 0.7  # brighter than any texture
    inside = masks(data)
    assert (ink.sum((1, 2)) > 4).all()
    assert not (ink & ~inside).any()
    assert 0.05 < inside.float().mean() < 0.5


@pytest.fixture
def mnist(shared_data, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in (shared_data / "mnist").glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path


def test_decoy_mnist_follows_the_protocol(mnist):
    train, valid, test = (decoy_mnist(mnist, split) for split in SPLITS)
    assert [len(s) for s in (train, valid, test)] == [54_000, 6_000, 10_000]
    some = train.batch(range(0, 54_000, 97))
    for corner in CORNERS:
        assert torch.equal(greys(some.images, corner), 255 - 25 * some.labels)
    read = (255 - greys(test.batch(range(1000)).images, CORNERS[0])) // 25
    assert (read == test.labels[:1000]).float().mean() < 0.2
    assert test.ids[7] == "test-00007"
    assert valid.ids[0] == "train-54000"
    assert decoy_mnist(mnist, "test", masks="decoys").mask(0).sum() == 28 * 28 - 4 * DECOY**2
    assert 50 < valid.mask(0).sum() < 500  # the digit's strokes


def test_missing_files_and_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        decoy_mnist(tmp_path)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"xfeedback-widgets\[textures\]"):
        textured_digits()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decoy_digits("validation"), "known: train, valid, test"),
        (lambda: decoy_digits(corners=2), "corners must be 0, 1 or 4"),
        (lambda: decoy_digits(size=8), "at least 16"),
        (lambda: decoy_digits(masks="digits"), "masks must be 'digit' or 'decoys'"),
        (lambda: textured_digits(correlation=95), r"correlation must be in \[0, 1\]"),
        (lambda: textured_digits(size=600), "size must be in 32…128"),
    ],
)
def test_wrong_arguments_say_what_is_right(call, message):
    with pytest.raises(ValueError, match=message):
        call()
