"""Interactive Attention Alignment: judge maps, adjust the unreasonable ones, watch the matrix move.

`widget.py` joins the parts, as `review.py` does for verdicts alone. `desk.py` knows the two steps and
their queues, `learning.py` says what a training would use and how judgements changed; `form.py`,
`matrix.py` and `controls.py` lay things out, and `painter.py` alone writes to them. Drawing itself is
`../drawing/`, and `../hand.py` does what is asked for one after another.
"""

from xfeedback_widgets.widgets.alignment.widget import AlignmentWidget

__all__ = ["AlignmentWidget"]
