"""What people see and press: the review widget and the small parts it is made of.

:class:`ReviewWidget` is the one public name. `review.py` joins the parts; the views (`single.py`,
`grid.py`, `compare.py`, `training_panel.py`) lay things out; `stage.py`, `colors.py` and `layout.py`
draw; `queue.py` decides what comes next; `pump.py` and `explainer.py` are the two threads; `canvas.py`
and `bridge.py` each own something dangerous. Nothing here trains, explains or writes to disk itself.
"""

from xfeedback_widgets.widgets.review import ReviewWidget

__all__ = ["ReviewWidget"]
