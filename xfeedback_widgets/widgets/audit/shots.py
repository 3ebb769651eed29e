"""Images of a report, explained anew on a thread of their own: picture, map, and the outline of the region.

A report holds numbers only, so the maps shown are those of the model as it is now. Where there is no
model, there is no map; where nothing says where the objects are, no outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets import units
from xfeedback_widgets.saliency import METHODS, create, is_empty, normalize
from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from xfeedback_widgets.audit import AuditReport, Regions
    from xfeedback_widgets.data import ImageSet

LONGEST = 240  # pixels of a picture's longer side
_LONGEST_MAP = 64
_MOST_STEPS = 600  # of an outline; a finer one is drawn from a reduced mask
_BATCH = 4
_KEPT = 400

Segment = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shot:
    """One image: uint8 ``[h, w, 3]``, its map float32 in [0, 1] or None, the region's edges in [0, 1].

    An edge is x, y of both its ends; there is none where the region is unknown or not in view.
    """

    picture: NDArray[np.uint8]
    saliency: NDArray[np.float32] | None
    edges: tuple[Segment, ...]


@dataclass(frozen=True)
class Source:
    """What images are explained with; each part may be missing but the images.

    Parameters
    ----------
    data : ImageSet
    model : Module or None
    regions : Regions or None
    lock : context manager
        Held while the model runs.
    """

    data: ImageSet
    model: nn.Module | None
    regions: Regions | None
    lock: Any


class Shots(KeyedThread):
    """Explains images in the background and remembers them.

    Parameters
    ----------
    source : Source or None
        None: there is nothing to show.
    on_error : callable
        Receives the exception of an image that failed, on this thread.
    """

    def __init__(self, source: Source | None, on_error: Callable[[Exception], None]) -> None:
        self.source = source
        self._shots: dict[tuple[int, str], Shot] = {}
        self._failed: set[tuple[int, str]] = set()
        self._round = 0
        super().__init__("xfeedback-shots", on_error)

    def ready(self, image_id: str) -> Shot | None:
        """Return an image if it has been explained already; never waits."""
        return self._shots.get((self._round, image_id)) or self._shots.get(
            (self._round - 1, image_id)
        )

    def failed(self, image_id: str) -> bool:
        """Whether the image could not be read or explained."""
        return (self._round, image_id) in self._failed

    def forget(self) -> None:
        """Explain everything anew, since the model is another one; what is there stays until then."""
        self._round += 1

    def request(
        self,
        report: AuditReport,
        image_ids: Sequence[str],
        done: Callable[[], None],
        *,
        key: str = "explain",
    ) -> None:
        """Explain some images, calling `done` on this thread after every few of them.

        A later request of the same `key` replaces this one.
        """
        known = {i for of, i in (*self._shots, *self._failed) if of == self._round}
        wanted = [i for i in image_ids if i not in known]
        if self.source is None or not wanted:
            self.drop(key)
            done()
        else:
            number = self._round
            self.post(key, lambda: self._advance(report, wanted, done, number, key))

    def same_weights(self, report: AuditReport) -> bool | None:
        """Whether the model is the one that was audited (may take a moment); None without a model."""
        source = self.source
        if source is None or source.model is None:
            return None
        with source.lock:
            return units.fingerprint(source.model) == report.facts.get("weights")

    def _advance(
        self,
        report: AuditReport,
        image_ids: list[str],
        done: Callable[[], None],
        number: int,
        key: str,
    ) -> None:
        """Explain a few; the rest is posted anew, so that another class can pass."""
        batch, rest = image_ids[:_BATCH], image_ids[_BATCH:]
        self._explain(report, batch, number)
        with self._condition:
            replaced = key in self._posts
        if rest and not replaced:
            self.post(key, lambda: self._advance(report, rest, done, number, key))
        done()

    def _explain(self, report: AuditReport, image_ids: list[str], number: int) -> None:
        assert self.source is not None  # noqa: S101 - nothing is asked for without
        try:
            found = _shots(self.source, report, image_ids)
        except Exception as error:  # noqa: BLE001  datasets and models raise what they like
            if len(image_ids) > 1:
                for image_id in image_ids:
                    self._explain(report, [image_id], number)
                return
            self._failed.add((number, image_ids[0]))
            self._on_error(error)
            return
        self._failed |= {(number, image_id) for image_id in image_ids if image_id not in found}
        for image_id, shot in found.items():
            self._shots[number, image_id] = shot
        while len(self._shots) > _KEPT:
            self._shots.pop(next(iter(self._shots)))


def _shots(source: Source, report: AuditReport, image_ids: Sequence[str]) -> dict[str, Shot]:
    """Explain some images with one forward; what cannot be read is missing."""
    data = source.data
    batch = data.batch([data.index(image_id) for image_id in image_ids])
    if not len(batch):
        return {}
    maps = _maps(source, report, batch.images, batch.labels)
    size = (batch.images.shape[2], batch.images.shape[3])
    found = {}
    for row, (index, label) in enumerate(
        zip(batch.indices.tolist(), batch.labels.tolist(), strict=True)
    ):
        inside = None if source.regions is None else source.regions.at(index, label, size).inside
        found[data.ids[index]] = Shot(
            picture=colors.shrink(np.ascontiguousarray(data.picture(index)), LONGEST),
            saliency=None if maps is None else _small(maps[row]),
            edges=() if inside is None else edges(inside.numpy()),
        )
    return found


def _maps(source: Source, report: AuditReport, images: Tensor, labels: Tensor) -> Tensor | None:
    """Return normalised maps of the true class by the report's method."""
    name, outputs = report.facts["saliency"], report.facts["outputs"]
    if source.model is None or name not in METHODS:
        return None
    targets = labels if outputs is None else labels.new_tensor(outputs)[labels]
    with source.lock:
        return normalize(create(name, source.model).explain(images, targets)).cpu()


def _small(saliency: Tensor) -> NDArray[np.float32]:
    if bool(is_empty(saliency)):
        return np.zeros((1, 1), np.float32)
    height, width = (min(side, _LONGEST_MAP) for side in saliency.shape)
    return colors.resize(saliency.float().numpy(), height, width)


def edges(inside: NDArray[np.bool_]) -> tuple[Segment, ...]:
    """Return the border of a region along its pixels, as few straight pieces in [0, 1] × [0, 1]."""
    found = _along(inside)
    if len(found) > _MOST_STEPS:
        height, width = (min(side, _LONGEST_MAP) for side in inside.shape)
        found = _along(colors.resize(inside.astype(np.float32), height, width) >= 0.5)
    return tuple(found)


def _along(inside: NDArray[np.bool_]) -> list[Segment]:
    height, width = inside.shape
    framed = np.pad(inside, 1)
    found: list[Segment] = []
    for y, x0, x1 in _runs(framed[1:, 1:-1] != framed[:-1, 1:-1]):
        found.append((x0 / width, y / height, x1 / width, y / height))
    for x, y0, y1 in _runs((framed[1:-1, 1:] != framed[1:-1, :-1]).T):
        found.append((x / width, y0 / height, x / width, y1 / height))
    return found


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (line, first, end) of every run of True along the lines."""
    padded = np.pad(flags, ((0, 0), (1, 1))).astype(np.int8)
    lines, starts = np.nonzero(np.diff(padded) == 1)
    _, ends = np.nonzero(np.diff(padded) == -1)
    return list(zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True))
