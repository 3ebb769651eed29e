"""What every saliency method shares: the two verbs, the checks of their input, and leaving no trace.

`SaliencyMethod` is the seam: a method implements ``_explain`` and inherits input checks, evaluation
mode that is put back, and freedom from the caller's ``no_grad`` or ``inference_mode``. The methods
themselves live one per module beside this one; finding the layer to look at is in ``layers.py``.
"""

from __future__ import annotations

import copy
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["SaliencyMethod", "Targets"]

Targets = int | Sequence[int] | Tensor | None


class SaliencyMethod(ABC):
    """A way to say where in an image a classifier looks.

    The model is left exactly as it was found, also when its forward raises: the mode of every
    submodule, ``requires_grad``, ``.grad`` and hooks. A method holds a reference to the model, so it
    always explains the weights the model has at the moment of the call. Calls may run beside a thread
    that trains a *copy* of the model; whoever changes this model's weights must take turns with them.

    Parameters
    ----------
    model
        Classifier: ``model(images)`` gives logits ``[N, C]``, or an object, mapping or tuple that
        carries them (``.logits``, ``["logits"]`` or the first item).

    Raises
    ------
    TypeError
        If `model` is not a ``torch.nn.Module``.
    """

    name: ClassVar[str]
    """Short name, a key of `xfeedback_widgets.saliency.METHODS`."""

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.model = plain(model)

    def explain(self, images: Tensor, targets: Targets = None) -> Tensor:
        """Compute one map per image, in evaluation mode, without a graph.

        Parameters
        ----------
        images
            Floating point ``[N, C, H, W]``, preprocessed as the model expects. Moved to the device
            and dtype of the model's parameters.
        targets
            Class to explain: None for the predicted one, an int for all images, or one per image.

        Returns
        -------
        Tensor
            float32 ``[N, h, w]`` ≥ 0, without a graph. An all-zero map means "no attention".

        Raises
        ------
        ValueError
            If the images are not a non-empty finite float ``[N, C, H, W]`` batch, or a target is not
            a class of the model.
        FloatingPointError
            If the model's own activations or gradients are not finite.
        """
        return self.logits_and_explain(images, targets)[1]

    def logits_and_explain(self, images: Tensor, targets: Targets = None) -> tuple[Tensor, Tensor]:
        """Like `explain`, with the logits the maps belong to.

        Parameters
        ----------
        images, targets
            As for `explain`.

        Returns
        -------
        logits
            ``[N, C]`` in the model's dtype, without a graph.
        maps
            As returned by `explain`.

        Raises
        ------
        ValueError, FloatingPointError
            As for `explain`.
        """
        # a tensor made under inference_mode may not take part in autograd: leave the mode, and copy
        modules = submodules(self.model)
        with torch.inference_mode(mode=False), torch.no_grad(), evaluating(modules):
            images = prepared(images.clone() if is_inference(images) else images, self.model)
            check_finite(images)
            self._look_again(modules, images)
            if is_inference(targets):
                targets = targets.clone()
            logits, maps = self._explain(images, targets)
        logits, maps = logits.detach(), maps.detach().float()
        if not all_finite(maps):
            raise FloatingPointError(
                f"the map of image(s) {listed(~maps.isfinite().flatten(1).all(dim=1))} of the batch is "
                "not finite: the weights may have diverged, or the activations overflow in the model's "
                f"dtype ({images.dtype}); check the weights, or use float32 or bfloat16"
            )
        return logits, maps

    def on(self, model: nn.Module) -> Self:
        """Make the same method, with the same options, for another model of the same architecture.

        Parameters
        ----------
        model
            For example a copy that is being trained, or an older version.

        Returns
        -------
        SaliencyMethod
            A new object; this one is unchanged.
        """
        twin = copy.copy(self)
        SaliencyMethod.__init__(twin, model)
        return twin

    def _look_again(self, modules: list[nn.Module], images: Tensor) -> None:  # noqa: B027
        """Renew what was learned about the model if its modules are others now; by default nothing."""

    @abstractmethod
    def _explain(self, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Compute (logits, maps) from checked images; runs in evaluation mode under ``no_grad``."""


def plain(model: nn.Module) -> nn.Module:
    """Unwrap ``torch.compile``: its compiled code would ignore hooks. The weights are the same."""
    return getattr(model, "_orig_mod", model)


def submodules(model: nn.Module) -> list[nn.Module]:
    """List all modules of a model, itself first; several times faster than ``model.modules()``.

    A map may cost no more than a few per cent of a small network's forward, and this runs for each.
    """
    found = {model: None}  # a dict, for its order
    level = [model]
    while level:
        children = chain.from_iterable([m._modules.values() for m in level])  # noqa: SLF001 — as modules()
        level = [c for c in dict.fromkeys(children) if c is not None and c not in found]
        found.update(dict.fromkeys(level))
    return list(found)


@contextmanager
def evaluating(model: nn.Module | list[nn.Module]) -> Iterator[None]:
    """Put every submodule, or those listed, into evaluation mode, and back into the mode it had.

    The flag is set directly: ``eval()`` may be overridden by models that do more than that.
    """
    modules = model if isinstance(model, list) else submodules(model)
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def tapped(module: nn.Module, swap: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the output of `module` through `swap` while the context lasts, in this thread only."""
    owner = threading.get_ident()

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if threading.get_ident() != owner:
            return None
        if isinstance(output, Tensor):
            return swap(output)
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            return (swap(output[0]), *output[1:])
        raise ValueError(
            f"the target layer returns {type(output).__name__}, not a tensor of activations; "
            "pass a layer inside it: layer='name' (see model.named_modules())"
        )

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of `module` while the context lasts, one per call."""
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        return output

    with tapped(module, keep):
        yield outputs


def logits_of(output: Any) -> Tensor:
    """Take the logits ``[N, C]`` out of whatever a classifier returns.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, (tuple, list)) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.ndim != 2:
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
        raise ValueError(
            f"the model must return logits [N, C], or carry them as .logits; it returned {what}: "
            "wrap it in a module whose forward returns the logits"
        )
    return found


def prepared(images: Tensor, model: nn.Module) -> Tensor:
    """Check a batch of images and move it to the model's device and dtype.

    Raises
    ------
    TypeError, ValueError
        If it is not a non-empty floating point ``[N, C, H, W]``.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor [N, C, H, W], got {type(images).__name__}")
    if images.ndim != 4:
        hint = "; add the batch dimension: images[None]" if images.ndim == 3 else ""
        raise ValueError(f"images must be [N, C, H, W], got shape {tuple(images.shape)}{hint}")
    if 0 in images.shape:
        raise ValueError(f"images is empty (shape {tuple(images.shape)}); pass at least one image")
    if not images.is_floating_point():
        raise ValueError(
            f"images must be floating point, preprocessed for the model, got {images.dtype}; "
            "uint8 pictures become floats with images.float() / 255"
        )
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return images if weight is None else images.to(weight.device, weight.dtype)


def check_finite(images: Tensor) -> None:
    """Refuse NaN and infinity, naming the images."""
    if not all_finite(images):
        broken = ~images.isfinite().flatten(1).all(dim=1)
        raise ValueError(
            f"image(s) {listed(broken)} of the batch contain NaN or infinite values; clean them, e.g. "
            "torch.nan_to_num(images)"
        )


def all_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite, in one pass where that is so (a sum keeps both)."""
    return math.isfinite(values.sum(dtype=torch.float32)) or bool(values.isfinite().all())


def class_indices(targets: Targets, logits: Tensor) -> Tensor:
    """Resolve `targets` to one class per row of `logits`.

    Returns
    -------
    LongTensor
        ``[N]`` on the device of `logits`; the predicted classes where `targets` is None.

    Raises
    ------
    ValueError
        If the length, the dtype or a class is wrong.
    """
    n, classes = logits.shape
    if targets is None:
        return logits.detach().argmax(dim=1)
    indices = torch.as_tensor(targets)
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(f"targets must be integer class indices, got {indices.dtype}")
    if indices.ndim == 0:
        indices = indices.expand(n)
    if indices.shape != (n,):
        raise ValueError(
            f"targets must be one class per image: expected [{n}], got {tuple(indices.shape)}"
        )
    low, high = map(int, indices.aminmax())
    if low < 0 or high >= classes:
        wrong = (indices < 0) | (indices >= classes)
        raise ValueError(
            f"target {int(indices[wrong][0])} (image {listed(wrong)} of the batch) is not a class of "
            f"the model, which has {classes}: use 0 … {classes - 1}"
        )
    return indices.to(logits.device, torch.long)


def is_inference(value: object) -> TypeGuard[Tensor]:
    """Tell whether `value` is a tensor made under ``torch.inference_mode``."""
    return isinstance(value, Tensor) and value.is_inference()


def listed(flags: Tensor) -> str:
    """Name the positions of the true flags, at most five of them."""
    positions = flags.nonzero().flatten().tolist()
    return ", ".join(map(str, positions[:5])) + (" …" if len(positions) > 5 else "")
