"""Look at what an image classifier attends to, say where it is wrong, and watch it correct itself.

Everything a user needs is re-exported here; ``import xfeedback_widgets as xf`` is the only import in
the documentation. The widgets, which need a notebook's packages, are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
)
from xfeedback_widgets.feedback import RegionMask, Stroke, UnitVerdict, Verdict
from xfeedback_widgets.session import Session
from xfeedback_widgets.training import Guard, fine_tune

if TYPE_CHECKING:
    from xfeedback_widgets.widgets import AlignmentWidget, NeuronWidget, ReviewWidget

__version__ = "0.1.0"

__all__ = [
    "AlignmentWidget",
    "Guard",
    "NeuronWidget",
    "RegionMask",
    "ReviewWidget",
    "Session",
    "Stroke",
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
]


def __getattr__(name: str) -> Any:
    if name in ("AlignmentWidget", "NeuronWidget", "ReviewWidget", "widgets"):
        widgets = importlib.import_module("xfeedback_widgets.widgets")
        return widgets if name == "widgets" else getattr(widgets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
