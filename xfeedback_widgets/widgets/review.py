"""ReviewWidget: look at a map, judge it, and watch the model correct itself.

This module joins the parts: it holds what the person chose (which image, which view), turns presses
into calls of the session, and asks the explainer and the UI pump for the rest. How things look is in
the view modules; what comes next is in `queue.py`; no arithmetic is here.

Which thread does what: a press runs on whatever thread Jupyter picks and only records, moves on and
posts; the explainer computes; the pump alone writes to widgets. Fields a person edits (the dropdowns
and the slider) are never written here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import ipycanvas
import ipywidgets

from xfeedback_widgets.feedback import Verdict
from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import colors, grid, static
from xfeedback_widgets.widgets import explainer as fetching
from xfeedback_widgets.widgets import keys as key_table
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.compare import CompareView
from xfeedback_widgets.widgets.explainer import Explained, Explainer, View
from xfeedback_widgets.widgets.grid import GridView
from xfeedback_widgets.widgets.keyed import KeyedThread
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.parts import (
    check_choices,
    class_indices,
    close_with_models,
    dropdown,
    refuse_unknown,
    row,
    tree,
)
from xfeedback_widgets.widgets.pump import Pump
from xfeedback_widgets.widgets.queue import ORDERS, Queue, arrange
from xfeedback_widgets.widgets.single import ANSWERED, SIZE, SingleView
from xfeedback_widgets.widgets.stepper import describe
from xfeedback_widgets.widgets.text import error_html, escape, method_title, shorten
from xfeedback_widgets.widgets.training_panel import TrainingPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from xfeedback_widgets.session import Session

_VIEWS = {"one": "One image", "grid": "Grid", "compare": "Before / after"}
_PADDING = 30  # of the root container, both sides
_STATIC_WAIT = 3.0  # seconds that the picture for readers without a kernel may wait for its maps
_RECENT = 3
_UNTOUCHED = 3.0  # seconds after which the first image stays, whatever order arrives

# What only the pump writes; what a person edits is never sent back to the page.
_PAINTED = (ipywidgets.HTML, ipywidgets.IntProgress, ipywidgets.Button, ipycanvas.Canvas)


class ReviewWidget(ipywidgets.VBox):
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
        self.session = session
        self._data = session.data
        self._names = tuple(self._data.class_names)
        self._labels: NDArray[np.integer] = self._data.labels.numpy()
        self._keys = key_table.choose(keys)
        self._seed = seed
        self._as_lines = contour
        self._classes = class_indices(classes, self._names)
        check_choices(
            order=order,
            method=method or session.saliency,
            methods=tuple(METHODS),
            target=target,
            class_count=len(self._names),
            colormap=colormap,
            opacity=opacity,
            page_size=page_size,
        )

        self._lock = threading.RLock()
        self._closed = False
        self._mode = "one"
        self._width, self._ratio = 800, 1.0
        self._probabilities: NDArray[np.floating] | None = None
        self._shown: Explained | None = None
        self._since = self._made = time.monotonic()
        self._touched = False
        self._page: list[int] = []
        self._page_start = 0
        self._selected = 0
        self._announced: str | None = None
        self._versions = session.versions
        self._answered = self._own_answers()
        self.buttons: dict[str, ipywidgets.Button] = {}

        self._build(
            order=order,
            method=method or session.saliency,
            target=target,
            colormap=colormap,
            opacity=opacity,
            page_size=page_size,
        )
        self.pump = Pump(self._pump_failed, self._resend)
        self.explainer = Explainer(session, lambda error: self._fail("A map failed.", error))
        self._scorer = KeyedThread(
            "xfeedback-scores", lambda error: self._fail("The queue could not be ordered.", error)
        )
        self._queue = Queue(self._arranged(), self._answered.__contains__)
        self._unsubscribe = session.subscribe(self._on_session)
        self._refresh()
        self._score()

    # ------------------------------------------------------------------ building

    def _build(
        self,
        *,
        order: str,
        method: str,
        target: str | int,
        colormap: str,
        opacity: float,
        page_size: int,
    ) -> None:
        button = self._button
        self._summary = ipywidgets.HTML()
        self._bar = ipywidgets.IntProgress(min=0, max=max(1, len(self._data)), value=0)
        self._bar.add_class("xf-progress")
        self._bar.add_class("xf-answer-bar")
        undo = button("undo", "Undo", "Take back the last answer and return to its image")
        redo = button("redo", "Redo", "Give the answer again that was taken back")
        contour = button("contour", "Contour", "Switch between heat map and contour lines")
        contour.add_class("xf-apart")
        header = row([self._summary, self._bar])
        views = []
        for name, text in _VIEWS.items():
            view = button(name, text, f"Show: {text.lower()}")
            view.add_class("xf-view")
            views.append(view)
        self._class_filter = dropdown(
            "Class",
            [("All classes", -1), *((shorten(n), i) for i, n in enumerate(self._names))],
            -1,
            "Offer only images of this true class",
        )
        self._order = dropdown(
            "Order",
            [(text, name) for name, text in ORDERS.items()],
            order,
            "Which images come first",
        )

        self._single_view = SingleView(self._names, self._page_is_new)
        self._page_size = dropdown(
            "Tiles", [(str(n), n) for n in grid.PAGE_SIZES], page_size, "Tiles on a page"
        )
        self._grid_view = GridView(
            self._names,
            [
                button("previous_page", "Previous page", "Go to the page before"),
                button("next_page", "Next page", "Go to the page after"),
                button("accept_rest", "Accept the rest", "Accept every open tile of this page"),
                button("open", "Open", "Show the selected tile as one image"),
                self._page_size,
            ],
            self._page_is_new,
        )
        self._compare_view = CompareView(self._names, button, self._page_is_new)
        self._answers = row(
            [
                button("accept", "Accept", "The model looks at what matters; go to the next image"),
                button(
                    "reject", "Reject", "The model looks at the wrong thing; go to the next image"
                ),
                button("unsure", "Unsure", "Cannot be decided; go to the next image"),
                button("skip", "Skip", "Go to the next image without an answer"),
                button("back", "Back", "Go to the image before"),
            ]
        )
        self._answers.add_class("xf-answers")
        for action in ("accept", "reject", "unsure"):
            self.buttons[action].add_class(f"xf-{action}")

        self._opacity = ipywidgets.FloatSlider(
            value=opacity, min=0.0, max=1.0, step=0.05, description="Opacity", readout_format=".2f"
        )
        self._opacity.add_class("xf-opacity")
        self._colormap = dropdown(
            "Colours", [(n, n) for n in colors.COLORMAPS], colormap, "Colormap"
        )
        self._method = dropdown(
            "Method", [(method_title(n), n) for n in METHODS], method, "How the map is computed"
        )
        self._target = dropdown(
            "Map for",
            [
                ("true class", "label"),
                ("predicted class", "predicted"),
                *((shorten(n), i) for i, n in enumerate(self._names)),
            ],
            target,
            "The class that the map explains",
        )
        settings = ipywidgets.HBox(
            [
                self._class_filter,
                self._order,
                self._method,
                self._target,
                self._colormap,
                self._opacity,
            ]
        )
        settings.add_class("xf-settings")
        self._status = ipywidgets.HTML()
        self._status.add_class("xf-status")
        self.training = TrainingPanel(self.session, button)

        self.bridge = Bridge(
            f"Review of saliency maps, {len(self._data)} images",
            on_key=self._on_key,
            on_click=self._guarded("select a tile", self._on_click),
            on_size=self._on_size,
        )
        self.bridge.add_class("xf-bridge")
        self.bridge.hot_keys = [key for action, key in self._keys.items() if action != "peek"] + (
            list(key_table.MOVES) if self._keys else []
        )
        self.bridge.repeating_keys = list(key_table.REPEATING)
        self.bridge.peek_key = self._keys.get("peek", "")
        self._wire()
        super().__init__(
            [
                self.bridge,
                header,
                row([*views, contour, undo, redo]),
                self._single_view,
                self._grid_view,
                self._compare_view,
                self._answers,
                self._status,
                settings,
                self.training,
            ]
        )
        self.add_class("xf-root")

    def _wire(self) -> None:
        for field in (self._class_filter, self._order):
            field.observe(self._observer("order the queue", self._on_order), "value")
        for field in (self._method, self._target):
            field.observe(self._observer("compute another map", self._refresh), "value")
        for field in (self._opacity, self._colormap):
            field.observe(self._observer("redraw", self._paint_soon), "value")
        self._page_size.observe(self._observer("resize the page", self._on_page_size), "value")

    def _button(self, action: str, text: str, tooltip: str) -> ipywidgets.Button:
        key = self._keys.get(action)
        caption = f"{text} ({key_table.caption(key)})" if key else text
        made = ipywidgets.Button(description=caption, tooltip=tooltip)
        press = self._guarded(text.lower(), functools.partial(self._act, action))
        made.on_click(lambda _: press())
        self.buttons[action] = made
        return made

    # ------------------------------------------------------------------ for scripts and tests

    @property
    def current(self) -> str | None:
        """Id of the image shown as one; None at the end of the queue."""
        with self._lock:
            position = self._queue.current
            return None if position is None else self._data.ids[position]

    @property
    def explained(self) -> Explained | None:
        """Map and prediction of the current image, if they have been computed."""
        with self._lock:
            current = self.current
            return None if current is None else self._ready(current)

    @property
    def page(self) -> tuple[str, ...]:
        """Ids of the images on the grid's page."""
        with self._lock:
            return tuple(self._data.ids[position] for position in self._page)

    @property
    def status(self) -> str:
        """The status line, as HTML."""
        return str(self._status.value)

    def go_to(self, image_id: str) -> None:
        """Show an image, wherever it is in the queue."""
        with self._lock:
            self._queue.go_to(self._data.index(image_id))
            self._moved()

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until the queue is ordered, the map is there and all is on screen; not for callbacks.

        Returns
        -------
        bool
            False when `timeout` seconds passed first.
        """
        until = time.monotonic() + timeout
        # what the explainer finds is posted to the pump, so they are waited for in this order
        workers = (self._scorer, self.pump, self.explainer, self.pump)
        return all(worker.flush(max(0.0, until - time.monotonic())) for worker in workers)

    def close(self) -> None:
        """Close every widget of this one and stop its threads; the session stays open. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._unsubscribe()
        for worker in (self._scorer, self.explainer, self.pump):
            worker.close()
        for stage in (
            self._single_view.stage,
            self._grid_view.stage,
            *self._compare_view.stages.values(),
        ):
            stage.close()
        for widget in reversed(list(tree(self))):
            close_with_models(widget)

    # ------------------------------------------------------------------ actions

    def _act(self, action: str) -> None:
        """Do what a button or a key stands for."""
        self._touched = True
        if action in ANSWERED:
            self._answer(action)
        elif action in _VIEWS:
            self._switch(action)
        elif action in {"undo", "redo"}:
            self._undo() if action == "undo" else self._redo()
        elif "_" in action and action.rpartition("_")[2] in {"older", "newer"}:
            self._step(*action.rsplit("_", 1))
        else:
            getattr(self, f"_{action}")()

    def _answer(self, answer: str) -> None:
        with self._lock:
            if self._mode == "compare":
                self._say("Answers are given on one image or in the grid.")
                return
            image_id = self._target_id()
            if image_id is None:
                self._say("There is nothing left to answer.")
                return
            if not self._record(image_id, answer):
                self._say("The map of this image is not there yet.")
                return
            self._say(f"Saved: {shorten(image_id)}, {ANSWERED[answer]}.")
            self._advance()

    def _record(self, image_id: str, answer: str) -> bool:
        """Write one answer down; False when there is no map that could have been judged."""
        item = self._ready(image_id)
        if item is None:
            return False
        looked = None if self._mode == "grid" else time.monotonic() - self._since
        self.session.record(
            Verdict(
                image_id,
                answer,  # type: ignore[arg-type]
                target=item.target,
                method=item.view.method,
                version=item.view.version,
                map=item.judged,
                duration=looked,
            )
        )
        self._answered.add(self._data.index(image_id))
        return True

    def _accept_rest(self) -> None:
        if self._mode != "grid":
            self._say("This works in the grid.")
            return
        with self._lock:
            rest = [p for p in self._page if p not in self._answered]
        # many answers take many writes to disk, too long for a callback
        write = self._guarded("accept the rest", functools.partial(self._accept_all, rest))
        self.explainer.post("accept_rest", write, priority=fetching.CURRENT)

    def _accept_all(self, rest: Sequence[int]) -> None:
        done = sum(self._record(self._data.ids[position], "accept") for position in rest)
        missing = f"; {len(rest) - done} maps are not there yet" if done < len(rest) else ""
        self._say(f"Saved: {done} accepted{missing}.")
        self._paint_soon()

    def _skip(self) -> None:
        with self._lock:
            self._advance()

    def _back(self) -> None:
        with self._lock:
            if self._mode == "grid":
                self._select(self._selected - 1)
            else:
                self._queue.back()
                self._moved()

    def _undo(self) -> None:
        self._return_to(self.session.undo(), "Undone")

    def _redo(self) -> None:
        self._return_to(self.session.redo(), "Redone")

    def _return_to(self, record: Any, verb: str) -> None:
        if record is None:
            self._say(f"Nothing more can be {verb.lower()}.")
            return
        with self._lock:
            self._reread_answers()
            image_id = getattr(record, "image_id", None)
            if image_id is None or image_id not in self._data:
                self._say(f"{verb} and saved.")
                return
            answer = ANSWERED.get(getattr(record, "answer", ""), "mask")
            self._say(f"{verb} and saved: {shorten(image_id)}, {answer}.")
            position = self._data.index(image_id)
            if self._mode == "grid" and position in self._page:
                self._select(self._page.index(position))
            self._queue.go_to(position)
            self._moved()

    def _switch(self, mode: str) -> None:
        with self._lock:
            if mode == "grid" and self._mode != "grid":
                self._page_start, self._selected = self._start_of_current(), 0
            self._mode = mode
            self._since = time.monotonic()
            self._refresh()

    def _contour(self) -> None:
        with self._lock:
            self._as_lines = not self._as_lines
            self._paint_soon()

    def _open(self) -> None:
        with self._lock:
            if self._mode == "grid" and self._page:
                self._queue.go_to(self._page[self._selected])
                self._switch("one")

    def _next_page(self) -> None:
        self._turn(+1)

    def _previous_page(self) -> None:
        self._turn(-1)

    def _turn(self, by: int) -> None:
        with self._lock:
            size = self._page_size.value
            last = max(0, (len(self._queue.order) - 1) // size * size)
            self._page_start = min(max(0, self._page_start + by * size), last)
            self._selected = 0
            self._refresh()

    def _train(self) -> None:
        self.session.train()

    def _pause(self) -> None:
        if self.session.progress.state == "paused":
            self.session.resume()
        else:
            self.session.pause()

    def _stop(self) -> None:
        self.session.stop()

    def _rollback(self) -> None:
        # reading and publishing weights is work, so it is not done in the callback
        version = self.training.stepper.chosen
        self.explainer.post(
            "rollback",
            lambda: self._roll_back_to(version),
            priority=fetching.CURRENT,
        )

    def _roll_back_to(self, version: int) -> None:
        try:
            self.session.rollback(version)
        except Exception as error:  # noqa: BLE001  shown to whoever pressed
            self._fail("Could not roll back.", error)
        else:
            self._say(f"Rolled back: {describe(version)} is in the model.")

    def _step(self, which: str, direction: str) -> None:
        by = -1 if direction == "older" else 1
        if which == "target":
            self.training.stepper.step(by)
            self.pump.post("training", self._paint_training)
        else:
            self._compare_view.steppers[which].step(by)
            self._refresh()

    # ------------------------------------------------------------------ moving

    def _advance(self) -> None:
        if self._mode == "grid":
            self._select(self._selected + 1)
        else:
            self._queue.forward()
            self._moved()

    def _moved(self) -> None:
        self._since = time.monotonic()
        self._announced = None
        self._refresh()

    def _select(self, index: int) -> None:
        self._selected = min(max(0, index), max(0, len(self._page) - 1))
        self._paint_soon()

    def _target_id(self) -> str | None:
        if self._mode == "grid":
            return self._data.ids[self._page[self._selected]] if self._page else None
        return self.current

    def _start_of_current(self) -> int:
        """Return where the grid's page begins that holds the current image."""
        size, position = self._page_size.value, self._queue.current
        if position is None or position not in self._queue.order:
            return 0
        return int(self._queue.order.index(position) // size * size)

    def _on_key(self, name: str) -> None:
        move = key_table.MOVES.get(name)
        if move is not None:
            self._guarded("move", functools.partial(self._move, *move))()
            return
        action = next((action for action, key in self._keys.items() if key == name), None)
        if action is not None and not self.buttons[action].disabled:
            self._guarded(action.replace("_", " "), functools.partial(self._act, action))()

    def _move(self, columns: int, rows: int) -> None:
        with self._lock:
            if self._mode == "grid":
                self._select(self._selected + columns + rows * self._grid_view.columns)
            elif columns:
                self._skip() if columns > 0 else self._back()

    def _on_click(self, x: float, y: float, count: int) -> None:
        with self._lock:
            index = self._grid_view.hit(x, y)
            if self._mode == "grid" and index is not None:
                self._select(index)
                if count == 2:
                    self._open()

    def _on_size(self, width: int, ratio: float) -> None:
        self._width, self._ratio = width, min(max(ratio, 0.5), 4.0)
        self._paint_soon()

    def _on_order(self) -> None:
        with self._lock:
            self._queue.reorder(self._arranged(), restart=True)
            self._page_start = self._selected = 0
            self._moved()
        self._score()

    def _on_page_size(self) -> None:
        with self._lock:
            self._page_start = self._selected = 0
            self._refresh()

    # ------------------------------------------------------------------ what is needed next

    @property
    def _view(self) -> View:
        return View(self._method.value, self._target.value, self.session.version)

    def _ready(self, image_id: str) -> Explained | None:
        """Return the map that a person sees or is about to see."""
        view = self._view
        item = self.explainer.ready(image_id, view)
        if item is None and self._shown is not None and self._shown.image_id == image_id:
            shown = self._shown.view
            # new weights were published a moment ago: what was on screen is what was judged
            if (shown.method, shown.target) == (view.method, view.target):
                return self._shown
        return item

    def _refresh(self) -> None:
        """Fetch what the present view needs, and paint what is there already."""
        with self._lock:
            if self._closed:
                return
            view, ids = self._view, self._data.ids
            if self._mode == "grid":
                start = self._page_start
                self._page = self._queue.order[start : start + self._page_size.value]
                wanted = [ids[position] for position in self._page]
                self.explainer.request(
                    "grid", wanted, view, self._paint_soon, priority=fetching.GRID
                )
            elif (position := self._queue.current) is not None:
                self._fetch_single(ids[position], view)
        self._paint_soon()

    def _fetch_single(self, image_id: str, view: View) -> None:
        request, done = self.explainer.request, self._paint_soon
        request("current", [image_id], view, done, priority=fetching.CURRENT)
        if self._mode == "compare":
            for side, version in zip(("before", "after"), self._compare_view.versions, strict=True):
                other = View(view.method, view.target, version)
                request(side, [image_id], other, done, priority=fetching.COMPARE)
        ahead = [self._data.ids[p] for p in self._queue.upcoming(fetching.PREFETCHED)]
        request("prefetch", ahead, view, lambda: None, priority=fetching.PREFETCH)

    def _score(self) -> None:
        """Ask for predictions if the chosen order needs them; not while they would change anyway."""
        if (
            self._order.value in {"least_confident", "misclassified"}
            and not self.session.progress.active
        ):
            self._scorer.post("scores", self._fetch_scores)

    def _fetch_scores(self) -> None:
        probabilities, _ = self.session.predictions(stop=lambda: self._closed)
        with self._lock:
            self._probabilities = probabilities.numpy()
            # the first order may change the image on screen, but not under anyone's hands
            fresh = not self._touched and time.monotonic() - self._made < _UNTOUCHED
            self._queue.reorder(self._arranged(), restart=fresh)
        self._refresh()

    def _arranged(self) -> list[int]:
        chosen = self._class_filter.value
        return arrange(
            self._order.value,
            self._labels,
            classes=self._classes if chosen == -1 else [chosen],
            probabilities=self._probabilities,
            disagreement=self._disagreement(),
            seed=self._seed,
        )

    def _disagreement(self) -> NDArray[np.floating] | None:
        if self._order.value != "disagreement":
            return None
        import numpy as np

        amount = np.zeros(len(self._labels))
        for image_id, votes in self.session.feedback.votes.items():
            if image_id in self._data:
                amount[self._data.index(image_id)] = len({vote.answer for vote in votes}) - 1
        return amount

    def _own_answers(self) -> set[int]:
        me, feedback = self.session.annotator, self.session.feedback
        own = {i for i, votes in feedback.votes.items() if any(v.annotator == me for v in votes)}
        return {self._data.index(i) for i in own if i in self._data}

    def _reread_answers(self) -> None:
        own = self._own_answers()
        self._answered.clear()
        self._answered.update(own)

    def _on_session(self, event: str, _: Any) -> None:
        """Hear of what happened, on any thread: only post."""
        if event == "published":
            self.pump.post("published", self._after_publishing)
        self.pump.post("training", self._paint_training)
        if event in {"recorded", "undone", "redone"}:
            self.pump.post("header", self._paint_header)
        elif event != "published" and not self.session.progress.active:
            self._score()

    def _after_publishing(self) -> None:
        self._versions = self.session.versions
        self._refresh()
        self._score()
        self._paint_training()

    # ------------------------------------------------------------------ painting (on the pump only)

    def _paint_soon(self) -> None:
        self.pump.post("header", self._paint_header)
        self.pump.post("views", self._paint_views)
        self.pump.post("content", self._paint_content)
        self.pump.post("training", self._paint_training)

    def _page_is_new(self) -> None:
        """A page was loaded again or opened a second time: its canvases are empty."""
        self.pump.post("content", self._paint_content)

    def _paint_header(self) -> None:
        feedback, total = self.session.feedback, len(self._data)
        counts = feedback.counts()
        answered = len(self._answered)
        since = self.session.answers_since_training
        self._summary.value = (
            f"<strong>{answered} of {total}</strong> answered · {since} since the last training "
            f'<span class="xf-muted">({counts["accept"]} ✓ accepted, {counts["reject"]} ✕ rejected, '
            f"{counts['unsure']} ? unsure)</span>"
        )
        self._bar.value = answered
        self.buttons["undo"].disabled = not self.session.can_undo
        self.buttons["redo"].disabled = not self.session.can_redo

    def _paint_views(self) -> None:
        boxes: dict[str, ipywidgets.Box] = {
            "one": self._single_view,
            "grid": self._grid_view,
            "compare": self._compare_view,
        }
        for name, box in boxes.items():
            on = name == self._mode
            box.layout.display = "flex" if on else "none"
            (self.buttons[name].add_class if on else self.buttons[name].remove_class)("xf-on")
        for action in ANSWERED:
            self.buttons[action].disabled = self._mode == "compare"
        key = self._keys.get("contour")
        caption = "Heat map" if self._as_lines else "Contour"
        self.buttons["contour"].description = (
            f"{caption} ({key_table.caption(key)})" if key else caption
        )
        self.bridge.names = self._accessible_names()

    def _paint_content(self) -> None:
        look = Look(self._colormap.value, self._opacity.value, self._as_lines)
        with self._lock:
            mode, view, current = self._mode, self._view, self.current
        if mode == "grid":
            self._paint_grid(look, view)
        elif current is None:
            self._single_view.paint_end(self._end_text())
            self._shown = None
        elif mode == "compare":
            self._paint_compare(look, view, current)
        else:
            self._paint_single(look, view, current)

    def _paint_single(self, look: Look, view: View, current: str) -> None:
        item = self.explainer.ready(current, view)
        shown = item or self._ready(current)
        votes = self.session.feedback.votes.get(current, ())
        self._single_view.paint(
            current,
            picture=self.explainer.picture_ready(current),
            item=shown,
            votes=votes,
            failure=self.explainer.failure(current) if shown is None else None,
            look=look,
            box=self._box(),
            ratio=self._ratio,
        )
        self._shown = shown
        if item is not None and self._announced != current:
            self._announced = current
            self._announce(self._single_view.describe(item))

    def _paint_grid(self, look: Look, view: View) -> None:
        with self._lock:
            page, selected = self.page, self._selected
        pictures = {i: p for i in page if (p := self.explainer.picture_ready(i)) is not None}
        items = {i: e for i in page if (e := self.explainer.ready(i, view)) is not None}
        votes = self.session.feedback.votes
        answers = {i: own for i in page if (own := self._own(votes.get(i, ()))) is not None}
        self._grid_view.paint(
            page,
            pictures=pictures,
            items=items,
            answers=answers,
            selected=selected,
            look=look,
            width=self._width - _PADDING,
            ratio=self._ratio,
        )
        text = "No images of this class."
        if page:
            image_id = page[selected]
            text = self._grid_view.describe(image_id, items.get(image_id), answers.get(image_id))
            text = f"{self._page_start + selected + 1} of {len(self._queue.order)}: {text}"
        self._grid_view.line.value = escape(text)
        if self._announced != text:
            self._announced = text
            self._announce(text)

    def _paint_compare(self, look: Look, view: View, current: str) -> None:
        sides = zip(("before", "after"), self._compare_view.versions, strict=True)
        items = {
            side: self.explainer.ready(current, View(view.method, view.target, version))
            for side, version in sides
        }
        self._compare_view.paint(
            picture=self.explainer.picture_ready(current),
            items=items,
            versions=self._versions,
            live=view.version,
            look=look,
            box=self._box(),
            ratio=self._ratio,
        )

    def _paint_training(self) -> None:
        self.training.paint(self._versions)

    def _own(self, votes: Sequence[Verdict]) -> str | None:
        me = self.session.annotator
        return next((vote.answer for vote in votes if vote.annotator == me), None)

    def _box(self) -> int:
        return max(160, min(SIZE, self._width - _PADDING))

    def _end_text(self) -> str:
        if not self._queue.order:
            return "There are no images of this class."
        return "Every image of this queue is answered. Train, or choose another class or order."

    def _accessible_names(self) -> dict[str, str]:
        return {
            ".xf-single .xf-picture": "Picture of the current image with its saliency map",
            ".xf-grid .xf-picture": "Page of small pictures; move with the arrow keys",
            ".xf-compare .xf-picture": "Picture with the map of one version",
            ".xf-opacity .noUi-handle": "Opacity of the map",
            ".xf-answer-bar .progress": "Share of images answered",
            ".xf-training-bar .progress": "Progress of the training",
        }

    # ------------------------------------------------------------------ saying

    def _say(self, text: str) -> None:
        self._post_status(f'<span class="xf-said" role="status">{escape(text)}</span>')

    def _fail(self, message: str, error: Exception) -> None:
        self._post_status(error_html(message, error))

    def _post_status(self, html: str) -> None:
        def paint() -> None:
            self._status.value = html

        self.pump.post("status", paint)

    def _announce(self, text: str) -> None:
        self.bridge.announcement = text

    def _pump_failed(self, error: Exception) -> None:
        # already on the pump's thread; a widget closed meanwhile must not end it
        with contextlib.suppress(Exception):
            self._status.value = error_html("The screen could not be updated.", error)

    def _resend(self) -> None:
        """Send again all that the pump writes: a dropped message must not leave a wrong screen."""
        for widget in tree(self):
            if isinstance(widget, _PAINTED):
                widget.send_state()
        for stage in (
            self._single_view.stage,
            self._grid_view.stage,
            *self._compare_view.stages.values(),
        ):
            for source in stage.sources:
                source.send_state()
        self._paint_content()

    def _guarded(self, doing: str, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap a callback: what it raises would be invisible, so it is shown in the status line."""

        def call(*arguments: Any) -> None:
            if self._closed:
                return
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001
                self._fail(f"Could not {doing}.", error)

        return call

    def _observer(self, doing: str, function: Callable[[], None]) -> Callable[[Any], None]:
        guarded = self._guarded(doing, function)
        return lambda _: guarded()

    # ------------------------------------------------------------------ without a kernel

    def __repr__(self) -> str:
        return f"<ReviewWidget of {self.session!r}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle: dict[str, Any] | None = super()._repr_mimebundle_(**kwargs)
        if bundle and not self._closed:
            bundle["image/png"] = base64.b64encode(self._static()).decode("ascii")
        return bundle

    def _static(self) -> bytes:
        """Return the picture for readers without a kernel: the latest answers, then what is next."""
        with self._lock:
            latest = list(self.session.feedback.votes)[-_RECENT:]
            here = [] if self.current is None else [self.current]
            ahead = [self._data.ids[p] for p in self._queue.upcoming(static.COUNT)]
            ids = list(dict.fromkeys([*latest, *here, *ahead]))[: static.COUNT]
            view = self._view
        ids = [image_id for image_id in ids if image_id in self._data]
        # a page that is stored once may be waited for a moment
        there = threading.Event()
        self.explainer.request("static", ids, view, there.set, priority=fetching.GRID)
        there.wait(_STATIC_WAIT)
        votes = self.session.feedback.votes
        return static.page(
            f"{len(self._answered)} of {len(self._data)} images answered",
            ids,
            pictures={i: p for i in ids if (p := self.explainer.picture_ready(i)) is not None},
            items={i: e for i in ids if (e := self.explainer.ready(i, view)) is not None},
            answers={i: own for i in ids if (own := self._own(votes.get(i, ()))) is not None},
            class_names=self._names,
            look=Look(self._colormap.value, self._opacity.value, contour=False),
        )
