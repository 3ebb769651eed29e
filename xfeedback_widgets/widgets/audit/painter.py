"""Painting an audit: everything here runs on the UI pump and writes what no person edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.audit import table
from xfeedback_widgets.widgets.audit.controls import NAMES
from xfeedback_widgets.widgets.audit.desk import SHOWN
from xfeedback_widgets.widgets.audit.gallery import describe
from xfeedback_widgets.widgets.painter import FramePainter
from xfeedback_widgets.widgets.text import duration, escape, shorten, signed

if TYPE_CHECKING:
    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.widgets.audit.auditing import Auditor
    from xfeedback_widgets.widgets.audit.controls import AuditControls
    from xfeedback_widgets.widgets.audit.desk import AuditDesk
    from xfeedback_widgets.widgets.audit.shots import Shots


class AuditPainter(FramePainter):
    """Paints one audit.

    Parameters
    ----------
    desk : AuditDesk
    controls : AuditControls
    shots : Shots
    can_review : bool
        Whether there is a session to review images in.

    Attributes
    ----------
    auditor : Auditor or None
        Set once it exists.
    stale : bool or None
        Whether the model is another one than was audited; None: not known.
    """

    def __init__(
        self, desk: AuditDesk, controls: AuditControls, shots: Shots, *, can_review: bool
    ) -> None:
        super().__init__(controls)
        self._desk, self._controls, self._shots = desk, controls, shots
        self._can_review = can_review
        self.auditor: Auditor | None = None
        self.stale: bool | None = None
        # scores of the other report are looked up once
        self._before: tuple[AuditReport | None, dict[str, float]] = (None, {})

    def header(self) -> None:
        """Paint what was audited, and the means over all classes."""
        report, before = self._desk.report, self._desk.before
        facts, found = report.facts, report.summary()
        crs = table.number(found["crs"])
        if before is not None:
            earlier = before.summary()["crs"]
            crs = f"{table.number(earlier)} → {crs} ({signed(found['crs'] - earlier)})"
        part = "" if report.complete else f" of {facts['images']:,}"
        what = f"{shorten(facts['model'], 40)}, {shorten(facts['saliency'], 30)}"
        self._controls.summary.value = (
            f"<strong>{escape(what)}</strong> on {len(report):,}{part} images: right "
            f"{table.share(found['accuracy'])}, in the box <strong>{crs}</strong> of the maps, "
            f"{table.number(found['expected'])} if they were even "
            f'<span class="xf-muted">(mean of the classes; regions: {escape(facts["regions"])})</span>'
        )

    def content(self) -> None:
        """Paint the table, the chosen class and its images."""
        desk, controls = self._desk, self._controls
        with desk.lock:
            controls.table.value = table.html(desk)
            said, images, tile = table.describe(desk), desk.images, desk.tile
            rows = [desk.image_row(image_id) for image_id in images]
            report, before, which = desk.report, desk.before, desk.which
            pages = len(desk.rows) > desk.page_size
        controls.facts.value = f'<div class="xf-said-of">{escape(said)}</div>'
        source = self._shots.source
        shots = {i: shot for i in images if (shot := self._shots.ready(i)) is not None}
        controls.gallery.paint(
            images,
            rows,
            report=report,
            before=self._scores(before),
            shots=shots,
            failed={i for i in images if self._shots.failed(i)},
            live=source is not None,
            selected=tile,
        )
        for name in SHOWN:
            button = controls.buttons[name]
            (button.add_class if name == which else button.remove_class)("xf-on")
        controls.buttons["review"].disabled = not (self._can_review and images)
        for name in ("previous_page", "next_page"):
            controls.buttons[name].layout.display = "" if pages else "none"
        controls.bridge.names = NAMES
        words = said
        if tile < len(images):
            score = self._scores(before).get(images[tile])
            words += (
                f" {tile + 1} of {len(images)}: {describe(images[tile], rows[tile], report, score)}"
            )
        self.announce(words, words)

    def auditing(self) -> None:
        """Paint how far an audit is, and whether another one is due."""
        controls, auditor = self._controls, self.auditor
        button = controls.buttons["again"]
        active = auditor is not None and auditor.active
        text = "Stop auditing" if active else "Audit again"
        button.description = controls.caption("again", text)
        button.layout.display = "" if auditor is not None else "none"
        controls.bar.layout.display = "" if active else "none"
        progress = None if auditor is None else auditor.progress
        if active and progress is not None:
            controls.bar.max, controls.bar.value = progress.total, progress.done
            done = f"{progress.done:,} of {progress.total:,} images"
            controls.note.value = f"{done}, about {duration(progress.left)} left"
        elif active:
            controls.note.value = "Beginning …"
        else:
            controls.note.value = self._say_what_is_shown()

    def _say_what_is_shown(self) -> str:
        source = self._shots.source
        if source is None:
            return '<span class="xf-muted">Pass a session, or model= and data=, to see the images.</span>'
        if source.model is None:
            return '<span class="xf-muted">Pass model= to see the maps.</span>'
        if self.stale:
            return (
                "The model has changed since this audit: the maps are those it has now, the numbers are "
                "those of then."
            )
        return ""

    def _scores(self, before: AuditReport | None) -> dict[str, float]:
        if self._before[0] is not before:
            known = (
                {}
                if before is None
                else dict(zip(before.ids, before.scores(before.ids).tolist(), strict=True))
            )
            self._before = (before, known)
        return self._before[1]
