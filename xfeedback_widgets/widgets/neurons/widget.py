"""NeuronWidget: look at what single units respond to, say what should not count, watch it pruned.

This module joins the parts. A press becomes an answer in the journal, the desk moves on, and three
threads bring what is to be shown: the collector patches and order, `patches.py` the pictures, the
previewer what pruning would do. Callbacks record and post; the pump alone writes to widgets.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.feedback import UnitVerdict
from xfeedback_widgets.widgets import grid
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.base import SessionWidget
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.neurons import answering, static
from xfeedback_widgets.widgets.neurons import patches as fetching
from xfeedback_widgets.widgets.neurons.collector import ORDERS, Collector
from xfeedback_widgets.widgets.neurons.controls import VIEWS, UnitControls
from xfeedback_widgets.widgets.neurons.desk import ANSWERED, UnitDesk
from xfeedback_widgets.widgets.neurons.painter import UnitPainter
from xfeedback_widgets.widgets.neurons.patches import Patches
from xfeedback_widgets.widgets.neurons.preview import Previewer
from xfeedback_widgets.widgets.parts import check_choice, class_indices, refuse_unknown
from xfeedback_widgets.widgets.pump import PICTURE, SURROUNDINGS, UNASKED, USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xfeedback_widgets.feedback import Record
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.units import UnitSurvey
    from xfeedback_widgets.widgets.neurons.preview import Measured

_STATIC_WAIT = 2.0  # seconds that the picture for readers without a kernel may wait for its patches
_RECENT = 2  # answers that it shows


class NeuronWidget(SessionWidget):
    """Judge what the units of a model respond to, one at a time or a page of them.

    A unit is a channel of the last feature map. Those answered Irrelevant are pruned by the next
    training, if the session's correction is :class:`~.corrections.CrayonPruning` or
    :class:`~.corrections.Crayon`; what that would do is measured after every answer. Units that show
    the same patches are asked once, and the answer is recorded for all of them.

    Parameters
    ----------
    session : Session
        Its model has to end in pooling and one linear layer; it stays open when the widget is closed.
    order : str
        Which units come first: ``influence`` on the logits, ``suspicion`` (activation outside what is
        known to be relevant) or ``random``.
    target : str or int, optional
        Class whose influence counts, by name or index; None: all.
    keys : mapping, bool or None
        Other keys than :data:`~.keys.UNIT_DEFAULTS`, as ``{"reject": "n", "train": None}``; False
        switches all keys off.
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

        widget = NeuronWidget(session)
        widget.wait()
        widget.buttons["reject"].click()
    """

    _controls: UnitControls
    _desk: UnitDesk
    _painter: UnitPainter

    def __init__(
        self,
        session: Session,
        *,
        order: str = "influence",
        target: str | int | None = None,
        keys: Mapping[str, str | None] | bool | None = None,
        page_size: int = 24,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__init__, unknown)
        check_choice("order", order, tuple(ORDERS))
        check_choice("page_size", page_size, grid.PAGE_SIZES)
        chosen = key_table.choose(keys, key_table.UNIT_DEFAULTS)
        classes = class_indices(None if target is None else [target], session.data.class_names)
        of_class = None if classes is None else classes[0]
        self.session = session
        self._desk = UnitDesk(session, page_size)
        bridge = Bridge(
            "Review of units",
            on_key=self._on_key,
            on_click=lambda *_: None,
            on_size=self._on_size,
            on_pick=self._guarded("select a unit", self._on_pick),
        )
        bridge.use(chosen)
        self._controls = UnitControls(
            session,
            bridge,
            chosen,
            self._press,
            order=order,
            target=of_class,
            page_size=page_size,
        )
        self._previewer = Previewer(session, self._on_measured)
        self._collector = Collector(
            session,
            by=order,
            target=of_class,
            seed=seed,
            on_progress=self._on_collecting,
            on_found=self._on_found,
            on_weights=self._previewer.renew,
            on_error=lambda error: self._fail("The units could not be ordered.", error),
        )
        self._patches = Patches(
            session.data, lambda error: self._fail("Patches could not be read.", error)
        )
        self._painter = UnitPainter(
            session, self._desk, self._controls, self._collector, self._patches, self._previewer
        )
        self._assemble(
            chosen,
            background=self._patches,
            # a rollback begins on the thread of the patches, and ends with their pictures
            workers=(self._patches, self._collector, self._patches, self._previewer),
        )
        self._observe_fields()
        self._collector.collect()
        self._refresh()

    def _table(self) -> dict[str, Callable[[], None]]:
        part, desk = functools.partial, self._desk
        return {
            **{answer: part(self._answer, answer) for answer in ANSWERED},
            **{mode: part(self._move, part(desk.switch, mode)) for mode in VIEWS},
            "skip": part(self._move, desk.forward),
            "back": part(self._move, desk.back),
            "undo": lambda: self._return_to(answering.undo(self.session), "Undone"),
            "redo": lambda: self._return_to(
                answering.redo(self.session, self._desk.together), "Redone"
            ),
            "open": self._open_tile,
            "next_page": part(self._move, part(desk.turn, 1)),
            "previous_page": part(self._move, part(desk.turn, -1)),
            "collect": self._collect_or_stop,
        }

    def _observe_fields(self) -> None:
        fields = self._controls
        order = self._guarded("order the units", self._choose_order)
        for field in (fields.order_field, fields.target_field):
            field.observe(lambda _: order(), "value")
        resize = self._guarded("change the page", self._choose_page_size)
        fields.page_size_field.observe(lambda _: resize(), "value")

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def unit(self) -> int | None:
        """The unit shown as one; None at the end of the queue or before there are any."""
        return self._desk.position

    @property
    def page(self) -> tuple[int, ...]:
        """The units on the grid's page."""
        return tuple(self._desk.positions)

    @property
    def answers(self) -> dict[int, str]:
        """The annotator's own answer about each unit asked; twins are in here once."""
        with self._desk.lock:
            return dict(self._desk.answers)

    @property
    def survey(self) -> UnitSurvey | None:
        """What the units respond to; None until it is collected."""
        found = self._collector.findings
        return None if found is None else found.survey

    @property
    def collecting(self) -> str:
        """``"collecting"``, ``"stopping"``, ``"stopped"``, ``"failed"``, ``"ready"`` or ``"stale"``."""
        return self._collector.progress.state

    @property
    def measured(self) -> Measured | None:
        """The preview on screen; None until it is measured."""
        return self._previewer.measured

    def go_to(self, unit: int) -> None:
        """Show a unit, or the one that is asked in its place.

        Raises
        ------
        ValueError
            No such unit is asked about: it never fires, or there are fewer.
        """
        shown = self._desk.asked_as(unit)
        if shown is None:
            raise ValueError(f"unit {unit} is not asked about: it never fires, or does not exist")
        self._desk.touch()
        self._move(functools.partial(self._desk.go_to_position, shown))

    # ------------------------------------------------------------------ actions

    def _answer(self, answer: str) -> None:
        with self._desk.lock:
            unit = self._desk.target_position
            if unit is None:
                self._say("There is nothing left to answer.")
                return
            self._record(unit, answer, self._desk.looked)
            self._move(self._desk.forward)

    def _record(self, unit: int, answer: str, duration: float | None) -> None:
        found, together = self._collector.findings, self._desk.together(unit)
        version = None if found is None else found.version
        answering.record(
            self.session,
            together,
            answer,  # type: ignore[arg-type]
            version=version,
            duration=duration,
        )
        self._desk.reread_answers()
        twins = f" and {len(together) - 1} with the same patches" if together[1:] else ""
        self._say(f"Saved: unit {unit}{twins}, {ANSWERED[answer]}.")

    def _return_to(self, record: Record | None, verb: str) -> None:
        if record is None:
            self._say(f"Nothing more can be {verb.lower()}.")
            return
        with self._desk.lock:
            self._desk.reread_answers()
            unit = self._desk.asked_as(record.unit) if isinstance(record, UnitVerdict) else None
            if unit is None:
                self._say(f"{verb} and saved.")
                return
            self._say(f"{verb} and saved: unit {unit}, {ANSWERED[record.answer]}.")  # type: ignore[union-attr]
            self._move(functools.partial(self._desk.go_to_position, unit))

    def _open_tile(self) -> None:
        with self._desk.lock:
            unit = self._desk.target_position
            if self._desk.mode == "grid" and unit is not None:
                self._desk.switch("one")
                self._move(functools.partial(self._desk.go_to_position, unit))

    def _collect_or_stop(self) -> None:
        if self._collector.progress.state == "collecting":
            self._collector.halt()
        else:
            self._collector.collect()

    def _choose_order(self) -> None:
        self._collector.arrange(self._controls.order_field.value, self._painter.target)
        self._paint_soon()

    def _choose_page_size(self) -> None:
        self._move(
            functools.partial(self._desk.resize_page, int(self._controls.page_size_field.value))
        )

    # ------------------------------------------------------------------ what the page reports

    def _move_by_arrow(self, columns: int, rows: int) -> None:
        with self._desk.lock:
            if self._desk.mode == "grid":
                step = columns + rows * self._controls.grid.columns
                self._desk.select(self._desk.selected + step)
                self._paint_soon()
            elif columns:
                self._move(self._desk.forward if columns > 0 else self._desk.back)

    def _on_pick(self, name: str, count: int) -> None:
        """Select the tile that was clicked; answer, if it was one of its buttons."""
        number, _, answer = name.partition(":")
        unit = int(number)
        self._desk.touch()
        with self._desk.lock:
            if self._desk.mode != "grid" or unit not in self._desk.positions:
                return
            self._desk.select(self._desk.positions.index(unit))
            if answer in ANSWERED:
                self._record(unit, answer, None)
            elif count == 2:
                self._open_tile()
        self._paint_soon()

    def _on_size(self, width: int, ratio: float) -> None:
        self._painter.width, self._painter.ratio = width, ratio
        self._paint_soon()

    # ------------------------------------------------------------------ what is needed next

    def _move(self, step: Callable[[], None]) -> None:
        with self._desk.lock:
            step()
            self._refresh()

    def _refresh(self) -> None:
        """Fetch the pictures that the open view needs, and paint what is there already."""
        found = self._collector.findings
        if found is not None and not self._closed:
            desk, want = self._desk, self._patches.request
            with desk.lock:
                if desk.mode == "grid":
                    painted = self._paint_content_soon
                    want("page", found.survey, desk.positions, painted, priority=fetching.PAGE)
                elif desk.position is not None:
                    here, ahead = [desk.position], desk.upcoming(fetching.PREFETCHED)
                    painted = self._paint_content_soon
                    want("current", found.survey, here, painted, priority=fetching.CURRENT)
                    want("ahead", found.survey, ahead, lambda: None, priority=fetching.PREFETCH)
        self._paint_soon()

    def _on_collecting(self) -> None:
        self.pump.post("collecting", self._painter.collecting, priority=UNASKED)

    def _on_found(self, order: list[int], new: bool) -> None:
        found = self._collector.findings
        assert found is not None  # noqa: S101  it has just been found
        with self._desk.lock:
            self._desk.use(found.survey.twins)
            if new:
                self._desk.begin(order)
            else:
                self._desk.rearrange(order)
        self._refresh()
        self._on_collecting()
        self._on_measured()

    def _on_measured(self) -> None:
        self.pump.post("preview", self._painter.preview, priority=SURROUNDINGS)

    def _on_session(self, event: str, payload: Any) -> None:
        post, painter = self.pump.post, self._painter
        if event in {"recorded", "undone", "redone"}:
            post("header", painter.header, priority=USUAL)
            if isinstance(payload, UnitVerdict) and self._collector.findings is not None:
                post("content", painter.content, priority=USUAL)
                self._previewer.request()
        elif event == "published":
            painter.outdate()
            self._collector.follow()
        if event in {"published", "progress", "error"}:
            post("training", painter.training, priority=UNASKED)

    def _paint_soon(self) -> None:
        post, painter = self.pump.post, self._painter
        post("content", painter.content, priority=PICTURE)
        post("header", painter.header, priority=SURROUNDINGS)
        post("views", painter.views, priority=SURROUNDINGS)

    def _paint_content_soon(self) -> None:
        self.pump.post("content", self._painter.content, priority=PICTURE)

    # ------------------------------------------------------------------ without a kernel

    def _static(self) -> bytes:
        """Return the picture for readers without a kernel: the latest answers, then what is next."""
        desk, found = self._desk, self._collector.findings
        with desk.lock:
            here = [] if desk.position is None else [desk.position]
            recent = list(desk.answers)[-_RECENT:]
            wanted = [*recent, *here, *desk.upcoming(static.COUNT)]
            answers, total = dict(desk.answers), desk.total
        shown = list(dict.fromkeys(wanted))[: static.COUNT]
        ready = {}
        if found is not None:
            # this is stored once and for all, so it may wait a moment
            there = threading.Event()
            done = functools.partial(self._set_when_ready, found.survey, shown, there)
            self._patches.request("static", found.survey, shown, done, priority=fetching.PAGE)
            done()
            there.wait(_STATIC_WAIT)
            survey = found.survey
            ready = {u: p for u in shown if (p := self._patches.ready(survey, u)) is not None}
        title = f"{len(answers)} of {total} units answered"
        return static.page(title, shown, patches=ready, found=found, answers=answers)

    def _set_when_ready(self, survey: UnitSurvey, shown: list[int], event: threading.Event) -> None:
        if all(self._patches.ready(survey, unit) is not None for unit in shown):
            event.set()
