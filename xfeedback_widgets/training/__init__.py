"""Training: the fine-tuning loop, the background worker, the guard and the versions on disk.

``checks`` finds out whether model and images fit, ``loop`` minimises a correction's objective,
``randomness`` gives it random numbers of its own, ``worker`` does so on a thread, ``precedence`` lets a
person's press go first, ``guard`` decides what may be published, ``versions`` keeps it, ``live`` puts it
into the user's model. Objectives are in ``corrections``.
"""

from xfeedback_widgets.training.checks import check_fits
from xfeedback_widgets.training.guard import Guard
from xfeedback_widgets.training.live import LiveModel, load_in_place
from xfeedback_widgets.training.loop import (
    Epoch,
    History,
    NonFiniteLossError,
    Settings,
    Step,
    fine_tune,
    iterate,
)
from xfeedback_widgets.training.precedence import Precedence
from xfeedback_widgets.training.versions import DamagedVersionError, Version, VersionStore
from xfeedback_widgets.training.worker import Executor, Progress, Run, Worker

__all__ = [
    "DamagedVersionError",
    "Epoch",
    "Executor",
    "Guard",
    "History",
    "LiveModel",
    "NonFiniteLossError",
    "Precedence",
    "Progress",
    "Run",
    "Settings",
    "Step",
    "Version",
    "VersionStore",
    "Worker",
    "check_fits",
    "fine_tune",
    "iterate",
    "load_in_place",
]
