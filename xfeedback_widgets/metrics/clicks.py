"""How good people's clicks are: on the object or not, how fast, how far apart.

:func:`click_quality` compares what the browsing and tagging pages captured with masks or boxes;
:func:`hit_rate` compares clicks with where other people looked. Both say beside their figure what clicks
anywhere on the picture would reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import dist
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xfeedback_widgets.data.points import in_view
from xfeedback_widgets.data.views import push
from xfeedback_widgets.feedback import ImageNetAB, points_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt
    from torch import Tensor

    from xfeedback_widgets.data import Boxes, ImageSet
    from xfeedback_widgets.feedback import Byproduct, Feedback, Point


class Rate(NamedTuple):
    """A share of clicks that are on the object; ``chance`` is that of clicks anywhere."""

    inside: float
    chance: float
    clicks: int


@dataclass(frozen=True)
class ClickQuality:
    """What :func:`click_quality` found.

    Attributes
    ----------
    overall : Rate or None
        Of all clicks that could be compared; None without any.
    by_annotator, by_class : dict
        The same, by annotator and by class name.
    seconds : dict
        Median time on an image by annotator, in seconds: over the picture before it was selected on a
        browsing page, on the page of a tagging page.
    distance : float or None
        Median distance between two people's points on the same object, in sides of the picture.
    agreement : float or None
        Share of pairs of people who did the same about an image and class: both pointed, or neither.
    pairs : int
        How many such pairs there are; without any, `distance` and `agreement` are None.
    """

    overall: Rate | None
    by_annotator: Mapping[str | None, Rate]
    by_class: Mapping[str, Rate]
    seconds: Mapping[str | None, float]
    distance: float | None
    agreement: float | None
    pairs: int


def click_quality(
    feedback: Feedback, data: ImageSet, *, boxes: Boxes | None = None
) -> ClickQuality:
    """Say how good the clicks and placements are that people left.

    Parameters
    ----------
    feedback
        With byproducts; of each annotator the latest about an image and a class.
    data
        The images, and their masks where no boxes are given. Byproducts about others are left out.
    boxes
        Drawn on the pictures as they lie on disk; those of the class that was pointed at count.

    Returns
    -------
    ClickQuality
        Rates over the clicks that are in the model's field of view on an image with an object there.
    """
    known = [one for image, found in feedback.byproducts.items() if image in data for one in found]
    rows: list[tuple[str | None, str, bool, float]] = []
    for one in known:
        for key, point in points_of(one).items():
            compared = _compare(one, key, point, data, boxes)
            if compared is not None:
                rows.append((one.annotator, _name(key, data), *compared))
    distance, agreement, pairs = _agreement(known)
    return ClickQuality(
        overall=_rate(rows) if rows else None,
        by_annotator={who: _rate([r for r in rows if r[0] == who]) for who in _unique(rows, 0)},
        by_class={what: _rate([r for r in rows if r[1] == what]) for what in _unique(rows, 1)},
        seconds=_seconds(known),
        distance=distance,
        agreement=agreement,
        pairs=pairs,
    )


def hit_rate(
    points: npt.ArrayLike, looked: npt.ArrayLike, *, area: float = 0.2, blur: float = 0.03
) -> Rate:
    """Share of points in the part of a picture that others looked at most.

    Parameters
    ----------
    points
        ``[n, 2]``, (x, y) in [0, 1].
    looked
        ``[m, 2]``, where others looked, likewise.
    area
        How much of the picture the most looked-at part is.
    blur
        Standard deviation of the Gaussian around each place that was looked at, in sides.

    Returns
    -------
    Rate
        With ``chance`` equal to the area.

    Raises
    ------
    ValueError
        Without any point, or anything looked at.
    """
    from scipy.ndimage import gaussian_filter

    points, looked = (np.asarray(p, np.float64).reshape(-1, 2) for p in (points, looked))
    if not len(points) or not len(looked):
        raise ValueError(f"got {len(points)} points and {len(looked)} places; need one of each")
    side = 128
    seen = np.histogram2d(looked[:, 1], looked[:, 0], bins=side, range=[[0, 1], [0, 1]])[0]
    heat = gaussian_filter(seen, blur * side, mode="constant")
    most = np.zeros(side * side, bool)
    most[np.argsort(-heat, axis=None, kind="stable")[: round(area * side * side)]] = True
    columns, rows = np.clip((points * side).astype(int), 0, side - 1).T
    hits = most.reshape(side, side)[rows, columns]
    return Rate(float(hits.mean()), float(most.mean()), len(points))


def _compare(
    one: Byproduct, key: int | str | None, point: Point, data: ImageSet, boxes: Boxes | None
) -> tuple[bool, float] | None:
    """Return whether a point is on the object, and how much of the picture the object takes."""
    index = data.index(one.image_id)
    shown = (one.trace.originalImageHeight, one.trace.originalImageWidth)
    place = in_view(data, index, point, shown)
    mask = data.mask(index) if boxes is None else _boxed(data, index, key, boxes)
    if place is None or mask is None or not bool(mask.any()):
        return None
    height, width = mask.shape
    row, column = min(int(place[1] * height), height - 1), min(int(place[0] * width), width - 1)
    return bool(mask[row, column]), float(mask.float().mean())


def _boxed(data: ImageSet, index: int, key: int | str | None, boxes: Boxes) -> Tensor | None:
    found = boxes.find(data.ids[index])
    source = found.size if found is not None and found.size else data.source_size(index)
    if found is None or source is None:
        return None
    name = _name(key, data)
    of_class = [box for box in found.boxes if key is None or box.name in (None, name)]
    height, width = data[index][0].shape[1:]
    return push(of_class, source, data.preprocessing, (height, width))


def _name(key: int | str | None, data: ImageSet) -> str:
    if isinstance(key, int):
        return data.class_names[key] if key < data.num_classes else str(key)
    return "any class" if key is None else key


def _rate(rows: list[tuple[str | None, str, bool, float]]) -> Rate:
    return Rate(sum(r[2] for r in rows) / len(rows), sum(r[3] for r in rows) / len(rows), len(rows))


def _unique(rows: Iterable[tuple[Any, ...]], column: int) -> list[Any]:
    return sorted({row[column] for row in rows}, key=lambda value: (value is None, value))


def _seconds(known: Iterable[Byproduct]) -> dict[str | None, float]:
    spent: dict[str | None, list[float]] = {}
    for one in known:
        trace = one.trace
        milliseconds = trace.estimateTime if isinstance(trace, ImageNetAB) else trace.timeSpent
        if milliseconds is not None:
            spent.setdefault(one.annotator, []).append(milliseconds / 1000)
    return {who: median(times) for who, times in spent.items()}


def _agreement(known: Iterable[Byproduct]) -> tuple[float | None, float | None, int]:
    """Compare every two people on the same image, class by class."""
    by_image: dict[str, list[Byproduct]] = {}
    for one in known:
        by_image.setdefault(one.image_id, []).append(one)
    distances, same = [], []
    for of_image in by_image.values():
        for left, right in combinations(of_image, 2):
            if left.target != right.target or type(left.trace) is not type(right.trace):
                continue
            here, there = points_of(left), points_of(right)
            # on a browsing page doing nothing is an answer; of a tagging page's icons, only those used
            keys = (
                {left.target} if isinstance(left.trace, ImageNetAB) else here.keys() | there.keys()
            )
            same += [(key in here) == (key in there) for key in keys]
            distances += [
                dist(here[key], there[key]) for key in keys if key in here and key in there
            ]
    if not same:
        return None, None, 0
    return median(distances) if distances else None, sum(same) / len(same), len(same)
