"""Corrections: one file per paper, each turning feedback into a training objective.

``base`` holds the seam, ``crayon`` and ``crayon_pruning`` the two halves of CRAYON, ``gradia``, ``res`` and
``mask_losses`` what learns from drawings, with ``masks`` for what these share, ``luab`` what learns from
clicks, ``bayesian`` feedback as evidence for a Bayesian network, ``counter_examples`` trains any of them on
images with something else where it is irrelevant, ``baselines`` has the controls. Optimisers, threads and
versions are in ``training``; the maps themselves in ``saliency``.
"""

from xfeedback_widgets.corrections.base import Correction, Losses, Solving
from xfeedback_widgets.corrections.baselines import (
    DeepFeatureReweighting,
    PlainFineTuning,
    RandomFeedback,
)
from xfeedback_widgets.corrections.bayesian import BayesianFeedback
from xfeedback_widgets.corrections.counter_examples import CounterExamples
from xfeedback_widgets.corrections.crayon import CrayonAttention, attention_penalties
from xfeedback_widgets.corrections.crayon_pruning import Crayon, CrayonPruning
from xfeedback_widgets.corrections.gradia import Gradia
from xfeedback_widgets.corrections.luab import Luab, point_loss
from xfeedback_widgets.corrections.mask_losses import Energy, RightReasons
from xfeedback_widgets.corrections.res import ResG

__all__ = [
    "BayesianFeedback",
    "Correction",
    "CounterExamples",
    "Crayon",
    "CrayonAttention",
    "CrayonPruning",
    "DeepFeatureReweighting",
    "Energy",
    "Gradia",
    "Losses",
    "Luab",
    "PlainFineTuning",
    "RandomFeedback",
    "ResG",
    "RightReasons",
    "Solving",
    "attention_penalties",
    "point_loss",
]
