"""Making a model Bayesian, and back, without building it anew.

A layer changes its class and gains parameters, in place; the modules around it, its hooks, and everybody
who holds a reference to it or to its weights see the same objects as before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from xfeedback_widgets.bayesian.layers import (
    PRIOR_STD,
    RHO,
    BayesianConv1d,
    BayesianConv2d,
    BayesianLayer,
    BayesianLinear,
    gaussian_kl,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_M = TypeVar("_M", bound=nn.Module)

_BAYESIAN: dict[type[nn.Module], type[BayesianLayer]] = {
    nn.Linear: BayesianLinear,
    nn.Conv1d: BayesianConv1d,
    nn.Conv2d: BayesianConv2d,
}
_TORCH = {bayesian: plain for plain, bayesian in _BAYESIAN.items()}


def convert(model: _M, *, prior_std: float = PRIOR_STD, rho: float = RHO) -> _M:
    """Put a Gaussian over the weights of every linear layer and 1-d or 2-d convolution, in place.

    The weights become the means, so that in evaluation mode the model computes what it did before.
    In training mode the layers draw their outputs. Everything else stays as it is: BatchNorm, residual
    connections, shared layers, tied weights, hooks, flags ``requires_grad``, and subclasses of the layers
    named and layers with parametrised weights, which may compute something else.

    Parameters
    ----------
    model
        Any module; a part of a model, such as ``model.layer4``, makes that part Bayesian.
    prior_std
        Standard deviation of the prior around 0; the paper's by default.
    rho
        Where the posterior's standard deviation ``softplus(rho)`` begins.

    Returns
    -------
    nn.Module
        `model` itself. Optimisers made before know nothing of the new parameters.

    Raises
    ------
    TypeError
        `model` is no ``nn.Module``.
    ValueError
        Options out of range, nothing to convert, or a lazy layer that has not seen an image.

    Examples
    --------
    >>> model = convert(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> [name for name, _ in model.named_parameters()]
    ['1.weight', '1.bias', '1.weight_rho', '1.bias_rho']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not 0 < prior_std < math.inf:
        raise ValueError(f"prior_std must be positive and finite, got {prior_std}")
    if not math.isfinite(rho):
        raise ValueError(f"rho must be finite, got {rho}")
    found = [module for module in model.modules() if _is_plain(module)]
    if not found:
        already = ": all its layers are Bayesian" if any(bayesian_layers(model)) else ""
        raise ValueError(
            f"{type(model).__name__} has nothing to convert{already}; it needs a layer of exactly the "
            f"class {', '.join(kind.__name__ for kind in _BAYESIAN)}, with its own weights"
        )
    tied: dict[Tensor, nn.Parameter] = {}
    for layer in bayesian_layers(model):
        tied[layer.weight] = layer.weight_rho  # type: ignore[assignment]  # registered as one
    for module in found:
        module.__class__ = _BAYESIAN[type(module)]
        module.widen(tied, prior_std=prior_std, rho=rho)  # type: ignore[operator]
    return model


def to_deterministic(model: _M) -> _M:
    """Undo :func:`convert` in place: the means become the weights, and the rest is dropped.

    Parameters
    ----------
    model
        Any module; without Bayesian layers nothing happens.

    Returns
    -------
    nn.Module
        `model` itself.
    """
    for layer in list(bayesian_layers(model)):
        layer.narrow()
        layer.__class__ = _TORCH[type(layer)]  # type: ignore[assignment]
    return model


def bayesian_layers(model: nn.Module) -> Iterator[BayesianLayer]:
    """Yield the Bayesian layers of a model, each once."""
    return (module for module in model.modules() if isinstance(module, BayesianLayer))


def is_bayesian(model: nn.Module) -> bool:
    """Whether a model has a Bayesian layer."""
    return any(True for _ in bayesian_layers(model))


def kl(model: nn.Module) -> Tensor:
    """Kullback–Leibler divergence of the weights' posterior from their prior, the KL(q‖P) of the paper.

    Parameters
    ----------
    model
        A converted model, or one with converted parts.

    Returns
    -------
    Tensor
        Scalar ≥ 0, differentiable; tied weights count once. 0 without Bayesian layers.
    """
    total: Tensor | None = None
    counted: set[Tensor] = set()
    for layer in bayesian_layers(model):
        for mean, std in zip((layer.weight, layer.bias), layer.stds(), strict=True):
            if mean is None or std is None or mean in counted:
                continue
            counted.add(mean)
            divergence = gaussian_kl(mean, std, layer.prior_std)
            total = divergence if total is None else total + divergence
    return torch.zeros(()) if total is None else total


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is exactly a layer we know, with weights of its own."""
    if type(module) not in _BAYESIAN:
        if (
            isinstance(module, nn.modules.lazy.LazyModuleMixin)
            and module.has_uninitialized_params()
        ):
            raise ValueError(
                f"the model has a {type(module).__name__} whose size is not known yet; pass one batch "
                "through the model before converting it"
            )
        return False
    weight = module._parameters.get("weight")  # noqa: SLF001 - a weight computed by a hook is not in it
    return weight is not None and weight.is_floating_point()
