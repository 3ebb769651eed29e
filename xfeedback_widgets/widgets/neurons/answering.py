"""Answers about units: one for all units that show the same patches, taken back as one.

The journal knows single units only. What belongs together carries the same time to the last digit, so
that it is found again after a restart and by another widget.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import UnitVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.feedback import Answer, Record
    from xfeedback_widgets.session import Session


def record(
    session: Session,
    units: Sequence[int],
    answer: Answer,
    *,
    version: int | None = None,
    duration: float | None = None,
) -> None:
    """Write one answer down for several units; on disk when this returns."""
    now = time.time()
    for unit in units:
        session.record(UnitVerdict(unit, answer, version=version, time=now, duration=duration))


def undo(session: Session) -> Record | None:
    """Take back the last answer, with all units it was given for; None when there is none."""
    first = last = session.undo()
    while last is not None and _together(last, _latest(session)):
        last = session.undo()
    return first


def redo(session: Session, together: Callable[[int], Sequence[int]]) -> Record | None:
    """Give again what :func:`undo` took back last; `together` names the units asked with one unit."""
    first = session.redo()
    if not isinstance(first, UnitVerdict):
        return first
    for _ in together(first.unit)[1:]:
        other = session.redo()
        if other is not None and not _together(first, other):
            session.undo()  # what can be redone can only be seen by doing it
            break
    return first


def _together(one: Record, other: Record | None) -> bool:
    return (
        isinstance(one, UnitVerdict)
        and isinstance(other, UnitVerdict)
        and (one.time, one.annotator) == (other.time, other.annotator)
    )


def _latest(session: Session) -> Record | None:
    records = reversed(session.feedback.records)
    return next((r for r in records if r.annotator == session.annotator), None)
