"""Pictures of patches, cut out and encoded on a thread of their own, and kept ready for the screen."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xfeedback_widgets.widgets import colors, layout
from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.units import UnitSurvey

THUMB = 80  # side of a patch in the grid, in pixels
CURRENT, PAGE, PREFETCH = range(3)  # what runs first
PREFETCHED = 4
KEPT = 192  # units whose pictures stay in memory
_LONGEST_CROP, _LONGEST_WHOLE = 240, 320


@dataclass(frozen=True)
class Patch:
    """One patch: cut out, and in its image.

    ``crop`` and ``whole`` are data URLs; ``size`` is the width and height of the image, ``cut`` of
    the patch, in pixels of the picture; ``box`` is (top, left, bottom, right) in [0, 1]; ``thumb`` is
    uint8 [80, 80, 3]. An image that cannot be read has a ``failure`` and no pictures.
    """

    image_id: str
    label: int
    peak: float
    box: tuple[float, float, float, float]
    size: tuple[int, int] = (1, 1)
    cut: tuple[int, int] = (1, 1)
    crop: str = ""
    whole: str = ""
    thumb: NDArray[np.uint8] | None = None
    failure: str = ""


class Patches(KeyedThread):
    """Fetch the patches of units in the background and remember the latest of them.

    Parameters
    ----------
    data : ImageSet
        What the units were surveyed on.
    on_error : callable
        Receives the exception of a fetch that failed.
    """

    def __init__(self, data: ImageSet, on_error: Callable[[Exception], None]) -> None:
        self._data = data
        self._memory = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], tuple[Patch, ...]] = OrderedDict()
        super().__init__("xfeedback-patches", on_error)

    def ready(self, survey: UnitSurvey, unit: int) -> tuple[Patch, ...] | None:
        """Return a unit's patches, the strongest first, if they were fetched already; never waits."""
        with self._memory:
            return self._kept.get((survey.fingerprint, unit))

    def request(
        self,
        key: str,
        survey: UnitSurvey,
        wanted: Sequence[int],
        done: Callable[[], None],
        *,
        priority: int,
    ) -> None:
        """Fetch the patches of some units, calling `done` after each on this thread.

        A later request with the same `key` replaces this one; between units, requests with a lower
        `priority` number go first.
        """
        missing = [unit for unit in wanted if self.ready(survey, unit) is None]
        if not missing:
            self.drop(key)
            return

        def advance() -> None:
            self._fetch(survey, missing[0])
            done()
            if not self._replaced(key):
                self.request(key, survey, missing[1:], done, priority=priority)

        self.post(key, advance, priority=priority)

    def _replaced(self, key: str) -> bool:
        with self._condition:
            return key in self._posts

    def _fetch(self, survey: UnitSurvey, unit: int) -> None:
        places = [place for place, image in enumerate(survey.images[unit].tolist()) if image >= 0]
        patches = tuple(self._patch(survey, unit, place) for place in places)
        with self._memory:
            self._kept[survey.fingerprint, unit] = patches
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def _patch(self, survey: UnitSurvey, unit: int, place: int) -> Patch:
        position = int(survey.images[unit, place])
        box = survey.box(unit, place)
        image_id, label = self._data.ids[position], int(self._data.labels[position])
        peak = float(survey.peaks[unit, place])
        try:
            pixels = np.ascontiguousarray(self._data.picture(position))
        except Exception as error:  # noqa: BLE001  datasets raise what they like
            return Patch(image_id, label, peak, box, failure=str(error) or type(error).__name__)
        cut = crop(pixels, box)
        return Patch(
            image_id,
            label,
            peak,
            box,
            size=(pixels.shape[1], pixels.shape[0]),
            cut=(cut.shape[1], cut.shape[0]),
            crop=_url(colors.encode_picture(cut, _LONGEST_CROP)),
            whole=_url(colors.encode_picture(pixels, _LONGEST_WHOLE)),
            thumb=_thumb(cut),
        )


def crop(pixels: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Cut a box (top, left, bottom, right) in [0, 1] out of a picture; at least one pixel each way."""
    height, width = pixels.shape[:2]
    top, left = int(box[0] * height), int(box[1] * width)
    bottom, right = (
        int(np.ceil(edge * side - 1e-6)) for edge, side in ((box[2], height), (box[3], width))
    )
    top, left = min(top, height - 1), min(left, width - 1)
    return np.ascontiguousarray(pixels[top : max(bottom, top + 1), left : max(right, left + 1)])


def _thumb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    size = layout.fit(width, height, THUMB, THUMB)
    enlarged = size[0] >= layout.PIXELATE_FROM * width
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
    square = Image.new("RGB", (THUMB, THUMB), "#ffffff")
    square.paste(
        Image.fromarray(pixels).resize(size, how),
        ((THUMB - size[0]) // 2, (THUMB - size[1]) // 2),
    )
    return np.asarray(square, dtype=np.uint8)


def _url(encoded: bytes) -> str:
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
