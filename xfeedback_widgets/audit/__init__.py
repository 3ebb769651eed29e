"""Which classes are right for the wrong reasons: the robustness score, as a report one can act on.

The package is callable: ``xf.audit(model, data, boxes=…)`` is :func:`xfeedback_widgets.audit.audit`, and what
belongs to it is beside it, ``xf.audit.AuditReport``, ``xf.audit.cover`` and so on. Type checkers do not know
callable modules and want ``xf.audit.audit(…)``, which is the same function. Reading boxes is in
:mod:`xfeedback_widgets.data`; nothing here trains, or knows about feedback.
"""

import sys
from types import ModuleType
from typing import Any

from xfeedback_widgets.audit.agreement import agreement
from xfeedback_widgets.audit.followups import ambiguous, cover, natural_adversarials, same_map
from xfeedback_widgets.audit.models import count_outputs, load_model, read_weights
from xfeedback_widgets.audit.regions import Regions
from xfeedback_widgets.audit.report import AuditReport
from xfeedback_widgets.audit.rows import STATUS, Region
from xfeedback_widgets.audit.run import Progress, audit, mean_score
from xfeedback_widgets.audit.shards import DamagedShardError, finished
from xfeedback_widgets.audit.tables import Table

__all__ = [
    "STATUS",
    "AuditReport",
    "DamagedShardError",
    "Progress",
    "Region",
    "Regions",
    "Table",
    "agreement",
    "ambiguous",
    "audit",
    "count_outputs",
    "cover",
    "finished",
    "load_model",
    "mean_score",
    "natural_adversarials",
    "read_weights",
    "same_map",
]


class _CallablePackage(ModuleType):
    """A package that is its main function as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> AuditReport:
        return audit(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
