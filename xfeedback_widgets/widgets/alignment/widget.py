"""AlignmentWidget: judge what a model attends to, redraw what is unreasonable, watch it change.

This module joins the parts. Whatever a person does, on the page or by key, is handed to one thread that
does it in order (`../hand.py`): it writes to the journal, moves on and posts. The explainer fetches, the
pump paints; callbacks do nothing but hand over.

The canvas shows what the journal holds. A finished stroke is recorded as the mask it leaves, the latest
mask of an image counts, and undo is the session's: it takes back the last stroke or judgement, whichever
image it was about and however often the kernel was restarted in between.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.feedback import RegionMask, Verdict
from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import explainer as fetching
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.alignment import learning
from xfeedback_widgets.widgets.alignment.controls import KEYS, VIEWS, AlignmentControls
from xfeedback_widgets.widgets.alignment.desk import WORDS, AlignmentDesk
from xfeedback_widgets.widgets.alignment.matrix import CELLS
from xfeedback_widgets.widgets.alignment.painter import AlignmentPainter
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.drawing import Drawing
from xfeedback_widgets.widgets.hand import Hand
from xfeedback_widgets.widgets.images import ImageWidget
from xfeedback_widgets.widgets.parts import check_choices, class_indices, refuse_unknown
from xfeedback_widgets.widgets.pump import PICTURE
from xfeedback_widgets.widgets.stepper import describe
from xfeedback_widgets.widgets.text import counted, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.feedback import ReasonabilityMatrix, Record
    from xfeedback_widgets.feedback.reasonability import Cell
    from xfeedback_widgets.feedback.strokes import Stroke
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.drawing import DrawingView
    from xfeedback_widgets.widgets.explainer import Explained, View


class AlignmentWidget(ImageWidget):
    """Judge maps, adjust the unreasonable ones by drawing, and watch the reasonability matrix.

    Interactive Attention Alignment (GRADIA, CSCW 2022) in two steps. In the first, people call what the
    model attends to reasonable or unreasonable, with a long form for those who want details; in the
    second, they redraw the map of each unreasonable one. Every judgement and every stroke is on disk
    before the status line says "saved".

    Parameters
    ----------
    session : Session
        What is judged; it stays open when the widget is closed. With
        ``correction=xf.corrections.Gradia()``, training uses both judgements and masks.
    order : str
        Which images come first: ``least_confident``, ``misclassified``, ``random``,
        ``disagreement``, ``robustness`` (the least attention on the object first, by `audit` or by the
        images' masks), ``rejected_overlap`` (the most attention where other images' was rejected),
        of a Bayesian model ``most_uncertain`` or ``mutual_information``, or ``dataset``.
    classes : sequence of str or int, optional
        Offer only images of these true classes, by name or index.
    method : str, optional
        Saliency method shown first; default the session's.
    target : str or int
        Class the map is for: ``"label"``, ``"predicted"`` or a class index.
    form : bool
        Whether to ask the long form as well: necessary detail, unnecessary detail, quality 1 to 5.
    keys : mapping, bool or None
        Other keys than :data:`~.alignment.controls.KEYS`, as ``{"accept": "y", "train": None}``; False
        switches all keys off.
    colormap : str
        One of :data:`~.colors.COLORMAPS`.
    opacity : float
        Of the map, in [0, 1].
    contour : bool
        Contour lines instead of a heat map.
    audit : AuditReport, optional
        Robustness scores for that order, as ``xf.audit`` returned them for these images; they stay when
        the model changes. Default: those of the live version, computed in the background when they
        are needed, by the masks of the images or by what people drew.
    byproducts : bool
        Keep with each judgement and each stroke how long the person looked at the image and where the
        pointer went over it (``duration`` and ``pointer`` of the records); ``session.feedback.kept``
        counts what is kept.
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

        widget = AlignmentWidget(session)
        widget.wait()
        widget.buttons["reject"].click()
        widget.buttons["adjust"].click()
        widget.buttons["fill"].click()      # start from what the model looks at
    """

    _controls: AlignmentControls
    _desk: AlignmentDesk
    _painter: AlignmentPainter

    def __init__(
        self,
        session: Session,
        *,
        order: str = "least_confident",
        classes: Sequence[str | int] | None = None,
        method: str | None = None,
        target: str | int = "label",
        form: bool = False,
        keys: Mapping[str, str | None] | bool | None = None,
        colormap: str = "cividis",
        opacity: float = 0.6,
        contour: bool = False,
        audit: AuditReport | None = None,
        byproducts: bool = True,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        method = method or session.saliency
        offered = class_indices(classes, tuple(session.data.class_names))
        check_choices(
            order=order,
            method=method,
            methods=tuple(METHODS),
            target=target,
            class_count=session.data.num_classes,
            colormap=colormap,
            opacity=opacity,
            bayesian=session.bayesian,
        )
        chosen = key_table.choose(keys, KEYS)
        self.session = session
        self._keep(byproducts)
        self._hand = Hand(lambda error: self._fail("That did not work.", error))
        self._sheet: _Sheet | None = None
        self._unsaved: Callable[[], None] | None = None
        self._asked: tuple[str, int] | None = None
        self._desk = AlignmentDesk(session, classes=offered, order=order, seed=seed)
        bridge = Bridge(
            f"Alignment of attention, {len(session.data)} images",
            on_key=self._on_key,
            on_click=lambda *_: None,
            on_size=self._on_size,
            on_path=self._on_path,
        )
        bridge.use(chosen)
        self._controls = AlignmentControls(
            session,
            bridge,
            chosen,
            press=self._press,
            on_ready=self._on_new_page,
            canvas={
                "post": lambda job: self.pump.post("drawing", job, priority=PICTURE),
                "on_stroke": self._on_stroke,
                "on_error": lambda error: self._fail("A stroke could not be used.", error),
                "say": self._say,
                "lock": self._desk.lock,
            },
            method=method,
            target=target,
            order=order,
            colormap=colormap,
            opacity=opacity,
        )
        self._controls.form.on = form
        self.explainer = self._make_explainer()
        self._painter = AlignmentPainter(session, self._desk, self._controls, self.explainer)
        self._painter.contour = contour
        self._begin(chosen, audit=audit, hands=(self._hand,))

    def _table(self) -> dict[str, Callable[[], None]]:
        part, desk, controls = functools.partial, self._desk, self._controls
        return {
            **{answer: part(self._answer, answer) for answer in WORDS},
            **{mode: part(self._go, part(desk.switch, mode)) for mode in VIEWS},
            "skip": part(self._go, desk.forward),
            "back": part(self._go, desk.back),
            "undo": self._undo,
            "redo": lambda: self._return_to(self.session.redo(), "Redone"),
            "again": lambda: self._go(part(desk.judge_again, not desk.again)),
            "form": self._toggle_form,
            **{f"cell_{cell}": part(self._narrow, cell) for cell in CELLS},
            **{name: part(self._fill_in, do) for name, do in controls.form.table().items()},
            **self._map_table(),
            **{name: part(self._draw, do) for name, do in controls.drawing.actions.items()},
        }

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def canvas(self) -> DrawingView:
        """The canvas; ``canvas.draw(stroke)`` draws as a person does, and what it leaves is recorded."""
        return self._controls.drawing

    @property
    def matrix(self) -> ReasonabilityMatrix:
        """The reasonability matrix of what has been judged so far."""
        return learning.matrices(self.session, self._desk)[1]

    def close(self) -> None:
        """Write down what was drawn, close every widget of this one and stop its threads. Idempotent."""
        if not self._closed:
            self._hand.flush()
        super().close()

    # ------------------------------------------------------------------ presses, keys, strokes

    def _press(self, action: str) -> None:
        self.session.precedence.claim()  # now: the hand may be busy
        self._hand.do(functools.partial(super()._press, action))

    def _on_key(self, name: str) -> None:
        self.session.precedence.claim()
        self._hand.do(functools.partial(super()._on_key, name))

    def _allowed(self, action: str) -> bool:
        # a button is painted a moment after a step was opened; what cannot be done is said in words
        return action not in self._training_actions() or super()._allowed(action)

    def _draw(self, action: Callable[[], None]) -> None:
        if self._desk.mode == "adjust":
            action()
        else:
            key = self._controls.caption("adjust", VIEWS["adjust"])
            self._say(f"Maps are redrawn in the second step: {key}.")

    def _on_stroke(self, stroke: Stroke) -> None:
        """Have a stroke written down; on any thread, under the desk's lock."""
        if self._sheet is None:
            return
        self.session.precedence.claim()
        image_id, drawing, shown = self._sheet.image_id, self.canvas.drawing, self._sheet.shown
        view = self._painter.view
        # compressing the mask of a large picture takes longer than a callback may
        record = functools.partial(
            RegionMask,
            image_id,
            drawing.mask.copy(),
            strokes=drawing.strokes,
            target=None if shown is None else shown.target,
            method=view.method,
            version=view.version,
            duration=self._looked,
            pointer=None if self._path is None else self._path.take(image_id),
        )
        save = functools.partial(self._save, record, stroke.tool)
        self._hand.do(
            self._guarded("save this stroke; the next one, or going on, tries again", save)
        )

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        if not self.canvas.move(columns, rows) and columns:
            self._go(self._desk.forward if columns > 0 else self._desk.back)

    # ------------------------------------------------------------------ what is written down

    def _answer(self, answer: str) -> None:
        desk, form = self._desk, self._controls.form
        with desk.lock:
            image_id = desk.current
            item = None if image_id is None else self._painter.seen(image_id)
            if desk.mode != "judge":
                self._say("Maps are judged in the first step.")
            elif image_id is None:
                self._say("There is nothing left to judge.")
            elif item is None:
                self._say("The map of this image is not there yet.")
            else:
                details = form.answers if form.on else {}
                self.session.record(self._verdict(item, answer, **details))
                desk.note_answer(image_id)
                self._say(f"Saved: {shorten(image_id)}, {WORDS[answer]}.")
                self._move(desk.forward)

    def _save(self, make: Callable[[], RegionMask], tool: str) -> None:
        self._unsaved = functools.partial(self._save, make, tool)
        record = make()
        stored = self.session.record(record)
        self._unsaved = None
        with self._desk.lock:
            latest = self.session.feedback.masks.get(record.image_id)
            sheet = self._sheet
            # another annotator's may have come in between: that one is not what the canvas shows
            if sheet is not None and sheet.image_id == record.image_id and latest == stored:
                self._sheet = dataclasses.replace(sheet, mask=latest)
                self.canvas.offer(self._sources(self._sheet, self.canvas.drawing))
        what = "nothing is drawn any more" if record.empty else tool
        self._say(f"Saved: {shorten(record.image_id)}, {what}.")
        self._redraw()

    def _undo(self) -> None:
        if self._unsaved is not None:
            self._unsaved = self._sheet = None
            self._open_sheet()
            self._say("Taken back: the stroke that could not be saved.")
        else:
            self._return_to(self.session.undo(), "Undone")

    def _return_to(self, record: Record | None, verb: str) -> None:
        if record is None:
            self._say(f"Nothing more can be {verb.lower()}.")
            return
        with self._desk.lock:
            self._desk.reread_answers()
            image_id = getattr(record, "image_id", None)
            known = isinstance(record, (Verdict, RegionMask)) and image_id in self.session.data
            if image_id is None or not known:
                self._say(f"{verb} and saved.")
                return
            drawn = isinstance(record, RegionMask)
            what = "a stroke" if drawn else WORDS[record.answer]  # type: ignore[union-attr]
            self._say(f"{verb} and saved: {shorten(image_id)}, {what}.")
            self._desk.switch("adjust" if drawn else "judge")
            self.go_to(image_id)

    # ------------------------------------------------------------------ where to

    def _go(self, step: Callable[[], None]) -> None:
        """Go somewhere; what could not be saved is tried once more, and nothing is left behind."""
        if self._unsaved is not None:
            self._unsaved()
        self._move(step)

    def _narrow(self, cell: Cell) -> None:
        desk = self._desk
        with desk.lock:
            if desk.cell == cell:
                self._go(functools.partial(desk.narrow, None))
                return
            ids = self.matrix.ids[cell]
            if not ids:
                self._say(f"No image is {CELLS[cell]}.")
                return
            members = [self.session.data.index(i) for i in ids if i in self.session.data]
            self._go(functools.partial(desk.narrow, cell, members))
            shown = counted(len(members), "image")
            self._say(f"{shown}, {CELLS[cell]}; press it again for all.")

    def _toggle_form(self) -> None:
        self._controls.form.on = not self._controls.form.on
        self._paint_soon()

    def _fill_in(self, press: Callable[[], None]) -> None:
        if self._controls.form.on and self._desk.mode == "judge":
            press()
            self._paint_soon()

    # ------------------------------------------------------------------ what is needed next

    def _refresh(self) -> None:
        """Fetch what the open view needs, and paint what is there already."""
        super()._refresh()
        with self._desk.lock:
            current, view = self._desk.current, self._painter.view
            if self._closed or current is None:
                pass
            elif self._desk.mode == "adjust":
                self._fetch("before", [current], self._view_before, fetching.COMPARE)
            elif self._asked != (current, view.version):
                self._asked = (current, view.version)
                self._begin_form(current)
        self._hand.do(self._open_sheet)

    @property
    def _view_before(self) -> View:
        before = self._controls.compare.versions["before"]
        return dataclasses.replace(self._painter.view, version=before)

    def _fetched(self, key: str) -> None:
        super()._fetched(key)
        if key in {"current", "before"}:
            self._hand.do(self._open_sheet)

    def _begin_form(self, current: str) -> None:
        """Open the form anew; with what was said, where the very map was judged before."""
        form, votes = self._controls.form, self.session.feedback.votes.get(current, ())
        own = self._desk.own_verdict(votes)
        if own is not None and own.version == self.session.version:
            form.load(own)
        else:
            form.clear()

    def _open_sheet(self) -> None:
        """Put the current image's mask and map on the canvas, where they are not there already."""
        desk, canvas, session = self._desk, self.canvas, self.session
        with desk.lock:
            current = desk.current
            picture = None if current is None else self.explainer.picture_ready(current)
            if current is None or picture is None:
                canvas.enable(False)
                if current is None or self.explainer.failure(current) is not None:
                    self._sheet = None
                    canvas.put(None, Drawing(1, 1))
                return
            canvas.enable(desk.mode == "adjust")
            before, drawing = self._sheet, canvas.drawing
            sheet = _Sheet(
                current,
                mask=session.feedback.masks.get(current),
                shown=self._painter.seen(current),
                other=self.explainer.ready(current, self._view_before),
            )
            if before is not None and sheet.same(before):
                return
            if before is None or before.image_id != current or before.mask is not sheet.mask:
                drawing = _drawing(sheet.mask, picture.size)
            self._sheet = sheet
            canvas.put(current, drawing, None if sheet.shown is None else sheet.shown.saliency)
            canvas.offer(self._sources(sheet, drawing))

    def _sources(self, sheet: _Sheet, drawing: Drawing) -> list[tuple[str, NDArray[np.int8]]]:
        """Name what can be copied: masks drawn for other versions or by others, another version's map."""
        found: dict[tuple[int | None, str | None], RegionMask] = {}
        for record in self.session.feedback.records:
            if isinstance(record, RegionMask) and record.image_id == sheet.image_id:
                found[record.version, record.annotator] = record
        offered = [
            (_source_name(record, self.session.annotator), record.mask)
            for record in reversed(found.values())
            if record is not sheet.mask and not record.empty
        ]
        other = sheet.other
        if other is not None and other.view.version != self.session.version and not other.empty:
            hot = drawing.hotter(other.saliency, float(self.canvas.toolbar.threshold.value))
            offered.append((f"hot region, {describe(other.view.version)}", hot.astype(np.int8)))
        return offered

    # ------------------------------------------------------------------ without a kernel

    def _title(self) -> str:
        desk = self._desk
        cells = ", ".join(f"{cell} {count}" for cell, count in self.matrix.counts.items())
        return (
            f"{len(desk.judged)} of {len(self.session.data)} images judged, {len(desk.adjusted)} of "
            f"{len(desk.unreasonable)} adjusted: {cells}"
        )

    def _static_options(self, image_ids: Sequence[str]) -> dict[str, Any]:
        masks = self.session.feedback.masks
        return {"words": WORDS, "masks": {i: masks[i].mask for i in image_ids if i in masks}}

    # ------------------------------------------------------------------ what happens by itself

    def _on_session(self, event: str, payload: Any) -> None:
        super()._on_session(event, payload)
        if isinstance(payload, RegionMask):
            # posted, not done: the stroke that is just being written down has to be finished first
            self._hand.post("sheet", self._open_sheet)
            self._redraw()


@dataclass(frozen=True)
class _Sheet:
    """What is on the canvas: the image, its mask in the journal, its map, that of another version."""

    image_id: str
    mask: RegionMask | None
    shown: Explained | None
    other: Explained | None

    def same(self, sheet: _Sheet) -> bool:
        """Whether another one holds the very same things; arrays are not compared."""
        mine, its = vars(self).values(), vars(sheet).values()
        return all(a is b or a == b == self.image_id for a, b in zip(mine, its, strict=True))


def _drawing(mask: RegionMask | None, size: tuple[int, int]) -> Drawing:
    """Return a drawing of the picture's size that goes on with a mask."""
    if mask is not None and mask.mask.shape == size[::-1]:
        return Drawing.of(mask)
    drawing = Drawing(*size)
    if mask is not None:  # imported at another size
        drawing.add(drawing.copy(mask.mask))
    return drawing


def _source_name(record: RegionMask, me: str) -> str:
    whose = "" if record.annotator == me else f" by {shorten(record.annotator or 'unknown', 16)}"
    when = "" if record.version is None else f", {describe(record.version)}"
    return f"mask{whose}{when}"
