"""ReviewWidget: look at a map, judge it, and watch the model correct itself.

This module joins the parts. A press becomes a call of the session, the desk moves on, the explainer
fetches what is needed next and the pump paints it; how things look is in the view modules, what comes
next in `desk.py` and `queue.py`, and no arithmetic is here.

Which thread does what: a press runs on whatever thread Jupyter picks and only records, moves on and
posts; the explainer computes; the pump alone writes to widgets. Fields a person edits (the dropdowns
and the slider) are never written by us.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.feedback import Verdict
from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import explainer as fetching
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets import static
from xfeedback_widgets.widgets.base import SessionWidget
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.controls import VIEWS, Controls
from xfeedback_widgets.widgets.desk import Desk
from xfeedback_widgets.widgets.explainer import Explained, Explainer, View
from xfeedback_widgets.widgets.keyed import KeyedThread
from xfeedback_widgets.widgets.painter import Painter
from xfeedback_widgets.widgets.parts import (
    check_choices,
    class_indices,
    refuse_unknown,
)
from xfeedback_widgets.widgets.pump import PICTURE, SURROUNDINGS, USUAL
from xfeedback_widgets.widgets.single import ANSWERED
from xfeedback_widgets.widgets.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.session import Session

_STATIC_WAIT = 3.0  # seconds that the picture for readers without a kernel may wait for its maps
_RECENT = 3  # answers that it shows


class ReviewWidget(SessionWidget):
    """Judge what a model attends to, one image or a page of them at a time.

    Every answer is on disk before the status line says "saved". Training runs in the background and
    the maps on screen follow the model.

    Parameters
    ----------
    session : Session
        What is reviewed; it stays open when the widget is closed.
    order : str
        Which images come first: ``least_confident``, ``misclassified``, ``random``,
        ``disagreement`` or ``dataset``. Orders by prediction begin as the dataset's, until the
        predictions are there.
    classes : sequence of str or int, optional
        Offer only images of these true classes, by name or index.
    method : str, optional
        Saliency method shown first; default the session's.
    target : str or int
        Class the map is for: ``"label"``, ``"predicted"`` or a class index.
    keys : mapping, bool or None
        Other keys than :data:`~.keys.DEFAULTS`, as ``{"accept": "y", "train": None}``; False
        switches all keys off.
    colormap : str
        One of :data:`~.colors.COLORMAPS`.
    opacity : float
        Of the map, in [0, 1].
    contour : bool
        Contour lines instead of a heat map.
    page_size : int
        Tiles on a page of the grid: 12, 24 or 48.
    seed : int
        Of the random order.

    Raises
    ------
    TypeError
        For an unknown keyword; the message names the nearest one.
    ValueError
        For a value that does not exist; the message lists those that do.

    Examples
    --------
    The last expression of a cell shows it; a script can press its buttons::

        widget = ReviewWidget(session)
        widget.wait()
        widget.buttons["reject"].click()
    """

    _controls: Controls
    _desk: Desk
    _painter: Painter

    def __init__(
        self,
        session: Session,
        *,
        order: str = "least_confident",
        classes: Sequence[str | int] | None = None,
        method: str | None = None,
        target: str | int = "label",
        keys: Mapping[str, str | None] | bool | None = None,
        colormap: str = "cividis",
        opacity: float = 0.6,
        contour: bool = False,
        page_size: int = 24,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        names = tuple(session.data.class_names)
        method = method or session.saliency
        offered = class_indices(classes, names)
        check_choices(
            order=order,
            method=method,
            methods=tuple(METHODS),
            target=target,
            class_count=len(names),
            colormap=colormap,
            opacity=opacity,
            page_size=page_size,
        )
        self.session = session
        chosen = key_table.choose(keys)
        self._desk = Desk(session, classes=offered, order=order, page_size=page_size, seed=seed)
        bridge = Bridge(
            f"Review of saliency maps, {len(session.data)} images",
            on_key=self._on_key,
            on_click=self._guarded("select a tile", self._on_click),
            on_size=self._on_size,
        )
        bridge.use(chosen)
        self._controls = Controls(
            session,
            bridge,
            chosen,
            press=self._press,
            on_ready=self._on_new_page,
            method=method,
            target=target,
            order=order,
            colormap=colormap,
            opacity=opacity,
            page_size=page_size,
        )
        self.explainer = Explainer(session, lambda error: self._fail("A map failed.", error))
        self._painter = Painter(session, self._desk, self._controls, self.explainer)
        self._painter.contour = contour
        self._scorer = KeyedThread(
            "xfeedback-scores", lambda error: self._fail("The queue could not be ordered.", error)
        )
        self._assemble(chosen, background=self.explainer, workers=(self._scorer, self.explainer))
        self._observe_fields()
        self._refresh()
        self._score()

    def _table(self) -> dict[str, Callable[[], None]]:
        """Return what every action does."""
        part = functools.partial
        session = self.session
        return {
            **{answer: part(self._answer, answer) for answer in ANSWERED},
            **{mode: part(self._switch, mode) for mode in VIEWS},
            "skip": part(self._move, self._desk.forward),
            "back": part(self._move, self._desk.back),
            "undo": lambda: self._return_to(session.undo(), "Undone"),
            "redo": lambda: self._return_to(session.redo(), "Redone"),
            "contour": self._toggle_contour,
            "accept_rest": self._accept_rest,
            "open": self._open_tile,
            "next_page": part(self._move, part(self._desk.turn, 1)),
            "previous_page": part(self._move, part(self._desk.turn, -1)),
            "before_older": part(self._step, "before", -1),
            "before_newer": part(self._step, "before", 1),
            "after_older": part(self._step, "after", -1),
            "after_newer": part(self._step, "after", 1),
        }

    def _observe_fields(self) -> None:
        fields = self._controls
        for doing, reaction, watched in (
            (
                "order the queue",
                self._reorder,
                (fields.class_field, fields.order_field, fields.page_size_field),
            ),
            ("change the map", self._refresh, (fields.method_field, fields.target_field)),
            ("redraw", self._redraw, (fields.colormap_field, fields.opacity_field)),
        ):
            guarded = self._guarded(doing, reaction)
            for field in watched:
                field.observe(lambda _, guarded=guarded: guarded(), "value")

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def current(self) -> str | None:
        """Id of the image shown as one; None at the end of the queue."""
        return self._desk.current

    @property
    def explained(self) -> Explained | None:
        """Map and prediction of the current image, if they have been computed."""
        current = self.current
        return None if current is None else self._painter.seen(current)

    @property
    def page(self) -> tuple[str, ...]:
        """Ids of the images on the grid's page."""
        return tuple(self._desk.page)

    def go_to(self, image_id: str) -> None:
        """Show an image, wherever it is in the queue."""
        self._desk.touch()
        self._move(functools.partial(self._desk.go_to, image_id))

    # ------------------------------------------------------------------ actions

    def _answer(self, answer: str) -> None:
        with self._desk.lock:
            image_id = self._desk.target
            if self._desk.mode == "compare":
                self._say("Answers are given on one image or in the grid.")
            elif image_id is None:
                self._say("There is nothing left to answer.")
            elif not self._record(image_id, answer):
                self._say("The map of this image is not there yet.")
            else:
                self._say(f"Saved: {shorten(image_id)}, {ANSWERED[answer]}.")
                self._move(self._desk.forward)

    def _record(self, image_id: str, answer: str) -> bool:
        """Write one answer down; False when there is no map that could have been judged."""
        item = self._painter.seen(image_id)
        if item is None:
            return False
        self.session.record(
            Verdict(
                image_id,
                answer,  # type: ignore[arg-type]
                target=item.target,
                method=item.view.method,
                version=item.view.version,
                map=item.judged,
                duration=self._desk.looked,
            )
        )
        self._desk.note_answer(image_id)
        return True

    def _accept_rest(self) -> None:
        if self._desk.mode != "grid":
            self._say("This works in the grid.")
            return
        # many answers take many writes to disk, too long for a callback
        accept = functools.partial(self._accept_all, self._desk.open_tiles())
        self._in_background("accept the rest", accept)

    def _accept_all(self, image_ids: Sequence[str]) -> None:
        done = sum(self._record(image_id, "accept") for image_id in image_ids)
        missing = len(image_ids) - done
        left = f"; {missing} maps are not there yet" if missing else ""
        self._say(f"Saved: {done} accepted{left}.")
        self._paint_soon()

    def _return_to(self, record: Any, verb: str) -> None:
        if record is None:
            self._say(f"Nothing more can be {verb.lower()}.")
            return
        with self._desk.lock:
            self._desk.reread_answers()
            image_id = getattr(record, "image_id", None)
            if image_id is None or image_id not in self.session.data:
                self._say(f"{verb} and saved.")
                return
            answer = ANSWERED.get(getattr(record, "answer", ""), "mask")
            self._say(f"{verb} and saved: {shorten(image_id)}, {answer}.")
            self.go_to(image_id)

    def _switch(self, mode: str) -> None:
        self._move(functools.partial(self._desk.switch, mode))

    def _open_tile(self) -> None:
        with self._desk.lock:
            image_id = self._desk.target
            if self._desk.mode == "grid" and image_id is not None:
                self._desk.switch("one")
                self.go_to(image_id)

    def _toggle_contour(self) -> None:
        self._painter.contour = not self._painter.contour
        self._paint_soon()

    def _step(self, which: str, by: int) -> None:
        self._controls.compare.steppers[which].step(by)
        self._refresh()

    # ------------------------------------------------------------------ what the page reports

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        with self._desk.lock:
            if self._desk.mode == "grid":
                self._desk.select(
                    self._desk.selected + columns + rows * self._controls.grid.columns
                )
                self._paint_soon()
            elif columns:
                self._move(self._desk.forward if columns > 0 else self._desk.back)

    def _on_click(self, x: float, y: float, count: int) -> None:
        self._desk.touch()
        with self._desk.lock:
            index = self._controls.grid.hit(x, y)
            if self._desk.mode == "grid" and index is not None:
                self._desk.select(index)
                self._paint_soon()
                if count == 2:
                    self._open_tile()

    def _on_size(self, width: int, ratio: float) -> None:
        self._painter.width, self._painter.ratio = width, min(max(ratio, 0.5), 4.0)
        self._paint_soon()

    def _on_new_page(self) -> None:
        """A page was loaded again or opened a second time: its canvases are empty."""
        self._redraw()

    # ------------------------------------------------------------------ what is needed next

    def _move(self, step: Callable[[], None]) -> None:
        """Go somewhere, then fetch and paint what is there."""
        with self._desk.lock:
            step()
            self._refresh()

    def _reorder(self) -> None:
        fields = self._controls
        self._desk.choose(
            order=fields.order_field.value,
            only=fields.class_field.value,
            page_size=fields.page_size_field.value,
        )
        self._refresh()
        self._score()

    def _refresh(self) -> None:
        """Fetch what the open view needs, and paint what is there already."""
        with self._desk.lock:
            if self._closed:
                return
            view, current = self._painter.view, self._desk.current
            if self._desk.mode == "grid":
                self._fetch("grid", self._desk.page, view, fetching.GRID)
            elif current is not None:
                self._fetch("current", [current], view, fetching.CURRENT)
                if self._desk.mode == "compare":
                    for side, version in self._controls.compare.versions.items():
                        other = View(view.method, view.target, version)
                        self._fetch(side, [current], other, fetching.COMPARE)
                ahead = self._desk.upcoming(fetching.PREFETCHED)
                self._fetch("prefetch", ahead, view, fetching.PREFETCH)
        self._paint_soon()

    def _fetch(self, key: str, image_ids: Sequence[str], view: View, priority: int) -> None:
        done = (lambda: None) if key == "prefetch" else self._paint_content_soon
        self.explainer.request(key, image_ids, view, done, priority=priority)

    def _score(self) -> None:
        """Ask for predictions if the order needs them; not while training changes them anyway."""
        if self._desk.needs_scores and not self.session.progress.active:
            self._scorer.post("scores", self._fetch_scores)

    def _fetch_scores(self) -> None:
        probabilities, _ = self.session.predictions(stop=lambda: self._closed)
        self._desk.set_scores(probabilities.numpy())
        self._refresh()

    def _on_session(self, event: str, _: Any) -> None:
        """Hear what happened, on any thread: only post."""
        post, painter = self.pump.post, self._painter
        if event in {"recorded", "undone", "redone"}:
            post("header", painter.header, priority=USUAL)
        elif event == "published":
            post("versions", painter.versions, priority=USUAL)
            post("refresh", self._refresh, priority=USUAL)
        if event in {"published", "progress", "error"}:
            post("training", painter.training, priority=USUAL)
            if not self.session.progress.active:
                self._score()

    def _paint_soon(self) -> None:
        post, painter = self.pump.post, self._painter
        post("content", painter.content, priority=PICTURE)
        post("header", painter.header, priority=SURROUNDINGS)
        post("views", painter.views, priority=SURROUNDINGS)

    def _redraw(self) -> None:
        self.pump.post("content", self._painter.content, priority=USUAL)

    def _paint_content_soon(self) -> None:
        self.pump.post("content", self._painter.content, priority=PICTURE)

    # ------------------------------------------------------------------ without a kernel

    def _static(self) -> bytes:
        """Return the picture for readers without a kernel: the latest answers, then what is next."""
        desk, explainer, data = self._desk, self.explainer, self.session.data
        votes = self.session.feedback.votes
        with desk.lock:
            here = [] if desk.current is None else [desk.current]
            wanted = [*list(votes)[-_RECENT:], *here, *desk.upcoming(static.COUNT)]
            view = self._painter.view
        ids = [i for i in dict.fromkeys(wanted) if i in data][: static.COUNT]
        # this is stored once and for all, so it may wait a moment
        there = threading.Event()
        explainer.request("static", ids, view, there.set, priority=fetching.GRID)
        there.wait(_STATIC_WAIT)
        return static.page(
            f"{len(desk.answered)} of {len(data)} images answered",
            ids,
            pictures={i: p for i in ids if (p := explainer.picture_ready(i)) is not None},
            items={i: item for i in ids if (item := explainer.ready(i, view)) is not None},
            answers={i: a for i in ids if (a := desk.own_answer(votes.get(i, ()))) is not None},
            class_names=tuple(data.class_names),
            look=self._controls.look(contour=False),
        )
