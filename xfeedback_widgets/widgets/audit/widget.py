"""AuditWidget: which classes are right for the wrong reasons, their worst images, and what to do about it.

This module joins the parts. A press or a click moves the desk and posts; the shots' thread explains images
anew, the auditor audits again; the pump alone writes to widgets. What a person edits, the filter, is never
written by us.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets import audit as audits
from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.audit import static
from xfeedback_widgets.widgets.audit.auditing import Auditor
from xfeedback_widgets.widgets.audit.controls import KEYS, AuditControls
from xfeedback_widgets.widgets.audit.desk import COLUMNS, SHOWN, AuditDesk
from xfeedback_widgets.widgets.audit.painter import AuditPainter
from xfeedback_widgets.widgets.audit.shots import Shots, Source
from xfeedback_widgets.widgets.base import Frame
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.parts import check_choice, refuse_unknown
from xfeedback_widgets.widgets.pump import PICTURE, SURROUNDINGS, UNASKED, USUAL
from xfeedback_widgets.widgets.review import ReviewWidget
from xfeedback_widgets.widgets.text import counted, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.images import ImageWidget

_STATIC_WAIT = 3.0  # seconds that the picture for readers without a kernel may wait for its maps


class AuditWidget(Frame):
    """Look through an audit, class by class, and send the worst images to a review.

    A table of the classes, the least robust first, and the worst images of the chosen one, with the map
    of the model as it is now and the outline of the object. With an earlier report, or that of another
    model, every number is shown beside its change.

    Parameters
    ----------
    report : AuditReport
        What ``xf.audit`` or ``session.audit`` returned.
    session : Session, optional
        Its model explains the images, and *Review these* asks about them; it stays open when the widget
        is closed.
    model : Module, optional
        Explains the images where there is no session.
    data : ImageSet, optional
        The images that were audited; default: the session's training or validation images, whichever
        the report is about.
    boxes, masks : optional
        Where the objects are, as for ``xf.audit``; default: the images' masks, or what people drew.
    before : AuditReport, optional
        Compare with this one: the same classes, before a correction or by another model.
    review : ReviewWidget or AlignmentWidget, optional
        Where *Review these* sends images; default: one that opens below.
    sort : str
        Column sorted by at first: ``class``, ``images``, ``accuracy``, ``accuracy_top5``, ``crs``,
        ``expected``, and with `before` ``difference``.
    page_size : int
        Classes on a page of the table.
    count : int
        Images of a class.
    keys : mapping, bool or None
        Other keys than :data:`~.audit.controls.KEYS`, as ``{"review": "o", "again": None}``; False
        switches all keys off.

    Raises
    ------
    TypeError
        For an unknown keyword; the message names the nearest one.
    ValueError
        For a value that does not exist, reports of different classes, or both a session and a model.

    Examples
    --------
    The last expression of a cell shows it; a script can press its buttons::

        widget = AuditWidget(session.audit(), session)
        widget.choose("dog")
        widget.buttons["review"].click()
    """

    _controls: AuditControls
    _painter: AuditPainter

    def __init__(
        self,
        report: AuditReport,
        session: Session | None = None,
        *,
        model: nn.Module | None = None,
        data: ImageSet | None = None,
        boxes: Any = None,
        masks: Any = None,
        before: AuditReport | None = None,
        review: ImageWidget | None = None,
        sort: str = "crs",
        page_size: int = 12,
        count: int = 12,
        keys: Mapping[str, str | None] | bool | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        if session is not None and model is not None:
            raise ValueError("session and model were both given; pass the one that was audited")
        offered = [name for name in COLUMNS if name != "difference" or before is not None]
        check_choice("sort", sort, offered)
        for name, value in (("page_size", page_size), ("count", count)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.session = session
        self._desk = AuditDesk(report, before, sort=sort, page_size=page_size, count=count)
        self._review, self._own_review = review, False
        self._regions = {"boxes": boxes, "masks": masks}
        chosen = key_table.choose(keys, KEYS)
        bridge = Bridge(
            "Audit of classes",
            on_key=self._on_key,
            on_click=lambda *_: None,
            on_size=lambda *_: None,
            on_pick=self._guarded("choose", self._on_pick),
        )
        bridge.use(chosen)
        self._controls = AuditControls(bridge, chosen, self._press)
        source = self._find_source(model, data)
        self._shots = Shots(source, lambda error: self._fail("An image failed.", error))
        can_review = review is not None or session is not None
        self._painter = AuditPainter(self._desk, self._controls, self._shots, can_review=can_review)
        self._painter.auditor = self._auditor = self._make_auditor(source)
        workers = [self._auditor, self._shots] if self._auditor is not None else [self._shots]
        self._assemble(chosen, background=self._shots, workers=workers)
        listen = self._guarded("filter the classes", self._filter)
        self._controls.filter.observe(lambda _: listen(), "value")
        self._unsubscribe = None if session is None else session.subscribe(self._on_session)
        self.pump.post("header", self._painter.header, priority=SURROUNDINGS)
        self._look_at_weights()
        self._refresh()

    def _find_source(self, model: nn.Module | None, data: ImageSet | None) -> Source | None:
        """Return what images are explained with; None where the images are not known."""
        session, ids = self.session, self._desk.report.ids
        offered = (
            [data] if session is None or data is not None else [session.data, session.validation]
        )
        found = next((d for d in offered if d is not None and all(i in d for i in ids)), None)
        if found is None:
            if data is not None:
                missing = next(i for i in ids if i not in data)
                raise ValueError(
                    f"the report is about image {missing!r}, which is not in data; pass the images that "
                    "were audited"
                )
            return None
        boxes, masks = self._regions["boxes"], self._regions["masks"]
        if boxes is None and masks is None and session is not None and not found.has_masks:
            masks = session.feedback if session.feedback.masks else None
        known = boxes is not None or masks is not None or found.has_masks
        return Source(
            data=found,
            model=model if session is None else session.model,
            regions=audits.Regions(found, boxes=boxes, masks=masks) if known else None,
            lock=contextlib.nullcontext() if session is None else session.lock,
        )

    def _make_auditor(self, source: Source | None) -> Auditor | None:
        """Return what audits again; None where something that is needed for it is not known."""
        facts, session = self._desk.report.facts, self.session
        if source is None or source.model is None or source.regions is None:
            return None
        if facts["saliency"] not in METHODS:
            return None
        options = {
            **{name: value for name, value in self._regions.items() if value is not None},
            **{name: facts[name] for name in ("saliency", "outputs", "batch_size")},
        }
        if session is None:
            audit: Any = functools.partial(audits.audit, source.model, source.data, **options)
        else:
            data = None if source.data is session.data else source.data
            audit = functools.partial(session.audit, data, **options)
        return Auditor(
            audit,
            on_progress=lambda: self.pump.post(
                "auditing", self._painter.auditing, priority=UNASKED
            ),
            on_found=self._on_audited,
            on_error=lambda error: self._fail("The audit failed.", error),
        )

    def _show(self, children: Sequence[ipywidgets.Widget]) -> None:
        # a review stands below, in a frame of its own, so that no key means two things
        self._root = ipywidgets.VBox(children)
        self._root.add_class("xf-root")
        ipywidgets.VBox.__init__(self, [self._root])
        self.add_class("xf-stack")

    def _table(self) -> dict[str, Callable[[], None]]:
        part, desk = functools.partial, self._desk
        return {
            "review": self._review_these,
            "again": self._audit_or_stop,
            **{which: part(self._move, part(desk.show, which)) for which in SHOWN},
            "sort": part(self._move, desk.next_column),
            "reverse": lambda: self._move(part(desk.sort_by, desk.sort)),
            "next_page": part(self._move, part(desk.turn, 1)),
            "previous_page": part(self._move, part(desk.turn, -1)),
        }

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def report(self) -> AuditReport:
        """The report on screen; another one after *Audit again*."""
        return self._desk.report

    @property
    def before(self) -> AuditReport | None:
        """The report it is compared with."""
        return self._desk.before

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are listed, in order."""
        with self._desk.lock:
            return tuple(str(self._desk.table["class"][row]) for row in self._desk.rows)

    @property
    def current(self) -> str | None:
        """The chosen class."""
        return self._desk.name

    @property
    def images(self) -> tuple[str, ...]:
        """Ids of the images shown, the worst first."""
        return tuple(self._desk.images)

    @property
    def review(self) -> ImageWidget | None:
        """The widget that images are sent to; None until one is opened."""
        return self._review

    def choose(self, name: str) -> None:
        """Choose a class.

        Raises
        ------
        ValueError
            No such class, or the filter leaves it out.
        """
        if name not in self.classes:
            raise ValueError(
                f"no class {name!r} is listed; there are {', '.join(self.classes[:20])}"
            )
        self._move(functools.partial(self._desk.choose, self.report.class_names.index(name)))

    def close(self) -> None:
        """Close this widget, the review it has opened, and its threads. Idempotent."""
        if not self._closed:
            if self._unsubscribe is not None:
                self._unsubscribe()
            self.children = [self._root]
            if self._own_review and self._review is not None:
                self._review.close()
        super().close()

    def __repr__(self) -> str:
        return f"<AuditWidget of {self.report!r}>"

    # ------------------------------------------------------------------ actions

    def _move(self, step: Callable[[], None]) -> None:
        with self._desk.lock:
            step()
            self._refresh()

    def _filter(self) -> None:
        self._move(functools.partial(self._desk.filter, str(self._controls.filter.value)))

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        with self._desk.lock:
            if rows:
                self._desk.step(rows)
            if columns:
                self._desk.select(self._desk.tile + columns)
            self._refresh()

    def _on_pick(self, name: str, count: int) -> None:  # noqa: ARG002 - of clicks
        """Do what a click on a heading, a row or an image stands for."""
        kind, _, what = name.partition(":")
        desk = self._desk
        if kind == "sort" and what in desk.columns:
            self._move(functools.partial(desk.sort_by, what))
        elif kind == "class":
            self._move(functools.partial(desk.choose, int(what)))
        elif kind == "image":
            self._move(functools.partial(desk.select, int(what)))

    def _audit_or_stop(self) -> None:
        auditor = self._auditor
        if auditor is None:
            self._say("Auditing again needs the model, the images, and where the objects are.")
        elif auditor.active:
            auditor.halt()
        else:
            auditor.start()

    def _on_audited(self, report: AuditReport) -> None:
        """Show a new report beside the one before, on the auditor's thread."""
        before = self.report
        if before.facts["weights"] == report.facts["weights"]:
            self._say("The model is the one that was audited: nothing has changed.")
            return
        with self._desk.lock:
            self._desk.use(report, before)
            self._refresh()
        self._painter.stale = False
        self.pump.post("header", self._painter.header, priority=USUAL)
        self._say("Audited again; the changes are those since the report before.")

    # ------------------------------------------------------------------ the review

    def _review_these(self) -> None:
        """Have the images on screen reviewed, the selected one first."""
        with self._desk.lock:
            name, images, tile = self._desk.name, self._desk.images, self._desk.tile
        if not images or (self.session is None and self._review is None):
            self._say("There is nothing to review: pass a session, and choose a class with images.")
            return
        first = images[tile : tile + 1]
        offered = first + [image_id for image_id in images if image_id not in first]
        # a new review is hundreds of small widgets, too long for a callback
        self._in_background(
            "open the review", functools.partial(self._offer_to_review, name, offered)
        )

    def _offer_to_review(self, name: str | None, images: list[str]) -> None:
        review = self._review
        if review is None:
            assert self.session is not None  # noqa: S101 - said above
            method = self.report.facts["saliency"]
            review = self._review = ReviewWidget(
                self.session, method=method if method in METHODS else None, audit=self.report
            )
            self._own_review = True
            self.pump.post("review", functools.partial(self._open_below, review), priority=PICTURE)
        data = review.session.data
        shown = shorten(name or "", 40)
        if all(image_id in data for image_id in images):
            review.offer(images)
            self._say(f"{counted(len(images), 'image')} of {shown} sent to the review.")
        elif name in data.class_names:
            # what was audited is held out: the same class is reviewed where answers are learned from
            members = [data.ids[i] for i in _of_class(data, data.class_names.index(name))]
            review.offer(members)
            self._say(
                f"These images are not among those reviewed, so the {counted(len(members), 'image')} of "
                f"{shown} there were sent."
            )
        else:
            self._say("These images are not among those reviewed, and neither is their class.")

    def _open_below(self, review: ImageWidget) -> None:
        self.children = [self._root, review]

    # ------------------------------------------------------------------ what is needed next

    def _refresh(self) -> None:
        """Explain the images of the chosen class, and paint what is there already."""
        if not self._closed:
            self._shots.request(self._desk.report, self._desk.images, self._paint_soon)
            self._paint_soon()

    def _paint_soon(self) -> None:
        self.pump.post("content", self._painter.content, priority=PICTURE)

    def _on_session(self, event: str, _: Any) -> None:
        """Hear that the model is another one, on any thread: only post."""
        if event == "published":
            self._shots.forget()
            self._look_at_weights()
            self._refresh()

    def _look_at_weights(self) -> None:
        self._shots.post("weights", self._compare_weights, priority=-1)

    def _compare_weights(self) -> None:
        same = self._shots.same_weights(self.report)
        self._painter.stale = None if same is None else not same
        self.pump.post("auditing", self._painter.auditing, priority=SURROUNDINGS)

    # ------------------------------------------------------------------ without a kernel

    def _static(self) -> bytes:
        """Return the picture for readers without a kernel: the first classes, and the worst images."""
        desk, shots = self._desk, self._shots
        with desk.lock:
            report, images, name = desk.report, desk.images[: static.COUNT], desk.name
            table = desk.table.rows(desk.rows[: static.CLASSES])
        there = threading.Event()

        def done() -> None:
            if all(shots.ready(i) is not None or shots.failed(i) for i in images):
                there.set()

        if shots.source is not None:
            # this is stored once and for all, so it may wait a moment
            shots.request(report, images, done, key="static")
            there.wait(_STATIC_WAIT)
        scores = dict(zip(images, report.scores(images).tolist(), strict=True))
        return static.page(
            f"{report.facts['model']}, {report.facts['saliency']}: {len(report):,} images audited",
            table,
            images,
            of=name or "",
            shots={i: shot for i in images if (shot := shots.ready(i)) is not None},
            scores=scores,
        )


def _of_class(data: ImageSet, label: int) -> list[int]:
    return (data.labels == label).nonzero()[:, 0].tolist()
