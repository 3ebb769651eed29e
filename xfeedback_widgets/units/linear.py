"""The last layer, refitted to the features that are left.

Masking a unit before a linear pool is the same as zeroing its column of the last layer's weight, so a
model whose trunk stays as it is needs no images: what remains is multinomial logistic regression on the
pooled features (CRAYON-Pruning, arXiv 2410.22312). :class:`LinearProblem` holds the features and solves it;
which units are masked is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Largest component of the gradient at which the minimum counts as found.
_FLAT = 1e-5


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted layer.

    Attributes
    ----------
    weight
        ``float32 [C, K]``; the columns of pruned units are exactly zero.
    bias
        ``float32 [C]``.
    loss
        Of the objective at the end, penalty included.
    iterations
        How many the solver took.
    """

    weight: Tensor
    bias: Tensor
    loss: float
    iterations: int


class LinearProblem:
    """Multinomial logistic regression on pooled features, some of whose columns are masked.

    ``min mean CE(X W' + b) + l2/2 · ‖W'‖²`` over the units that stay, where X are the features minus their
    mean and divided by one number, the root of their mean variance; so ``l2`` does not depend on the
    model's scale. The minimum is unique for ``l2 > 0``: the same answers give the same layer, whatever was
    pruned before.

    Parameters
    ----------
    pooled
        ``float32 [N, K]``.
    labels
        ``int64 [N]``.
    classes
        C; classes without images are allowed.
    l2
        Strength of the penalty, ≥ 0.
    bias
        Whether the layer has one; without, the features are not centred and b stays zero.
    """

    def __init__(
        self, pooled: Tensor, labels: Tensor, classes: int, *, l2: float, bias: bool = True
    ) -> None:
        self._labels = labels
        self._classes = classes
        self._l2 = l2
        self._bias = bias
        self._mean = pooled.mean(0) if bias else pooled.new_zeros(pooled.shape[1])
        spread = pooled.var(0, correction=0).mean().sqrt()
        self._scale = spread if float(spread) > 0 else torch.ones_like(spread)
        self._inputs = (pooled - self._mean) / self._scale

    def solve(
        self,
        keep: Tensor,
        *,
        start: Fit | None = None,
        iterations: int = 200,
    ) -> Fit:
        """Find the minimum by L-BFGS over all images at once.

        Parameters
        ----------
        keep
            ``bool [K]``, False for pruned units.
        start
            Where to start; the minimum does not depend on it, the number of iterations does.
        iterations
            At most so many.

        Returns
        -------
        Fit
            In the scale of the features as given.
        """
        keep = keep.to(self._inputs.device)
        inputs = self._inputs
        weight = inputs.new_zeros(self._classes, inputs.shape[1])
        bias = inputs.new_zeros(self._classes)
        if start is not None:
            weight.copy_(start.weight * keep * self._scale)
            bias.copy_(start.bias + start.weight @ self._mean)
        trained = [weight, bias] if self._bias else [weight]
        for tensor in trained:
            tensor.requires_grad_()
        solver = torch.optim.LBFGS(
            trained,
            max_iter=iterations,
            max_eval=2 * iterations,
            tolerance_grad=_FLAT,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            solver.zero_grad()
            # masking the small matrix, not the features, saves copying them for every answer
            loss = F.cross_entropy(F.linear(inputs, weight * keep, bias), self._labels)
            loss = loss + self._l2 / 2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        with torch.inference_mode(mode=False), torch.enable_grad():
            solver.step(objective)  # type: ignore[no-untyped-call]
            value = float(objective())
        done = int(solver.state[weight]["n_iter"])
        full = weight.detach() * keep / self._scale
        return Fit(full, bias.detach() - full @ self._mean, value, done)
