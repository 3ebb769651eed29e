"""Points in pictures: through what a picture goes through on its way to the model, and after augmentation.

A point is where somebody clicked, (x, y) from (0, 0), the left upper corner, to (1, 1). :func:`pushed`
follows resizing and cropping that every picture undergoes alike, :func:`followed` the random transform of one
batch; :func:`in_view` asks whether there is anything to follow. Boxes and masks are the neighbours' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xfeedback_widgets.data.boxes import Box
from xfeedback_widgets.data.views import push, view_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.data.imageset import ImageSet

_NEAR = 64  # positions the transform is estimated from, around the point
_GRID = 64  # of at most so many to a side
_SLACK = 1e-5  # of a side: rounding of the positions, which are float32


def pushed(
    point: tuple[float, float],
    source: tuple[int, int],
    steps: Sequence[Callable[[Any], Any]],
    size: tuple[int, int],
) -> tuple[float, float] | None:
    """Say where a point of the source picture lies in what the model is fed.

    Parameters
    ----------
    point
        (x, y), of the source picture.
    source
        (height, width) of the source picture.
    steps
        What the picture goes through (``ImageSet.preprocessing``). Resizing and centre crops are done by
        arithmetic; with any step that is not known, a small painted square is sent through all of them.
    size
        (height, width) of the tensor fed to the model.

    Returns
    -------
    tuple of float, or None
        (x, y), of the tensor; None where the point is cut away.

    Raises
    ------
    ValueError
        The steps lead to another size.
    """
    view = view_of(steps, source)
    if view is None:
        x, y = point[0] * source[1], point[1] * source[0]
        reach = max(source) / 50
        mark = push([Box(x - reach, y - reach, x + reach, y + reach)], source, steps, size)
        rows, columns = mark.nonzero(as_tuple=True)
        if not len(rows):
            return None
        moved = (
            (float(columns.double().mean()) + 0.5) / size[1],
            (float(rows.double().mean()) + 0.5) / size[0],
        )
    else:
        moved = (
            (point[0] * source[1] * view.scale[1] + view.offset[1]) / view.size[1],
            (point[1] * source[0] * view.scale[0] + view.offset[0]) / view.size[0],
        )
    return moved if all(0 <= at <= 1 for at in moved) else None


def in_view(
    data: ImageSet, index: int, point: tuple[float, float], shown: tuple[int, int]
) -> tuple[float, float] | None:
    """Say where a point of the picture somebody was shown lies in what the model is fed.

    Parameters
    ----------
    data
        The images.
    index
        Which image.
    point
        (x, y), of the picture that was shown.
    shown
        (height, width) of that picture. If it is the size of the source, and the source is resized or
        cropped on its way to the model, the point goes the same way; else what was shown is what the
        model is fed, as in this toolkit's widgets.

    Returns
    -------
    tuple of float, or None
        (x, y), of the tensor; None where the model does not see the point.
    """
    if data.preprocessing and shown == data.source_size(index):
        height, width = data[index][0].shape[1:]
        if shown != (height, width):
            return pushed(point, shown, data.preprocessing, (height, width))
    return point


def followed(points: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Say where points of the original images lie in the augmented ones.

    Around each point the transform is taken for affine, and its inverse is fitted to where the pixels
    nearest to the point came from. For flips, crops, resizing and affine transforms that is exact, up to the
    rounding of `source` where pixels were interpolated.

    Parameters
    ----------
    points
        float ``[M, 2]``, (x, y) in [0, 1].
    source
        float32 ``[M, H, W, 2]`` as in :class:`~.imageset.Batch`, one for each point.

    Returns
    -------
    moved
        float32 ``[M, 2]``, where not seen any number.
    seen
        bool ``[M]``: whether the point is still in the picture.
    """
    height, width = source.shape[1:3]
    step = max(1, -(-max(height, width) // _GRID))
    came = source[:, ::step, ::step].flatten(1, 2).double()  # [M, P, 2]
    rows, columns = torch.meshgrid(
        (torch.arange(0, height, step, device=source.device) + 0.5) / height,
        (torch.arange(0, width, step, device=source.device) + 0.5) / width,
        indexing="ij",
    )
    places = torch.stack([columns.flatten(), rows.flatten()], 1).double()  # [P, 2]
    offsets = came - (2 * points.double() - 1)[:, None]
    distances = offsets.square().sum(2).nan_to_num(nan=torch.inf)
    distance, near = distances.topk(min(_NEAR, distances.shape[1]), largest=False)
    use = distance.isfinite().double()[..., None]
    offset = offsets.gather(1, near[..., None].expand(-1, -1, 2)).nan_to_num()
    design = torch.cat([offset, torch.ones_like(offset[..., :1])], 2) * use
    # normal equations of three unknowns; the inverse forgives an axis along which all came from one place
    inverse = torch.linalg.pinv(design.mT @ design, rtol=1e-9, hermitian=True)
    moved = (inverse @ (design.mT @ (places[near] * use)))[:, 2]
    seen = ((moved >= -_SLACK) & (moved <= 1 + _SLACK)).all(1) & (use.sum((1, 2)) > 0)
    return moved.clamp(0, 1).float(), seen
