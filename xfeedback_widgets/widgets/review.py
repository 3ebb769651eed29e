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
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import grid
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.controls import VIEWS, Controls
from xfeedback_widgets.widgets.desk import Desk
from xfeedback_widgets.widgets.images import ImageWidget
from xfeedback_widgets.widgets.painter import Painter
from xfeedback_widgets.widgets.parts import (
    check_choice,
    check_choices,
    class_indices,
    refuse_unknown,
)
from xfeedback_widgets.widgets.single import ANSWERED
from xfeedback_widgets.widgets.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.session import Session


class ReviewWidget(ImageWidget):
    """Judge what a model attends to, one image or a page of them at a time.

    Every answer is on disk before the status line says "saved". Training runs in the background and
    the maps on screen follow the model.

    Parameters
    ----------
    session : Session
        What is reviewed; it stays open when the widget is closed.
    order : str
        Which images come first: ``least_confident``, ``misclassified``, ``random``,
        ``disagreement``, ``robustness`` (the least attention on the object first, by `audit` or by the
        images' masks), ``rejected_overlap`` (the most attention where other images' was rejected),
        of a Bayesian model ``most_uncertain`` or ``mutual_information``, or ``dataset``. Orders by
        prediction begin as the dataset's, until the predictions are there.
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
    audit : AuditReport, optional
        Robustness scores for that order, as ``xf.audit`` returned them for these images; they stay when
        the model changes. Default: those of the live version, computed in the background when they
        are needed, by the masks of the images or by what people drew.
    byproducts : bool
        Keep with each answer how long the person looked at the image and where the pointer went over it
        (``Verdict.duration``, ``Verdict.pointer``); ``session.feedback.kept`` counts what is kept.
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
        audit: AuditReport | None = None,
        byproducts: bool = True,
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
            bayesian=session.bayesian,
        )
        check_choice("page_size", page_size, grid.PAGE_SIZES)
        self.session = session
        self._keep(byproducts)
        chosen = key_table.choose(keys)
        self._desk = Desk(session, classes=offered, order=order, page_size=page_size, seed=seed)
        bridge = Bridge(
            f"Review of saliency maps, {len(session.data)} images",
            on_key=self._on_key,
            on_click=self._guarded("select a tile", self._on_click),
            on_size=self._on_size,
            on_path=self._on_path,
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
        self.explainer = self._make_explainer()
        self._painter = Painter(session, self._desk, self._controls, self.explainer)
        self._painter.contour = contour
        self._begin(chosen, audit=audit)

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
            "accept_rest": self._accept_rest,
            "open": self._open_tile,
            "next_page": part(self._move, part(self._desk.turn, 1)),
            "previous_page": part(self._move, part(self._desk.turn, -1)),
            **self._map_table(),
        }

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def page(self) -> tuple[str, ...]:
        """Ids of the images on the grid's page."""
        return tuple(self._desk.page)

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
        self.session.record(self._verdict(item, answer))
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

    def _open_tile(self) -> None:
        with self._desk.lock:
            image_id = self._desk.target
            if self._desk.mode == "grid" and image_id is not None:
                self._desk.switch("one")
                self.go_to(image_id)

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
