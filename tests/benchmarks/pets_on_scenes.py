"""Cats and dogs on sea and forest: a Waterbirds-like problem of real photographs, for benchmarks.

Pets are cut out along their trimaps (Oxford-IIIT Pet, ``pets3_trimaps``) and pasted on scenes (Intel Image
Classification, ``intel_scenes``); in training most cats are at sea and most dogs in the forest. The
photographs may not be redistributed, so they are read from a folder of the reader's, and this module is no
part of the package. What is measured on them is in ``bench_pets``.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn
from torchvision import models, transforms

from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.data.folders import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DATA = Path(
    os.environ.get("XFEEDBACK_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
"""Folder of the development data."""

SPLITS = ("train", "valid", "test")
CLASSES = ("cat", "dog")
SCENES = ("sea", "forest")
"""In training, the first goes with cats and the second with dogs."""

# Which pets and scenes belong to which split never depends on a user's seed: nothing of the test is ever
# trained on. There are twice as many cats as dogs, so each dog is pasted twice as often.
_SPLIT_SEED = 1234
_PETS = {"valid": (50, 25), "test": (100, 50)}  # cats and dogs; the others are for training
_COPIES = (1, 2)
_VALID_SCENES = 50  # of each kind; the other 100 of the data's own test part are for the test

_PET, _BACKGROUND = 1, 2  # values of a trimap; 3 is the border between them
_SHARE = (0.45, 0.65)  # the longer side of a pet, of the side of the picture
_CROP = (0.8, 1.0)  # the side of what is seen of a scene, of its own side


@dataclass(frozen=True)
class _Recipe:
    """One picture: which pet, which scene, and where; places are shares of what room there is."""

    pet: str
    scene: str
    share: float
    place: tuple[float, float]
    crop: float
    corner: tuple[float, float]
    mirrored: tuple[bool, bool]  # the pet, the scene


class _Pasted:
    """The pictures of a list of recipes, made when asked for from compressed files kept in memory."""

    def __init__(
        self, root: Path, recipes: Sequence[_Recipe], labels: list[int], size: int
    ) -> None:
        self.recipes, self.labels, self.size = recipes, labels, size
        pets = sorted({recipe.pet for recipe in recipes})
        names = [f"images/{pet}.jpg" for pet in pets] + [f"trimaps/{pet}.png" for pet in pets]
        self._files = _members(root / "pets3_trimaps" / "images.zip", names)
        scenes = sorted({recipe.scene for recipe in recipes})
        self._files |= _members(root / "intel_scenes" / "images.zip", scenes)

    def __len__(self) -> int:
        return len(self.recipes)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        recipe = self.recipes[index]
        picture = self._scene(recipe)
        opacity, box = self._pet(recipe)
        pet = self._open(f"images/{recipe.pet}.jpg").convert("RGB").crop(box)
        if recipe.mirrored[0]:
            pet = pet.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.paste(
            pet.resize(opacity.size, Image.Resampling.BICUBIC),
            self._corner(recipe, opacity.size),
            opacity,
        )
        return picture, self.labels[index]

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return where the pet is, bool ``[size, size]``."""
        recipe = self.recipes[index]
        opacity, _ = self._pet(recipe)
        canvas = Image.new("L", (self.size, self.size))
        canvas.paste(opacity, self._corner(recipe, opacity.size))
        return np.asarray(canvas) >= 128

    def _scene(self, recipe: _Recipe) -> Image.Image:
        scene = self._open(recipe.scene).convert("RGB")
        side = min(scene.size) * recipe.crop
        left, top = ((full - side) * at for full, at in zip(scene.size, recipe.corner, strict=True))
        if recipe.mirrored[1]:
            scene = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return scene.resize(
            (self.size, self.size),
            Image.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
        )

    def _pet(self, recipe: _Recipe) -> tuple[Image.Image, tuple[int, int, int, int]]:
        """Return the opacity of the pet at its final size, and its box in the photograph."""
        trimap = np.asarray(self._open(f"trimaps/{recipe.pet}.png"))
        opaque = Image.fromarray(np.where(trimap == _BACKGROUND, 0, 255).astype("uint8"))
        box = opaque.getbbox()
        # The border holds as much background as fur: draw the contour in to its middle, and soften it.
        opaque = (
            opaque.filter(ImageFilter.MinFilter(5)).filter(ImageFilter.GaussianBlur(1)).crop(box)
        )
        scale = recipe.share * self.size / max(opaque.size)
        width, height = (max(1, round(side * scale)) for side in opaque.size)
        if recipe.mirrored[0]:
            opaque = opaque.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return opaque.resize((width, height), Image.Resampling.BICUBIC), box

    def _corner(self, recipe: _Recipe, pet: tuple[int, int]) -> tuple[int, int]:
        x, y = (round((self.size - side) * at) for side, at in zip(pet, recipe.place, strict=True))
        return x, y

    def _open(self, name: str) -> Image.Image:
        return Image.open(io.BytesIO(self._files[name]))


def pets_on_scenes(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    correlation: float = 0.95,
    size: int = 160,
    seed: int = 0,
) -> ImageSet:
    """Cats and dogs pasted on photographs of sea and forest.

    Parameters
    ----------
    root
        Folder with ``pets3_trimaps`` and ``intel_scenes``, each an ``images.zip`` and an ``index.csv``.
    split
        ``"train"`` (249 pictures of cats, 250 of dogs), ``"valid"`` (50 in each of the four groups) or
        ``"test"`` (100 in each). No pet and no scene is in two splits, whatever the seed.
    correlation
        Share of the training pictures, in [0, 1], where a cat is at sea and a dog in the forest, met
        exactly up to rounding; ``correlation=0.5`` gives the ceiling. Validation and test show every pet
        on both kinds of scene.
    size
        Side of the pictures in pixels, at least 64; the longer side of a pet takes about half of it.
    seed
        Of scenes, sizes and places.

    Returns
    -------
    ImageSet
        float32 ``[3, size, size]``, normalised as ImageNet's models expect; masks are True on the pet.
        Groups are ``2 · class + scene``, with names such as ``"cat on sea"``; ids such as
        ``"american_bulldog_12 on forest-10029"`` name pet and scene.

    Raises
    ------
    ValueError
        Unknown split, wrong correlation or size.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation must be in [0, 1], got {correlation}")
    if size < 64:
        raise ValueError(f"size must be at least 64, got {size}")
    root = Path(root)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    # One endless deck of each kind of scene, dealt to cats and then to dogs: in training no scene is seen
    # twice, in validation and test each is seen once with a cat and once with a dog.
    decks = [itertools.cycle(rng.permutation(_scenes(root, split, kind))) for kind in SCENES]
    recipes: list[_Recipe] = []
    labels: list[int] = []
    groups: list[int] = []
    for label, pets in enumerate(_pets(root, split)):
        pasted = np.repeat(pets, _COPIES[label])
        if split == "train":
            follow = round(correlation * len(pasted))
            own, other = np.split(rng.permutation(pasted), [follow])
            on_scene = (own, other) if label == 0 else (other, own)
        else:
            on_scene = (pasted, pasted)
        for kind, names in enumerate(on_scene):
            recipes += [_recipe(str(pet), str(next(decks[kind])), rng) for pet in names]
            labels += [label] * len(names)
            groups += [len(SCENES) * label + kind] * len(names)
    pictures = _Pasted(root, recipes, labels, size)
    return ImageSet(
        pictures,
        ids=[f"{recipe.pet} on {_scene_name(recipe.scene)}" for recipe in recipes],
        class_names=CLASSES,
        groups=groups,
        group_names=[f"{pet} on {scene}" for pet in CLASSES for scene in SCENES],
        masks=pictures.mask,
        labels=labels,
        transform=transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        ),
    )


def mobilenet_v2(
    root: str | os.PathLike[str], *, stride: int = 32, seed: int = 0
) -> models.MobileNetV2:
    """Return torchvision's MobileNetV2 with ImageNet weights and a new head of two classes.

    The BatchNorm layers of these weights are the identity: keep them in eval mode, as ``fine_tune`` does
    by default, or the network forgets what it knows.

    Parameters
    ----------
    root
        Folder with ``mobilenet_v2/mobilenet_v2_imagenet.pth``.
    stride
        Pixels per cell of the last feature map: 32 as trained, or 16, which leaves out the last halving and
        gives maps of twice the resolution.
    seed
        Of the new head.
    """
    model = models.mobilenet_v2()
    path = Path(root) / "mobilenet_v2" / "mobilenet_v2_imagenet.pth"
    model.load_state_dict(torch.load(path, weights_only=True))
    if stride == 16:
        model.features[14].conv[1][0].stride = (1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.classifier[1] = nn.Linear(model.last_channel, len(CLASSES))
    return model.eval()


@torch.no_grad()
def run_once(trunk: nn.Module, data: ImageSet) -> ImageSet:
    """Return the same set with the trunk's output in place of the pictures: what it does is never trained."""
    outputs = torch.cat([trunk(batch.images) for batch in data.batches(32)])
    return ImageSet(
        list(zip(outputs, data.labels.tolist(), strict=True)),
        ids=data.ids,
        class_names=data.class_names,
        groups=data.groups,
        group_names=data.group_names,
        masks=[data.mask(index) for index in range(len(data))],
    )


def _pets(root: Path, split: str) -> list[list[str]]:
    """Return the names of a split's cats and of its dogs."""
    chosen = []
    for species, *sizes in zip(CLASSES, _PETS["valid"], _PETS["test"], strict=True):
        names = np.random.default_rng(_SPLIT_SEED).permutation(_outlined(root)[species])
        valid, test, train = np.split(names, np.cumsum(sizes))
        chosen.append({"train": train, "valid": valid, "test": test}[split].tolist())
    return chosen


@functools.cache
def _outlined(root: Path) -> dict[str, list[str]]:
    """Return the names of each species; pets whose trimap is empty are left out."""
    folder = root / "pets3_trimaps"
    rows = _rows(folder)
    trimaps = _members(folder / "images.zip", [f"trimaps/{row['name']}.png" for row in rows])
    known: dict[str, list[str]] = {species: [] for species in CLASSES}
    for row, trimap in zip(rows, trimaps.values(), strict=True):
        if (np.asarray(Image.open(io.BytesIO(trimap))) == _PET).any():
            known[row["species"]].append(row["name"])
    return known


def _scenes(root: Path, split: str, kind: str) -> list[str]:
    """Return a split's files of one kind of scene: the data's own parts, its test part divided in two."""
    part = "train" if split == "train" else "test"
    rows = _rows(root / "intel_scenes")
    files = [row["file"] for row in rows if row["split"] == part and row["class"] == kind]
    if split == "train":
        return files
    order = np.random.default_rng(_SPLIT_SEED).permutation(files)
    return (order[:_VALID_SCENES] if split == "valid" else order[_VALID_SCENES:]).tolist()


def _recipe(pet: str, scene: str, rng: np.random.Generator) -> _Recipe:
    across, down, left, top = rng.random(4).tolist()
    pet_mirrored, scene_mirrored = (rng.random(2) < 0.5).tolist()
    return _Recipe(
        pet,
        scene,
        share=rng.uniform(*_SHARE),
        place=(across, down),
        crop=rng.uniform(*_CROP),
        corner=(left, top),
        mirrored=(pet_mirrored, scene_mirrored),
    )


def _scene_name(file: str) -> str:
    """``"train/sea/10029.jpg"`` is ``"sea-10029"``."""
    path = PurePosixPath(file)
    return f"{path.parent.name}-{path.stem}"


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _members(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in names}
