"""One picture's drawing: the strokes made so far and the mask they left. No widget, no journal.

Whatever is drawn is a :class:`~.feedback.strokes.Stroke`, also what buttons do: a fill or a copy holds
the rectangles it consists of, so that a drawing can be replayed without the map it was made from.
Pixels are `raster.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.feedback import RegionMask
from xfeedback_widgets.feedback.strokes import Stroke
from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.drawing import raster

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

_MEASURED = 1024  # pixels on the longer side at which shares are measured; more change no digit


@dataclass(frozen=True)
class Shares:
    """How much a mask covers, each in [0, 1].

    ``relevant`` and ``irrelevant`` are shares of the map's mass, 0 where there is no map or it shows
    no attention; ``relevant_area`` and ``irrelevant_area`` are shares of the picture.
    """

    relevant: float
    irrelevant: float
    relevant_area: float
    irrelevant_area: float


class Drawing:
    """The mask of one picture and how it came about.

    Parameters
    ----------
    width, height : int
        Size of the picture in pixels.
    strokes : iterable of Stroke
        What was drawn before.

    Raises
    ------
    ValueError
        If the picture has no pixels.

    Examples
    --------
    >>> drawing = Drawing(64, 48)
    >>> drawing.add(Stroke("rectangle", -1, points=[[0, 0], [8, 8]]))
    True
    >>> int((drawing.mask == -1).sum())
    64
    """

    def __init__(self, width: int, height: int, strokes: Iterable[Stroke] = ()) -> None:
        if min(width, height) < 1:
            raise ValueError(f"a drawing needs a picture with pixels, got {width} x {height}")
        self._strokes: tuple[Stroke, ...] = ()
        self._mask = np.zeros((height, width), np.int8)
        self._before: tuple[npt.NDArray[np.int8], tuple[Stroke, ...]] = (self._mask, ())
        for stroke in strokes:
            self.add(stroke)

    @classmethod
    def of(cls, record: RegionMask) -> Drawing:
        """Return the drawing that a record holds, to be continued.

        A mask without strokes (imported, or computed) becomes a single copy.
        """
        height, width = record.mask.shape
        made = cls(width, height)
        made._mask = np.array(record.mask, np.int8)
        made._strokes = record.strokes
        if not record.strokes and made._mask.any():
            made._strokes = (made.copy(record.mask),)
        return made

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        return self._mask.shape[1], self._mask.shape[0]

    @property
    def mask(self) -> npt.NDArray[np.int8]:
        """The mask, int8 [H, W]: -1 irrelevant, 0 unset, +1 relevant; it follows later strokes."""
        view = self._mask.view()
        view.setflags(write=False)
        return view

    @property
    def strokes(self) -> tuple[Stroke, ...]:
        """What was drawn, from the first stroke that still counts."""
        return self._strokes

    def add(self, stroke: Stroke) -> bool:
        """Draw a stroke; False, and nothing is noted, when it changes no pixel."""
        before = self._mask.copy()
        raster.apply(self._mask, stroke)
        if np.array_equal(before, self._mask):
            return False
        self._before = (before, self._strokes)
        # nothing from before shows through these two, and records should not grow without end
        earlier = () if stroke.tool in {"clear", "copy"} else self._strokes
        self._strokes = (*earlier, stroke)
        return True

    def take_back(self) -> None:
        """Forget the last stroke that was added, if it could not be written down; only the last."""
        self._mask, self._strokes = self._before

    def record(self, image_id: str, **provenance: Any) -> RegionMask:
        """Return the drawing as a record.

        Parameters
        ----------
        image_id : str
        **provenance
            Further fields of :class:`~.feedback.RegionMask`: ``target``, ``method``, ``version`` …
        """
        return RegionMask(image_id, self._mask, strokes=self._strokes, **provenance)

    def shares(self, heat: npt.NDArray[np.floating] | None) -> Shares:
        """Measure how much of a map, and of the picture, is covered.

        Parameters
        ----------
        heat : ndarray of float, shape [h, w], or None
            The map, 0 or larger; enlarged bilinearly to the picture.
        """
        step = -(-max(self._mask.shape) // _MEASURED)
        mask = self._mask[step // 2 :: step, step // 2 :: step]
        weights = np.zeros(mask.shape, np.float32)
        if heat is not None:
            weights = colors.resize(heat, *mask.shape)
        total = float(weights.sum(dtype=np.float64)) or 1.0

        def measure(value: int) -> tuple[float, float]:
            covered = mask == value
            return float(weights[covered].sum(dtype=np.float64)) / total, float(covered.mean())

        (relevant, relevant_area), (irrelevant, irrelevant_area) = measure(1), measure(-1)
        return Shares(relevant, irrelevant, relevant_area, irrelevant_area)

    # ------------------------------------------------------------------ strokes without a pointer

    def fill(self, heat: npt.NDArray[np.floating], tau: float, value: int) -> Stroke:
        """Return the stroke that marks everything hotter than a threshold.

        Parameters
        ----------
        heat : ndarray of float, shape [h, w]
            Normalised map in [0, 1]; enlarged bilinearly to the picture.
        tau : float
            Share of the map's maximum, in [0, 1).
        value : int
            -1, 0 or +1.
        """
        return Stroke("fill", value, tau, raster.rectangles(self.hotter(heat, tau)))

    def hotter(self, heat: npt.NDArray[np.floating], tau: float) -> npt.NDArray[np.bool_]:
        """Return where a map is hotter than a threshold, bool [H, W]; arguments as for :meth:`fill`."""
        return colors.resize(heat, *self._mask.shape) > tau

    def copy(self, mask: npt.NDArray[np.integer]) -> Stroke:
        """Return the stroke that puts another mask in this one's place.

        Parameters
        ----------
        mask : ndarray of int, shape [h, w]
            Holds -1, 0 and +1; resized to this picture, each pixel taking the nearest.
        """
        here = _nearest(np.asarray(mask), *self._mask.shape)
        parts = [
            np.insert(raster.rectangles(here == value), 2, value == 1, axis=1) for value in (1, -1)
        ]
        return Stroke("copy", 0, points=np.concatenate(parts))

    def cells(self, cells: Iterable[tuple[int, int]], shape: tuple[int, int], value: int) -> Stroke:
        """Return the stroke that marks cells of a map.

        Parameters
        ----------
        cells : iterable of (row, column)
        shape : tuple of int
            Rows and columns of the map.
        value : int
            -1, 0 or +1.
        """
        (width, height), (rows, columns) = self.size, shape
        corners = [
            (x * width / columns, y * height / rows)
            for row, column in cells
            for x, y in ((column, row), (column + 1, row + 1))
        ]
        return Stroke("cells", value, points=np.array(corners, np.float32))


def _nearest(mask: npt.NDArray[np.integer], height: int, width: int) -> npt.NDArray[np.integer]:
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)[:, None], columns.astype(int)]
