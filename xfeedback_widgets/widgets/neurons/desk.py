"""The desk of units: which unit is looked at, what was answered, what comes next. No widget here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xfeedback_widgets.session import Session

ANSWERED = {"accept": "✓ relevant", "reject": "✕ irrelevant", "unsure": "? unsure"}


class UnitDesk(Walk):
    """Where a person is among the units.

    Units that show the same patches are one item, named by the first of them.

    Parameters
    ----------
    session : Session
    page_size : int
        Tiles on a page of the grid.

    Attributes
    ----------
    answers : dict of int to str
        This annotator's answer about each unit asked, in the order in which they were first given.
    """

    def __init__(self, session: Session, page_size: int) -> None:
        super().__init__(page_size)
        self.answers: dict[int, str] = {}
        self._session = session
        self._groups: dict[int, tuple[int, ...]] = {}
        self._asked_as: dict[int, int] = {}

    def use(self, groups: Mapping[int, tuple[int, ...]]) -> None:
        """Take over which units there are, and which of them are asked as one."""
        with self.lock:
            self._groups = dict(groups)
            self._asked_as = {unit: first for first, group in groups.items() for unit in group}
            self.reread_answers()

    def together(self, unit: int) -> tuple[int, ...]:
        """Return all units that are answered with one unit, itself included."""
        with self.lock:
            return self._groups.get(self._asked_as.get(unit, unit), (unit,))

    def asked_as(self, unit: int) -> int | None:
        """Return the unit that stands for a unit; None for one that is not asked."""
        return self._asked_as.get(unit)

    @property
    def total(self) -> int:
        """How many items there are to ask."""
        return len(self._groups)

    def upcoming(self, count: int) -> list[int]:
        """Return the next units after the current one."""
        with self.lock:
            return self._queue.upcoming(count)

    def reread_answers(self) -> None:
        """Read from the session what this annotator has answered."""
        with self.lock:
            me = self._session.annotator
            own = {
                unit: vote.answer
                for unit, votes in self._session.feedback.unit_votes.items()
                for vote in votes
                if vote.annotator == me
            }
            self.answers = {
                unit: answer
                for unit, answer in own.items()
                if all(twin in own for twin in self._groups.get(unit, (-1,)))
            }
            self.answered.clear()
            self.answered.update(self.answers)
