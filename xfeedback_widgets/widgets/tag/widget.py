"""TagWidget: drag the icon of each class onto the picture, as COCO was made.

This module joins the parts; see `labelling/` for what happens to a batch of the page.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets import static
from xfeedback_widgets.widgets.labelling.widget import LabellingWidget
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.loader import Loader
from xfeedback_widgets.widgets.parts import check_choice, refuse_unknown
from xfeedback_widgets.widgets.tag.board import TagBoard
from xfeedback_widgets.widgets.tag.controls import KEYS, TagControls, TagPainter
from xfeedback_widgets.widgets.tag.desk import TagDesk, grouped, shuffled
from xfeedback_widgets.widgets.tag.tracer import PUT, TAKE
from xfeedback_widgets.widgets.text import counted, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.feedback import CocoAB, Point
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.capture import Batch

ORDERS = ("dataset", "random")
_LONGEST = 800  # pixels of the picture on the page
_AHEAD = 3


class TagWidget(LabellingWidget):
    """Put the icon of each class on the picture where it is, and keep what falls off on the way.

    The interface that made COCO's labels: one picture, icons of the classes by super-class, one icon for
    each class, dragged onto an object, moved, or dragged off again. What :class:`~.corrections.Luab` learns
    from is noted as in COCO-AB: each placement, move and removal, the groups that were opened, the path of
    the pointer over the picture, the time spent. A placement is on disk before its ring is drawn through;
    a picture that nothing is on, when it is left.

    Parameters
    ----------
    session : Session
        Whose pictures are shown; it stays open when the widget is closed.
    groups : mapping of str to sequence of str, optional
        Names of classes by super-class; those left over follow as "Other". Default: COCO's super-classes
        where all classes are COCO's, else one group of all.
    icons : mapping of str to str, optional
        Face of a class's icon: a letter or two, or an emoji. Default: the first two letters.
    images : sequence of str, optional
        Ids of the pictures, in this order; default all.
    order : str
        Of all pictures: ``dataset`` or ``random``. Those not tagged yet come first.
    keys : mapping, bool or None
        Other keys than :data:`~.tag.controls.KEYS`, as ``{"skip": "n"}``; False switches them off. Within
        the page Enter takes an icon, arrow keys move it over the picture (with Shift in small steps), Enter
        puts it there, Delete removes it.
    seed : int
        Of the random order.

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

        widget = TagWidget(session, icons={"cat": "🐱", "dog": "🐶"})
        xf.feedback.export_ab(widget.records, "tags.json")
    """

    _controls: TagControls
    _desk: TagDesk
    _painter: TagPainter

    def __init__(
        self,
        session: Session,
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        icons: Mapping[str, str] | None = None,
        images: Sequence[str] | None = None,
        order: str = "dataset",
        keys: Mapping[str, str | None] | bool | None = None,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        check_choice("order", order, ORDERS)
        names, faces = tuple(session.data.class_names), dict(icons or {})
        if strange := [name for name in faces if name not in names]:
            raise ValueError(
                f"icons has {strange[0]!r}, which is no class: {', '.join(names[:20])}"
            )
        by_group = grouped(names, groups)
        count = len(session.data)
        if images is not None:
            positions = [session.data.index(image_id) for image_id in dict.fromkeys(images)]
        else:
            positions = shuffled(count, seed) if order == "random" else list(range(count))
        if not positions:
            raise ValueError("images is empty: name at least one, or leave it out for all")
        chosen = key_table.choose(keys, KEYS)
        self._start(session)
        self._desk = TagDesk(session, positions=positions, groups=by_group)
        self.board = self._page = TagBoard(
            [(name, faces.get(name) or name.strip()[:2] or "?") for name in names],
            by_group,
            on_batch=self._on_batch,
            on_error=self._on_bad_message,
        )
        bridge = self._make_bridge(f"Tagging {counted(len(positions), 'picture')}", chosen)
        self._controls = TagControls(session, bridge, chosen, self._press, self.board)
        loader = Loader(
            session.data, _LONGEST, lambda error: self._fail("A picture could not be read.", error)
        )
        self._painter = TagPainter(session, self._desk, self._controls, loader)
        self._begin(chosen, loader)

    def _table(self) -> dict[str, Callable[[], None]]:
        return {
            "skip": functools.partial(self._go, self._desk.forward, finished=True),
            "back": functools.partial(self._go, self._desk.back),
        }

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def current(self) -> str | None:
        """Id of the picture; None at the end."""
        return self._desk.current

    @property
    def placed(self) -> dict[str, Point]:
        """Where the icons lie on the picture, by class name."""
        desk = self._desk
        with desk.lock:
            trace = None if desk.position is None else desk.traces.get(desk.position)
            return {} if trace is None else dict(trace.placed)

    @property
    def records(self) -> list[CocoAB]:
        """What the journal has of this annotator, one record for each picture tagged."""
        return list(self._desk.seen().values())

    def go_to(self, image_id: str) -> None:
        """Show a picture, wherever it is in the queue.

        Raises
        ------
        KeyError
            No such picture.
        ValueError
            It is not among those that were asked for.
        """
        position = self.session.data.index(image_id)
        if not self._desk.asks(position):
            raise ValueError(f"image {image_id!r} is not among those given as images=")
        go = functools.partial(self._go, functools.partial(self._desk.go_to_position, position))
        self._hand.do(self._guarded("show this picture", go))

    # ------------------------------------------------------------------ what happens

    def _note(self, batch: Batch) -> set[int]:
        """Note what a page tells; placements are to be on disk."""
        desk, position = self._desk, batch.visit
        with desk.lock:
            trace = desk.traces.get(position)
            if trace is None:
                raise ValueError(
                    f"the page sent something about picture {position}, which is not open"
                )
            if batch.places:
                trace.put(batch.places[0])
            for what, which, x, y, by_key, time in batch.rows:
                trace.add(int(what), int(which), x, y, by_key, time)
            trace.spend(batch.time)
            touched = any(row[0] in (PUT, TAKE) for row in batch.rows)
        return {position} if touched else set()

    def _saved(self, batch: Batch) -> str:
        trace = self._desk.traces[batch.visit]
        image_id = self.session.data.ids[batch.visit]
        count = 0 if trace is None else len(trace.placed)
        return f"Saved: {shorten(image_id)}, {counted(count, 'icon')}."

    # ------------------------------------------------------------------ where to

    def _go(self, step: Callable[[], None], *, finished: bool = False) -> None:
        """Go somewhere; a picture that is finished is written down, whether anything happened or not."""
        desk = self._desk
        with desk.lock:
            left = desk.position
            trace = None if left is None else desk.traces.get(left)
            if left is not None and trace is not None and finished:
                desk.answered.add(left)
            step()
        self._refresh()  # before anything is written: nobody waits for the disk
        if left is None or trace is None:
            return
        written = finished or trace.dirty
        if written:
            self._record(left)
            self._say(f"Saved: {shorten(self.session.data.ids[left])}.")
        trace.leave()
        self._write()

    def _refresh(self) -> None:
        """Fetch the picture and the next ones, and paint what is there already."""
        desk = self._desk
        with desk.lock:
            here = [] if desk.position is None else [desk.position]
            for priority, position in enumerate([*here, *desk.upcoming(_AHEAD)]):
                done = functools.partial(self._fetched, position)
                self._loader.request(position, [position], done, priority=priority)
        self._paint_soon()

    def _fetched(self, position: int) -> None:
        found = self._loader.ready(position)
        if found is not None:
            self._desk.open(position, found[0])
            self._paint_content()

    # ------------------------------------------------------------------ without a kernel

    def _static(self) -> bytes:
        seen, data = self._desk.seen(), self.session.data
        desk = self._desk
        with desk.lock:
            wanted = [] if desk.position is None else [desk.position]
            wanted += [*desk.upcoming(static.COUNT), *map(data.index, list(seen)[-static.COUNT :])]
        found = {data.ids[p]: pages[0] for p in wanted if (pages := self._loader.ready(p))}
        pictures = {image_id: picture for image_id, picture in found.items() if picture is not None}
        words = {i: ", ".join(seen[i].final_placement) or "nothing" for i in pictures if i in seen}
        return static.page(
            f"{counted(len(seen), 'picture')} of {desk.length} tagged",
            list(pictures),
            pictures=pictures,
            items={},
            answers={image_id: image_id for image_id in words},
            class_names=tuple(data.class_names),
            look=Look("cividis", 0.6, contour=False),
            words={image_id: shorten(text, 26) for image_id, text in words.items()},
        )
