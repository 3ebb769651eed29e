"""From what happened on a tagging page to the record of COCO-AB of its picture. No widget here.

A row is (what, which, x, y, by key, time): what happened, to which icon or group of icons, where on the
picture (0 to 1), whether by a key, and when in ms since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Action, Category, CocoAB, Point
from xfeedback_widgets.widgets.tracing import check_row, due, near, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH, PUT, TAKE, GROUP, OPEN = range(5)
"""What a row says happened."""
COLUMNS = 6


class TagTrace:
    """What one tagging page has seen so far.

    Parameters
    ----------
    image_id : str
    size : tuple of int
        Height and width of the picture in pixels.
    icons, groups : sequence of str
        Names of the classes and of the groups of icons; rows hold their numbers.
    worker, hit : str
        Who, in which piece of work.
    page : int
        Which of its pages this is.
    before : CocoAB, optional
        What was recorded earlier; the record goes on from there, and so does its clock.

    Attributes
    ----------
    placed : dict of str to Point
        Where the icons lie.
    dirty : bool
        Whether something happened since :meth:`record` was called last.
    recorded : bool
        Whether there is a record at all; a picture nothing was put on is one as well.

    Examples
    --------
    >>> trace = TagTrace("7", (480, 640), ["cat"], ["animals"], "ada", "h", 0)
    >>> for row in [(OPEN, 0, 0, 0, 0, 50), (PUT, 0, .5, .5, 0, 90), (TAKE, 0, 0, 0, 0, 130)]:
    ...     trace.add(*row)
    >>> [(action.actionType, action.timeAt) for action in trace.record().actionHistories]
    [('add', 40), ('remove', 80)]
    """

    def __init__(
        self,
        image_id: str,
        size: tuple[int, int],
        icons: Sequence[str],
        groups: Sequence[str],
        worker: str,
        hit: str,
        page: int,
        before: CocoAB | None = None,
    ) -> None:
        self._image_id, self._size = image_id, size
        self._icons, self._groups = icons, groups
        self._worker, self._hit, self._page = worker, hit, page
        self._place: tuple[float, float] | None = None
        self._actions: list[Action] = []
        self._categories: list[Category] = []
        self._path: list[tuple[float, float, float]] = []
        self._spent = 0.0  # until now
        self._opened: float | None = None  # when the clock stood at zero, in ms since 1970
        self.placed: dict[str, Point] = {}
        self.dirty, self.recorded = False, before is not None
        if before is not None:
            self._continue(before)

    def _continue(self, before: CocoAB) -> None:
        self._actions, self._categories = (
            list(before.actionHistories),
            list(before.categoryHistories),
        )
        self._path = [(x, y, at) for x, y, at in before.mouseTracking.tolist()]
        times = [action.timeAt for action in self._actions]
        times += [category.timeAt for category in self._categories]
        self._spent = max([before.timeSpent or 0.0, *times, *(at for *_, at in self._path)])
        self.placed = before.final_placement
        if before.imageHeight and before.imageWidth:
            self._place = (before.imageHeight, before.imageWidth)

    def put(self, place: tuple[float, float, float, float]) -> None:
        """Note where the picture lies on its page: x, y, width and height in CSS pixels."""
        if min(place[2:]) > 0:
            self._place = (place[3], place[2])

    def leave(self) -> None:
        """Note that the page was left: its clock stands still until something happens there."""
        self._opened = None

    def spend(self, time: float) -> None:
        """Note that the page was open at a time in ms since 1970."""
        if self._opened is None:
            self._opened = time - self._spent
        self._spent = max(self._spent, time - self._opened)

    def add(self, what: int, which: int, x: float, y: float, by_key: float, time: float) -> None:
        """Note what happened.

        Raises
        ------
        ValueError
            Something that cannot be.
        """
        check_row((what, which, x, y, by_key, time))
        names = self._groups if what == GROUP else self._icons
        if not 0 <= which < len(names):
            raise ValueError(
                f"the page sent number {which} of {len(names)}, which cannot be: reload it"
            )
        self.spend(time)
        at, point, name = whole(self._spent), near(x, y), names[which]
        self.dirty = self.dirty or what != OPEN
        if what == PATH and due(self._path, at):
            self._path.append((*point, at))
        elif what == PUT:
            before = self.placed.get(name)
            kind = "add" if before is None else "move"
            self._actions.append(Action(kind, name, before, point, at))  # type: ignore[arg-type]
            self.placed[name] = point
        elif what == TAKE and name in self.placed:
            self._actions.append(Action("remove", name, self.placed.pop(name), None, at))
        elif what == GROUP:
            self._categories.append(Category(which, name, at, bool(by_key)))

    def record(self) -> CocoAB:
        """Return the record so far; :attr:`dirty` is False then."""
        self.dirty, self.recorded = False, True
        height, width = self._place or (None, None)
        return CocoAB(
            self._image_id,
            *self._size,
            imageHeight=None if height is None else whole(height),
            imageWidth=None if width is None else whole(width),
            timeSpent=whole(self._spent),
            actionHistories=tuple(self._actions),
            categoryHistories=tuple(self._categories),
            mouseTracking=self._path,  # type: ignore[arg-type]  # anything that can be an array
            worker_id=self._worker,
            hit_id=self._hit,
            page_id=self._page,
        )
