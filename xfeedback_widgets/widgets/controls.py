"""All that can be seen and pressed, built once: buttons, fields, views, and where they stand.

What a press does is decided by whoever gives `press`; what is shown, by the painter. Every button says
its key, and every field has a label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.saliency import METHODS
from xfeedback_widgets.widgets import colors, grid
from xfeedback_widgets.widgets.board import Board, classed, dropdown, progress_bar, row
from xfeedback_widgets.widgets.compare import CompareView
from xfeedback_widgets.widgets.explainer import SAMPLES
from xfeedback_widgets.widgets.grid import GridView
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.queue import BAYESIAN, ORDERS
from xfeedback_widgets.widgets.single import SingleView
from xfeedback_widgets.widgets.text import method_title, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge
    from xfeedback_widgets.widgets.explainer import Weights
    from xfeedback_widgets.widgets.stage import Stage

VIEWS = {"one": "One image", "grid": "Grid", "compare": "Before / after"}

NAMES = {
    ".xf-single .xf-picture": "Picture of the current image with its saliency map",
    ".xf-grid .xf-picture": "Page of small pictures; move with the arrow keys",
    ".xf-compare .xf-picture": "Picture with the map of one version",
    ".xf-opacity .noUi-handle": "Opacity of the map",
    ".xf-answer-bar .progress": "Share of images answered",
    ".xf-training-bar .progress": "Progress of the training",
}
"""Names for screen readers, by CSS selector, where ipywidgets has no label of its own."""


class ImageControls(Board):
    """What every review of images shows: its fields, the comparison of two versions, how maps look.

    Parameters
    ----------
    session, bridge, chosen, press
        As for :class:`~.board.Board`.
    on_ready : callable
        See :class:`~.stage.Stage`.
    method, target, order, colormap, opacity
        First values of the fields.

    Attributes
    ----------
    views : dict of mode to Box
        Filled by subclasses.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        *,
        press: Callable[[str], None],
        on_ready: Callable[[], None],
        method: str,
        target: str | int,
        order: str,
        colormap: str,
        opacity: float,
    ) -> None:
        super().__init__(session, bridge, chosen, press)
        self.names = tuple(session.data.class_names)
        self.summary = ipywidgets.HTML()
        self.bar = progress_bar("xf-answer-bar", most=max(1, len(session.data)))
        self.weights_field: ipywidgets.Dropdown | None = None
        self._make_fields(session.bayesian, method, target, order, colormap, opacity)
        self.compare = CompareView(self.names, self.button, on_ready)
        self.views: dict[str, ipywidgets.Box] = {}

    @property
    def stages(self) -> list[Stage]:
        """Every stage, shown or not."""
        return list(self.compare.stages.values())

    @property
    def order_fields(self) -> tuple[ipywidgets.Widget, ...]:
        """The fields that decide what comes next."""
        return (self.class_field, self.order_field)

    @property
    def ordering(self) -> dict[str, Any]:
        """What they say, as :meth:`.Desk.choose` takes it."""
        return {"order": self.order_field.value, "only": self.class_field.value}

    def close(self) -> None:
        """Close the stages with what they draw from."""
        for stage in self.stages:
            stage.close()

    def say_kept(self, *, byproducts: bool) -> None:
        """Say what the journal keeps of the way people look."""
        text = (
            "Each answer keeps how long you looked and where the pointer went; byproducts=False switches "
            "that off."
            if byproducts
            else "Neither how long you look nor where the pointer goes is kept (byproducts=False)."
        )
        self.kept.value = f'<span class="xf-muted">{text}</span>'

    def look(self, *, contour: bool) -> Look:
        """Return how maps are to be drawn, as the fields say."""
        return Look(str(self.colormap_field.value), float(self.opacity_field.value), contour)

    @property
    def weights(self) -> Weights:
        """Which weights of a Bayesian model are explained, as in :class:`~.explainer.View`."""
        return "means" if self.weights_field is None else self.weights_field.value

    def _make_fields(
        self,
        bayesian: bool,
        method: str,
        target: str | int,
        order: str,
        colormap: str,
        opacity: float,
    ) -> None:
        classes = [(shorten(name), index) for index, name in enumerate(self.names)]
        self.class_field = dropdown(
            "Class", [("All classes", -1), *classes], -1, "Offer only images of this true class"
        )
        orders = [(text, name) for name, text in ORDERS.items() if bayesian or name not in BAYESIAN]
        self.order_field = dropdown("Order", orders, order, "Which images come first")
        methods = [(method_title(name), name) for name in METHODS]
        self.method_field = dropdown("Method", methods, method, "How the map is computed")
        targets = [("true class", "label"), ("predicted class", "predicted"), *classes]
        self.target_field = dropdown("Map for", targets, target, "The class the map explains")
        tables = [(name, name) for name in colors.COLORMAPS]
        self.colormap_field = dropdown("Colours", tables, colormap, "Colours of the heat map")
        self.opacity_field = classed(
            ipywidgets.FloatSlider(
                value=opacity,
                min=0.0,
                max=1.0,
                step=0.05,
                description="Opacity",
                readout_format=".2f",
            ),
            "xf-opacity",
        )
        fields = [
            *(self.class_field, self.order_field, self.method_field, self.target_field),
            *(self.colormap_field, self.opacity_field),
        ]
        if bayesian:
            kinds = [
                ("their means", "means"),
                (f"{SAMPLES} draws: mean map", "mean"),
                (f"{SAMPLES} draws: spread", "spread"),
            ]
            text = (
                "Explain the mean weights, or draws of them: what they share, or where they differ"
            )
            self.weights_field = dropdown("Weights", kinds, "means", text)
            fields.insert(4, self.weights_field)
        # what is kept of those who answer stands below the fields, as wide as all of them
        self.kept = classed(ipywidgets.HTML(), "xf-wide")
        self.settings = classed(ipywidgets.HBox([*fields, self.kept]), "xf-settings")

    def _view_buttons(
        self, views: Mapping[str, str], undo: str, redo: str
    ) -> list[ipywidgets.Widget]:
        """Make the buttons of the views and those for every view, with what undo and redo say."""
        shown = [
            classed(self.button(name, text, f"Show: {text.lower()}"), "xf-view")
            for name, text in views.items()
        ]
        contour = self.button("contour", "Contour", "Switch between heat map and contour lines")
        return [
            *shown,
            classed(contour, "xf-apart"),
            self.button("undo", "Undo", undo),
            self.button("redo", "Redo", redo),
        ]


class Controls(ImageControls):
    """The widgets of a review and their arrangement.

    Parameters
    ----------
    session, bridge, chosen
        As for :class:`ImageControls`.
    page_size : int
        First value of its field.
    **options
        As for :class:`ImageControls`.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        *,
        page_size: int,
        on_ready: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(session, bridge, chosen, on_ready=on_ready, **options)
        sizes = [(str(size), size) for size in grid.PAGE_SIZES]
        self.page_size_field = dropdown("Tiles", sizes, page_size, "Tiles on a page")
        self.single = SingleView(self.names, on_ready)
        self.grid = GridView(self.names, self._page_controls(), on_ready)
        self.views = {"one": self.single, "grid": self.grid, "compare": self.compare}
        top = self._view_buttons(
            VIEWS,
            "Take back the last answer and return to its image",
            "Give the answer again that was taken back",
        )
        self.children = [
            bridge,
            row([self.summary, self.bar]),
            row(top),
            *self.views.values(),
            classed(row(self._answer_buttons()), "xf-answers"),
            self.status,
            self.settings,
            self.training,
        ]

    @property
    def stages(self) -> list[Stage]:
        """Every stage, shown or not."""
        return [self.single.stage, self.grid.stage, *super().stages]

    @property
    def order_fields(self) -> tuple[ipywidgets.Widget, ...]:
        """The fields that decide what comes next."""
        return (*super().order_fields, self.page_size_field)

    @property
    def ordering(self) -> dict[str, Any]:
        """What they say, as :meth:`.Desk.choose` takes it."""
        return {**super().ordering, "page_size": self.page_size_field.value}

    def _answer_buttons(self) -> list[ipywidgets.Widget]:
        texts = {
            "accept": "The model looks at what matters; go to the next image",
            "reject": "The model looks at the wrong thing; go to the next image",
            "unsure": "Cannot be decided; go to the next image",
            "skip": "Go to the next image without an answer",
            "back": "Go to the image before",
        }
        return [
            classed(self.button(action, action.capitalize(), text), f"xf-{action}")
            for action, text in texts.items()
        ]

    def _page_controls(self) -> list[ipywidgets.Widget]:
        return [
            self.button("previous_page", "Previous page", "Go to the page before"),
            self.button("next_page", "Next page", "Go to the page after"),
            self.button("accept_rest", "Accept the rest", "Accept every open tile of this page"),
            self.button("open", "Open", "Show the selected tile as one image"),
            self.page_size_field,
        ]
