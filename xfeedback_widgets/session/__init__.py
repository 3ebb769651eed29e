"""A session: one model, its data, what people said about it, and the trainer that learns from that.

:class:`Session`, in `session.py`, is the facade that everything people touch is built on. It ties the parts
below to one directory on disk and to one lock, and asks four helpers: `opening.py` checks what it is opened
with, `maps.py` explains images under the live weights and older ones, `passes.py` measures all images and
keeps the result until the next version, `units.py` does so for the units.
"""

from xfeedback_widgets.session.maps import Doubt, Explanation, judged_map
from xfeedback_widgets.session.session import Event, Session

__all__ = ["Doubt", "Event", "Explanation", "Session", "judged_map"]
