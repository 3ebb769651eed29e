"""Augmentation that remembers where each pixel came from, and feedback that follows it.

:func:`augmented` sends the images of a batch through a random transform, and with each image the position of
every pixel, so that ``Batch.source`` says from where in the image each pixel of the augmented one came.
:func:`resample` lays anything spatial about the original image (a drawn mask, a judged map) over the
augmented one. When and with which random numbers images are augmented is ``training``'s business.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from xfeedback_widgets.data.imageset import Batch

#: Positions are counted from here, so that no fill value of a transform is taken for one.
_ORIGIN = 2.0**16


def check_augmentation(transform: object) -> None:
    """Refuse what cannot move an image and its pixels' positions alike.

    Raises
    ------
    TypeError
        It is no transform of ``torchvision.transforms.v2``.
    """
    from torchvision.transforms import v2

    if not isinstance(transform, v2.Transform):
        raise TypeError(
            f"augment must be a transform of torchvision.transforms.v2, got {type(transform).__name__}; "
            "put several into v2.Compose([...])"
        )


def augmented(batch: Batch, transform: Any) -> Batch:
    """Send every image of a batch through a transform, on its own.

    Parameters
    ----------
    batch
        Images on the CPU, as the model is fed: normalised already, so that transforms of colour, which
        expect values in [0, 1], rarely suit.
    transform
        Of ``torchvision.transforms.v2``; draws from torch's random numbers.

    Returns
    -------
    Batch
        The same labels and indices; ``source`` is exact to a pixel of the coarser of the two images, and
        wholly where pixels are only moved (flips, crops).

    Raises
    ------
    ValueError
        The augmented images differ in shape.
    """
    from torchvision import tv_tensors

    if len(batch) == 0:
        return batch
    height, width = batch.images.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height) + _ORIGIN, torch.arange(width) + _ORIGIN, indexing="ij"
    )
    positions = torch.stack([columns, rows])  # x, y
    images, sources = [], []
    for image in batch.images:
        # a mask is moved like the image, by nearest neighbour, and spared what changes colours
        moved, where = transform(tv_tensors.Image(image), tv_tensors.Mask(positions))
        images.append(moved.as_subclass(Tensor))
        sources.append(_normalized(where.as_subclass(Tensor), width, height))
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"augmented images differ in shape ({shapes[0]}, {shapes[1]}, …); let the augmentation end "
            "in a crop or resize to one size"
        )
    return dataclasses.replace(batch, images=torch.stack(images), source=torch.stack(sources))


def resample(fields: Tensor, source: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Lay what is known about original images over the augmented ones.

    Parameters
    ----------
    fields
        float ``[N, K, a, b]`` over the whole original image, at any resolution.
    source
        float32 ``[N, H, W, 2]`` as in :class:`~.imageset.Batch`; None: the images are as they were.
    size
        (h, w) wanted, for example that of a saliency map.

    Returns
    -------
    Tensor
        ``[N, K, h, w]``: averaged by area where the field is finer, interpolated where it is coarser than
        an image that was not augmented. Where nothing of the original is, zero.
    """
    if source is None:
        return _to_size(fields, size)
    # A cell of the field is one value all over: whole cells that are only moved keep theirs.
    beyond = source.nan_to_num(nan=9.0).to(fields.dtype)
    sampled = F.grid_sample(
        fields, beyond, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return _to_size(sampled, size)


def _normalized(positions: Tensor, width: int, height: int) -> Tensor:
    """Turn positions ``[2, H, W]`` into ``[H, W, 2]`` as ``grid_sample`` counts; NaN where there is none."""
    extent = torch.tensor([width, height], dtype=torch.float32)
    counted = positions.float().movedim(0, 2) - _ORIGIN
    inside = ((counted >= 0) & (counted < extent)).all(2, keepdim=True)
    return torch.where(inside, (2 * counted + 1) / extent - 1, torch.nan)


def _to_size(fields: Tensor, size: tuple[int, int]) -> Tensor:
    """Average by area along an axis where `fields` is finer, interpolate where it is coarser."""
    down = (min(size[0], fields.shape[2]), min(size[1], fields.shape[3]))
    if tuple(fields.shape[2:]) != down:
        fields = F.adaptive_avg_pool2d(fields, down)
    if down != size:
        fields = F.interpolate(fields, size, mode="bilinear", align_corners=False)
    return fields
