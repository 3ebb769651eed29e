"""Linear and convolutional layers with a Gaussian over each weight, by local reparameterisation.

A layer here *is* the torch layer it replaces, with the same ``weight`` and ``bias``, now the means, and
two parameters more, ``weight_rho`` and ``bias_rho``: the standard deviation is ``softplus(rho)``. In
training it draws its outputs rather than its weights (Bekkemoen & Langseth, arXiv 2105.02653, section
"Bayesian CNN", after Kingma et al. 2015 and Shridhar et al. 2019); in evaluation it computes with the means
and is exactly the torch layer. Which layers of a model are of this kind is ``conversion``'s business,
drawing weights is ``posterior``'s.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRIOR_STD = 0.1
"""Standard deviation of the paper's prior."""

RHO = -5.0
"""Where rho begins: a standard deviation of 0.0067, small beside the weights of a trained model."""

_SMALLEST_VARIANCE = (
    1e-12  # where input and bias are 0 so is the variance, and its root has no slope
)


class BayesianLayer(nn.Module):
    """What the layers below share; see the module's first paragraph.

    Parameters
    ----------
    *args, **kwargs
        Of the torch layer.
    prior_std
        Standard deviation of the prior of every weight, a Gaussian around 0.
    rho
        Where ``weight_rho`` and ``bias_rho`` begin.
    """

    weight: Tensor
    bias: Any  # a tensor or None; torch's stubs disagree among themselves
    weight_rho: Tensor
    bias_rho: Tensor | None
    prior_std: float

    def __init__(
        self, *args: Any, prior_std: float = PRIOR_STD, rho: float = RHO, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.widen({}, prior_std=prior_std, rho=rho)

    def widen(self, tied: dict[Tensor, nn.Parameter], *, prior_std: float, rho: float) -> None:
        """Give each weight a standard deviation; `tied` holds those of weights that layers share."""
        self.prior_std = prior_std
        for name in ("weight", "bias"):
            mean = getattr(self, name)
            if mean is not None and mean not in tied:
                wide = torch.full_like(mean, rho, requires_grad=False)
                tied[mean] = nn.Parameter(wide, requires_grad=mean.requires_grad)
            self.register_parameter(f"{name}_rho", None if mean is None else tied[mean])

    def narrow(self) -> None:
        """Drop what `widen` added."""
        del self.weight_rho, self.bias_rho, self.prior_std

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Apply the means in evaluation; in training draw from what `moments` says."""
        if self.training or "draw" in vars(self):
            return self.draw(*self.moments(input))
        return self._affine(input, self.weight, self.bias)

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002
        """Mean and standard deviation of the output, given the input.

        ``μ = Z ∗ μ_W + μ_B`` and ``σ² = Z² ∗ σ_W² + σ_B²``, where ∗ is the product or the convolution.

        Parameters
        ----------
        input
            As the torch layer takes it.

        Returns
        -------
        mean, std
            Both in the shape of the output; `std` is positive.
        """
        weight_std, bias_std = self.stds()
        variance = self._affine(
            input.square(), weight_std.square(), None if bias_std is None else bias_std.square()
        )
        mean = self._affine(input, self.weight, self.bias)
        return mean, variance.clamp_min(_SMALLEST_VARIANCE).sqrt()

    def stds(self) -> tuple[Tensor, Tensor | None]:
        """Standard deviations of weight and bias, in their shapes."""
        bias_std = None if self.bias_rho is None else F.softplus(self.bias_rho)
        return F.softplus(self.weight_rho), bias_std

    def draw(self, mean: Tensor, std: Tensor) -> Tensor:
        """Draw the output; every position of every image for itself."""
        return mean + std * torch.randn_like(std)

    def _affine(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        """Compute the torch layer with these weights."""
        raise NotImplementedError

    def extra_repr(self) -> str:  # noqa: D102 - torch's
        return f"{super().extra_repr()}, prior_std={self.prior_std:g}"


class BayesianLinear(BayesianLayer, nn.Linear):
    """``nn.Linear`` with a Gaussian over each weight; see `BayesianLayer`."""

    def _affine(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        return F.linear(input, weight, bias)


class _BayesianConv(BayesianLayer):
    _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def _affine(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        # torch's own, so that padding of every mode, stride, dilation and groups are as they were;
        # padding repeats inputs or adds zeros, so that of the squares is the square of the padding
        return self._conv_forward(input, weight, bias)


class BayesianConv1d(_BayesianConv, nn.Conv1d):
    """``nn.Conv1d`` with a Gaussian over each weight; see `BayesianLayer`."""


class BayesianConv2d(_BayesianConv, nn.Conv2d):
    """``nn.Conv2d`` with a Gaussian over each weight; see `BayesianLayer`."""


@contextmanager
def intercepted(layer: BayesianLayer, draw: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Let `draw` make the layer's output from its mean and standard deviation, while the context lasts.

    Parameters
    ----------
    layer
        Samples inside the context also where it is in evaluation mode.
    draw
        Called as ``draw(mean, std)``; ``type(layer).draw(layer, mean, std)`` is the layer's own.
    """
    before = vars(layer).get("draw")
    layer.draw = draw  # type: ignore[assignment,method-assign]  # names of its arguments are free
    try:
        yield
    finally:
        del layer.draw  # the class's own is there again
        if before is not None:
            layer.draw = before  # type: ignore[method-assign]


def gaussian_kl(mean: Tensor, std: Tensor, prior_std: float) -> Tensor:
    """Kullback–Leibler divergence of N(mean, std²) from N(0, prior_std²), summed over all weights.

    Parameters
    ----------
    mean, std
        Of one shape; `std` is positive.
    prior_std
        Positive.

    Returns
    -------
    Tensor
        Scalar ≥ 0: ``Σ log(p/σ) + (σ² + μ²) / 2p² − ½``.
    """
    mean, std = mean.float(), std.float()
    squares = (std.square() + mean.square()).sum() / (2 * prior_std**2)
    return squares - std.log().sum() + mean.numel() * (math.log(prior_std) - 0.5)
