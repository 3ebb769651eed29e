"""Looking at audits: the audit widget and its parts.

`widget.py` joins the parts. `desk.py` knows which classes are listed, in which order, and which is chosen;
`table.py` and `gallery.py` lay out classes and images; `shots.py` explains images anew on a thread of its
own, `auditing.py` audits again; `controls.py` has what can be pressed, `painter.py` alone writes to it, and
`static.py` draws the picture for readers without a kernel.
"""

from xfeedback_widgets.widgets.audit.widget import AuditWidget

__all__ = ["AuditWidget"]
