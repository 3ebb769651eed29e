"""Painting the review of units: everything here runs on the UI pump and writes what no person edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets import units
from xfeedback_widgets.corrections import Crayon, CrayonPruning
from xfeedback_widgets.widgets.neurons import preview
from xfeedback_widgets.widgets.neurons.controls import NAMES
from xfeedback_widgets.widgets.neurons.desk import ANSWERED
from xfeedback_widgets.widgets.painter import BasePainter
from xfeedback_widgets.widgets.text import duration, error_html, escape, shorten

if TYPE_CHECKING:
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.neurons.collector import Collecting, Collector
    from xfeedback_widgets.widgets.neurons.controls import UnitControls
    from xfeedback_widgets.widgets.neurons.desk import UnitDesk
    from xfeedback_widgets.widgets.neurons.patches import Patches
    from xfeedback_widgets.widgets.neurons.preview import Previewer

_PADDING = 30  # of the root container, both sides


class UnitPainter(BasePainter):
    """Paints one review of units.

    Parameters
    ----------
    session : Session
    desk : UnitDesk
    controls : UnitControls
    collector : Collector
    patches : Patches
    previewer : Previewer
    """

    def __init__(
        self,
        session: Session,
        desk: UnitDesk,
        controls: UnitControls,
        collector: Collector,
        patches: Patches,
        previewer: Previewer,
    ) -> None:
        super().__init__(session, controls)
        self._desk, self._controls = desk, controls
        self._collector, self._patches, self._previewer = collector, patches, previewer

    def header(self) -> None:
        """Paint how much has been answered, and whether training will use it."""
        session, controls, desk = self._session, self._controls, self._desk
        with desk.lock:
            desk.reread_answers()
            answers, total = list(desk.answers.values()), desk.total
        counts = ", ".join(f"{answers.count(name)} {text}" for name, text in ANSWERED.items())
        found = self._collector.findings
        silent = 0 if found is None else int((found.survey.peaks[:, 0] <= 0).sum())
        asleep = f" · {silent} units never fire and are not asked" if silent else ""
        so_far = f"<strong>{len(answers)} of {total}</strong> units answered"
        controls.summary.value = (
            f"{'No units yet' if found is None else so_far} · "
            f"{session.answers_since_training} since the last training "
            f'<span class="xf-muted">({counts}){asleep}</span>'
        )
        controls.bar.max, controls.bar.value = max(1, total), len(answers)
        controls.buttons["undo"].disabled = not session.can_undo
        controls.buttons["redo"].disabled = not session.can_redo
        controls.notice.value = notice = _notice(session)
        controls.notice.layout.display = "" if notice else "none"

    def views(self) -> None:
        """Paint which view is open, and what can be pressed in it."""
        mode, controls = self._desk.mode, self._controls
        for name, box in controls.views.items():
            button, on = controls.buttons[name], name == mode
            box.layout.display = "flex" if on else "none"
            (button.add_class if on else button.remove_class)("xf-on")
        for action in (*ANSWERED, "skip", "back"):
            controls.buttons[action].disabled = self._collector.findings is None
        controls.bridge.names = NAMES

    def collecting(self) -> None:
        """Paint how far the collecting of patches is; nothing when there is nothing to say."""
        progress, controls = self._collector.progress, self._controls
        active = progress.state in {"collecting", "stopping"}
        note = self._collector.note
        shown = progress.state != "ready" or bool(note)
        controls.collecting.layout.display = "flex" if shown else "none"
        controls.collect_text.value = f"<div>{note or _state(progress)}</div>" if shown else ""
        controls.collect_bar.layout.display = "" if active else "none"
        controls.collect_bar.max = max(1, progress.total)
        controls.collect_bar.value = progress.done
        button = controls.buttons["collect"]
        text = "Stop collecting" if active else "Collect again"
        button.description = controls.caption("collect", text)
        button.disabled = progress.state in {"ready", "stopping"}
        button.layout.display = "none" if progress.state == "ready" else ""

    def content(self) -> None:
        """Paint the open view."""
        if self._desk.mode == "grid":
            self._grid()
        else:
            self._single()

    def preview(self) -> None:
        """Paint what pruning would do now."""
        previewer, found, box = self._previewer, self._collector.findings, self._controls.preview
        if found is None:
            return
        measured = previewer.measured
        pruned = sorted(measured.pruned) if measured is not None else []
        on = (
            "a sample of the images"
            if self._session.validation is None
            else "the validation images"
        )
        if self._collector.progress.state == "stale":
            on += ", with the weights before the last training"
        done = bool(pruned) and not found.weight[:, pruned].any()
        box.value = preview.table(measured, previewer.failure, on=on, done=done)
        box.layout.display = ""

    def _single(self) -> None:
        found, desk = self._collector.findings, self._desk
        with desk.lock:
            unit, total = desk.position, desk.total
            answer = desk.answers.get(unit) if unit is not None else None
            together = desk.together(unit) if unit is not None else ()
        view = self._controls.single
        if found is None:
            view.paint_text("")
        elif unit is None:
            text = "Every unit is answered. Train, or look at them again in the grid."
            text = text if total else "No unit of this model fires on any of these images."
            view.paint_text(text)
            self.announce(text, text)
        else:
            patches = self._patches.ready(found.survey, unit)
            view.paint(
                unit,
                patches=patches,
                found=found,
                together=together,
                answer=answer,
                target=self.target,
            )
            if patches is not None:
                text = view.describe(unit, patches, found, answer)
                self.announce(text, text)

    def _grid(self) -> None:
        found, desk, view = self._collector.findings, self._desk, self._controls.grid
        if found is None:
            view.line.value = ""
            return
        with desk.lock:
            page, selected, start = desk.positions, desk.selected, desk.page_start
            answers = dict(desk.answers)
        survey = found.survey
        ready = {u: p for u in page if (p := self._patches.ready(survey, u)) is not None}
        view.paint(
            page,
            patches=ready,
            found=found,
            answers=answers,
            selected=selected,
            width=self.width - _PADDING,
        )
        text = "There are no units."
        if page:
            unit = page[selected]
            described = self._controls.single.describe(
                unit, ready.get(unit), found, answers.get(unit)
            )
            text = f"{start + selected + 1} of {desk.length}: {described}"
        view.line.value = escape(text)
        self.announce(text, text)

    @property
    def target(self) -> int | None:
        """The class chosen; None: all."""
        chosen = int(self._controls.target_field.value)
        return None if chosen < 0 else chosen


def _notice(session: Session) -> str:
    """Say so when training will not use the answers, and what to do."""
    if isinstance(session.correction, (CrayonPruning, Crayon)):
        return ""
    name = escape(shorten(repr(session.correction), 80))
    return (
        '<div class="xf-error"><strong>Training will not use these answers:</strong> the correction is '
        f"{name}. Prune with <code>session.correction = xf.corrections.CrayonPruning()</code></div>"
    )


def _state(progress: Collecting) -> str:
    """Say in HTML what the collecting does."""
    seen = f"{progress.done:,} of {progress.total:,} images"
    if progress.state == "failed":
        if isinstance(progress.error, units.NoLinearHeadError):
            return error_html("This model has no units that could be asked about.", progress.error)
        return error_html("The patches could not be collected.", progress.error)
    if progress.state == "stale":
        return (
            '<div class="xf-error"><strong>These patches are of an earlier version:</strong> since then '
            "training has changed what the units respond to. Collect them again to see it.</div>"
        )
    if progress.state == "stopped":
        return f"Collecting was stopped after {seen}; nothing was kept."
    if progress.state == "stopping":
        return "Stopping …"
    left = "" if progress.eta is None else f", about {duration(progress.eta)} left"
    return f"Collecting the patches that activate each unit most: {seen}{left}"
