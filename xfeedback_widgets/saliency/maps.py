"""The arithmetic of saliency maps: pure functions over tensors, used by every layer above.

A map is a non-negative tensor ``[H, W]``; functions take any number of leading dimensions. A map that
is zero everywhere is ordinary (misclassified images often have one) and means "no attention": it
stays zero, it never becomes ones or NaN. How maps are computed from a model is in the other modules.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["is_empty", "normalize", "threshold", "upsample"]


def normalize(maps: Tensor) -> Tensor:
    """Divide every map by its own maximum; an empty map stays all zero.

    Differentiable, also through the maximum, with finite gradients at empty maps.

    Parameters
    ----------
    maps
        Floating point ``[..., H, W]``. Negative values count as no attention.

    Returns
    -------
    Tensor
        Same shape and dtype, in [0, 1]; the largest value of a map is 1 unless the map is empty.

    Raises
    ------
    ValueError
        If `maps` is not floating point or has fewer than two dimensions.
    """
    _check(maps)
    positive = maps.clamp(min=0)
    peak = positive.amax(dim=(-2, -1), keepdim=True)
    return positive / torch.where(peak > 0, peak, torch.ones_like(peak))


def is_empty(maps: Tensor) -> Tensor:
    """Tell which maps show no attention at all.

    Parameters
    ----------
    maps
        Floating point ``[..., H, W]``.

    Returns
    -------
    BoolTensor
        ``[...]``, true where no value of the map is above zero.

    Raises
    ------
    ValueError
        If `maps` is not floating point or has fewer than two dimensions.
    """
    _check(maps)
    return ~(maps > 0).flatten(-2).any(dim=-1)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps bilinearly, for laying them over a picture.

    Parameters
    ----------
    maps
        Floating point ``[..., H, W]``.
    size
        (height, width) wanted.

    Returns
    -------
    Tensor
        ``[..., height, width]``, same dtype, within the range of `maps`.

    Raises
    ------
    ValueError
        If `maps` is not floating point or has fewer than two dimensions, or `size` is not positive.
    """
    _check(maps)
    if min(size) < 1:
        raise ValueError(f"size must be a positive (height, width), got {tuple(size)}")
    stacked = maps.reshape(-1, 1, *maps.shape[-2:])
    if not len(stacked):
        return maps.new_zeros(*maps.shape[:-2], *size)
    resized = functional.interpolate(stacked, size=size, mode="bilinear", align_corners=False)
    return resized.reshape(*maps.shape[:-2], *size)


def threshold(maps: Tensor, t: float) -> Tensor:
    """Mark the pixels whose normalised value is above `t`.

    Parameters
    ----------
    maps
        Floating point ``[..., H, W]``; normalised here, so any scale will do.
    t
        Share of each map's own maximum, in [0, 1).

    Returns
    -------
    BoolTensor
        ``[..., H, W]``; an empty map marks nothing.

    Raises
    ------
    ValueError
        If `t` is outside [0, 1), or `maps` is not floating point ``[..., H, W]``.
    """
    if not 0 <= t < 1:
        raise ValueError(f"t is a share of the map's maximum and must be in [0, 1), got {t}")
    return normalize(maps) > t


def _check(maps: Tensor) -> None:
    if not maps.is_floating_point() or maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(
            "maps must be a floating point tensor [..., H, W] with H, W ≥ 1, "
            f"got {maps.dtype} of shape {tuple(maps.shape)}"
        )
