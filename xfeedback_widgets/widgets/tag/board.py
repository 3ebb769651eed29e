"""The tagging page as a widget (`board.js`): what it shows, and what happened on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import traitlets

from xfeedback_widgets.widgets.capture import Batch, Capture
from xfeedback_widgets.widgets.tag.tracer import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.feedback import Point
    from xfeedback_widgets.widgets.explainer import Picture

_HERE = Path(__file__).parent


class TagBoard(Capture):
    """Shows a picture and icons that can be put on it.

    Parameters
    ----------
    icons : sequence of (name, face)
        Of the classes, in their order: a face is a letter or two, or an emoji.
    groups : mapping of str to sequence of int
        Icons by group.
    on_batch, on_error : callable
        As for :class:`~.capture.Capture`; the rows are those of :mod:`.tracer`.
    """

    _esm = _HERE / "board.js"
    _css = _HERE / "board.css"

    visit = traitlets.Int(-1).tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int()).tag(sync=True)
    placed = traitlets.Dict().tag(sync=True)
    icons = traitlets.List().tag(sync=True)
    groups = traitlets.List().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        icons: Sequence[tuple[str, str]],
        groups: Mapping[str, Sequence[int]],
        *,
        on_batch: Callable[[Batch], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(COLUMNS, on_batch, on_error)
        self.icons = [{"name": name, "face": face} for name, face in icons]
        self.groups = [{"name": name, "icons": list(own)} for name, own in groups.items()]
        self.add_class("xf-tag")

    def show(self, visit: int, picture: Picture, placed: Mapping[int, Point], label: str) -> None:
        """Show a picture with the icons that lie on it (for the UI pump).

        Parameters
        ----------
        visit : int
            Names the picture.
        picture : Picture
        placed : mapping of icon to Point
        label : str
            The page in words, for screen readers.
        """
        with self.hold_sync():
            if visit != self.visit:
                self.picture, self.size = picture.encoded, list(picture.size)
            self.visit, self.label = visit, label
            self.placed = {
                "visit": visit,
                "icons": {str(icon): list(point) for icon, point in placed.items()},
            }
            self.acknowledge()

    def end(self) -> None:
        """Show that there is nothing more (for the UI pump)."""
        with self.hold_sync():
            self.visit, self.picture = -1, b""
            self.acknowledge()
