"""The live model: the user's own module, its lock, and the number of the weights inside.

The one module that owns the model lock. Whoever computes with the live model holds it over the whole
forward and backward; publishing takes it for the few milliseconds of the copy. The trainer never
touches the live model: it trains a copy made by :meth:`LiveModel.shadow`.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn


class LiveModel:
    """A model whose weights may be replaced in place, between forward passes.

    Parameters
    ----------
    model
        The user's model. Its Parameter objects keep their identity for ever, so that the user's own
        references and optimisers survive every publication.
    version
        Number of the weights now inside.
    """

    def __init__(self, model: nn.Module, version: int = 0) -> None:
        self.model = model
        self.lock = threading.RLock()
        self._version = version

    @property
    def version(self) -> int:
        """Number of the weights now inside."""
        return self._version

    @contextlib.contextmanager
    def reading(self) -> Iterator[tuple[nn.Module, int]]:
        """Hold the model still and yield it with its version."""
        with self.lock:
            yield self.model, self._version

    def publish(self, state: Mapping[str, Tensor], version: int) -> None:
        """Copy weights into the model, in place.

        Raises
        ------
        ValueError
            Names or shapes differ from the model's; nothing is copied then.
        """
        with self._settled():
            load_in_place(self.model, state)
            self._version = version

    def shadow(self) -> nn.Module:
        """Return an independent copy of the model as it is now."""
        with self._settled():
            return copy.deepcopy(self.model)

    def state(self) -> dict[str, Tensor]:
        """Return a detached copy of the weights as they are now, and on their device."""
        with self._settled():
            return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """Hold the lock, and on a GPU see that it means something there.

        Kernels are only queued when a forward returns, each thread's on a stream of its own: those
        queued before must have ended before weights are copied, and the copy before anyone goes on.
        """
        with self.lock:
            self._wait_for_device()
            try:
                yield
            finally:
                self._wait_for_device()

    def _wait_for_device(self) -> None:
        device = next(self.model.parameters()).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def load_in_place(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict into ``model`` with ``copy_``: no Parameter or buffer object is replaced.

    Raises
    ------
    ValueError
        Names or shapes differ; the message names the first few, and nothing is copied.
    """
    own = {name: t for name, t in model.state_dict(keep_vars=True).items() if torch.is_tensor(t)}
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} is not in this model" for name in state.keys() - own.keys()]
    problems += [
        f"{name} is {tuple(state[name].shape)}, this model has {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        raise ValueError(
            f"these weights belong to another model ({len(problems)} differences: {shown}); "
            "open the session with the model it was made with, or in another directory"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name], non_blocking=False)
