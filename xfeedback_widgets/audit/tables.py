"""Columns of equal length: what every result of an audit is, with or without pandas.

`Table` maps names to numpy arrays; ``frame()`` makes a pandas DataFrame where pandas is installed, and the
writers below need only the standard library (parquet: pyarrow). What stands in the columns is decided
elsewhere.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.feedback.exchange import guarded

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_SHOWN = 20


class Table(Mapping[str, "NDArray[Any]"]):
    """Named columns of equal length; indexing gives numpy arrays.

    Parameters
    ----------
    columns
        In the order to show them.
    title
        What a notebook shows above it, as plain text.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], *, title: str = "") -> None:
        self._columns = dict(columns)
        self.title = title

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def height(self) -> int:
        """How many rows there are."""
        return len(next(iter(self._columns.values()), ()))

    def rows(self, chosen: Any) -> Table:
        """Return the table of some rows: a mask, indices or a slice, in that order."""
        return Table({name: column[chosen] for name, column in self.items()}, title=self.title)

    def joined(self, columns: Mapping[str, NDArray[Any]]) -> Table:
        """Return the table with more columns of its height, or others under the same names."""
        return Table({**self._columns, **columns}, title=self.title)

    def frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame.

        Raises
        ------
        ImportError
            Without pandas, naming the extra to install.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "DataFrames need pandas: pip install 'xfeedback-widgets[frames]'; without it, index the "
                "table for numpy columns"
            ) from error
        return pd.DataFrame(self._columns)

    def to_csv(self) -> bytes:
        """Return CSV; text that a spreadsheet would run as a formula is written with an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(list(self))
        columns = [column.tolist() for column in self.values()]
        for cells in zip(*columns, strict=True):
            writer.writerow([_cell(cell) for cell in cells])
        return out.getvalue().encode("utf-8", "backslashreplace")

    def to_html(self, limit: int | None = _SHOWN) -> str:
        """Return an HTML table of at most `limit` rows (None: all); every text is escaped."""
        shown = self.height if limit is None else min(limit, self.height)
        heads = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in self)
        columns = [column[:shown].tolist() for column in self.values()]
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in cells) + "</tr>"
            for cells in zip(*columns, strict=True)
        )
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        more = f"<p>… {self.height - shown:,} more rows</p>" if shown < self.height else ""
        return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}"

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        shown = self.rows(slice(_SHOWN))
        cells = [[name, *map(_text, column.tolist())] for name, column in shown.items()]
        widths = [max(map(len, column)) for column in cells]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in zip(*cells, strict=True)
        ]
        if shown.height < self.height:
            lines.append(f"… {self.height - shown.height:,} more rows")
        return "\n".join([self.title, *lines] if self.title else lines)


def _cell(value: object) -> object:
    if isinstance(value, float) and np.isnan(value):
        return ""
    return guarded(value) if isinstance(value, str) else value


def _text(value: object) -> str:
    if isinstance(value, float):
        return (
            "–" if np.isnan(value) else f"{value:.3g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
        )
    return str(value)
