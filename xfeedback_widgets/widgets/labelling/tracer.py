"""What a labelling page has seen of one picture, as far as both kinds of record have it. No widget here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.tracing import due

if TYPE_CHECKING:
    from xfeedback_widgets.feedback import CocoAB, ImageNetAB, Point


class Trace:
    """What a page has seen of a picture so far; subclasses note more, and make a record of it.

    Parameters
    ----------
    image_id : str
    size : tuple of int
        Height and width of the picture in pixels.
    worker : str
        Who.
    before : ImageNetAB or CocoAB, optional
        What was recorded earlier; the record goes on from there.

    Attributes
    ----------
    dirty : bool
        Whether something happened since the record was made last.
    recorded : bool
        Whether there is a record at all; a picture that was shown and not touched is one as well.
    """

    def __init__(
        self,
        image_id: str,
        size: tuple[int, int],
        worker: str,
        before: ImageNetAB | CocoAB | None = None,
    ) -> None:
        self._image_id, self._size, self._worker = image_id, size, worker
        self._place: tuple[float, float, float, float] | None = None
        self._path: list[tuple[float, float, float]] = []
        if before is not None:
            self._path += [(x, y, at) for x, y, at in before.mouseTracking.tolist()]
        self.dirty, self.recorded = False, before is not None

    def put(self, place: tuple[float, float, float, float]) -> None:
        """Note where the picture lies on its page: x, y, width and height in CSS pixels."""
        if min(place[2:]) > 0:
            self._place = place

    def _move(self, point: Point, time: float) -> None:
        """Note that the pointer was at a point at a time in ms, no more often than is kept."""
        if due(self._path, time):
            self._path.append((*point, time))
