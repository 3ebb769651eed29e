"""Pixels and tensors: from what a dataset yields to what a model reads and what a person sees.

Here live the conversions between PIL images, arrays and tensors (grey, palette, transparent and
16-bit pictures included), the search for the normalisation inside a transform, and the refusal of
random transforms. Nothing here knows about ids, labels or files: see
:mod:`xfeedback_widgets.data.imageset`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_RANDOM_STEPS = frozenset(
    {
        "AugMix",
        "AutoAugment",
        "ColorJitter",
        "ElasticTransform",
        "GaussianNoise",
        "RandAugment",
        "ScaleJitter",
        "TrivialAugmentWide",
    }
)
_TOLERANCE = 1e-4  # how far outside [0, 1] rounding may push a tensor that is a picture


class Normalization(NamedTuple):
    """The ``(x - mean) / std`` that a transform applies; both are float32 ``[C, 1, 1]``."""

    mean: Tensor
    std: Tensor


def find_normalization(transform: Callable[[Any], Any] | None) -> Normalization | None:
    """Return the normalisation a transform applies, or None where it cannot be told.

    Parameters
    ----------
    transform
        A torchvision transform (both generations, also nested in ``Compose``), or a preset such as
        ``weights.transforms()``: whatever carries ``mean`` and ``std``.

    Returns
    -------
    Normalization or None
        None for no transform, for one that does not normalise, and for one that does so twice.
    """
    found = [
        step
        for step in steps(transform)
        if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None
    ]
    if len(found) != 1:
        return None
    mean, std = (
        torch.as_tensor(getattr(found[0], name), dtype=torch.float32).reshape(-1, 1, 1)
        for name in ("mean", "std")
    )
    return Normalization(mean, std)


def check_deterministic(transform: Callable[[Any], Any] | None) -> None:
    """Refuse a transform with a random step.

    Maps, masks and answers belong to one fixed view of each image: were the view to change between
    two readings, every answer would be about another picture.

    Raises
    ------
    ValueError
        Naming the random step.
    """
    for step in steps(transform):
        name = type(step).__name__
        if name.startswith("Random") or name in _RANDOM_STEPS:
            raise ValueError(
                f"the transform has a random step, {name}: maps and answers belong to one fixed "
                "view of each image. Pass a deterministic transform (resize, crop, normalise)."
            )


def to_rgb(image: Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """Return a PIL image or array as a picture, uint8 ``[H, W, 3]``.

    Parameters
    ----------
    image
        PIL image of any mode, or array uint8 / uint16 / bool of shape ``[H, W]``, ``[H, W, 1]``,
        ``[H, W, 3]`` or ``[H, W, 4]``. Transparency is dropped, as torchvision's loader drops it.

    Raises
    ------
    TypeError
        Another dtype or shape, with what is accepted.
    """
    if isinstance(image, Image.Image):
        return np.array(_plain(image).convert("RGB"))
    array = _bytes(np.asarray(image))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return np.ascontiguousarray(array[:, :, :3])
    raise TypeError(
        f"an array of shape {list(array.shape)} is not a picture; "
        "expected [H, W], [H, W, 3] or [H, W, 4]"
    )


def to_pil(image: Image.Image | NDArray[Any], *, rgb: bool = False) -> Image.Image:
    """Return an image as PIL in mode RGB, or in mode L where it is grey and `rgb` is False."""
    if not isinstance(image, Image.Image):
        array = np.asarray(image)
        grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
        picture = Image.fromarray(to_rgb(array))
        return picture.convert("L") if grey and not rgb else picture
    plain = _plain(image)
    return plain.convert("RGB") if rgb else plain


def to_tensor(image: Image.Image | NDArray[Any] | Tensor) -> Tensor:
    """Return an image as float32 ``[C, H, W]``.

    PIL images and arrays become values in [0, 1] with one channel (grey) or three; uint8 tensors
    likewise; float tensors keep their values; a tensor ``[H, W]`` gains a channel.

    Raises
    ------
    TypeError
        Not an image, with what is accepted.
    ValueError
        NaN or infinite values.
    """
    if isinstance(image, Tensor):
        tensor = image.detach().unsqueeze(0) if image.ndim == 2 else image.detach()
        if tensor.ndim != 3 or tensor.is_complex() or tensor.numel() == 0:
            raise TypeError(
                f"a tensor of shape {list(image.shape)} and {image.dtype} is not an image; "
                "expected float [C, H, W]"
            )
        values = tensor.to("cpu", torch.float32)
        if not torch.isfinite(values).all():
            raise ValueError("its tensor has NaN or infinite values")
        return values / 255.0 if tensor.dtype == torch.uint8 else values
    array = np.array(to_pil(image))
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float() / 255.0


def is_picture(tensor: Tensor) -> bool:
    """Tell whether the values of a tensor lie in [0, 1], so that it can be shown as it is."""
    low, high = torch.aminmax(tensor)
    return bool(low >= -_TOLERANCE and high <= 1 + _TOLERANCE)


def show(tensor: Tensor, normalization: Normalization | None = None) -> NDArray[np.uint8]:
    """Turn a tensor fed to a model into the picture a person is shown.

    A known normalisation is undone. Without one, a tensor in [0, 1] is shown as it is and any other
    is stretched to [0, 1], for display only.

    Parameters
    ----------
    tensor
        Float ``[C, H, W]``. One channel is grey; of four the first three are shown; of any other
        number the mean.
    normalization
        What the transform did to the values.

    Returns
    -------
    ndarray
        uint8 ``[H, W, 3]``.
    """
    if normalization is not None:
        tensor = tensor * normalization.std + normalization.mean
    elif not is_picture(tensor):
        low, high = torch.aminmax(tensor)
        tensor = (tensor - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    channels = tensor.shape[0]
    planes = tensor[:3] if channels in (3, 4) else tensor.mean(0, keepdim=True).expand(3, -1, -1)
    rounded = (planes.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(1, 2, 0).numpy())


def to_mask(mask: Any) -> Tensor:
    """Return a mask as bool ``[H, W]``: True where relevant.

    Parameters
    ----------
    mask
        Bool, integer (anything but 0 is relevant) or float (above 0.5 is relevant) tensor or array
        ``[H, W]`` or ``[1, H, W]``, or a PIL image (bright is relevant).

    Raises
    ------
    TypeError
        Another shape.
    """
    if isinstance(mask, Image.Image):
        mask = np.array(mask.convert("L")) > 127
    tensor = torch.as_tensor(mask)
    if tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 2 or tensor.numel() == 0:
        raise TypeError(f"a mask of shape {list(tensor.shape)} was given; expected [H, W]")
    return tensor > 0.5 if tensor.is_floating_point() else tensor != 0


def transform_mask(mask: Image.Image, transform: Callable[[Any], Tensor]) -> Tensor:
    """Send a mask through the transform of its picture, so that it covers the same field of view.

    Parameters
    ----------
    mask
        PIL image, bright where relevant, of the picture's proportions.
    transform
        What the picture goes through; its normalisation is undone.

    Returns
    -------
    Tensor
        bool ``[H, W]``.
    """
    values = to_tensor(transform(mask.convert("L").convert("RGB")))
    normalization = find_normalization(transform)
    if normalization is not None:
        values = values * normalization.std + normalization.mean
    return values.mean(0) > 0.5


def steps(transform: Any) -> Iterator[Any]:
    """Yield the leaves of nested ``Compose``-like transforms, in order."""
    if transform is None:
        return
    children = getattr(transform, "transforms", None)
    if children is None and isinstance(transform, torch.nn.Sequential):
        children = list(transform)
    if not isinstance(children, (list, tuple, torch.nn.ModuleList)):
        yield transform
        return
    if type(transform).__name__.startswith(
        "Random"
    ):  # RandomApply, RandomChoice: report them by name
        yield transform
        return
    for child in children:
        yield from steps(child)


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB without losing its range."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_bytes(np.array(image)))
    if image.mode in ("P", "PA"):  # through RGBA, for palettes with transparent entries
        return image.convert("RGBA").convert("RGB")
    if image.mode in ("LA", "La"):
        return image.convert("LA").convert("L")
    return image.convert("RGB")


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the array as uint8; 16 bits are scaled, wider numbers scaled by what they hold."""
    if array.dtype.kind not in "buif" or array.size == 0:
        raise TypeError(f"an array of {array.dtype} and shape {list(array.shape)} is not a picture")
    if array.dtype == np.uint8:
        return cast("NDArray[np.uint8]", array)
    if array.dtype == np.bool_:
        return np.where(array, 255, 0).astype(np.uint8)
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the picture has values that are not finite")
    low, high = float(values.min()), float(values.max())
    if array.dtype.itemsize == 2 and array.dtype.kind == "u":
        scaled = values / 257.0
    elif array.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = values * 255.0
    elif low >= 0 and high <= 255:
        scaled = values
    elif low >= 0 and high <= 65535 and array.dtype.kind != "f":
        scaled = values / 257.0
    else:
        scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    rounded: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded
