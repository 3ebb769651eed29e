"""Painting the alignment: everything here runs on the UI pump and writes what no person edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xfeedback_widgets.widgets.alignment import form, learning
from xfeedback_widgets.widgets.alignment.controls import NAMES
from xfeedback_widgets.widgets.alignment.desk import WORDS
from xfeedback_widgets.widgets.alignment.matrix import CELLS
from xfeedback_widgets.widgets.drawing import Drawing
from xfeedback_widgets.widgets.drawing.view import SIZE
from xfeedback_widgets.widgets.painter import PADDING, ImagePainter
from xfeedback_widgets.widgets.text import counted, escape, shorten

if TYPE_CHECKING:
    from xfeedback_widgets.feedback import ReasonabilityMatrix, RegionMask, Verdict
    from xfeedback_widgets.feedback.reasonability import Cell
    from xfeedback_widgets.widgets.alignment.controls import AlignmentControls
    from xfeedback_widgets.widgets.alignment.desk import AlignmentDesk
    from xfeedback_widgets.widgets.layout import Look

    Moves = dict[tuple[Cell, Cell], int]


class AlignmentPainter(ImagePainter):
    """Paints one alignment; the parameters are those of :class:`~.painter.ImagePainter`."""

    _controls: AlignmentControls
    _desk: AlignmentDesk
    _names = NAMES
    # what was worked out last, beside what it was made from
    _measured: tuple[Verdict, RegionMask, str] | None = None
    _counted: tuple[tuple[Any, ...], ReasonabilityMatrix, Moves] | None = None

    @property
    def _box(self) -> int:
        return max(160, min(SIZE, self.width - PADDING))

    def header(self) -> None:
        """Paint how much is judged and adjusted, what the queue offers, and the matrix."""
        session, controls, desk = self._session, self._controls, self._desk
        with desk.lock:
            desk.reread_answers()
            judged, adjusted, unreasonable = (
                len(found) for found in (desk.judged, desk.adjusted, desk.unreasonable)
            )
            adjusting, notice = desk.step == "adjust", self._notice()
            outdated, again = len(desk.outdated), desk.again
        counts = session.feedback.counts()
        said = ", ".join(f"{word[0]} {counts[answer]}" for answer, word in WORDS.items())
        called = ", ".join(WORDS.values())
        controls.summary.value = (
            f"<strong>{judged} of {len(session.data)}</strong> judged · "
            f"<strong>{adjusted} of {unreasonable}</strong> unreasonable adjusted · "
            f"{session.answers_since_training} since the last training "
            f'<span class="xf-muted" title="{called}">({said})</span>'
        )
        done, of = (adjusted, unreasonable) if adjusting else (judged, len(session.data))
        controls.bar.max, controls.bar.value = max(1, of), done
        controls.notice.value = notice
        controls.offer.layout.display = "flex" if notice or outdated else "none"
        button = controls.buttons["again"]
        button.description = controls.caption("again", f"Judge again: {outdated}")
        button.layout.display = "" if outdated or again else "none"
        (button.add_class if again else button.remove_class)("xf-on")
        self.history()
        self.matrix()

    def views(self) -> None:
        """Paint which step is open, and what can be pressed in it."""
        super().views()
        mode, controls = self._desk.mode, self._controls
        for action in WORDS:
            controls.buttons[action].disabled = mode != "judge"
            controls.buttons[action].layout.display = "none" if mode == "adjust" else ""
        text = "Next" if mode == "adjust" else "Skip"
        controls.buttons["skip"].description = controls.caption("skip", text)
        controls.form.paint(shown=controls.form.on and mode == "judge")
        for name in controls.form.table():
            controls.buttons[name].disabled = mode != "judge" or not controls.form.on
        button = controls.buttons["form"]
        (button.add_class if controls.form.on else button.remove_class)("xf-on")
        controls.bridge.names = {**self._names, **controls.form.names()}

    def content(self) -> None:
        """Paint the open view."""
        look, desk = self._controls.look(contour=self.contour), self._desk
        with desk.lock:
            mode, view, current = desk.mode, self.view, desk.current
        if current is None:
            self._end(mode)
        elif mode == "compare":
            self._compare(look, view, current)
        else:
            self._one(look, current)

    def matrix(self) -> None:
        """Paint the reasonability matrix as it is now, and what moved since the first judgements."""
        now, moves = self._counts()
        caption = learning.caption(self._desk, self._session.version)
        self._controls.matrix.paint(now.counts, moves, chosen=self._desk.cell, caption=caption)

    def _counts(self) -> tuple[ReasonabilityMatrix, Moves]:
        session, desk, known = self._session, self._desk, self._counted
        made_of = (session.feedback, desk.predicted, session.version)
        if known is None or any(a is not b for a, b in zip(made_of, known[0], strict=True)):
            first, now = learning.matrices(session, desk)
            moves = first.transitions(now) if first is not None else {}
            known = self._counted = (made_of, now, moves)
        return known[1], known[2]

    def resend(self) -> None:
        """Send again all that is painted, the ink included."""
        super().resend()
        self._controls.drawing.resend()

    def _one(self, look: Look, current: str) -> None:
        controls, shown, explainer = self._controls, self.seen(current), self._explainer
        picture = explainer.picture_ready(current)
        failure = explainer.failure(current) if shown is None else None
        if picture is not None:
            controls.drawing.show(picture, shown, look, box=self._box, ratio=self.ratio)
        elif failure is not None:
            controls.drawing.stage.clear()
        marked = bool(controls.drawing.drawing.mask.any())
        adjusting = self._desk.mode == "adjust"
        controls.drawing.words.layout.display = "" if adjusting or marked else "none"
        controls.facts.paint(
            current,
            item=shown,
            votes=self._session.feedback.votes.get(current, ()),
            failure=failure,
            note=self._doubt(shown)
            + self._note(current)
            + (self._hint() if adjusting and not marked else ""),
        )
        self._desk.shown = shown
        if shown is not None:
            self.announce(current, controls.facts.describe(shown))

    def _note(self, current: str) -> str:
        """Say what the long form said, what training will use, and what does not fit together."""
        feedback = self._session.feedback
        verdict, mask = feedback.verdicts.get(current), feedback.masks.get(current)
        parts = [] if verdict is None else [escape(form.words(verdict))]
        cell = self._counts()[0].cells.get(current)
        parts.append(learning.use(self._session, feedback, current, cell))
        if verdict is not None and mask is not None:
            parts.append(self._clash(verdict, mask))
        return "".join(f"<p>{part}</p>" for part in parts if part)

    def _hint(self) -> str:
        fill = escape(self._controls.buttons["fill"].description)
        return (
            '<p class="xf-muted">Mark what the model should look at, or what it should not. Draw on the '
            f"picture, or start from the model's own map: {fill}.</p>"
        )

    def _clash(self, verdict: Verdict, mask: RegionMask) -> str:
        """Say where the two contradict each other; measured once, for a mask may be large."""
        known = self._measured
        if known is None or known[0] is not verdict or known[1] is not mask:
            text = learning.contradiction(verdict.answer, Drawing.of(mask).shares(verdict.map))
            html = f'<span class="xf-clash">⚠ {escape(text)}</span>' if text else ""
            known = self._measured = (verdict, mask, html)
        return known[2]

    def _end(self, mode: str) -> None:
        text = self._end_text()
        if mode == "compare":
            self._controls.compare.paint_end(text)
        else:
            self._controls.drawing.stage.clear()
            self._controls.facts.value = f"<p><strong>{escape(text)}</strong></p>"
        self._desk.shown = None
        self.announce(text, text)

    def _end_text(self) -> str:
        desk = self._desk
        if desk.step == "adjust" and not desk.unreasonable:
            return "No map is called unreasonable, so there is nothing to adjust: judge some first."
        if not desk.length:
            return "There are no images in this queue: choose another class, or all cells of the matrix."
        if desk.step == "adjust":
            return "Every unreasonable map of this queue is adjusted. Train, or judge more."
        return "Every map of this queue is judged. Adjust the unreasonable ones, train, or choose others."

    def _notice(self) -> str:
        """Say what the queue is narrowed to, and whether masks are drawn in vain, as HTML."""
        desk, controls, correction = self._desk, self._controls, self._session.correction
        parts = []
        if desk.cell is not None:
            parts.append(f"only {desk.cell} ({CELLS[desk.cell]})")
        if desk.again and desk.step == "judge":
            parts.append("what was judged under earlier weights, with its new maps")
        notice = ""
        if parts:
            again = f"cell_{desk.cell}" if desk.cell else "again"
            back = controls.caption(again, "press again for all")
            shown = f"Showing {' and '.join(parts)}: {counted(desk.length, 'image')}"
            notice = f'<span class="xf-badge">▸ {escape(shown)}; {escape(back)}</span>'
        if desk.mode == "adjust" and "masks" not in correction.learns_from:
            notice += (
                '<div class="xf-error"><strong>Training will not use masks:</strong> the correction is '
                f"{escape(shorten(repr(correction), 80))}. Use them with "
                "<code>session.correction = xf.corrections.Gradia()</code></div>"
            )
        return notice
