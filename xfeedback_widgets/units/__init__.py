"""Units: what the single channels of the penultimate feature map respond to, and the layer that reads them.

A unit is one channel of the feature map that is averaged over positions and given to the last linear
layer. ``head`` finds the two in a classifier, ``features`` caches what enters the linear layer, ``survey``
collects in one pass the patches that activate each unit most, ``influence`` says which units matter and
``linear`` refits the layer without those that people rejected. Which units were rejected, and the training
run, are other people's business: ``feedback``, ``corrections`` and ``training``.
"""

from xfeedback_widgets.units.features import Features, pooled_features, remember
from xfeedback_widgets.units.head import (
    Head,
    NoLinearHeadError,
    find_head,
    fingerprint,
    parameters_of,
    write,
)
from xfeedback_widgets.units.influence import evidence, influence, order, suspicion
from xfeedback_widgets.units.linear import Fit, LinearProblem
from xfeedback_widgets.units.preview import Preview
from xfeedback_widgets.units.survey import SurveyStoppedError, UnitSurvey, survey

__all__ = [
    "Features",
    "Fit",
    "Head",
    "LinearProblem",
    "NoLinearHeadError",
    "Preview",
    "SurveyStoppedError",
    "UnitSurvey",
    "evidence",
    "find_head",
    "fingerprint",
    "influence",
    "order",
    "parameters_of",
    "pooled_features",
    "remember",
    "survey",
    "suspicion",
    "write",
]
