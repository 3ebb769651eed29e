"""What pruning some units would do now, measured on cached features while a person is still answering.

The last layer is refitted to the cached training features without those units, from where the last
preview ended, and measured on the cached features of the images that decide. No image is read and no
backbone runs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xfeedback_widgets.units.linear import Fit, LinearProblem

if TYPE_CHECKING:
    from collections.abc import Collection

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.units.features import Features

#: Iterations of one refit: from the last minimum they come within a point of accuracy of the next.
_ITERATIONS = 3

#: Training images a refit looks at.
_TRAINED_ON = 5000


class Preview:
    """Accuracy with and without units, from features alone.

    Parameters
    ----------
    train
        Features the layer is refitted to.
    measured, data
        Features the accuracy is measured on, and the set they are of, which knows the groups.
    weight, bias
        The layer as it is: ``float32 [C, K]`` and ``[C]``.
    l2
        As in :class:`LinearProblem`.
    """

    def __init__(
        self,
        train: Features,
        measured: Features,
        data: ImageSet,
        weight: Tensor,
        bias: Tensor,
        *,
        l2: float,
    ) -> None:
        self._measured = measured
        self._groups = None if data.groups is None else data.groups[measured.indices]
        self._names = data.group_names
        some = slice(None)
        if len(train) > _TRAINED_ON:
            drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
            some = drawn[:_TRAINED_ON]  # type: ignore[assignment]
        self._problem = LinearProblem(train.pooled[some], train.labels[some], len(weight), l2=l2)
        everything = torch.ones(weight.shape[1], dtype=torch.bool)
        start = Fit(weight, bias, float("nan"), 0)
        self._fit = self._problem.solve(everything, start=start, iterations=100)
        self._guard = threading.Lock()
        #: As `measure` returns it, for the layer as it is.
        self.now = self._metrics(weight, bias)
        #: The same with the layer refitted and no unit pruned: what refitting alone does.
        self.refitted = self._metrics(self._fit.weight, self._fit.bias)

    def measure(self, pruned: Collection[int]) -> dict[str, float]:
        """Refit without some units and measure.

        Parameters
        ----------
        pruned
            Numbers of the units.

        Returns
        -------
        dict
            ``accuracy``; with groups ``worst_group_accuracy``, ``mean_group_accuracy`` and ``group: <name>``.

        Raises
        ------
        ValueError
            Every unit is pruned.
        """
        keep = torch.ones(self._measured.pooled.shape[1], dtype=torch.bool)
        keep[list(pruned)] = False
        if not bool(keep.any()):
            raise ValueError("every unit is rejected; nothing is left to classify with")
        with self._guard:
            self._fit = self._problem.solve(keep, start=self._fit, iterations=_ITERATIONS)
            return self._metrics(self._fit.weight, self._fit.bias)

    def _metrics(self, weight: Tensor, bias: Tensor) -> dict[str, float]:
        logits = torch.addmm(bias, self._measured.pooled, weight.T)
        right = logits.argmax(1) == self._measured.labels
        result = {"accuracy": float(right.float().mean())}
        if self._groups is not None:
            shares = {
                int(group): float(right[self._groups == group].float().mean())
                for group in sorted(set(self._groups.tolist()))
            }
            result["worst_group_accuracy"] = min(shares.values())
            result["mean_group_accuracy"] = sum(shares.values()) / len(shares)
            for group, share in shares.items():
                name = str(group) if self._names is None else self._names[group]
                result[f"group: {name}"] = share
        return result
