"""What pruning would do now: measured on a thread of its own after every answer, shown as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.keyed import KeyedThread
from xfeedback_widgets.widgets.text import error_html, escape, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.units import Preview

_NAMES = {
    "accuracy": "Accuracy",
    "worst_group_accuracy": "Worst group",
    "mean_group_accuracy": "Mean of groups",
}
_GROUP = "group: "
_GROUPS_SHOWN = 20
_ROWS = 5  # of one table; several stand side by side where there is room


@dataclass(frozen=True)
class Measured:
    """Metrics of the live layer, of one refitted, and of one refitted without the `pruned` units."""

    now: dict[str, float]
    refitted: dict[str, float]
    then: dict[str, float] | None
    pruned: frozenset[int]


class Previewer(KeyedThread):
    """Measures in the background; the newest request replaces those that have not begun.

    Parameters
    ----------
    session : Session
    on_measured : callable
        Called on this thread when :attr:`measured` or :attr:`failure` is new.
    """

    def __init__(self, session: Session, on_measured: Callable[[], None]) -> None:
        self.measured: Measured | None = None
        self.failure: Exception | None = None
        self._session, self._on_measured = session, on_measured
        self._preview: tuple[int, Preview] | None = None
        self._wanted = 0
        super().__init__("xfeedback-preview", self._fail)

    def request(self) -> None:
        """Measure with the answers now in force."""
        self.post("measure", self._measure)

    def renew(self) -> None:
        """Measure again, since the live weights are others."""
        self._wanted += 1
        self.request()

    def _measure(self) -> None:
        wanted = self._wanted
        if self._preview is None or self._preview[0] != wanted:
            self._preview = (wanted, self._session.unit_preview())
        preview = self._preview[1]
        verdicts = self._session.feedback.units
        pruned = frozenset(unit for unit, v in verdicts.items() if v.answer == "reject")
        then = preview.measure(pruned) if pruned else None
        self.measured, self.failure = Measured(preview.now, preview.refitted, then, pruned), None
        self._on_measured()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._on_measured()


def table(
    measured: Measured | None, failure: Exception | None, *, on: str, done: bool = False
) -> str:
    """Return the preview as HTML.

    Parameters
    ----------
    measured : Measured or None
        None while nothing has been measured.
    failure : exception or None
        Why the last attempt failed.
    on : str
        Which images decide, in words.
    done : bool
        Whether these units are pruned in the live model already.
    """
    if failure is not None:
        return error_html("What pruning would do could not be measured.", failure)
    if measured is None:
        return '<span class="xf-muted">Reading the images once, for the preview of pruning …</span>'
    count = len(measured.pruned)
    which = "this unit" if count == 1 else f"these {count} units"
    if measured.then is None:
        title = "Now. Answer a unit Irrelevant to see what pruning it would do"
    elif done:
        title = f"The live model is without {which} already"
    else:
        title = f"What pruning {which} would do now"
    totals = [(title, name) for name, title in _NAMES.items() if name in measured.now]
    groups = [(name.removeprefix(_GROUP), name) for name in measured.now if name.startswith(_GROUP)]
    shown = groups[:_GROUPS_SHOWN]
    tables = [_table("", totals, measured)] + [
        _table("Group", shown[start : start + _ROWS], measured)
        for start in range(0, len(shown), _ROWS)
    ]
    more = len(groups) - len(shown)
    left_out = f'<small class="xf-muted">and {more} more groups</small>' if more else ""
    how = "" if measured.then is None else "; the last layer is refitted"
    return (
        f'<div><strong>{title}</strong> <span class="xf-muted">(measured on {escape(on)}{how})</span>'
        f'</div><div class="xf-previews">{"".join(tables)}</div>{left_out}{_refitted(measured)}'
    )


def _refitted(measured: Measured) -> str:
    """Say what refitting does by itself, so that its share is not taken for pruning's."""
    if measured.then is None:
        return ""
    parts = [
        f"{title.lower()} {measured.refitted[name]:.1%}"
        for name, title in _NAMES.items()
        if name in measured.refitted
    ]
    return f'<div class="xf-muted">Refitted without pruning any unit: {", ".join(parts)}.</div>'


def _table(head: str, rows: Sequence[tuple[str, str]], measured: Measured) -> str:
    columns = "<th>now</th>"
    if measured.then is not None:
        columns += "<th>pruned</th><th>change</th>"
    body = "".join(_row(title, name, measured) for title, name in rows)
    return f'<table class="xf-preview"><tr><th scope="col">{head}</th>{columns}</tr>{body}</table>'


def _row(title: str, name: str, measured: Measured) -> str:
    now = measured.now[name]
    cells = f"<td>{now:.1%}</td>"
    if measured.then is not None:
        then = measured.then.get(name, float("nan"))
        cells += f"<td><strong>{then:.1%}</strong></td><td>{_change(now, then)}</td>"
    full, short = escape(title), escape(shorten(title, 24))
    return f'<tr><th scope="row" title="{full}">{short}</th>{cells}</tr>'


def _change(now: float, then: float) -> str:
    points = round(100 * (then - now), 1)
    if points == 0:
        return "="
    return f"▲ +{points:.1f}" if points > 0 else f"▼ −{-points:.1f}"
