"""Did it help: accuracy by group, calibration, and whether attention lies on the relevant pixels.

Functions over tensors, and :func:`evaluate`, which runs a model over an image set once and computes all
that the set allows; :func:`click_quality` says how good people's clicks are. Nothing here trains or plots.
"""

from xfeedback_widgets.metrics.classification import (
    accuracy,
    expected_calibration_error,
    group_accuracies,
    mean_average_precision,
    mean_group_accuracy,
    worst_group_accuracy,
)
from xfeedback_widgets.metrics.clicks import ClickQuality, Rate, click_quality, hit_rate
from xfeedback_widgets.metrics.evaluation import evaluate
from xfeedback_widgets.metrics.localization import (
    attribution_overlap,
    empty_maps,
    energy_pointing_game,
    iou,
    pointing_game,
)
from xfeedback_widgets.metrics.uncertainty import (
    brier_score,
    negative_log_likelihood,
    out_of_distribution_auroc,
)

__all__ = [
    "ClickQuality",
    "Rate",
    "accuracy",
    "attribution_overlap",
    "brier_score",
    "click_quality",
    "empty_maps",
    "energy_pointing_game",
    "evaluate",
    "expected_calibration_error",
    "group_accuracies",
    "hit_rate",
    "iou",
    "mean_average_precision",
    "mean_group_accuracy",
    "negative_log_likelihood",
    "out_of_distribution_auroc",
    "pointing_game",
    "worst_group_accuracy",
]
