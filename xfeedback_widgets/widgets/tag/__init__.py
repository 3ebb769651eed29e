"""The tagging page, as COCO was made: drag the icon of each class onto the picture.

:class:`TagWidget` is the widget. `board.py` with `board.js` is what happens in the browser, `tracer.py` makes
records of COCO-AB of it, `desk.py` holds pictures and groups of icons, `controls.py` is what surrounds them.
"""

from xfeedback_widgets.widgets.tag.widget import TagWidget

__all__ = ["TagWidget"]
