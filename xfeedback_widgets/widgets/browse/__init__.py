"""Browsing pages, as ImageNet was made: click every picture that shows a class.

:class:`BrowseWidget` is the widget. `pages.py` with `pages.js` is what happens in the browser, `tracer.py`
makes records of ImageNet-AB of it, `desk.py` decides which pictures are asked about, `loader.py` fetches
them, `controls.py` is what surrounds them.
"""

from xfeedback_widgets.widgets.browse.widget import BrowseWidget

__all__ = ["BrowseWidget"]
