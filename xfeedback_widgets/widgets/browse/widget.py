"""BrowseWidget: click every picture of a page that shows a class, as ImageNet was made.

This module joins the parts. The page acts by itself and reports in batches; one thread writes what they
tell into the journal, in order, and only then the page is told that it is saved. Loading pictures is a
second thread's business, and all painting the pump's.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.widgets import grid, static
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.browse.controls import KEYS, BrowseControls, BrowsePainter
from xfeedback_widgets.widgets.browse.desk import MIXED_IN, BrowseDesk, candidates
from xfeedback_widgets.widgets.browse.pages import Pages
from xfeedback_widgets.widgets.browse.tracer import apply
from xfeedback_widgets.widgets.labelling.widget import LabellingWidget
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.loader import Loader
from xfeedback_widgets.widgets.parts import check_choice, class_indices, refuse_unknown
from xfeedback_widgets.widgets.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.feedback import ImageNetAB
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.capture import Batch

_LONGEST = 256  # pixels of a picture on the page


class BrowseWidget(LabellingWidget):
    """Click the pictures that show a class, page by page, and keep what falls off on the way.

    The interface that made ImageNet: 48 pictures in a grid, one class with its description, a click
    selects and a second click takes it back. What :class:`~.corrections.Luab` learns from is noted as in
    ImageNet-AB: each click, the path of the pointer while a picture is not selected, when it came and
    went. A click is on disk before its frame is drawn through; all pictures of a page, also those that
    nobody touched, when the page is turned.

    Parameters
    ----------
    session : Session
        Whose pictures are shown; it stays open when the widget is closed.
    class_name : str or int
        The class asked for, by name or index.
    description : str
        What belongs to the class, in words; plain text.
    images : sequence of str, optional
        Ids of the pictures to ask about, in this order. Default: those labelled with the class, mixed with
        others.
    mixed_in : float
        Share of pictures of other classes, in [0, 1), so that there is something to decide.
    page_size : int
        Pictures on a page: 12, 24 or 48.
    keys : mapping, bool or None
        Other keys than :data:`~.browse.controls.KEYS`, as ``{"next_page": "n"}``; False switches them off.
        Within the page arrow keys move, Space and Enter select, Shift and arrows point at the place that
        is then clicked; selected without pointing, the place is unknown and nothing is learned from it.
    seed : int
        Of the pictures mixed in and of the order.

    Raises
    ------
    TypeError
        For an unknown keyword; the message names the nearest one.
    ValueError
        For a class or value that does not exist; the message lists those that do.
    KeyError
        For an image that is not in the session's data.

    Examples
    --------
    The last expression of a cell shows it. What it has captured goes into files as it was published::

        widget = BrowseWidget(session, "tench", description="A freshwater fish …")
        xf.feedback.export_ab(widget.records, "tench.json")
    """

    _controls: BrowseControls
    _desk: BrowseDesk
    _painter: BrowsePainter

    def __init__(
        self,
        session: Session,
        class_name: str | int,
        *,
        description: str = "",
        images: Sequence[str] | None = None,
        mixed_in: float = MIXED_IN,
        page_size: int = 48,
        keys: Mapping[str, str | None] | bool | None = None,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        check_choice("page_size", page_size, grid.PAGE_SIZES)
        if not 0 <= mixed_in < 1:
            raise ValueError(f"mixed_in must be in [0, 1), got {mixed_in}")
        names = tuple(session.data.class_names)
        found = class_indices([class_name], names)
        assert found is not None  # noqa: S101  one was asked for
        target = found[0]
        positions = (
            candidates(session.data, target, mixed_in=mixed_in, seed=seed)
            if images is None
            else [session.data.index(image_id) for image_id in dict.fromkeys(images)]
        )
        if not positions:
            raise ValueError(
                f"no picture is labelled {names[target]!r}: name the pictures to ask about in images="
            )
        chosen = key_table.choose(keys, KEYS)
        self._start(session)
        self._desk = BrowseDesk(session, target=target, positions=positions, page_size=page_size)
        self.pages = self._page = Pages(on_batch=self._on_batch, on_error=self._on_bad_message)
        self._controls = BrowseControls(
            session,
            self._make_bridge(
                f"Browsing {counted(len(positions), 'picture')} for {names[target]}", chosen
            ),
            chosen,
            self._press,
            pages=self.pages,
            class_name=names[target],
            description=description,
        )
        loader = Loader(
            session.data, _LONGEST, lambda error: self._fail("A page could not be read.", error)
        )
        self._painter = BrowsePainter(session, self._desk, self._controls, loader)
        self._begin(chosen, loader)

    def _table(self) -> dict[str, Callable[[], None]]:
        return {
            "next_page": functools.partial(self._turn, 1),
            "previous_page": functools.partial(self._turn, -1),
        }

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def page(self) -> tuple[str, ...]:
        """Ids of the pictures on the page."""
        return self._desk.ids_of(self._desk.number)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Ids of the pictures selected on the page."""
        ids = self.page
        return tuple(ids[tile] for tile in self._desk.chosen(self._desk.number))

    @property
    def records(self) -> list[ImageNetAB]:
        """What the journal has of this annotator about the class, one record for each picture seen."""
        return list(self._desk.seen().values())

    # ------------------------------------------------------------------ what happens

    def _note(self, batch: Batch) -> set[tuple[int, int]]:
        """Note what a page tells; selections are to be on disk."""
        desk, number = self._desk, batch.visit
        with desk.lock:
            traces = desk.traces.get(number)
            if traces is None:
                raise ValueError(f"the page sent something about page {number}, which is not open")
            for trace, place in zip(traces, batch.places, strict=False):
                if trace is not None:
                    trace.put(place)
            return {(number, tile) for tile in apply(traces, batch.rows)}

    def _saved(self, batch: Batch) -> str:
        return f"Saved: {counted(len(self._desk.chosen(batch.visit)), 'picture')} selected."

    # ------------------------------------------------------------------ where to

    def _turn(self, by: int) -> None:
        desk = self._desk
        with desk.lock:
            left = desk.number
            desk.turn(by)
            here = desk.number
        self._refresh()  # before anything is written: nobody waits for the disk
        for key in desk.due(left):
            self._record(key)
        if by > 0 and here == left:
            self._say("Saved: this was the last page.")
        else:
            self._say(f"Saved: page {left + 1}.")

    def _refresh(self) -> None:
        """Fetch the open page, then its neighbours, and paint what is there already."""
        desk = self._desk
        with desk.lock:
            here = desk.number
            for number in (here, here + 1, here - 1):
                if 0 <= number < desk.pages:
                    done = functools.partial(self._fetched, number)
                    self._loader.request(
                        number,
                        desk.positions_of(number),
                        done,
                        priority=0 if number == here else 1,
                    )
        self._paint_soon()

    def _fetched(self, number: int) -> None:
        pictures = self._loader.ready(number)
        if pictures is not None:
            self._desk.open(number, pictures)
            self._paint_content()

    # ------------------------------------------------------------------ without a kernel

    def _static(self) -> bytes:
        ids, pictures = self.page, self._loader.ready(self._desk.number) or ()
        shown = {i: p for i, p in zip(ids, pictures, strict=False) if p is not None}
        chosen = set(self.chosen)
        first = sorted(shown, key=lambda image_id: image_id not in chosen)[: static.COUNT]
        name = self.session.data.class_names[self._desk.target]
        return static.page(
            f"{name}: page {self._desk.number + 1} of {self._desk.pages}, {len(chosen)} selected",
            first,
            pictures=shown,
            items={},
            answers={image_id: "accept" for image_id in first if image_id in chosen},
            class_names=tuple(self.session.data.class_names),
            look=Look("cividis", 0.6, contour=False),
            words={"accept": "✓ selected"},
        )
