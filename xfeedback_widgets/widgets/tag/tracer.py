"""From what happened on a tagging page to the record of COCO-AB of its picture. No widget here.

A row is (what, which, x, y, by key, time): what happened, to which icon or group of icons, where on the
picture (0 to 1), whether by a key, and when in ms since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Action, Category, CocoAB, Point
from xfeedback_widgets.widgets.labelling.tracer import Trace
from xfeedback_widgets.widgets.tracing import check_row, near, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH, PUT, TAKE, GROUP, OPEN = range(5)
"""What a row says happened."""
COLUMNS = 6


class TagTrace(Trace):
    """What one tagging page has seen so far.

    Parameters
    ----------
    image_id, size, worker
        As for :class:`~.labelling.tracer.Trace`.
    icons, groups : sequence of str
        Names of the classes and of the groups of icons; rows hold their numbers.
    hit : str
        In which piece of work.
    page : int
        Which of its pages this is.
    before : CocoAB, optional
        What was recorded earlier; the record goes on from there, and so does its clock.

    Attributes
    ----------
    placed : dict of str to Point
        Where the icons lie.
    dirty, recorded : bool
        As for :class:`~.labelling.tracer.Trace`.

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
        super().__init__(image_id, size, worker, before)
        self._icons, self._groups = icons, groups
        self._hit, self._page = hit, page
        self._actions: list[Action] = []
        self._categories: list[Category] = []
        self._spent = 0.0  # until now
        self._opened: float | None = None  # when the clock stood at zero, in ms since 1970
        self.placed: dict[str, Point] = {}
        if before is not None:
            self._continue(before)

    def _continue(self, before: CocoAB) -> None:
        self._actions, self._categories = (
            list(before.actionHistories),
            list(before.categoryHistories),
        )
        times = [action.timeAt for action in self._actions]
        times += [category.timeAt for category in self._categories]
        self._spent = max([before.timeSpent or 0.0, *times, *(at for *_, at in self._path)])
        self.placed = before.final_placement
        if before.imageHeight and before.imageWidth:
            self._place = (0, 0, before.imageWidth, before.imageHeight)  # where is not recorded

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
        if what == PATH:
            self._move(point, at)
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
        *_, width, height = self._place or (None, None)
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
