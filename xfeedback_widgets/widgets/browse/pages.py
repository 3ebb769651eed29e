"""The page of pictures as a widget (`pages.js`): what it shows, and what happened on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from xfeedback_widgets.widgets.browse.tracer import COLUMNS
from xfeedback_widgets.widgets.capture import Batch, Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HERE = Path(__file__).parent
_SHEETS = 3  # this page, the one before and the one after are in the browser


class Pages(Capture):
    """Shows a page of pictures that can be clicked on and off.

    Parameters
    ----------
    on_batch, on_error : callable
        As for :class:`~.capture.Capture`; the rows are those of :mod:`.tracer`.
    """

    _esm = _HERE / "pages.js"
    _css = _HERE / "pages.css"

    number = traitlets.Int(-1).tag(sync=True)
    sheet_0 = traitlets.Dict().tag(sync=True)
    sheet_1 = traitlets.Dict().tag(sync=True)
    sheet_2 = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, *, on_batch: Callable[[Batch], None], on_error: Callable[[Exception], None]
    ) -> None:
        super().__init__(COLUMNS, on_batch, on_error)
        self.add_class("xf-pages")

    def put(self, number: int, tiles: Sequence[Mapping[str, Any]]) -> None:
        """Bring the pictures of a page into the browser (for the UI pump); once is enough.

        Parameters
        ----------
        number : int
            Of the page, from 0.
        tiles : sequence of mapping
            ``picture``, encoded or empty where it cannot be read, ``width`` and ``height``.
        """
        name = f"sheet_{number % _SHEETS}"
        if getattr(self, name).get("number") != number:
            setattr(self, name, {"number": number, "tiles": list(tiles)})

    def turn(self, number: int, chosen: Mapping[int, Sequence[int]], label: str) -> None:
        """Show a page, and which pictures are selected, there and on its neighbours (for the UI pump)."""
        with self.hold_sync():
            self.number, self.label = number, label
            self.chosen = {str(page): list(tiles) for page, tiles in chosen.items()}
            self.acknowledge()
