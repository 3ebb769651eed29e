"""Where boxes land: the same resize and crop as the picture, on the way to the model.

:func:`push` follows the steps that are known by arithmetic, and sends a painted mask through all others.
Reading boxes is in :mod:`xfeedback_widgets.data.boxes`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from xfeedback_widgets.data import pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from xfeedback_widgets.data.boxes import Annotation, Box


def push(
    boxes: Sequence[Box],
    source: tuple[int, int],
    steps: Sequence[Callable[[Any], Any]],
    size: tuple[int, int],
) -> Tensor:
    """Mark where boxes lie in what the model is fed.

    Parameters
    ----------
    boxes
        Their union is marked.
    source
        (height, width) of the picture the boxes were drawn on.
    steps
        What the picture goes through (``ImageSet.preprocessing``). Resizing, centre crops and steps that
        move no pixel are done by arithmetic; with any other, a painted mask is sent through all of them.
    size
        (height, width) of the tensor fed to the model.

    Returns
    -------
    Tensor
        bool `size`. A box that is in view covers one pixel at least.

    Raises
    ------
    ValueError
        The steps lead to another size.
    """
    marked = torch.zeros(size, dtype=torch.bool)
    if not boxes:
        return marked
    view = view_of(steps, source)
    if view is None:
        from torchvision.transforms import Compose

        marked = pictures.transform_mask(_paint(boxes, source), Compose(list(steps)))
        reached = (marked.shape[0], marked.shape[1])
    else:
        reached = view.size
    if reached != size:
        raise ValueError(
            f"the transform turns a picture of {source[0]}×{source[1]} pixels (height×width) into "
            f"{reached[0]}×{reached[1]}, and the model is fed {size[0]}×{size[1]}: it is another transform, "
            "or the boxes were drawn on a picture of another size"
        )
    if view is not None:
        for box in boxes:
            rows = _pixels(box.ymin, box.ymax, view.scale[0], view.offset[0], size[0])
            columns = _pixels(box.xmin, box.xmax, view.scale[1], view.offset[1], size[1])
            marked[rows, columns] = True
    return marked


def drawn_on(
    image_id: str, annotation: Annotation, source: tuple[int, int] | None, said: str
) -> tuple[int, int]:
    """Return (height, width) of the picture that an image's boxes were drawn on.

    Parameters
    ----------
    image_id, said
        The image, and where the boxes come from: for messages.
    annotation
        Its boxes, with the size of their picture where that is known.
    source
        Size of the picture in the image set, where that is known.

    Raises
    ------
    ValueError
        Neither is known, or they differ.
    """
    if source is None and annotation.size is None:
        raise ValueError(
            f"image {image_id!r}: neither the boxes nor the image set tell the size of the picture "
            "the boxes were drawn on; pass size=(height, width) to the reader of boxes"
        )
    if source is not None and annotation.size is not None and source != annotation.size:
        raise ValueError(
            f"image {image_id!r} has {source[0]}×{source[1]} pixels (height×width), but "
            f"{said} says {annotation.size[0]}×{annotation.size[1]}: the boxes "
            "were drawn on another version of the picture"
        )
    return source or annotation.size  # type: ignore[return-value]


class View(NamedTuple):
    """Where a source pixel lands: ``target = source · scale + offset``, (vertical, horizontal)."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    size: tuple[int, int]


def view_of(steps: Sequence[Callable[[Any], Any]], source: tuple[int, int]) -> View | None:
    """Follow resizes and centre crops; None where a step is not known."""
    view = View((1.0, 1.0), (0.0, 0.0), source)
    for step in (leaf for each in steps for leaf in pictures.steps(each)):
        name = type(step).__name__
        if name == "Resize":
            view = _resized(view, step.size, getattr(step, "max_size", None))
        elif name == "CenterCrop":
            view = _cropped(view, step.size)
        elif name == "ImageClassification":
            view = _cropped(_resized(view, step.resize_size, None), step.crop_size)
        elif name not in _STILL:
            return None
    return view


#: Steps that move no pixel.
_STILL = frozenset(
    {
        "ConvertImageDtype",
        "Grayscale",
        "Identity",
        "MaybePILToTensor",
        "MaybeToTensor",
        "Normalize",
        "PILToTensor",
        "ToDtype",
        "ToImage",
        "ToPureTensor",
        "ToTensor",
    }
)


def _resized(view: View, size: Any, longest: int | None) -> View:
    """Follow torchvision's ``Resize``: one number is the shorter side, two are height and width."""
    height, width = view.size
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) == 2:
        target = (int(sides[0]), int(sides[1]))
    else:
        short, long = min(view.size), max(view.size)
        near, far = int(sides[0]), int(sides[0] * long / short)
        if longest is not None and far > longest:
            near, far = int(longest * near / far), longest
        target = (near, far) if height <= width else (far, near)
    ratio = (target[0] / height, target[1] / width)
    return View(
        (view.scale[0] * ratio[0], view.scale[1] * ratio[1]),
        (view.offset[0] * ratio[0], view.offset[1] * ratio[1]),
        target,
    )


def _cropped(view: View, size: Any) -> View:
    """Follow torchvision's ``CenterCrop``, which pads a picture smaller than the crop."""
    sides = [size] if isinstance(size, int) else list(size)
    target = (int(sides[0]), int(sides[-1]))
    moves = []
    for have, want, offset in zip(view.size, target, view.offset, strict=True):
        padding = (want - have) // 2 if want > have else 0
        cut = 0 if want > have else round((have - want) / 2)
        moves.append(offset + padding - cut)
    return View(view.scale, (moves[0], moves[1]), target)


def _pixels(low: float, high: float, scale: float, offset: float, length: int) -> slice:
    """Return the pixels whose centre a box covers, or the nearest one; none where it is out of view."""
    low, high = low * scale + offset, high * scale + offset
    if high <= 0 or low >= length:
        return slice(0, 0)
    first = min(max(math.ceil(low - 0.5), 0), length - 1)
    return slice(first, max(min(math.ceil(high - 0.5), length), first + 1))


def _paint(boxes: Sequence[Box], size: tuple[int, int]) -> Image.Image:
    pixels = np.zeros(size, dtype=np.uint8)
    for box in boxes:
        rows = _pixels(box.ymin, box.ymax, 1.0, 0.0, size[0])
        pixels[rows, _pixels(box.xmin, box.xmax, 1.0, 0.0, size[1])] = 255
    return Image.fromarray(pixels)
