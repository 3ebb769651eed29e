"""One row per image: what an audit keeps, and how it is computed from logits, maps and regions.

A row is a few numbers of fixed size, so that a million of them fit in memory and an interrupted file can
be cut at any row. Pure arithmetic over a batch; running models and keeping rows is for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from xfeedback_widgets.metrics import localization
from xfeedback_widgets.saliency import is_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

SCORED, EMPTY, NOT_FINITE, NO_REGION, UNREADABLE = range(5)
STATUS = ("scored", "empty map", "not finite", "no box", "unreadable")
"""What became of an image. Only the first has an rs; the others are counted, never scored 0."""

ROW = np.dtype(
    [
        ("index", "<i8"),  # position in the image set
        ("label", "<i4"),  # class of the image set
        ("prediction", "<i4"),  # output of the model; -1: none
        (
            "rank",
            "<i4",
        ),  # how many outputs are above the label's: 0 is a hit, below 5 one of the top 5
        ("confidence", "<f4"),  # softmax of the prediction
        ("probability", "<f4"),  # softmax of the label
        ("rs", "<f4"),  # share of the map in the class's region; NaN unless scored
        ("area", "<f4"),  # share of the picture that the region covers: rs of an even map
        (
            "elsewhere",
            "<f4",
        ),  # share of the map on other classes' objects; NaN where they are unknown
        ("status", "u1"),  # place in STATUS
        (
            "rival",
            "u1",
        ),  # 1: the prediction is wrong and names another object that is in the picture
    ]
)


class Region(NamedTuple):
    """Where the class of an image is, at the size the model is fed."""

    inside: Tensor | None
    """bool ``[H, W]``, or None where nothing of the class is known or in view."""
    others: Tensor | None = None
    """bool ``[H, W]``, objects of other classes outside `inside`; None: there are none."""
    aware: bool = False
    """Whether objects of other classes would be known."""
    rivals: frozenset[int] = frozenset()
    """Other classes (of the image set) with an object in the picture."""


def score(
    logits: Tensor,
    maps: Tensor,
    finite: Tensor,
    *,
    labels: Tensor,
    targets: Tensor,
    indices: Tensor,
    regions: Sequence[Region],
    outputs: Sequence[int] | None = None,
) -> NDArray[np.void]:
    """Compute the rows of a batch.

    :math:`rs = Σ bbox·φ / Σ φ` with φ the map upsampled bilinearly ("robustness score", ECML-PKDD workshop
    2021).

    Parameters
    ----------
    logits
        ``[N, C]``.
    maps
        float32 ``[N, h, w]`` ≥ 0, of `targets`.
    finite
        bool ``[N]``, whether map and logits of an image are finite; what they hold elsewhere is ignored.
    labels, targets
        int64 ``[N]``, classes of the image set, and the model's outputs that stand for them.
    indices
        int64 ``[N]``, positions in the image set.
    regions
        One per image.
    outputs
        The model's output of every class, where that is not its number.

    Returns
    -------
    ndarray
        ``ROW [N]``.
    """
    rows = np.zeros(len(labels), dtype=ROW)
    rows["index"], rows["label"] = indices.numpy(), labels.numpy()
    logits, targets = logits.float(), targets.to(logits.device)
    shares = logits.softmax(1)
    own = logits.gather(1, targets[:, None])
    # equal logits count by their number, so that a model with one answer for all has no hits by chance
    before = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    prediction = torch.where(rank == 0, targets, logits.argmax(1))
    usable = finite.cpu().numpy()
    rows["prediction"] = np.where(usable, prediction.cpu().numpy(), -1)
    rows["rank"] = np.where(usable, rank.cpu().numpy(), logits.shape[1])
    rows["confidence"] = np.where(usable, shares.amax(1).cpu().numpy(), np.nan)
    rows["probability"] = np.where(
        usable, shares.gather(1, targets[:, None])[:, 0].cpu().numpy(), np.nan
    )

    size = next((r.inside.shape for r in regions if r.inside is not None), maps.shape[1:])
    nothing = torch.zeros(size, dtype=torch.bool)
    inside = torch.stack([nothing if r.inside is None else r.inside for r in regions])
    known = np.array([r.inside is not None for r in regions])
    empty = is_empty(maps).cpu().numpy()
    rows["rs"] = localization.energy_each(maps, inside).cpu().numpy()
    rows["rs"][~usable] = np.nan
    rows["area"] = np.where(known, inside.double().mean((1, 2)).numpy(), np.nan)
    rows["status"] = np.select(
        [~usable, empty, ~known], [NOT_FINITE, EMPTY, NO_REGION], default=SCORED
    )
    rows["elsewhere"] = _elsewhere(maps, usable & ~empty, regions)
    named = {output: label for label, output in enumerate(outputs)} if outputs is not None else None
    for row, region in zip(rows, regions, strict=True):
        guess = int(row["prediction"])
        row["rival"] = (guess if named is None else named.get(guess, -1)) in region.rivals
    return rows


def unreadable(indices: Sequence[int], labels: Tensor) -> NDArray[np.void]:
    """Return rows of images that could not be read."""
    rows = np.zeros(len(indices), dtype=ROW)
    rows["index"], rows["label"], rows["status"] = (
        indices,
        labels[list(indices)].numpy(),
        UNREADABLE,
    )
    rows["prediction"] = rows["rank"] = -1
    for name in ("confidence", "probability", "rs", "area", "elsewhere"):
        rows[name] = np.nan
    return rows


def _elsewhere(
    maps: Tensor, usable: NDArray[np.bool_], regions: Sequence[Region]
) -> NDArray[np.float32]:
    """Return the share of the maps on other objects; most pictures have none, and are not computed."""
    found = np.full(len(regions), np.nan, dtype=np.float32)
    crowded = []
    for position, region in enumerate(regions):
        if region.aware and usable[position]:
            found[position] = 0
            if region.others is not None:
                crowded.append(position)
    if crowded:
        masks = torch.stack([m for p in crowded if (m := regions[p].others) is not None])
        found[crowded] = localization.energy_each(maps[crowded], masks).cpu().numpy()
    return found
