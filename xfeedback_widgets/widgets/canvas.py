"""The one place that knows ipycanvas' private names: batched drawing that survives threads and reloads.

ipycanvas has a single command manager for the whole process. Two threads drawing at once paint on each
other's canvas; an exception inside ``hold_canvas`` stops every canvas; and after a page reload the first
command without a target throws in the page, which drops all later drawing. :func:`frame` cures the
three, and everything that draws here draws inside it. What is drawn is decided elsewhere (`stage.py`).
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import ipycanvas
from ipycanvas import canvas as _ipycanvas

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = threading.RLock()
_depth = 0
_sentinel: Any = None

# What `frame` relies on; tests/widgets/test_canvas.py fails when a release of ipycanvas renames one.
PRIVATE_NAMES = ("_caching", "_commands_cache", "_buffers_cache", "_current_canvas", "flush")


def manager() -> Any:
    """Return ipycanvas' process-wide command manager."""
    return _ipycanvas._CANVAS_MANAGER  # noqa: SLF001


def sentinel() -> Any:
    """Return the 1x1 canvas, never shown, on which every batch ends.

    It is made anew when someone closed all widgets of the process.
    """
    global _sentinel  # noqa: PLW0603
    with _LOCK:
        if _sentinel is None or _sentinel.comm is None:
            _sentinel = ipycanvas.Canvas(width=1, height=1)
        return _sentinel


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Draw in one message: lock, batch, end on the sentinel, send, and restore whatever happens.

    Safe from any thread and re-entrant (an inner frame joins the outer one). When the body raises,
    its commands are dropped, since half a drawing could leave a canvas with an unbalanced state;
    canvases of other code go on working.
    """
    global _depth  # noqa: PLW0603
    with _LOCK:
        if _depth:
            _depth += 1
            try:
                yield
            finally:
                _depth -= 1
            return
        target, rest = manager(), sentinel()
        was_caching = target._caching  # noqa: SLF001
        target.flush()  # commands the caller's own hold_canvas() has gathered keep their place
        target._caching = True  # noqa: SLF001
        target._current_canvas = None  # so that the batch opens with a switch to its canvas  # noqa: SLF001
        _depth = 1
        try:
            yield
            if target._commands_cache:  # noqa: SLF001
                # an empty clear is the cheapest command that makes the sentinel the current canvas
                rest.clear()
                target.flush()
        finally:
            _depth = 0
            target._commands_cache, target._buffers_cache = [], []  # noqa: SLF001
            target._caching = was_caching  # noqa: SLF001
            # whoever draws next, with or without a frame, must name its canvas first
            target._current_canvas = None  # noqa: SLF001
