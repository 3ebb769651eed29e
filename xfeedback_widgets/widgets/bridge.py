"""The bridge into the page: keys, focus, names for screen readers, size, the pointer's path (`bridge.js`).

An invisible anywidget that acts on the container it is placed in. It tells Python which declared key
was pressed and how wide the page is; it knows nothing about images or answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from xfeedback_widgets.widgets.keys import MOVES, REPEATING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

_HERE = Path(__file__).parent


class Bridge(anywidget.AnyWidget):
    """Reports what the page knows and ipywidgets does not.

    In Google Colab, anywidget switches the custom widget manager on when this is made.

    Parameters
    ----------
    label : str
        Name of the container for screen readers.
    on_key : callable
        ``on_key(name)`` with a declared key: ``"a"``, ``"shift+a"``, ``"arrowleft"``, ``"space"``.
    on_click : callable
        ``on_click(x, y, count)``: a click on an element of class ``xf-clickable``, at a relative
        position in [0, 1]; `count` is 2 for the second click of a double click.
    on_size : callable
        ``on_size(width, ratio)``: the container's width in CSS pixels, device pixels per CSS pixel.
    on_pick : callable, optional
        ``on_pick(name, count)``: a click on an element with the attribute ``data-pick="name"``.
    on_path : callable, optional
        ``on_path(name, rows)``: where the pointer went over the picture in the element of class
        ``xf-traced`` while :attr:`traced` was `name`, which is not empty: float32 [n, 3], x, y and ms.
    """

    _esm = _HERE / "bridge.js"
    _css = _HERE / "bridge.css"

    label = traitlets.Unicode().tag(sync=True)
    hot_keys = traitlets.List(traitlets.Unicode()).tag(sync=True)
    repeating_keys = traitlets.List(traitlets.Unicode()).tag(sync=True)
    peek_key = traitlets.Unicode().tag(sync=True)
    names = traitlets.Dict().tag(sync=True)
    announcement = traitlets.Unicode().tag(sync=True)
    traced = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        label: str,
        *,
        on_key: Callable[[str], None],
        on_click: Callable[[float, float, int], None],
        on_size: Callable[[int, float], None],
        on_pick: Callable[[str, int], None] | None = None,
        on_path: Callable[[str, npt.NDArray[np.float32]], None] | None = None,
    ) -> None:
        super().__init__(label=label)
        self._on_key, self._on_click, self._on_size = on_key, on_click, on_size
        self._on_pick, self._on_path = on_pick, on_path
        self.add_class("xf-bridge")
        self.on_msg(self._receive)

    def use(self, keys: dict[str, str]) -> None:
        """Listen for these keys, and for the arrow keys unless there are none."""
        self.hot_keys = [key for action, key in keys.items() if action != "peek"]
        if keys:
            self.hot_keys = [*self.hot_keys, *MOVES]
        self.repeating_keys = list(REPEATING)
        self.peek_key = keys.get("peek", "")

    def _receive(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        kind = content.get("kind")
        if kind == "key" and content["key"] in self.hot_keys:
            self._on_key(content["key"])
        elif kind == "click":
            self._on_click(float(content["x"]), float(content["y"]), int(content["count"]))
        elif kind == "pick" and self._on_pick is not None:
            self._on_pick(str(content["name"]), int(content["count"]))
        elif kind == "size":
            self._on_size(int(content["width"]), float(content["ratio"]))
        elif kind == "path" and self._on_path is not None:
            rows = np.frombuffer(b"".join(map(bytes, buffers)), "<f4").reshape(-1, 3)
            self._on_path(str(content["name"]), rows)
