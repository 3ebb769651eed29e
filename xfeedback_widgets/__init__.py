"""Look at what an image classifier attends to, say where it is wrong, and watch it correct itself.

Everything a user needs is re-exported here; ``import xfeedback_widgets as xf`` is the only import in
the documentation. Each part is loaded on first use: the widgets need a notebook's packages, most others
torch, and reading files of feedback neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xfeedback_widgets import (
        audit,
        bayesian,
        corrections,
        data,
        feedback,
        metrics,
        saliency,
        simulate,
        training,
        units,
        widgets,
    )
    from xfeedback_widgets.feedback import Byproduct, RegionMask, Stroke, UnitVerdict, Verdict
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.training import Guard, fine_tune
    from xfeedback_widgets.widgets import (
        AlignmentWidget,
        AuditWidget,
        BrowseWidget,
        NeuronWidget,
        ReviewWidget,
        TagWidget,
    )

__version__ = "0.1.0"

__all__ = [
    "AlignmentWidget",
    "AuditWidget",
    "BrowseWidget",
    "Byproduct",
    "Guard",
    "NeuronWidget",
    "RegionMask",
    "ReviewWidget",
    "Session",
    "Stroke",
    "TagWidget",
    "UnitVerdict",
    "Verdict",
    "audit",
    "bayesian",
    "corrections",
    "data",
    "feedback",
    "fine_tune",
    "metrics",
    "saliency",
    "simulate",
    "training",
    "units",
    "widgets",
]


_HOMES = {
    "feedback": ("Byproduct", "RegionMask", "Stroke", "UnitVerdict", "Verdict"),
    "session": ("Session",),
    "training": ("Guard", "fine_tune"),
    "widgets": (
        "AlignmentWidget",
        "AuditWidget",
        "BrowseWidget",
        "NeuronWidget",
        "ReviewWidget",
        "TagWidget",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
