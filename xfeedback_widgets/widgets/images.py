"""What every review of images does: fetch what the open view needs, follow the fields, the page, the model.

:class:`ImageWidget` decides nothing about what is answered or how it is written down; that is in
`review.py` for verdicts and in `alignment/` for verdicts and masks. It joins a desk, an explainer and a
painter: whatever changes, `_refresh` asks for the maps that are needed now and next, and the pump paints
what is there.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.feedback import Verdict
from xfeedback_widgets.widgets import doubt, static
from xfeedback_widgets.widgets import explainer as fetching
from xfeedback_widgets.widgets.base import SessionWidget
from xfeedback_widgets.widgets.explainer import Explained, Explainer, View
from xfeedback_widgets.widgets.keyed import KeyedThread
from xfeedback_widgets.widgets.pump import PICTURE, SURROUNDINGS, UNASKED, USUAL
from xfeedback_widgets.widgets.queue import WORTH
from xfeedback_widgets.widgets.text import counted, duration
from xfeedback_widgets.widgets.tracing import PointerPath

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import ipywidgets
    import numpy as np
    from numpy.typing import NDArray

    from xfeedback_widgets.audit import AuditReport, Progress
    from xfeedback_widgets.widgets.controls import ImageControls
    from xfeedback_widgets.widgets.desk import Desk
    from xfeedback_widgets.widgets.painter import ImagePainter

_STATIC_WAIT = 3.0  # seconds that the picture for readers without a kernel may wait for its maps
_RECENT = 3  # answers that it shows


class ImageWidget(SessionWidget):
    """The frame around a review of images.

    A subclass calls :meth:`_keep`, makes an explainer (:meth:`_make_explainer`), a desk, controls and a
    painter, and then calls :meth:`_begin`.

    Attributes
    ----------
    explainer : Explainer
    """

    _controls: ImageControls
    _desk: Desk
    _painter: ImagePainter

    def _keep(self, byproducts: bool) -> None:
        """Decide, before anything is made, whether the ways of looking are kept with what is answered."""
        self._path = PointerPath() if byproducts else None

    def _on_path(self, name: str, rows: NDArray[np.float32]) -> None:
        if self._path is not None:
            self._path.add(name, rows)

    @property
    def _looked(self) -> float | None:
        """Seconds since the one image came up, if that is kept."""
        return None if self._path is None else self._desk.looked

    def _make_explainer(self) -> Explainer:
        return Explainer(self.session, lambda error: self._fail("A map failed.", error))

    def _begin(
        self,
        keys: dict[str, str],
        *,
        audit: AuditReport | None,
        hands: Sequence[KeyedThread] = (),
    ) -> None:
        """Show everything and ask for the first maps.

        `audit` gives the robustness scores to order by; without one, they are computed when they are
        needed. `hands` are threads of the subclass that ask for maps, and are told when they are there.
        """
        self._painter.path = self._path
        self._controls.say_kept(byproducts=self._path is not None)
        self._audit, self._audited = audit, -1
        if audit is not None:
            self._desk.set_robustness(audit.scores(self.session.data.ids))
        self._scorer = KeyedThread(
            "xfeedback-scores", lambda error: self._fail("The queue could not be ordered.", error)
        )
        workers = (*hands, self._scorer, self.explainer, *hands)
        self._assemble(keys, background=self.explainer, workers=workers)
        fields = self._controls
        self._observe("order the queue", self._reorder, *fields.order_fields)
        chosen = (fields.method_field, fields.target_field, fields.weights_field)
        self._observe("change the map", self._refresh, *filter(None, chosen))
        self._observe("redraw", self._redraw, fields.colormap_field, fields.opacity_field)
        self._refresh()
        self._score()

    def _observe(
        self, doing: str, reaction: Callable[[], None], *fields: ipywidgets.Widget
    ) -> None:
        """React to what a person chooses in some fields."""
        guarded = self._guarded(doing, reaction)
        for field in fields:
            field.observe(lambda _: guarded(), "value")

    def _map_table(self) -> dict[str, Callable[[], None]]:
        """Return the actions that change how maps are shown, and not what is answered."""
        part = functools.partial
        steps = {
            f"{side}_{which}": part(self._step, side, by)
            for side in ("before", "after")
            for which, by in (("older", -1), ("newer", 1))
        }
        return {"contour": self._toggle_contour, **steps}

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

    def go_to(self, image_id: str) -> None:
        """Show an image, wherever it is in the queue."""
        self._desk.touch()
        self._move(functools.partial(self._desk.go_to, image_id))

    def offer(self, image_ids: Sequence[str]) -> None:
        """Offer only these images, in this order, until another order or class is chosen.

        Those that were answered before are asked again.

        Parameters
        ----------
        image_ids : sequence of str
            Images of the session, at least one.

        Raises
        ------
        KeyError
            No such image.
        ValueError
            None at all.
        """
        if not image_ids:
            raise ValueError("image_ids is empty: name at least one image")
        self._desk.offer(image_ids)
        self._refresh()
        self._say(f"{counted(len(image_ids), 'image')} to review; choose an order for all of them.")

    # ------------------------------------------------------------------ actions

    def _verdict(self, item: Explained, answer: str, **details: Any) -> Verdict:
        """Return an answer about a map, with all that is known about what was judged."""
        return Verdict(
            item.image_id,
            answer,  # type: ignore[arg-type]
            target=item.target,
            method=item.view.method,
            version=item.view.version,
            map=item.judged,
            predicted=item.predicted,
            duration=self._looked,
            pointer=None if self._path is None else self._path.take(item.image_id),
            **details,
        )

    def _switch(self, mode: str) -> None:
        self._move(functools.partial(self._desk.switch, mode))

    def _toggle_contour(self) -> None:
        self._painter.contour = not self._painter.contour
        self._paint_soon()

    def _step(self, which: str, by: int) -> None:
        self._controls.compare.steppers[which].step(by)
        self._refresh()

    # ------------------------------------------------------------------ what the page reports

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
        self._desk.choose(**self._controls.ordering)
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
                        other = replace(view, version=version)
                        self._fetch(side, [current], other, fetching.COMPARE)
                ahead = self._desk.upcoming(fetching.PREFETCHED)
                self._fetch("prefetch", ahead, view, fetching.PREFETCH)
                if self.session.bayesian and self._desk.mode != "compare":
                    self._fetch_doubt(current, ahead[: fetching.BATCH], view)
        self._paint_soon()

    def _fetch_doubt(self, current: str, ahead: Sequence[str], view: View) -> None:
        """Draw weights for the current image and, when there is time, for the next ones."""
        drawn = replace(view, weights="mean")
        self._fetch("doubt", [current], drawn, fetching.DOUBT)
        self._fetch("ahead", ahead, drawn, fetching.DOUBT_AHEAD)
        self._measure_soon()

    def _measure_soon(self) -> None:
        """Measure how much of the current map is irrelevant, on the explainer's thread."""
        if self.session.bayesian:
            self.explainer.post("overlap", self._measure, priority=fetching.OVERLAP)

    def _measure(self) -> None:
        current = self._desk.current
        item = None if current is None else self._painter.seen(current)
        if item is not None:
            self._painter.overlaps = item, doubt.overlaps(self.session, item)
            self._paint_content_soon()

    def _fetch(self, key: str, image_ids: Sequence[str], view: View, priority: int) -> None:
        done = functools.partial(self._fetched, key)
        self.explainer.request(key, image_ids, view, done, priority=priority)

    def _fetched(self, key: str) -> None:
        """What was asked for under `key` is there, on any thread."""
        if key not in {"prefetch", "ahead"}:
            self._paint_content_soon()

    def _score(self) -> None:
        """Ask for predictions and scores if they are needed; not while training changes them anyway."""
        if self.session.progress.active:
            return
        if self._desk.needs_scores:
            self._scorer.post("scores", self._fetch_scores)
        if self._desk.needs_robustness and self._audit is None:
            self._scorer.post("robustness", self._fetch_robustness)
        if self._desk.needs_worth is not None:
            self._scorer.post("worth", self._fetch_worth)
        if self.session.bayesian:
            self._scorer.post("experience", self._fetch_experience, priority=1)

    def _fetch_worth(self) -> None:
        order = self._desk.needs_worth
        if order is None:
            return

        def stop() -> bool:
            return self._closed or self._desk.needs_worth != order

        worth, _ = self.session.worth_asking(WORTH[order], samples=fetching.SAMPLES, stop=stop)
        if not stop():
            self._desk.set_worth(order, worth.numpy())
            self._refresh()

    def _fetch_experience(self) -> None:
        experience, version = self.session.experience(
            samples=fetching.SAMPLES, stop=lambda: self._closed
        )
        self._painter.experience = experience, version
        self._paint_content_soon()

    def _fetch_scores(self) -> None:
        probabilities, version = self.session.predictions(stop=lambda: self._closed)
        self._desk.set_scores(probabilities.numpy(), version)
        self._refresh()

    def _fetch_robustness(self) -> None:
        """Audit the live version on the images' masks, or on what people drew, and order by it."""
        session, data = self.session, self.session.data
        version, drawn = session.version, session.feedback.masks
        if not data.has_masks and not any((mask.mask > 0).any() for mask in drawn.values()):
            self._say(
                "Nothing says where the objects are, so there is no robustness score: give the images "
                "masks, draw some in the AlignmentWidget, or pass audit= with a report. Until then "
                "the images come in the dataset's order."
            )
        elif not (data.has_masks and version == self._audited):
            report = session.audit(progress=self._say_auditing, stop=self._no_longer_audited)
            if report.complete:
                self._audited = version
                self._desk.set_robustness(report.scores(data.ids))
                self._say(f"Ordered by robustness score; regions: {report.facts['regions']}.")
                self._refresh()

    def _no_longer_audited(self) -> bool:
        return self._closed or not self._desk.needs_robustness

    def _say_auditing(self, progress: Progress) -> None:
        left = f", about {duration(progress.left)} left" if progress.done < progress.total else ""
        self._say(f"Robustness scores: {progress.done:,} of {progress.total:,} images{left}")

    def _on_session(self, event: str, _: Any) -> None:
        """Hear what happened, on any thread: only post."""
        post, painter = self.pump.post, self._painter
        if event in {"recorded", "undone", "redone"}:
            post("header", painter.header, priority=USUAL)
            self._measure_soon()
            if self._desk.needs_worth == "rejected_overlap":
                self._score()
        elif event == "published":
            painter.outdate()
            post("refresh", self._refresh, priority=UNASKED)
        if event in {"published", "progress", "error"}:
            post("training", painter.training, priority=UNASKED)
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
            self._title(),
            ids,
            pictures={i: p for i in ids if (p := explainer.picture_ready(i)) is not None},
            items={i: item for i in ids if (item := explainer.ready(i, view)) is not None},
            answers={i: a for i in ids if (a := desk.own_answer(votes.get(i, ()))) is not None},
            class_names=tuple(data.class_names),
            look=self._controls.look(contour=False),
            **self._static_options(ids),
        )

    def _title(self) -> str:
        """Return the first line of that picture."""
        return f"{len(self._desk.answered)} of {len(self.session.data)} images answered"

    def _static_options(self, image_ids: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """Return further arguments of :func:`.static.page`."""
        return {}
