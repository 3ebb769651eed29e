"""The desk of the audit: which classes are listed, in which order, and what is chosen. No widget here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xfeedback_widgets.audit import AuditReport, Table

COLUMNS = {
    "class": "Class",
    "images": "n",
    "accuracy": "Top-1",
    "accuracy_top5": "Top-5",
    "crs": "In the box",
    "expected": "By area",
    "difference": "Change",
}
"""What can be sorted by, and its heading; the last only where two reports are compared."""

SHOWN = {"all": "All", "right": "Right", "wrong": "Wrong"}
"""Which images of a class are shown, by whether the model is right about them."""


class AuditDesk:
    """Where a person is in a report, or in the comparison of two.

    Parameters
    ----------
    report : AuditReport
    before : AuditReport, optional
        An earlier or other one, of the same classes.
    sort : str
        One of :data:`COLUMNS`.
    page_size : int
        Classes on a page of the table.
    count : int
        Images in the gallery.

    Attributes
    ----------
    lock : RLock
        Taken by every method; hold it over several calls that belong together.
    table : Table
        The classes of the report; where two are compared with the columns ``accuracy_before``,
        ``crs_before``, ``difference``, ``difference_low`` and ``difference_high``.
    sort, descending : str, bool
    which : str
        One of :data:`SHOWN`.
    page_start, tile : int
        Where the page begins in the list, and the number of the selected image.
    """

    def __init__(
        self,
        report: AuditReport,
        before: AuditReport | None = None,
        *,
        sort: str = "crs",
        page_size: int = 12,
        count: int = 12,
    ) -> None:
        self.lock = threading.RLock()
        self.sort, self.descending = sort, False
        self.which = "all"
        self.page_size, self.count = page_size, count
        self.page_start = self.tile = 0
        self._text = ""
        self._label: int | None = None
        self.use(report, before)

    # ------------------------------------------------------------------ what is looked at

    def use(self, report: AuditReport, before: AuditReport | None) -> None:
        """Look at another report; the chosen class stays.

        Raises
        ------
        ValueError
            The reports have different classes.
        """
        table = report.class_table if before is None else _compared(before, report)
        with self.lock:
            self.report, self.before, self.table = report, before, table
            if self.sort not in table:
                self.sort, self.descending = "crs", False
            self._rearrange()

    @property
    def rows(self) -> list[int]:
        """Rows of :attr:`table` that are listed, in order."""
        with self.lock:
            return list(self._rows)

    @property
    def page(self) -> list[int]:
        """Those of the open page."""
        with self.lock:
            return self._rows[self.page_start : self.page_start + self.page_size]

    @property
    def row(self) -> int | None:
        """Row of the chosen class; None when no class is listed."""
        with self.lock:
            return self._row_of(self._label)

    @property
    def name(self) -> str | None:
        """The chosen class."""
        row = self.row
        return None if row is None else str(self.table["class"][row])

    @property
    def images(self) -> list[str]:
        """Ids of the chosen class's images with the least attention on the object, the worst first."""
        with self.lock:
            name = self.name
            if name is None:
                return []
            correct = {"all": None, "right": True, "wrong": False}[self.which]
            return self.report.worst(name, self.count, correct=correct)

    @property
    def image(self) -> str | None:
        """Id of the selected image."""
        with self.lock:
            images = self.images
            return images[self.tile] if self.tile < len(images) else None

    def image_row(self, image_id: str) -> np.void:
        """Return the report's row of an image."""
        return self.report.rows[self._places[image_id]]

    # ------------------------------------------------------------------ moving

    def step(self, by: int) -> None:
        """Choose a class further down or up the list; stays at the ends."""
        with self.lock:
            row = self.row
            if row is not None:
                at = min(max(0, self._rows.index(row) + by), len(self._rows) - 1)
                self._choose_row(self._rows[at])

    def choose(self, label: int) -> None:
        """Choose a class by its number in the image set; one that is not listed changes nothing."""
        with self.lock:
            row = self._row_of(label)
            if row is not None and int(self.table["label"][row]) == label:
                self._choose_row(row)

    def turn(self, pages: int) -> None:
        """Go on or back by some pages of the table, and choose the first class there."""
        with self.lock:
            last = max(0, (len(self._rows) - 1) // self.page_size * self.page_size)
            start = min(max(0, self.page_start + pages * self.page_size), last)
            if start != self.page_start:
                self._choose_row(self._rows[start])

    def select(self, tile: int) -> None:
        """Select an image of the gallery; beyond the ends, the first or last one."""
        with self.lock:
            self.tile = min(max(0, tile), max(0, len(self.images) - 1))

    # ------------------------------------------------------------------ what is listed

    @property
    def columns(self) -> list[str]:
        """What can be sorted by now."""
        return [name for name in COLUMNS if name in self.table]

    def sort_by(self, column: str) -> None:
        """Sort by a column, from low to high; the column sorted by already, the other way round."""
        with self.lock:
            self.descending = column == self.sort and not self.descending
            self.sort = column
            self._rearrange(first=True)

    def next_column(self) -> None:
        """Sort by the next column."""
        with self.lock:
            columns = self.columns
            self.sort_by(columns[(columns.index(self.sort) + 1) % len(columns)])

    def filter(self, text: str) -> None:
        """List the classes whose name contains `text`, upper or lower case; empty: all."""
        with self.lock:
            self._text = text.strip().casefold()
            self._rearrange()

    def show(self, which: str) -> None:
        """Show these images of a class: one of :data:`SHOWN`."""
        with self.lock:
            self.which, self.tile = which, 0

    # ------------------------------------------------------------------ parts

    def _rearrange(self, *, first: bool = False) -> None:
        """List anew; the chosen class stays if it is listed, unless the first one is wanted."""
        names = self.table["class"]
        self._rows = [
            row
            for row in _sorted(self.table[self.sort], descending=self.descending)
            if self._text in str(names[row]).casefold()
        ]
        self._places = {image_id: place for place, image_id in enumerate(self.report.ids)}
        row = None if first else self._row_of(self._label)
        self.page_start = self.tile = 0
        if self._rows:
            self._choose_row(self._rows[0] if row is None else row)

    def _row_of(self, label: int | None) -> int | None:
        """Row of a class if it is listed, else of the first one that is."""
        found = [row for row in self._rows if int(self.table["label"][row]) == label]
        return next(iter([*found, *self._rows]), None)

    def _choose_row(self, row: int) -> None:
        label = int(self.table["label"][row])
        if label != self._label:
            self._label, self.tile = label, 0
        self.page_start = self._rows.index(row) // self.page_size * self.page_size


def _sorted(values: NDArray[Any], *, descending: bool) -> list[int]:
    """Return positions in order; what is not a number comes last either way."""
    if values.dtype == object:
        order = sorted(range(len(values)), key=lambda place: str(values[place]).casefold())
        return order[::-1] if descending else order
    keys = -values.astype(np.float64) if descending else values
    return [int(place) for place in np.argsort(keys, kind="stable")]


def _compared(before: AuditReport, report: AuditReport) -> Table:
    """Return the classes of a report, with what has changed since another one."""
    changes = before.compare(report)
    places = {name: place for place, name in enumerate(changes["class"])}
    table = report.class_table
    at = np.array([places.get(name, -1) for name in table["class"]], dtype=np.int64)
    known = at >= 0

    def column(name: str) -> NDArray[np.float64]:
        values = np.full(table.height, np.nan)
        values[known] = changes[name][at[known]]
        return values

    return table.joined(
        {
            "accuracy_before": column("accuracy"),
            "crs_before": column("crs"),
            "difference": column("difference"),
            "difference_low": column("low"),
            "difference_high": column("high"),
        }
    )
