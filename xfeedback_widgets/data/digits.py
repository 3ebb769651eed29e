"""Shortcut problems made of real digits: the shortcut is planted, so what ought to be relevant is known.

:func:`decoy_digits` puts grey squares that give the class away beside scikit-learn's digits,
:func:`decoy_mnist` does so with MNIST, and :func:`textured_digits` lays three digits on photographed
grass, gravel and brick, one texture nearly always with one digit. Each comes with masks, groups, and three
disjoint splits; a split without the shortcut measures whether a model has learned it. Nothing is
downloaded. Models and training for these problems are in :mod:`xfeedback_widgets.demo`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xfeedback_widgets.data.imageset import ImageSet

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

SPLITS = ("train", "valid", "test")
"""Names of the splits of every set here."""

DECOY = 4
"""Side of a decoy square in pixels."""

TEXTURES = ("grass", "gravel", "brick")
"""Photographs of scikit-image that :func:`textured_digits` lays digits on, in the order of the classes."""

# How many of scikit-learn's 1,797 digits are for training and validation; the others are for the test.
_DIGITS_TRAIN, _DIGITS_VALID = 1000, 300
_MNIST_TRAIN = 54_000
# Which digit belongs to which split never depends on a user's seed: no test digit is ever trained on.
_SPLIT_SEED = 1234

_INK = 0.3  # a pixel at least this bright belongs to a stroke
_STROKE_MARGIN = 2  # pixels by which the mask of a stroke is wider than its ink
_BRIGHTNESS = 0.7  # of a texture, so that white ink stands out from every one of them
_COPIES = 4  # pictures made of each training digit, each on another crop
_GREY_STEP = 25  # a decoy of class y has grey 255 − 25 y


def decoy_digits(
    split: str = "train",
    *,
    corners: int = 4,
    decorrelated: bool | None = None,
    masks: Literal["digit", "decoys"] = "digit",
    seed: int = 0,
    size: int = 28,
) -> ImageSet:
    """Scikit-learn's 1,797 digits with decoy squares of grey ``255 − 25 y`` in the corners.

    The protocol of Decoy MNIST (Ross et al. 2017; Bekkemoen & Langseth, section "Experiments") on digits
    that ship with scikit-learn: a model may read the label off the decoys and fails where they lie.

    Parameters
    ----------
    split
        ``"train"`` (1,000 digits), ``"valid"`` (300) or ``"test"`` (497). The division is fixed.
    corners
        How many corners of an image hold a decoy: 4 for all, 1 for one drawn at random, 0 for none; a
        model trained on ``corners=0`` is the ceiling that feedback can reach.
    decorrelated
        True: the decoys have the grey of a digit drawn at random. Default: False in training, True in
        validation and test, where a model shows what it does without the shortcut.
    masks
        What is relevant: ``"digit"``, the strokes and two pixels around them, as a person would judge a
        map; or ``"decoys"``, everything but the decoys, so that attribution overlap (eq. 17 of Bekkemoen
        & Langseth) measures attention to the decoys.
    seed
        Of the corners and of the random greys.
    size
        Side of the images in pixels, at least 16. The digit takes ``size − 8`` in the middle, so that
        the corners are free of ink.

    Returns
    -------
    ImageSet
        float32 ``[1, size, size]`` in [0, 1]; groups are the ten classes. The id of a digit, such as
        ``"digit-0007"``, is its place in scikit-learn's set.

    Raises
    ------
    ValueError
        Unknown split, number of corners or size.
    """
    _check_split(split)
    if size < 16:
        raise ValueError(f"size is {size}; digit and decoys need at least 16 pixels")
    digits, labels, rows = _digits(split)
    margin = DECOY
    inner = size - 2 * margin
    images = F.pad(_resized(digits, inner), [margin] * 4)
    names = [f"digit-{row:04d}" for row in rows.tolist()]
    return _with_decoys(images, labels, names, split, corners, decorrelated, masks, seed)


def decoy_mnist(
    root: str | os.PathLike[str],
    split: str = "train",
    *,
    corners: int = 4,
    decorrelated: bool | None = None,
    masks: Literal["digit", "decoys"] = "digit",
    seed: int = 0,
) -> ImageSet:
    """MNIST with decoy squares of grey ``255 − 25 y``: the protocol of Bekkemoen & Langseth.

    Parameters
    ----------
    root
        Folder that torchvision's ``MNIST`` reads, with the unpacked files in ``root/MNIST/raw``.
    split
        ``"train"`` (54,000 digits), ``"valid"`` (the last 6,000 of MNIST's training digits) or
        ``"test"`` (MNIST's 10,000).
    corners, decorrelated, masks, seed
        As in :func:`decoy_digits`; with one corner it is the Decoy MNIST of Ross et al.

    Returns
    -------
    ImageSet
        float32 ``[1, 28, 28]`` in [0, 1], masks and groups as in :func:`decoy_digits`; ids such as
        ``"train-00007"`` and ``"test-00007"`` are places in MNIST's files.

    Raises
    ------
    ValueError
        Unknown split or number of corners.
    FileNotFoundError
        The files are not there; with the names that are expected.
    """
    _check_split(split)
    from torchvision.datasets import MNIST

    part = "test" if split == "test" else "train"
    try:
        mnist = MNIST(str(root), train=part == "train", download=False)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no MNIST in {root}: unpack train-images-idx3-ubyte and the three other files into "
            f"{root}/MNIST/raw, or let torchvision.datasets.MNIST(root, download=True) fetch them"
        ) from error
    rows = {
        "train": range(_MNIST_TRAIN),
        "valid": range(_MNIST_TRAIN, len(mnist.data)),
        "test": range(len(mnist.data)),
    }[split]
    images = mnist.data[rows.start : rows.stop, None].float() / 255
    labels = mnist.targets[rows.start : rows.stop].long()
    names = [f"{part}-{row:05d}" for row in rows]
    return _with_decoys(images, labels, names, split, corners, decorrelated, masks, seed)


def textured_digits(
    split: str = "train",
    *,
    classes: Sequence[int] = (3, 5, 8),
    correlation: float | None = None,
    size: int = 64,
    seed: int = 0,
) -> ImageSet:
    """Three of scikit-learn's digits on photographs of grass, gravel and brick: a small Waterbirds.

    In training, a digit lies on the texture of its class 19 times out of 20; in validation and test
    every digit lies on each texture once, so that all nine groups are equally large. Training and
    test crops come from different parts of the photographs (scikit-image's, all in its wheel).

    Parameters
    ----------
    split
        ``"train"`` (four pictures of each digit), ``"valid"`` or ``"test"`` (three, one per texture).
        Digits are divided as in :func:`decoy_digits`.
    classes
        Three different digits. The first goes with grass, the second with gravel, the third with brick.
    correlation
        Share of the pictures, in [0, 1], that lie on the texture of their class; the others are spread
        over the two other textures. Default: 0.95 in training, and in validation and test the balanced
        design above. ``correlation=1 / 3`` in training gives the ceiling: no shortcut to take.
    size
        Side of the images in pixels, from 32 to 128. The digit, 9/16 as large, may lie anywhere in it.
    seed
        Of textures, crops and places.

    Returns
    -------
    ImageSet
        float32 ``[1, size, size]`` in [0, 1]; masks are True on the strokes and two pixels around them.
        Groups are class × texture, ``3 · class + texture``, with names such as ``"5 on brick"``; ids such
        as ``"digit-0013-0"`` name the digit and the copy of it.

    Raises
    ------
    ValueError
        Unknown split, wrong classes, correlation or size.
    ImportError
        scikit-image is not installed.
    """
    _check_split(split)
    wanted = tuple(classes)
    if len(set(wanted)) != len(TEXTURES) or not set(wanted) <= set(range(10)):
        raise ValueError(f"classes must be three different digits 0…9, got {wanted}")
    if correlation is not None and not 0 <= correlation <= 1:
        raise ValueError(f"correlation must be in [0, 1], got {correlation}")
    if not 32 <= size <= 128:
        raise ValueError(f"size must be in 32…128, the textures being 512 pixels, got {size}")

    digits, numbers, rows = _digits(split)
    keep = torch.isin(numbers, torch.tensor(wanted))
    copies = _COPIES if split == "train" else len(TEXTURES)
    digits = _resized(digits[keep], size * 9 // 16).repeat_interleave(copies, 0)
    labels = torch.tensor([wanted.index(n) for n in numbers[keep].tolist()])
    labels = labels.repeat_interleave(copies)
    names = [f"digit-{row:04d}-{copy}" for row in rows[keep].tolist() for copy in range(copies)]

    generator = _generator(split, seed)
    if correlation is None and split != "train":
        textures = torch.arange(len(labels)) % len(TEXTURES)
    else:
        share = 0.95 if correlation is None else correlation
        other = torch.randint(1, len(TEXTURES), labels.shape, generator=generator)
        follows = torch.rand(labels.shape, generator=generator) < share
        textures = (labels + torch.where(follows, 0, other)) % len(TEXTURES)
    ink = _placed(digits[:, 0], size, generator)
    crops = _crops(_photographs(split), textures, size, generator)
    images = crops * _BRIGHTNESS * (1 - ink) + ink
    return ImageSet(
        _pairs(images[:, None], labels),
        ids=names,
        class_names=[str(n) for n in wanted],
        groups=len(TEXTURES) * labels + textures,
        group_names=[f"{n} on {texture}" for n in wanted for texture in TEXTURES],
        masks=_strokes(ink[:, None]),
    )


def _digits(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return a split's digits ``[N, 1, 8, 8]`` in [0, 1], numbers ``[N]`` and places in the set ``[N]``."""
    from sklearn.datasets import load_digits

    pixels, numbers = load_digits(return_X_y=True)
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    rows = order.tensor_split([_DIGITS_TRAIN, _DIGITS_TRAIN + _DIGITS_VALID])[SPLITS.index(split)]
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return images[rows], torch.tensor(numbers, dtype=torch.long)[rows], rows


def _with_decoys(
    images: Tensor,
    labels: Tensor,
    names: Sequence[str],
    split: str,
    corners: int,
    decorrelated: bool | None,
    relevant: Literal["digit", "decoys"],
    seed: int,
) -> ImageSet:
    """Draw decoys on ``images [N, 1, S, S]`` in place and wrap them."""
    if corners not in (0, 1, 4):
        raise ValueError(f"corners must be 0, 1 or 4, got {corners}")
    if relevant not in ("digit", "decoys"):
        raise ValueError(f"masks must be 'digit' or 'decoys', got {relevant!r}")
    if decorrelated is None:
        decorrelated = split != "train"
    generator = _generator(split, seed)
    read = torch.randint(0, 10, labels.shape, generator=generator) if decorrelated else labels
    greys = (255 - _GREY_STEP * read).float()[:, None, None] / 255
    place = torch.randint(0, 4, labels.shape, generator=generator)
    masks = torch.ones(len(images), *images.shape[2:], dtype=torch.bool)
    if relevant == "digit":
        masks = _strokes(images)
    near, far = slice(0, DECOY), slice(-DECOY, None)
    for corner, (rows, columns) in enumerate(((near, near), (near, far), (far, near), (far, far))):
        if corners:
            here = torch.arange(len(labels)) if corners == 4 else (place == corner).nonzero()[:, 0]
            images[here, 0, rows, columns] = greys[here]
            masks[here, rows, columns] = False
    digits = [str(n) for n in range(10)]
    return ImageSet(
        _pairs(images, labels),
        ids=names,
        class_names=digits,
        groups=labels,
        group_names=digits,
        masks=masks,
    )


def _strokes(ink: Tensor) -> Tensor:
    """Return where ``ink [N, 1, H, W]`` is, two pixels around it included, bool ``[N, H, W]``."""
    wide = F.max_pool2d((ink > _INK).float(), 2 * _STROKE_MARGIN + 1, 1, _STROKE_MARGIN)
    return wide[:, 0] > 0


def _placed(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Lay each of ``digits [N, s, s]`` somewhere on an empty ``[N, size, size]`` canvas."""
    side = digits.shape[1]
    corners = torch.randint(0, size - side + 1, (len(digits), 2), generator=generator).tolist()
    canvas = torch.zeros(len(digits), size, size)
    for digit, target, (down, right) in zip(digits, canvas, corners, strict=True):
        target[down : down + side, right : right + side] = digit
    return canvas


def _photographs(split: str) -> list[Tensor]:
    """Return the split's part of each texture: left half, third quarter, or last quarter of the width."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "textured_digits needs scikit-image's photographs: "
            "pip install 'xfeedback-widgets[textures]'"
        ) from error
    left, right = {"train": (0, 256), "valid": (256, 384), "test": (384, 512)}[split]
    photographs = [torch.tensor(getattr(data, name)()).float() / 255 for name in TEXTURES]
    return [photograph[:, left:right] for photograph in photographs]


def _crops(
    photographs: Sequence[Tensor], textures: Tensor, size: int, generator: torch.Generator
) -> Tensor:
    """Cut a random square ``[N, size, size]`` from the photograph that each entry of `textures` names."""
    height, width = photographs[0].shape
    tops = torch.randint(0, height - size + 1, textures.shape, generator=generator).tolist()
    lefts = torch.randint(0, width - size + 1, textures.shape, generator=generator).tolist()
    return torch.stack(
        [
            photographs[texture][top : top + size, left : left + size]
            for texture, top, left in zip(textures.tolist(), tops, lefts, strict=True)
        ]
    )


def _resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)


def _pairs(images: Tensor, labels: Tensor) -> list[tuple[Tensor, int]]:
    return list(zip(images, labels.tolist(), strict=True))


def _generator(split: str, seed: int) -> torch.Generator:
    """Return random numbers that differ between the splits of one seed."""
    return torch.Generator().manual_seed(len(SPLITS) * seed + SPLITS.index(split))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
