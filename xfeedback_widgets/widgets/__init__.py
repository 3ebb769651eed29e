"""What people see and press: the widgets, and the small parts they are made of.

:class:`ReviewWidget` judges maps, :class:`AlignmentWidget` judges and redraws them,
:class:`NeuronWidget` judges units, :class:`BrowseWidget` and :class:`TagWidget` label pictures,
:class:`AuditWidget` looks through an audit; these are the public names. `review.py` and `alignment/` join
the parts of the first two on what every review of images does (`images.py`), `neurons/` holds those of
the third, `browse/` and `tag/` those of the next two (`labelling/`, `capture.py`), `audit/` those of the
last, and `base.py`, `board.py` and `walk.py` what all share. The canvas is `drawing/`. The views
(`single.py`, `grid.py`, `compare.py`, `training_panel.py`) lay things out; `stage.py`, `colors.py` and
`layout.py` draw; `queue.py` decides what comes next; `pump.py` and `explainer.py` are the two threads;
`canvas.py` and `bridge.py` each own something dangerous. Nothing here trains, explains or writes to disk
itself.
"""

from xfeedback_widgets.widgets.alignment import AlignmentWidget
from xfeedback_widgets.widgets.audit import AuditWidget
from xfeedback_widgets.widgets.browse import BrowseWidget
from xfeedback_widgets.widgets.neurons import NeuronWidget
from xfeedback_widgets.widgets.review import ReviewWidget
from xfeedback_widgets.widgets.tag import TagWidget

__all__ = [
    "AlignmentWidget",
    "AuditWidget",
    "BrowseWidget",
    "NeuronWidget",
    "ReviewWidget",
    "TagWidget",
]
