"""The board a widget is laid out on: buttons that say their keys, status line; on a session, training panel.

Rows that wrap, bars of progress and fields with a label are made here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.widgets import keys
from xfeedback_widgets.widgets.training_panel import TrainingPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.bridge import Bridge


class Buttons:
    """What every widget shows, and the maker of its buttons.

    Parameters
    ----------
    bridge : Bridge
    chosen : dict of action to key
        As :func:`~.keys.choose` returns them.
    press : callable
        ``press(action)`` when a button is pressed.

    Attributes
    ----------
    buttons : dict of action to Button
    status : HTML
        The status line.
    children : sequence of Widget
        All that is shown, from top to bottom; filled by subclasses.
    """

    def __init__(
        self, bridge: Bridge, chosen: dict[str, str], press: Callable[[str], None]
    ) -> None:
        self.bridge = bridge
        self.buttons: dict[str, ipywidgets.Button] = {}
        self._keys, self._press = chosen, press
        self.status = classed(ipywidgets.HTML(), "xf-status")
        self.children: Sequence[ipywidgets.Widget] = []

    def close(self) -> None:
        """Close what is not a widget in the tree of :attr:`children`."""

    def caption(self, action: str, text: str) -> str:
        """Return the text of a button with its key: "Accept (a)"."""
        key = self._keys.get(action)
        return f"{text} ({keys.caption(key)})" if key else text

    def button(self, action: str, text: str, tooltip: str) -> ipywidgets.Button:
        """Make the button of an action."""
        made = ipywidgets.Button(description=self.caption(action, text), tooltip=tooltip)
        made.on_click(lambda _: self._press(action))
        self.buttons[action] = made
        return made


class Board(Buttons):
    """What every widget on a session shows.

    Parameters
    ----------
    session : Session
    bridge, chosen, press
        As for :class:`Buttons`.

    Attributes
    ----------
    training : TrainingPanel
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        chosen: dict[str, str],
        press: Callable[[str], None],
    ) -> None:
        super().__init__(bridge, chosen, press)
        self.training = TrainingPanel(session, self.button)


def progress_bar(name: str, *, most: int = 1) -> ipywidgets.IntProgress:
    """Return an empty bar with a CSS class of its own, full at `most`."""
    return classed(ipywidgets.IntProgress(min=0, max=most, value=0), "xf-progress", name)


def row(children: Sequence[ipywidgets.Widget]) -> ipywidgets.HBox:
    """Return a row that wraps on a narrow page."""
    return classed(ipywidgets.HBox(list(children)), "xf-row")


def classed(widget: Any, *names: str) -> Any:
    """Return a widget after giving it CSS classes."""
    for name in names:
        widget.add_class(name)
    return widget


def dropdown(
    label: str, options: Sequence[tuple[str, Any]], value: Any, tooltip: str
) -> ipywidgets.Dropdown:
    """Return a labelled field for one of several (text, value)."""
    return ipywidgets.Dropdown(
        description=label, options=list(options), value=value, tooltip=tooltip
    )
