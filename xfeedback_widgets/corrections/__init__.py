"""Corrections: one file per paper, each turning feedback into a training objective.

``base`` holds the seam, ``crayon`` CRAYON, ``baselines`` the controls. Optimisers, threads and versions
are in ``training``; the maps themselves in ``saliency``.
"""

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.corrections.baselines import PlainFineTuning, RandomFeedback
from xfeedback_widgets.corrections.crayon import CrayonAttention, attention_penalties

__all__ = [
    "Correction",
    "CrayonAttention",
    "Losses",
    "PlainFineTuning",
    "RandomFeedback",
    "attention_penalties",
]
