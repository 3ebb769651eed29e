"""The guard: what a set of weights must pass before it may become a version.

A fine-tuning run can end well by its own loss and badly for the user: predictions collapse, maps go
empty (nothing is penalised where nothing is attended to), accuracy is traded away. The guard is a
frozen set of thresholds and one pure function over measured metrics; measuring is ``metrics``' work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Thresholds on what was measured at the end of an epoch, against the weights it started from.

    Whatever the thresholds, a loss or accuracy that is not finite is refused, and so are predictions that
    have collapsed: every image in one class, where there were several at the start.

    Parameters
    ----------
    min_accuracy
        Validation accuracy (without a validation set, accuracy on some training images) below this,
        in [0, 1], is refused.
    max_accuracy_drop
        Largest loss of that accuracy, in [0, 1], against the start of the run.
    max_empty_maps
        Largest growth, in [0, 1], of the share of these images whose saliency map is empty.
    """

    min_accuracy: float = 0.0
    max_accuracy_drop: float = 0.1
    max_empty_maps: float = 0.25

    def reasons(self, metrics: Mapping[str, float], start: Mapping[str, float]) -> list[str]:
        """Why these weights must not be published; empty when they may.

        Parameters
        ----------
        metrics
            Of the epoch that ended: ``train_loss``, and of the validation set ``accuracy``,
            ``top_class_share`` and ``empty_maps``; or of training images, with ``train_`` before each.
        start
            The same before the first step, without ``train_loss``.
        """
        prefix = "" if "accuracy" in metrics else "train_"
        name = f"{prefix}accuracy"
        accuracy = metrics[name]
        reasons = [
            f"{key} is {metrics[key]}"
            for key in ("train_loss", name)
            if not math.isfinite(metrics[key])
        ]
        if accuracy < self.min_accuracy:
            reasons.append(f"{name} {accuracy:.3f} is below the floor {self.min_accuracy:.3f}")
        if accuracy < start.get(name, -math.inf) - self.max_accuracy_drop:
            reasons.append(
                f"{name} fell from {start[name]:.3f} to {accuracy:.3f}, "
                f"more than {self.max_accuracy_drop:.3f}"
            )
        share = f"{prefix}top_class_share"
        # always the right class: a set with one class only, and nothing has collapsed
        if metrics.get(share, 0.0) == 1 > max(start.get(share, 1.0), accuracy):
            reasons.append(
                "every image is predicted as the same class, which was not so before: predictions have "
                "collapsed; lower lr or the correction's weights"
            )
        empty, before = (m.get(f"{prefix}empty_maps", 0.0) for m in (metrics, start))
        if empty - before > self.max_empty_maps:
            reasons.append(
                f"empty saliency maps grew from {before:.0%} to {empty:.0%}: attention is vanishing "
                "rather than moving; lower the correction's weights or lr"
            )
        return reasons
