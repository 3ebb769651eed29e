"""The benchmarks' pets: the shortcut is there in training, absent elsewhere, and nothing leaks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

PATH = Path(__file__).parents[1] / "benchmarks" / "pets_on_scenes.py"


@pytest.fixture(scope="module")
def pets():
    """The module, which is no part of the package and so is loaded from its file."""
    spec = importlib.util.spec_from_file_location("pets_on_scenes", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def splits(pets, shared_data):
    return {split: pets.pets_on_scenes(shared_data, split, size=96) for split in pets.SPLITS}


def parts(data):
    """The pets and the scenes of a set."""
    names = [image_id.split(" on ") for image_id in data.ids]
    return {pet for pet, _ in names}, {scene for _, scene in names}


def test_training_is_correlated_and_the_rest_balanced(pets, splits, shared_data):
    assert splits["train"].group_names == (
        "cat on sea", "cat on forest", "dog on sea", "dog on forest",
    )  # fmt: skip
    counts = {split: torch.bincount(data.groups).tolist() for split, data in splits.items()}
    assert counts == {"train": [237, 12, 12, 238], "valid": [50] * 4, "test": [100] * 4}
    even = pets.pets_on_scenes(shared_data, "train", correlation=0.5)
    assert torch.bincount(even.groups).tolist() == [124, 125, 125, 125]
    for data in splits.values():
        assert torch.equal(data.labels, data.groups // 2)
        said = [image_id.split(" on ")[1].split("-")[0] for image_id in data.ids]
        assert said == [pets.SCENES[group % 2] for group in data.groups.tolist()]


def test_no_pet_and_no_scene_is_in_two_splits(splits):
    train, valid, test = (parts(splits[split]) for split in ("train", "valid", "test"))
    for ours, theirs in ((train, valid), (train, test), (valid, test)):
        for kind in (0, 1):
            assert not ours[kind] & theirs[kind]
    everyone = train[0] | valid[0] | test[0]
    assert len(everyone) == 599
    assert "Abyssinian_34" not in everyone  # its trimap is empty


def test_the_split_of_pets_does_not_depend_on_the_seed(pets, splits, shared_data):
    other = pets.pets_on_scenes(shared_data, "test", seed=7)
    assert parts(other) == parts(splits["test"])
    assert other.ids != splits["test"].ids


def test_the_same_seed_gives_the_same_pictures(pets, splits, shared_data):
    data = splits["valid"]
    again = pets.pets_on_scenes(shared_data, "valid", size=96)
    assert again.ids == data.ids
    other = pets.pets_on_scenes(shared_data, "valid", size=96, seed=1)
    for i in range(0, len(data), 40):
        assert again.content_hash(i) == data.content_hash(i) != other.content_hash(i)


def test_the_mask_is_the_pet(splits):
    data = splits["test"]
    for i in range(0, len(data), 50):
        mask = data.mask(i)
        assert mask.shape == (96, 96)
        assert 0.01 < mask.float().mean() < 0.45
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        longer = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
        assert 0.35 * 96 < longer <= 0.66 * 96
        # the edge of a pasted pet is sharper than the scene, magnified, around it
        grey = torch.from_numpy(data.picture(i)).float().mean(2)
        step = (grey[:, 1:] - grey[:, :-1]).abs()
        edge = mask[:, 1:] != mask[:, :-1]
        assert step[edge].mean() > 1.5 * step[~edge & ~mask[:, 1:]].mean()


def test_pictures_suit_the_network_that_knows_imagenet(pets, shared_data):
    model = pets.mobilenet_v2(shared_data)
    assert isinstance(model.classifier[1], nn.Linear)
    assert model.classifier[1].out_features == 2
    data = pets.pets_on_scenes(shared_data, "valid", size=128)
    with torch.no_grad():
        batch = data.batch(range(0, len(data), 10))
        assert model(batch.images).shape == (20, 2)
        features = model.features(batch.images).mean((2, 3))
    # real weights: pictures of one class resemble each other more than those of the other
    features = nn.functional.normalize(features - features.mean(0))
    likeness = features @ features.T
    same = batch.labels[:, None] == batch.labels
    others = ~torch.eye(len(batch), dtype=torch.bool)
    assert likeness[same & others].mean() > likeness[~same].mean() + 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "val"}, "valid"),
        ({"correlation": 1.5}, "correlation"),
        ({"size": 32}, "size"),
    ],
)
def test_wrong_arguments_are_named(pets, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        pets.pets_on_scenes(tmp_path, **arguments)
