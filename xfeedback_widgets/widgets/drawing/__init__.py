"""The drawing canvas: draw on a picture what its map should have looked at, and what not.

:class:`DrawingView` is the widget; a host embeds it, such as the review in `alignment/`. `raster.py`
turns strokes into pixels, `drawing.py` holds what was drawn, `toolbox.py` and `toolbar.py` what it is
drawn with, and `ink.py` with `ink.js` what happens in the page. The journal is the host's.
"""

from xfeedback_widgets.widgets.drawing.drawing import Drawing, Shares
from xfeedback_widgets.widgets.drawing.ink import Ink
from xfeedback_widgets.widgets.drawing.toolbar import KEYS
from xfeedback_widgets.widgets.drawing.view import DrawingView

__all__ = ["KEYS", "Drawing", "DrawingView", "Ink", "Shares"]
