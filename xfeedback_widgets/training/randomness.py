"""Random numbers of a training run: drawn from its own generator, whatever the model calls.

Dropout and its kin draw from torch's one generator per process. A run on a background thread that
seeded it, or put it back afterwards, would make the cells a user executes meanwhile repeat or lose
numbers; a run that left it alone would not repeat itself. So within :class:`OwnRandomNumbers` the drawing
functions of torch are given a generator of the run, on this thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xfeedback_widgets.bayesian import BayesianLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Functions that take a ``generator``, and where their result lies unless told otherwise.
_DRAWING: frozenset[Any] = frozenset(
    {
        torch.rand, torch.randn, torch.randint, torch.randperm, torch.bernoulli, torch.multinomial,
        torch.normal, Tensor.bernoulli, Tensor.bernoulli_, Tensor.multinomial, Tensor.uniform_,
        Tensor.normal_, Tensor.random_, Tensor.exponential_, Tensor.log_normal_, Tensor.cauchy_,
        Tensor.geometric_,
    }
)  # fmt: skip
#: Functions that do not: ``like`` with the shape of a tensor, dropout with the shape of its mask.
_LIKE = {torch.rand_like: Tensor.uniform_, torch.randn_like: Tensor.normal_}
_DROPOUT_AXES = {F.dropout: None, F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}


class OwnRandomNumbers(TorchFunctionMode):
    """A context in which what this thread draws comes from one seed and from nowhere else.

    It may be entered again and again; the numbers go on. Entered around each step, it leaves everything
    that runs in between alone. What draws below the level of torch's functions, such as dropout inside
    ``scaled_dot_product_attention``, alpha dropout and recurrent layers, still draws from the process's
    generator, so such models do not repeat themselves to the bit.

    Parameters
    ----------
    seed
        Of the numbers.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, with this run's generator where it draws."""
        options = dict(kwargs or {})
        if func in _DROPOUT_AXES:
            return self._dropout(_DROPOUT_AXES[func], *args, **options)
        if func in _LIKE:
            return _LIKE[func](
                torch.empty_like(*args, **options), generator=self._of(args[0].device)
            )
        if func in _DRAWING and options.get("generator") is None:
            tensor = next((a for a in args if isinstance(a, Tensor)), None)
            where = options.get("device") if tensor is None else tensor.device
            options["generator"] = self._of(torch.device(where or torch.get_default_device()))
        return func(*args, **options)

    def _dropout(
        self,
        axes: int | None,
        input: Tensor,  # noqa: A002 - torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        """Dropout of single values, or (``axes`` spatial ones) of whole channels."""
        if not training or p == 0:
            return input
        shape = input.shape if axes is None else (*input.shape[:-axes], *[1] * axes)
        kept = torch.empty(shape, dtype=input.dtype, device=input.device)
        kept.bernoulli_(1 - p, generator=self._of(input.device))
        if p < 1:
            kept.div_(1 - p)
        return input.mul_(kept) if inplace else input * kept

    def _of(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def is_stochastic(model: nn.Module) -> bool:
    """Whether training a model draws random numbers: Bayesian layers, dropout, stochastic depth.

    Parameters
    ----------
    model
        Any.
    """
    return any(
        isinstance(module, BayesianLayer)
        or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)  # noqa: SLF001
        or type(module).__name__ in ("StochasticDepth", "DropPath", "DropBlock2d", "PatchDropout")
        for module in model.modules()
    )
