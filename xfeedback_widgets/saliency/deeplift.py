"""DeepLIFT for models as people write them, through Captum and without touching the model.

Captum applies DeepLIFT's rule through hooks on nonlinear *modules*, each of which may run once. Real
models reuse one ReLU (torchvision's ResNet), work in place, or call ``F.relu``. Here every
nonlinear call of a forward, however it is written, is sent to a module of its own, outside the model;
Captum sees only those.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from xfeedback_widgets.saliency.base import logits_of
from xfeedback_widgets.saliency.pixels import PixelMethod, start_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeepLift"]

#: Functions of one value, to which DeepLIFT's rescale rule applies: Δout / Δin for each element.
ELEMENTWISE = frozenset(
    (
        *("celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish"),
        *("relu", "relu6", "selu", "sigmoid", "silu", "softplus", "tanh"),
    )
)
POOLS = {"max_pool1d": nn.MaxPool1d, "max_pool2d": nn.MaxPool2d, "max_pool3d": nn.MaxPool3d}
POOL_OPTIONS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


class DeepLift(PixelMethod):
    """DeepLIFT, rescale rule (Shrikumar et al., 2017), absolute values summed over channels.

    Elementwise activations and max pooling follow the rule, as modules or as functions, reused and in
    place; products of activations (attention, gating) and normalisation over the image's own values
    are differentiated, as Captum does. Captum's rule for max pooling is exact for windows that do not
    overlap, and approximate otherwise.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`. Its own modules get no hooks.
    baselines
        Reference input: a number, or a tensor that broadcasts to the images.
    """

    name: ClassVar[str] = "deeplift"

    def __init__(self, model: nn.Module, *, baselines: float | Tensor = 0.0) -> None:
        super().__init__(model)
        self.baselines = baselines

    def _attribute(self, images: Tensor, indices: Tensor) -> Tensor:
        from captum.attr import DeepLift as Captum

        laid_open = LaidOpen(self.model)
        laid_open(images[:1].detach())  # makes the modules that Captum will hook
        # Where a max pool's input equals the baseline's, Captum 0.9 takes the gradient of the first
        # image of the batch: with max pools, one image at a time.
        pools = any(isinstance(call, tuple(POOLS.values())) for call in laid_open.calls)
        size = 1 if pools else len(images)
        parts = [
            Captum(laid_open).attribute(part.requires_grad_(), baselines=start, target=target)
            for part, start, target in zip(
                torch.split(images.detach(), size),
                torch.split(start_of(self.baselines, images), size),
                torch.split(indices, size),
                strict=True,
            )
        ]
        return torch.cat(parts)


class LaidOpen(nn.Module):
    """A model seen as its nonlinear calls: submodule i is the i-th of a forward, and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that it is not a submodule
        self.calls = nn.ModuleList()

    def forward(self, images: Tensor) -> Tensor:
        with Redirect(self.calls):
            return logits_of(self._model[0](images))


class Redirect(TorchFunctionMode):
    """Send the i-th nonlinear call made under this mode to ``calls[i]``, which is made when missing."""

    def __init__(self, calls: nn.ModuleList) -> None:
        super().__init__()
        self._calls = calls
        self._count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        written = getattr(func, "__name__", "")
        name = written.rstrip("_")
        if name not in ELEMENTWISE and name not in POOLS:
            return func(*args, **kwargs)
        # Captum rewrites the gradient of the tensor a module receives; a copy has no other reader.
        values = args[0] if args else kwargs.pop("input")
        if name in POOLS:
            options = {**dict(zip(POOL_OPTIONS, args[1:], strict=False)), **kwargs}
            if options.get("return_indices"):
                return func(values, *args[1:], **kwargs)
            return self._next(lambda: POOLS[name](**options))(values.clone())
        # Functions with an `inplace` argument take it last; every rule here wants a fresh output.
        in_place = written.endswith("_") or kwargs.pop("inplace", False)
        rest = tuple(value for value in args[1:] if not isinstance(value, bool))
        in_place = in_place or any(value is True for value in args[1:])
        module = self._next(lambda: _rescaled(name, rest, kwargs))
        result = module(values.clone())
        return values.copy_(result) if in_place else result

    def _next(self, make: Callable[[], nn.Module]) -> nn.Module:
        if self._count == len(self._calls):
            self._calls.append(make())
        self._count += 1
        return self._calls[self._count - 1]


def _rescaled(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    """Make a module that computes the function, and to which Captum applies its elementwise rule.

    Captum looks the rule up by exact type; that of ReLU is the general one, Δout / Δin.
    """
    function = getattr(functional, name)
    module = nn.ReLU()
    module.forward = partial(_applied, function, args, kwargs)  # type: ignore[method-assign]
    return module


def _applied(
    function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], values: Tensor
) -> Tensor:
    return function(values, *args, **kwargs)
