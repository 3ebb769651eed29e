"""All that can be seen and pressed in the alignment, built once, and which key does what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.widgets import drawing, keys
from xfeedback_widgets.widgets.alignment.desk import WORDS
from xfeedback_widgets.widgets.alignment.form import FormView
from xfeedback_widgets.widgets.alignment.matrix import MatrixView
from xfeedback_widgets.widgets.board import classed, row
from xfeedback_widgets.widgets.controls import ImageControls
from xfeedback_widgets.widgets.drawing import DrawingView
from xfeedback_widgets.widgets.single import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.stage import Stage

VIEWS = {"judge": "1 Judge", "adjust": "2 Adjust", "compare": "Before / after"}

# As in the other widgets where there is the same action. "r" is left out as for units: it stands for
# rejecting elsewhere, and looks like "reasonable" here.
KEYS = {
    **{
        action: key
        for action, key in keys.DEFAULTS.items()
        if action not in {"one", "grid", "accept_rest", "open", "next_page", "previous_page"}
    },
    "reject": "i",
    "judge": "j",
    "adjust": "k",
    "again": "shift+j",
    "form": "shift+f",
    "necessary_yes": "g",
    "necessary_no": "shift+g",
    "unnecessary_yes": "r",
    "unnecessary_no": "shift+r",
    **{f"quality_{number}": str(number) for number in range(1, 6)},
    "cell_RA": "6",
    "cell_UA": "7",
    "cell_RIA": "8",
    "cell_UIA": "9",
    "after_older": ";",
    "after_newer": ":",
    **drawing.KEYS,
}

NAMES = {
    ".xf-align .xf-picture": "Picture of the current image with its saliency map and what is drawn",
    ".xf-compare .xf-picture": "Picture with the map of one version",
    ".xf-opacity .noUi-handle": "Opacity of the map",
    ".xf-answer-bar .progress": "Share of this step that is done",
    ".xf-training-bar .progress": "Progress of the training",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""

_ANSWERS = {
    "accept": ("Reasonable", "The model looks at what matters; go to the next image"),
    "reject": ("Unreasonable", "The model looks at the wrong thing; go to the next image"),
    "unsure": ("Unsure", "Cannot be decided; go to the next image"),
    "skip": ("Skip", "Go to the next image"),
    "back": ("Back", "Go to the image before"),
}


class AlignmentControls(ImageControls):
    """The widgets of an alignment and their arrangement.

    Parameters
    ----------
    session, bridge, chosen
        As for :class:`~.controls.ImageControls`.
    canvas : mapping
        Further arguments of :class:`~.drawing.DrawingView`.
    **options
        As for :class:`~.controls.ImageControls`.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        *,
        on_ready: Callable[[], None],
        canvas: Mapping[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(session, bridge, chosen, on_ready=on_ready, **options)
        self.drawing = DrawingView(button=self.button, on_ready=on_ready, **canvas)
        self.facts = Facts(self.names, WORDS)
        # beside the picture on a wide page, right below it on a narrow one
        self.drawing.children = (self.drawing.stage, self.drawing.words)
        beside = classed(ipywidgets.VBox([self.drawing.toolbar, self.facts]), "xf-column")
        self.one = classed(ipywidgets.HBox([self.drawing, beside]), "xf-columns", "xf-align")
        self.views = {"judge": self.one, "adjust": self.one, "compare": self.compare}
        self.notice = ipywidgets.HTML()
        text = "Judge again what was judged under earlier weights, or go on with what was not judged yet"
        self.offer = row([self.button("again", "Judge again", text), self.notice])
        self.form = FormView(self.button)
        self.matrix = MatrixView(self.button)
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            row(self._top_buttons()),
            self.offer,
            self.one,
            self.compare,
            self.form,
            classed(row(self._answer_buttons()), "xf-answers"),
            self.status,
            self.matrix,
            self.settings,
            self.training,
        ]

    @property
    def stages(self) -> list[Stage]:
        """Every stage, shown or not."""
        return [self.drawing.stage, *super().stages]

    def close(self) -> None:
        """Close the stages with what they draw from."""
        super().close()
        self.drawing.close()

    def _top_buttons(self) -> list[ipywidgets.Widget]:
        form = self.button("form", "Long form", "Ask for details and quality as well, or do not")
        *views, contour, undo, redo = self._view_buttons(
            VIEWS,
            "Take back the last stroke or judgement and return to its image",
            "Do again what was taken back",
        )
        return [*views, contour, form, undo, redo]

    def _answer_buttons(self) -> list[ipywidgets.Widget]:
        return [
            classed(self.button(action, text, tooltip), f"xf-{action}")
            for action, (text, tooltip) in _ANSWERS.items()
        ]
