"""One image: picture, map, and what there is to know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets import layout
from xfeedback_widgets.widgets.stage import Stage
from xfeedback_widgets.widgets.stepper import describe
from xfeedback_widgets.widgets.text import error_html, escape, method_title, percent, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xfeedback_widgets.feedback import Verdict
    from xfeedback_widgets.widgets.explainer import Explained, Picture

SIZE = 384
_TOP = 3
ANSWERED = {"accept": "✓ accepted", "reject": "✕ rejected", "unsure": "? unsure"}


class SingleView(ipywidgets.HBox):
    """A large picture with its map beside the facts.

    Parameters
    ----------
    class_names : sequence of str
    on_ready : callable
        See :class:`~.stage.Stage`.
    words : mapping of answer to text
        How an answer is called here.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        on_ready: Callable[[], None],
        words: Mapping[str, str] = ANSWERED,
    ) -> None:
        self.stage = Stage(SIZE, SIZE, on_ready)
        self.stage.add_class("xf-traced")
        self.facts = Facts(class_names, words)
        super().__init__([self.stage, self.facts])
        self.add_class("xf-columns")
        self.add_class("xf-single")

    def paint(
        self,
        image_id: str,
        *,
        picture: Picture | None,
        item: Explained | None,
        votes: Sequence[Verdict],
        failure: Exception | None,
        look: layout.Look,
        box: int,
        ratio: float,
        note: str = "",
    ) -> None:
        """Show one image (for the UI pump); what is None is still on its way.

        `note` is HTML that stands below the facts.
        """
        if picture is None:
            self.stage.clear()
        else:
            layout.show(self.stage, picture, item, look, box=box, ratio=ratio)
        self.facts.paint(image_id, item=item, votes=votes, failure=failure, note=note)

    def paint_end(self, text: str) -> None:
        """Show that there is nothing more to look at (for the UI pump)."""
        self.stage.clear()
        self.facts.value = f"<p><strong>{escape(text)}</strong></p>"


class Facts(ipywidgets.HTML):
    """What there is to know about one image, in words and bars.

    Parameters
    ----------
    class_names : sequence of str
    words : mapping of answer to text
        How an answer is called here.
    """

    def __init__(self, class_names: Sequence[str], words: Mapping[str, str]) -> None:
        self._names, self._words = class_names, words
        super().__init__()
        self.add_class("xf-facts")
        self.add_class("xf-column")

    def paint(
        self,
        image_id: str,
        *,
        item: Explained | None,
        votes: Sequence[Verdict],
        failure: Exception | None,
        note: str = "",
    ) -> None:
        """Show the facts of an image (for the UI pump); `note` is HTML that stands below them."""
        heading = f'<strong title="{escape(image_id)}">Image {escape(shorten(image_id))}</strong>'
        if failure is not None:
            body = error_html("This image, or its map, failed; Skip goes on.", failure)
        elif item is None:
            body = '<p class="xf-muted">Computing the map …</p>'
        else:
            body = self._facts(item)
        self.value = f"{heading}{body}{self._answers(votes)}{note}"

    def describe(self, item: Explained) -> str:
        """Return the image in a sentence, for screen readers."""
        return (
            f"Image {shorten(item.image_id)}, true class {self._names[item.label]}, predicted "
            f"{self._names[item.predicted]}, {percent(item.confidence)}"
        )

    def _name(self, index: int) -> str:
        name = self._names[index]
        return f'<span title="{escape(name)}">{escape(shorten(name))}</span>'

    def _facts(self, item: Explained) -> str:
        right = item.predicted == item.label
        badge = f'<span class="xf-badge">{"✓ right" if right else "✕ wrong"}</span>'
        view, method = item.view, _title(item)
        rows = [
            ("True class", f"<strong>{self._name(item.label)}</strong>"),
            (
                "Predicted",
                f"<strong>{self._name(item.predicted)}</strong> {percent(item.confidence)} {badge}",
            ),
            ("Map", f"{escape(method)} for {self._name(item.target)}, {describe(view.version)}"),
        ]
        table = "".join(
            f'<tr><td class="xf-muted">{name}</td><td>{value}</td></tr>' for name, value in rows
        )
        empty = ""
        if item.empty and view.weights == "spread":
            empty = '<p class="xf-badge">No spread: all draws of the weights look at the same.</p>'
        elif item.empty:
            empty = '<p class="xf-badge">No attention: nothing in this picture speaks for the class.</p>'
        return f"<table>{table}</table>{empty}{self._bars(item)}"

    def _bars(self, item: Explained) -> str:
        rows = ""
        for index in item.probabilities.argsort()[::-1][:_TOP]:
            share = float(item.probabilities[index])
            bar = f'<span class="xf-bar" style="width:{100 * share:.1f}%"></span>'
            rows += (
                f'<tr><td style="width:30%">{self._name(int(index))}</td><td>{bar}</td>'
                f'<td class="xf-number">{percent(share)}</td></tr>'
            )
        return f'<table aria-label="Most probable classes">{rows}</table>'

    def _answers(self, votes: Sequence[Verdict]) -> str:
        given = "".join(
            f'<li><span class="xf-badge">{self._words[vote.answer]}</span> '
            f"by {escape(shorten(vote.annotator or 'unknown'))}</li>"
            for vote in votes
        )
        return f'<ul style="margin:6px 0;padding-left:18px">{given}</ul>' if given else ""


def _title(item: Explained) -> str:
    """Return what a map shows, for people: "Spread of 20 draws of Grad-CAM, up to 12 %,"."""
    method, drawn = method_title(item.view.method), item.uncertainty
    if drawn is None:
        return method
    if item.view.weights == "spread":
        return f"Spread of {drawn.samples} draws of {method} (up to {percent(drawn.spread)})"
    return f"Mean of {drawn.samples} draws of {method}"
