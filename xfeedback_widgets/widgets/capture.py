"""What a page captured on its way into the kernel: rows of numbers, in batches, each acknowledged.

:class:`Capture` is the Python half of the two labelling pages, `browse/` and `tag/`. The page acts at once
and by itself, notes what happened as rows of float64 and sends them every quarter of a second; Python writes
them down and then acknowledges the batch, and only what is acknowledged is called saved. What a row means is
the business of the page's own module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PAGES = 8  # of which the last batch is remembered: windows open at once, and those before a reload
_TIMES = 2.0**53  # larger times are no whole milliseconds


@dataclass(frozen=True)
class Batch:
    """What happened on a page since the batch before.

    Attributes
    ----------
    source, number
        The page that sent it, and which of its batches this is, from 1.
    visit
        What was on the page.
    rows
        Tuples of floats, in the order in which it happened.
    places
        Where each picture lies on the page, as (x, y, width, height) in CSS pixels; empty where nothing
        changed since the batch before.
    time
        When it was sent, in ms since 1970, by the page's clock.
    """

    source: str
    number: int
    visit: int
    rows: tuple[tuple[float, ...], ...]
    places: tuple[tuple[float, float, float, float], ...]
    time: float


class Capture(anywidget.AnyWidget):
    """A page that sends what happens on it; all traits are written by the UI pump.

    Parameters
    ----------
    columns : int
        Numbers in a row.
    on_batch : callable
        ``on_batch(batch)``, on whatever thread Jupyter picks; each batch once, in order.
    on_error : callable
        ``on_error(exception)``: a message that could not be used.
    """

    acknowledged = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        columns: int,
        on_batch: Callable[[Batch], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self._columns, self._on_batch, self._on_error = columns, on_batch, on_error
        self._received: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self.on_msg(lambda _, content, buffers: self.receive(content, buffers))

    def receive(self, content: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        """Take a message of the page.

        Parameters
        ----------
        content : dict
            ``kind`` is ``"batch"``; the other entries are those of :class:`Batch`.
        buffers : sequence of bytes-like
            The rows, float64, little-endian.
        """
        if content.get("kind") != "batch":
            return
        try:
            batch = self._read(content, buffers)
            if batch.number > self._received.get(batch.source, 0):
                _remember(self._received, batch)
                self._on_batch(batch)
        except Exception as error:  # noqa: BLE001  an exception in a callback would be invisible
            self._on_error(error)

    def note_written(self, batch: Batch) -> None:
        """Note that what a batch told is on disk; :meth:`acknowledge` tells the page."""
        _remember(self._written, batch)

    def acknowledge(self) -> None:
        """Tell the page what is on disk (for the UI pump)."""
        self.acknowledged = dict(self._written)

    def _read(self, content: dict[str, Any], buffers: Sequence[Any]) -> Batch:
        rows = np.frombuffer(b"".join(map(bytes, buffers)), "<f8").reshape(-1, self._columns)
        places = np.array(content.get("places") or [], np.float64).reshape(-1, 4)
        time = float(content["time"])
        if not (np.isfinite(places).all() and 0 <= time < _TIMES):
            raise ValueError("the page sent numbers that cannot be right: reload it")
        return Batch(
            source=str(content["source"]),
            number=int(content["number"]),
            visit=int(content["visit"]),
            rows=tuple(map(tuple, rows.tolist())),
            places=tuple(map(tuple, places.tolist())),  # type: ignore[arg-type]
            time=time,
        )


def _remember(numbers: dict[str, int], batch: Batch) -> None:
    numbers.pop(batch.source, None)
    numbers[batch.source] = batch.number
    while len(numbers) > _PAGES:
        del numbers[next(iter(numbers))]
