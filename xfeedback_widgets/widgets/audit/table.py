"""The table of classes: every row one class, its share of attention on the object with its interval.

HTML that is painted anew; names of classes come from data and are escaped. A click on a heading or a row is
reported by the bridge under the names given here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.audit.desk import COLUMNS
from xfeedback_widgets.widgets.text import escape, percent, shorten, signed

if TYPE_CHECKING:
    from xfeedback_widgets.widgets.audit.desk import AuditDesk

_HELP = {
    "class": "Name of the class",
    "images": "Images of the class",
    "accuracy": "Share of images whose first answer is right",
    "accuracy_top5": "Share of images whose class is among the first five answers",
    "crs": "Robustness score of the class (crs): share of its maps on the object, with the 95 % interval "
    "of the bootstrap",
    "expected": "Share of the picture that the object covers: the score of even maps",
    "difference": "Change of the score since the other report, with its 95 % interval",
}
_WIDE = {"images", "accuracy_top5", "expected"}  # left out on a narrow page, said in words instead
NONE = "–"


def html(desk: AuditDesk) -> str:
    """Return the open page of the table."""
    with desk.lock:
        page, chosen, columns = desk.page, desk.row, desk.columns
        heads = "".join(_head(name, desk) for name in columns)
        body = "".join(_row(desk, row, columns, on=row == chosen) for row in page)
        listed, start = len(desk.rows), desk.page_start
    if not page:
        return '<p class="xf-muted">No class has this in its name.</p>'
    two = "" if desk.before is None else " xf-compared"
    where = f"{start + 1} to {start + len(page)} of {listed} classes"
    return (
        f'<table class="xf-classes{two}" aria-label="Classes, {where}"><thead><tr>{heads}</tr></thead>'
        f'<tbody>{body}</tbody></table><small class="xf-muted xf-key">{where} · {_key(desk)}</small>'
    )


def _key(desk: AuditDesk) -> str:
    """Say what the marks mean."""
    before = "" if desk.before is None else " · <s></s> before"
    return f"<i></i> share of the maps in the box <u></u> of even maps, by area{before}"


def describe(desk: AuditDesk) -> str:
    """Return the chosen class in words, as plain text."""
    with desk.lock:
        row, table = desk.row, desk.table
        if row is None:
            return "No class is listed."
        value = {name: table[name][row] for name in table}
    crs = value["crs"]
    parts = [
        f"{shorten(value['class'], 60)}: {value['images']} images",
        f"right {share(value['accuracy'])}, top five {share(value['accuracy_top5'])}",
    ]
    if math.isnan(crs):
        parts.append("no image has both a box and a map")
    else:
        even = number(value["expected"])
        parts.append(f"{number(crs)} of the maps in the box, {even} if they were even")
    if not math.isnan(value.get("difference", math.nan)):
        parts.append(f"before {number(value['crs_before'])}")
    troubles = {"empty_maps": "empty maps", "not_finite": "not finite", "no_box": "without box"}
    troubles["unreadable"] = "unreadable"
    parts += [f"{value[name]} {text}" for name, text in troubles.items() if value[name]]
    return "; ".join(parts)


def number(value: float) -> str:
    """Return a share with two digits; a dash where there is none."""
    return NONE if math.isnan(value) else f"{value:.2f}"


def share(value: float) -> str:
    """Return a share as a percentage; a dash where there is none."""
    return NONE if math.isnan(value) else percent(value)


def _head(name: str, desk: AuditDesk) -> str:
    on = name == desk.sort
    order = "descending" if desk.descending else "ascending"
    sign = (" ▾" if desk.descending else " ▴") if on else ""
    return (
        f'<th scope="col" class="{_classes(name)}" aria-sort="{order if on else "none"}">'
        f'<button type="button" data-pick="sort:{name}" title="{escape(_HELP[name])}">'
        f"{COLUMNS[name]}{sign}</button></th>"
    )


def _row(desk: AuditDesk, row: int, columns: list[str], *, on: bool) -> str:
    cells = "".join(_cell(desk, row, name) for name in columns)
    chosen = ' class="xf-selected" aria-current="true"' if on else ""
    return f'<tr data-pick="class:{int(desk.table["label"][row])}"{chosen}>{cells}</tr>'


def _cell(desk: AuditDesk, row: int, name: str) -> str:
    table = desk.table
    value = table[name][row]
    if name == "class":
        full, short = escape(value), escape(shorten(value, 24))
        return f'<th scope="row" title="{full}">{short}</th>'
    if name == "images":
        text = f"{value:,}"
    elif name == "crs":
        text = _span(desk, row) + _with_interval(
            number(value), table["low"][row], table["high"][row]
        )
    elif name == "difference":
        text = _change(value, table["difference_low"][row], table["difference_high"][row])
    elif name == "expected":
        text = number(value)
    else:
        text = share(value) + _arrow(value, _before(desk, row, name))
    return f'<td class="{_classes(name)}">{text}</td>'


def _before(desk: AuditDesk, row: int, name: str) -> float:
    column = desk.table.get(f"{name}_before")
    return math.nan if column is None else float(column[row])


def _arrow(value: float, before: float) -> str:
    """Return how a share has moved, where that is known and can be seen."""
    if math.isnan(before) or math.isnan(value) or round(100 * value) == round(100 * before):
        return ""
    sign, word = ("▲", "up from") if value > before else ("▼", "down from")
    return f' <small title="{word} {share(before)}">{sign}</small>'


def _change(difference: float, low: float, high: float) -> str:
    """Return a difference with its interval; an arrow only where the interval does not hold zero."""
    if math.isnan(difference):
        return NONE
    sign = "▲" if low > 0 else "▼" if high < 0 else "≈"
    return f"{sign} <b>{signed(difference)}</b> <small>{signed(low)} … {signed(high)}</small>"


def _with_interval(text: str, low: float, high: float) -> str:
    interval = "" if math.isnan(low) else f" <small>{low:.2f}–{high:.2f}</small>"
    return f"<span><b>{text}</b>{interval}</span>"


def _span(desk: AuditDesk, row: int) -> str:
    """Return the score as a mark in its interval on a line from 0 to 1, even maps as a second mark."""
    table = desk.table
    crs, low, high = (float(table[name][row]) for name in ("crs", "low", "high"))
    if math.isnan(crs):
        return '<span class="xf-span"></span>'
    reach = "" if math.isnan(low) else _at("i", low, high - low)
    before = _before(desk, row, "crs")
    hollow = "" if math.isnan(before) else _at("s", before)
    even = _at("u", float(table["expected"][row]))
    return f'<span class="xf-span" aria-hidden="true">{reach}{even}{hollow}{_at("b", crs)}</span>'


def _at(tag: str, place: float, width: float | None = None) -> str:
    wide = "" if width is None else f";width:{100 * width:.1f}%"
    return f'<{tag} style="left:{100 * place:.1f}%{wide}"></{tag}>'


def _classes(name: str) -> str:
    return f"xf-{name.replace('_', '-')}{' xf-wide' if name in _WIDE else ''}"
