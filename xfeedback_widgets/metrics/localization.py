"""Does attention lie where it should: maps against masks.

Pure functions over maps ``[N, h, w]`` ≥ 0 and masks ``[N, H, W]``; maps are upsampled to the masks. An empty
map (all zero) says nothing about *where* attention lies, so it is left out of every mean here;
:func:`empty_maps` reports how many there are, and the two figures belong side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from xfeedback_widgets.saliency import maps as saliency_maps


def attribution_overlap(maps: Tensor, irrelevant: Tensor) -> float:
    """Return the share of attention on irrelevant pixels, ``mean ‖F ⊗ T‖₁ / ‖T‖₁``.

    Equation (17) of Bekkemoen & Langseth (arXiv 2105.02653); lower is better.

    Parameters
    ----------
    maps
        The maps ``T``, float ``[N, h, w]`` ≥ 0, on any scale.
    irrelevant
        The feedback ``F``, bool ``[N, H, W]``: True where attention should *not* be (an
        :class:`~xfeedback_widgets.data.ImageSet` holds the opposite: pass ``~mask``).

    Returns
    -------
    float
        In [0, 1]; NaN where every map is empty.

    Raises
    ------
    ValueError
        Shapes that do not fit, maps that are negative or not finite, no image at all.

    Examples
    --------
    >>> maps = torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]]])  # the second one is empty
    >>> attribution_overlap(maps, torch.tensor([[[True, False]], [[True, True]]]))
    0.75
    """
    return _mean(overlap_each(maps, irrelevant))


def energy_pointing_game(maps: Tensor, relevant: Tensor) -> float:
    """Return the share of the map's energy that lies inside the mask; higher is better.

    Parameters
    ----------
    maps
        Float ``[N, h, w]`` ≥ 0, on any scale.
    relevant
        bool ``[N, H, W]``. An image without a relevant pixel has nothing to point at and is left out.

    Returns
    -------
    float
        In [0, 1]; NaN where nothing is left.

    Raises
    ------
    ValueError
        As :func:`attribution_overlap`.
    """
    return _mean(energy_each(maps, relevant))


def pointing_game(maps: Tensor, relevant: Tensor, *, tolerance: float = 0.0) -> float:
    """Return how often the highest point of the map lies on the mask.

    Parameters
    ----------
    maps
        Float ``[N, h, w]`` ≥ 0, on any scale. Where several points are highest, each counts for its share.
    relevant
        bool ``[N, H, W]``. An image without a relevant pixel has nothing to point at and is left out.
    tolerance
        Distance in pixels of the mask up to which a miss still counts as a hit (15 in the original paper
        on photographs).

    Returns
    -------
    float
        In [0, 1]; NaN where nothing is left.

    Raises
    ------
    ValueError
        As :func:`attribution_overlap`, or a negative tolerance.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; it is a distance in pixels, 0 or more")
    maps, relevant = _fitted(maps, relevant)
    near = _dilate(relevant, tolerance) if tolerance >= 1 else relevant
    peaks = maps == maps.amax((1, 2), keepdim=True)
    hits = (peaks & near).sum((1, 2)) / peaks.sum((1, 2))
    return _mean(_without(hits, saliency_maps.is_empty(maps) | ~relevant.any(2).any(1)))


def iou(maps: Tensor, relevant: Tensor, *, threshold: float = 0.5) -> float:
    """Return the mean intersection over union of the thresholded map and the mask.

    Parameters
    ----------
    maps
        Float ``[N, h, w]`` ≥ 0; each is divided by its maximum after upsampling.
    relevant
        bool ``[N, H, W]``.
    threshold
        In [0, 1): pixels above it belong to the map.

    Returns
    -------
    float
        In [0, 1]; NaN where every map is empty.

    Raises
    ------
    ValueError
        As :func:`attribution_overlap`, or a threshold outside [0, 1).
    """
    maps, relevant = _fitted(maps, relevant)
    marked = saliency_maps.threshold(maps, threshold)
    shared = (marked & relevant).sum((1, 2))
    together = (marked | relevant).sum((1, 2))
    return _mean(_without(shared / together.clamp_min(1), saliency_maps.is_empty(maps)))


def empty_maps(maps: Tensor) -> float:
    """Return the share of maps ``[N, h, w]`` that are all zero: models that attend to nothing.

    Raises
    ------
    ValueError
        No map at all, or not float ``[N, h, w]``.
    """
    if maps.ndim != 3 or not len(maps):
        raise ValueError(f"maps is {list(maps.shape)}; expected [N, h, w] with at least one map")
    return float(saliency_maps.is_empty(maps).double().mean())


def overlap_each(maps: Tensor, irrelevant: Tensor) -> Tensor:
    """Return :func:`attribution_overlap` of every image, ``[N]``, NaN for empty maps."""
    maps, irrelevant = _fitted(maps, irrelevant)
    return _without(_share(maps, irrelevant), saliency_maps.is_empty(maps))


def energy_each(maps: Tensor, relevant: Tensor) -> Tensor:
    """Return :func:`energy_pointing_game` of every image, ``[N]``, NaN where it is left out."""
    maps, relevant = _fitted(maps, relevant)
    return _without(_share(maps, relevant), saliency_maps.is_empty(maps) | ~relevant.any(2).any(1))


def _share(maps: Tensor, where: Tensor) -> Tensor:
    """Return the share of every map's sum that lies on `where`; 0 for empty maps."""
    # divided by the maximum first: the sum of very large or very small maps stays finite
    scaled = saliency_maps.normalize(maps)
    total = scaled.sum((1, 2))
    return ((scaled * where).sum((1, 2)) / total.clamp_min(torch.finfo(total.dtype).tiny)).clamp(
        0, 1
    )


def _without(values: Tensor, left_out: Tensor) -> Tensor:
    return values.masked_fill(left_out, torch.nan)


def _mean(values: Tensor) -> float:
    return float(values.double().nanmean())


def _dilate(mask: Tensor, radius: float) -> Tensor:
    """Return the mask grown by a disc."""
    reach = int(radius)
    steps = torch.arange(-reach, reach + 1, device=mask.device)
    disc = (steps[:, None] ** 2 + steps[None, :] ** 2 <= radius**2).float()
    grown = functional.conv2d(mask[:, None].float(), disc[None, None], padding=reach)[:, 0]
    return grown > 0.5


def _fitted(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Check maps and masks; return maps as float32 at the size of the masks, and masks as bool."""
    if (
        maps.ndim != 3
        or masks.ndim != 3
        or len(maps) != len(masks)
        or 0 in (*maps.shape, *masks.shape)
    ):
        raise ValueError(
            f"maps is {list(maps.shape)} and masks {list(masks.shape)}; expected [N, h, w] and [N, H, W] "
            "with one mask per map and at least one image"
        )
    if not bool(torch.isfinite(maps).all()) or float(maps.min()) < 0:
        raise ValueError(
            "maps must be finite and ≥ 0; clamp signed attributions or take their absolute value"
        )
    flags = masks.to(maps.device)
    if flags.dtype != torch.bool:
        if not bool(((flags == 0) | (flags == 1)).all()):
            raise ValueError("masks must be bool, or hold nothing but 0 and 1")
        flags = flags != 0
    values = maps.detach().float()
    if values.shape[1:] != flags.shape[1:]:
        values = saliency_maps.upsample(values, (flags.shape[1], flags.shape[2]))
    return values, flags
