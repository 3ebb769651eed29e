"""Precedence: who computes in the background stands still for a moment when a person presses something.

A press passes through browser, server and kernel and back, a dozen hand-overs, and on few cores each of
them waits for whoever computes. Priorities of threads do not help there: systems share cores out among
programs first. So the widgets claim precedence when a press comes in, and the trainer, between two of a
model's layers, and the explainer, before it works ahead, give way until its answer is on screen.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xfeedback_widgets.saliency.base import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

# From the callback until "saved", the next picture and its map are painted: with everyone else at rest, 60 ms
# at the median and 80 at the 95th percentile (two cores, JupyterLab in Chromium, ResNet-18).
_MOMENT = 0.08


class Precedence:
    """Lets whoever computes in the background wait while a press is answered.

    A claim lasts 80 ms and is followed by at least as long without one, so that somebody who presses as
    fast as a script still leaves the background half of the time. Any thread may call anything here.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._until = float("-inf")

    def claim(self) -> None:
        """Take precedence for the next moment; never waits."""
        now = time.monotonic()
        with self._guard:
            if now >= self._until + _MOMENT:
                self._until = now + _MOMENT

    @property
    def left(self) -> float:
        """Seconds until the present claim ends; 0 without one."""
        return max(0.0, self._until - time.monotonic())

    def give_way(self) -> None:
        """Wait for the end of the present claim, if there is one."""
        while left := self.left:
            time.sleep(left)

    @contextlib.contextmanager
    def between_layers(self, model: nn.Module) -> Iterator[None]:
        """Give way between a model's layers as well while the context lasts, forward and backward.

        One step of a large network takes seconds on a processor, so its beginning and end are too few
        places to wait at. The places are the modules with a weight matrix or kernels, for there the time
        goes. Models that are not on a processor take none of its time, and compiled or scripted ones have no
        such places: nothing is done to them.
        """
        handles = []
        if _on_processor(model) and plain(model) is model:
            for module in model.modules():
                # its own parameters, not `.weight`: that may be computed, by a spectral norm for example
                own = module.parameters(recurse=False)
                if any(p.ndim > 1 for p in own) and not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_pre_hook(self._before))
                    handles.append(module.register_forward_hook(self._after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, *_: Any) -> None:
        self.give_way()

    def _after(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        # the gradient of its output is the last thing known before its own backward
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(self._before)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Precedence:
        """Return this object: a copy of a model that gives way gives way to the same presses."""
        return self


def _on_processor(model: nn.Module) -> bool:
    first = next(model.parameters(), None)
    return first is None or first.device == torch.device("cpu")
