"""Painting: brings what is on the desk, in the session and fetched onto the widgets.

Everything here runs on the UI pump and nowhere else, and writes only what no person edits.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipycanvas
import ipywidgets

from xfeedback_widgets.widgets import doubt
from xfeedback_widgets.widgets.controls import NAMES
from xfeedback_widgets.widgets.explainer import View
from xfeedback_widgets.widgets.parts import tree
from xfeedback_widgets.widgets.single import ANSWERED, SIZE
from xfeedback_widgets.widgets.text import error_html, escape

if TYPE_CHECKING:
    from xfeedback_widgets.bayesian import Experience
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.board import Board, Buttons
    from xfeedback_widgets.widgets.controls import Controls, ImageControls
    from xfeedback_widgets.widgets.desk import Desk
    from xfeedback_widgets.widgets.explainer import Explained, Explainer
    from xfeedback_widgets.widgets.layout import Look
    from xfeedback_widgets.widgets.tracing import PointerPath

PADDING = 30  # of the root container, both sides
# What only the pump writes; what a person edits is never sent back to the page.
_PAINTED = (ipywidgets.HTML, ipywidgets.IntProgress, ipywidgets.Button, ipycanvas.Canvas)


class FramePainter(ABC):
    """Paints what surrounds every view: the status line, words for screen readers.

    Parameters
    ----------
    controls : Buttons

    Attributes
    ----------
    width, ratio : int, float
        Width of the page in CSS pixels, and device pixels per CSS pixel.
    """

    def __init__(self, controls: Buttons) -> None:
        self.width, self.ratio = 800, 1.0
        self._surroundings = controls
        self._announced: str | None = None

    @abstractmethod
    def content(self) -> None:
        """Paint the open view."""

    def status(self, html: str) -> None:
        """Paint the status line."""
        self._surroundings.status.value = html

    def failed(self, error: Exception) -> None:
        """Show that painting failed; widgets that were closed meanwhile must not end the pump."""
        with contextlib.suppress(Exception):
            self.status(error_html("The screen could not be updated.", error))

    def resend(self) -> None:
        """Send again all that is painted: a dropped message must not leave a wrong screen."""
        for child in self._surroundings.children:
            for widget in tree(child):
                if isinstance(widget, _PAINTED):
                    widget.send_state()
        self.content()

    def announce(self, what: str, text: str) -> None:
        """Say something to screen readers, unless it was the last thing said."""
        if self._announced != what:
            self._announced = what
            self._surroundings.bridge.announcement = text


class BasePainter(FramePainter):
    """Paints what surrounds every view of a session: the trainer as well.

    Parameters
    ----------
    session : Session
    controls : Board
    """

    def __init__(self, session: Session, controls: Board) -> None:
        super().__init__(controls)
        self._session, self._board = session, controls
        self._versions, self._outdated = session.versions, False

    def outdate(self) -> None:
        """Hear, on any thread, that the versions on disk are others now."""
        self._outdated = True

    def training(self) -> None:
        """Paint the trainer's progress, and read the versions anew if they are others now."""
        if self._outdated:
            self._outdated = False
            self._versions = self._session.versions
        self._board.training.paint(self._versions)


class ImagePainter(BasePainter):
    """Paints what every review of images shows.

    Parameters
    ----------
    session : Session
    desk : Desk
    controls : ImageControls
    explainer : Explainer

    Attributes
    ----------
    contour : bool
        Contour lines instead of a heat map.
    experience : tuple of Experience and int, or None
        What uncertainty has meant so far, and of which version.
    overlaps : tuple of Explained and list of Overlap, or None
        How much of a map's attention is irrelevant.
    """

    _names = NAMES  # for screen readers, by CSS selector

    def __init__(
        self, session: Session, desk: Desk, controls: ImageControls, explainer: Explainer
    ) -> None:
        super().__init__(session, controls)
        self.contour = False
        self.experience: tuple[Experience, int] | None = None
        self.overlaps: tuple[Explained, list[doubt.Overlap]] | None = None
        self.path: PointerPath | None = None
        self._desk, self._controls, self._explainer = desk, controls, explainer

    # ------------------------------------------------------------------ what is looked at

    @property
    def view(self) -> View:
        """How the maps on screen are computed: the fields' choice, under the live weights."""
        fields = self._controls
        method, target = fields.method_field.value, fields.target_field.value
        return View(method, target, self._session.version, fields.weights)

    def seen(self, image_id: str) -> Explained | None:
        """Return the map of an image that a person sees or is about to see.

        Just after a publication that is still the map on screen, under the weights before.
        """
        view, shown = self.view, self._desk.shown
        item = self._explainer.ready(image_id, view)
        if item is not None or shown is None or shown.image_id != image_id:
            return item
        return shown if replace(shown.view, version=view.version) == view else None

    def _doubt(self, shown: Explained | None) -> str:
        """Say how sure a Bayesian model is of an image, and how much attention is irrelevant, as HTML."""
        if shown is None or not self._session.bayesian:
            return ""
        drawn, uncertainty = replace(shown.view, weights="mean"), shown.uncertainty
        if uncertainty is None and (item := self._explainer.ready(shown.image_id, drawn)):
            uncertainty = item.uncertainty
        html = '<p class="xf-muted">Drawing weights …</p>'
        if uncertainty is not None:
            known, version = self.experience or (None, -1)
            html = doubt.uncertainty_html(
                uncertainty,
                len(shown.probabilities),
                known if version == shown.view.version else None,
                "training images" if self._session.validation is None else "validation images",
            )
        measured, found = self.overlaps or (None, [])
        of_this = measured is not None and (measured.image_id, measured.view) == (
            shown.image_id,
            shown.view,
        )
        return html + (doubt.overlap_html(found) if of_this else "")

    # ------------------------------------------------------------------ painting

    @abstractmethod
    def header(self) -> None:
        """Paint how much has been answered."""

    def views(self) -> None:
        """Paint which view is open, and what can be pressed in it."""
        mode, controls = self._desk.mode, self._controls
        for name, box in controls.views.items():
            button, on = controls.buttons[name], name == mode
            box.layout.display = "flex" if box is controls.views[mode] else "none"
            (button.add_class if on else button.remove_class)("xf-on")
        text = "Heat map" if self.contour else "Contour"
        controls.buttons["contour"].description = controls.caption("contour", text)
        controls.bridge.names = self._names
        if self.path is not None:
            one = mode not in {"grid", "compare"}
            controls.bridge.traced = self.path.begin(self._desk.current if one else None)

    def history(self) -> None:
        """Paint whether there is something to undo and to redo."""
        buttons, session = self._controls.buttons, self._session
        buttons["undo"].disabled = not session.can_undo
        buttons["redo"].disabled = not session.can_redo

    def resend(self) -> None:
        """Send again all that is painted, the sources of the canvases included."""
        for stage in self._controls.stages:
            for source in stage.sources:
                source.send_state()
        super().resend()

    def _compare(self, look: Look, view: View, current: str) -> None:
        chosen = self._controls.compare.versions
        items: dict[str, Any] = {
            side: self._explainer.ready(current, replace(view, version=version))
            for side, version in chosen.items()
        }
        self._controls.compare.paint(
            picture=self._explainer.picture_ready(current),
            items=items,
            failure=self._explainer.failure(current),
            versions=self._versions,
            live=view.version,
            look=look,
            box=self._box,
            ratio=self.ratio,
        )

    @property
    def _box(self) -> int:
        return max(160, min(SIZE, self.width - PADDING))


class Painter(ImagePainter):
    """Paints one review; the parameters are those of :class:`ImagePainter`."""

    _controls: Controls

    # ------------------------------------------------------------------ painting

    def header(self) -> None:
        """Paint how much has been answered."""
        session, controls = self._session, self._controls
        self._desk.reread_answers()  # others may answer too: a script, another widget
        counts, answered = session.feedback.counts(), len(self._desk.answered)
        controls.summary.value = (
            f"<strong>{answered} of {len(session.data)}</strong> answered · "
            f"{session.answers_since_training} since the last training "
            f'<span class="xf-muted">({counts["accept"]} ✓ accepted, '
            f"{counts['reject']} ✕ rejected, {counts['unsure']} ? unsure)</span>"
        )
        controls.bar.value = answered
        self.history()

    def views(self) -> None:
        """Paint which view is open, and what can be pressed in it."""
        super().views()
        for action in ANSWERED:
            self._controls.buttons[action].disabled = self._desk.mode == "compare"

    def content(self) -> None:
        """Paint the open view."""
        look, desk = self._controls.look(contour=self.contour), self._desk
        with desk.lock:
            mode, view, current = desk.mode, self.view, desk.current
        if mode == "grid":
            self._grid(look, view)
        elif current is None:
            self._end(mode)
        elif mode == "compare":
            self._compare(look, view, current)
        else:
            self._single(look, current)

    # ------------------------------------------------------------------ the views

    def _single(self, look: Look, current: str) -> None:
        shown = self.seen(current)
        self._controls.single.paint(
            current,
            picture=self._explainer.picture_ready(current),
            item=shown,
            votes=self._session.feedback.votes.get(current, ()),
            failure=self._explainer.failure(current) if shown is None else None,
            look=look,
            box=self._box,
            ratio=self.ratio,
            note=self._doubt(shown),
        )
        self._desk.shown = shown
        if shown is not None:
            self.announce(current, self._controls.single.facts.describe(shown))

    def _end(self, mode: str) -> None:
        text = "There are no images of this class."
        if self._desk.length:
            text = "Every image of this queue is answered. Train, or choose another class or order."
        if mode == "compare":
            self._controls.compare.paint_end(text)
        else:
            self._controls.single.paint_end(text)
        self._desk.shown = None
        self.announce(text, text)

    def _grid(self, look: Look, view: View) -> None:
        desk, explainer = self._desk, self._explainer
        with desk.lock:
            page, selected, start = desk.page, desk.selected, desk.page_start
        votes = self._session.feedback.votes
        items = {i: item for i in page if (item := explainer.ready(i, view)) is not None}
        answers = {i: own for i in page if (own := desk.own_answer(votes.get(i, ()))) is not None}
        view_box = self._controls.grid
        view_box.paint(
            page,
            pictures={i: p for i in page if (p := explainer.picture_ready(i)) is not None},
            items=items,
            failed={i for i in page if explainer.failure(i) is not None},
            answers=answers,
            selected=selected,
            look=look,
            width=self.width - PADDING,
            ratio=self.ratio,
        )
        text = "There are no images of this class."
        if page:
            image_id = page[selected]
            described = view_box.describe(image_id, items.get(image_id), answers.get(image_id))
            text = f"{start + selected + 1} of {desk.length}: {described}"
        view_box.line.value = escape(text)
        self.announce(text, text)
