"""From what happened on a browsing page to the records of ImageNet-AB, picture by picture. No widget here.

A row is (what, tile, x, y, time): what happened, to which picture of the page, where on it (0 to 1), and when
in ms since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Click, Hover, ImageNetAB, Point
from xfeedback_widgets.widgets.labelling.tracer import Trace
from xfeedback_widgets.widgets.tracing import check_row, near, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

MOVE, ENTER, LEAVE, SELECT, UNSELECT = range(5)
"""What a row says happened."""
COLUMNS = 5

NOWHERE = Point(-1.0, -1.0)
"""Where a key selected a picture that nobody pointed at: off it, so that nothing is learned from it."""


class BrowseTrace(Trace):
    """What one picture of a browsing page has seen so far.

    Parameters
    ----------
    image_id, size, worker
        As for :class:`~.labelling.tracer.Trace`.
    before : ImageNetAB, optional
        What was recorded earlier; the record goes on from there.

    Attributes
    ----------
    selected : bool
    dirty, recorded : bool
        As for :class:`~.labelling.tracer.Trace`.

    Examples
    --------
    >>> trace = BrowseTrace("7", (375, 500), "ada")
    >>> for row in [(ENTER, .1, .1, 10), (MOVE, .2, .2, 30), (SELECT, .5, .4, 90), (LEAVE, 1, .4, 99)]:
    ...     trace.add(*row)
    >>> record = trace.record()
    >>> record.final_click, record.estimateTime, len(record.mouseTracking)
    (Point(x=0.5, y=0.4), 80, 1)
    """

    def __init__(
        self, image_id: str, size: tuple[int, int], worker: str, before: ImageNetAB | None = None
    ) -> None:
        super().__init__(image_id, size, worker, before)
        self._hovers: list[Hover] = []
        self._clicks: list[Click] = []
        self._looked = self._last = 0.0
        self._since: float | None = None  # the pointer came, while the picture is not selected
        self._over = False
        self.selected = False
        if before is not None:
            self._continue(before)

    def _continue(self, before: ImageNetAB) -> None:
        self._hovers, self._clicks = list(before.hoveredRecord), list(before.selectedRecord)
        self._looked, self.selected = before.estimateTime or 0.0, before.selected
        times = [hover.time for hover in self._hovers] + [at for *_, at in self._path]
        self._last = max([*times, *(click.time or 0.0 for click in self._clicks), 0.0])
        if before.imagePosition and before.imageWidth and before.imageHeight:
            self._place = (*before.imagePosition, before.imageWidth, before.imageHeight)
        if self._hovers and self._hovers[-1].action == "enter":
            self._hovers.append(Hover("leave", self._last))  # the page was closed under the pointer

    def add(self, what: int, x: float, y: float, time: float) -> None:
        """Note what happened.

        Raises
        ------
        ValueError
            Something that cannot be.
        """
        check_row((what, x, y, time))
        time = max(
            time, self._last
        )  # a clock that is set back must not bring the record into disorder
        point = near(x, y)
        self._last, self.dirty = time, True
        if what == MOVE:
            if not self.selected:
                self._move(point, whole(time))
        elif what == ENTER and not self._over:
            self._over = True
            self._hovers.append(Hover("enter", whole(time)))
            self._since = None if self.selected else time
        elif what == LEAVE and self._over:
            self._pause(time)
            self._over = False
            self._hovers.append(Hover("leave", whole(time)))
        elif what == SELECT and not self.selected:
            self._pause(time)
            self.selected = True
            self._clicks.append(Click(*point, whole(time)))
        elif what == UNSELECT and self.selected:
            self.selected = False
            self._since = time if self._over else None

    def _pause(self, time: float) -> None:
        if self._since is not None:
            self._looked += time - self._since
            self._since = None

    def record(self) -> ImageNetAB:
        """Return the record so far; :attr:`dirty` is False then."""
        self.dirty, self.recorded = False, True
        x, y, width, height = map(whole, self._place or (0, 0, 0, 0))
        placed = self._place is not None
        looked = self._looked + (0.0 if self._since is None else self._last - self._since)
        return ImageNetAB(
            self._image_id,
            *self._size,
            imageHeight=height if placed else None,
            imageWidth=width if placed else None,
            imagePosition=Point(x, y) if placed else None,
            hoveredRecord=tuple(self._hovers),
            hoveredCount=sum(hover.action == "enter" for hover in self._hovers),
            mouseTracking=self._path,  # type: ignore[arg-type]  # anything that can be an array
            selected=self.selected,
            selectedCount=len(self._clicks),
            selectedRecord=tuple(self._clicks),
            estimateTime=whole(looked),
            worker_id=self._worker,
        )


def rows_of(record: ImageNetAB, tile: int = 0) -> list[tuple[float, ...]]:
    """Return the rows a page would have sent for a record, to replay what was captured elsewhere.

    Where a record does not say when the picture was unselected between two clicks, it is just before the
    second.
    """
    happened: list[tuple[float, int, float, float]] = []
    happened += [
        (h.time, ENTER if h.action == "enter" else LEAVE, 0, 0) for h in record.hoveredRecord
    ]
    happened += [(at, MOVE, x, y) for x, y, at in record.mouseTracking.tolist()]
    for number, click in enumerate(record.selectedRecord):
        time = click.time or 0.0
        happened += [(time, UNSELECT, 0, 0)] if number else []
        happened.append((time, SELECT, click.x, click.y))
    if record.selectedRecord and not record.selected:
        happened.append((max(at for at, *_ in happened), UNSELECT, 0, 0))
    happened.sort(key=lambda each: each[0])  # stable: what happened at one time stays in order
    return [(what, tile, x, y, at) for at, what, x, y in happened]


def apply(traces: Sequence[BrowseTrace | None], rows: Sequence[tuple[float, ...]]) -> set[int]:
    """Give rows to the traces of a page; return the numbers of those whose selection was touched.

    Raises
    ------
    ValueError
        Something that cannot be.
    """
    touched = set()
    for what, tile, x, y, time in rows:
        trace = traces[int(tile)] if 0 <= tile < len(traces) else None
        if trace is None:
            raise ValueError(f"the page sent something about picture {tile:g}: reload it")
        trace.add(int(what), x, y, time)
        if what in (SELECT, UNSELECT):
            touched.add(int(tile))
    return touched
