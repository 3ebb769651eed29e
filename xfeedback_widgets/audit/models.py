"""A classifier by its name, for those who have no Python session open: torchvision's and timm's.

With weights from a file, nothing is downloaded and nothing is unpickled. A program of your own passes the
model itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xfeedback_widgets.saliency import base

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from xfeedback_widgets.data import ImageSet

_TIMM = "timm/"
_WRAPPED = ("state_dict", "model_state_dict", "model")


def load_model(
    name: str, weights: str | Path | None = None
) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """Make a model, and the transform its images go through.

    Parameters
    ----------
    name
        Of torchvision (``"resnet50"``), or of timm after ``timm/`` (``"timm/resnet50.a1_in1k"``).
    weights
        State dict in a ``.safetensors`` file, or one of ``torch.save`` that ``weights_only`` accepts; a
        head with another number of classes is made to fit. Default: the published weights, downloaded
        by the library unless it has them already.

    Returns
    -------
    model, transform

    Raises
    ------
    FileNotFoundError, ValueError
        An unknown name, no such file, or weights of another architecture.
    ImportError
        A timm model without timm, naming the extra to install.
    """
    make = _timm(name.removeprefix(_TIMM)) if name.startswith(_TIMM) else _torchvision(name)
    if weights is None:
        model, transform = make(pretrained=True)
        return model.eval(), transform
    state = read_weights(weights)
    model, transform = make(pretrained=False)
    classes = _classes(model.state_dict(), state)
    if classes is not None:
        model, transform = make(pretrained=False, num_classes=classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{weights} does not hold weights of {name}: {error}") from error
    return model.eval(), transform


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict without unpickling objects.

    Parameters
    ----------
    path
        ``.safetensors``, or a file of ``torch.save``; one level of ``state_dict`` or ``model`` around it,
        and ``module.`` before its names, are taken off.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file, or not a state dict; it is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged files raise is not written down anywhere
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} cannot be read as weights: {line[0]}") from error
    for key in _WRAPPED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(map(torch.is_tensor, found.values())):
        raise ValueError(f"{path} holds no state dict (names and tensors)")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def count_outputs(model: nn.Module, data: ImageSet) -> int:
    """Return how many logits a model gives for an image of the set."""
    images = next(data.batches(1)).images
    with torch.no_grad(), base.evaluating(model):
        return base.logits_of(model(base.prepared(images, model))).shape[1]


def _classes(made: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int | None:
    """Return how many classes the weights have, where only the head's size differs."""
    differing = [key for key in made if key in state and made[key].shape != state[key].shape]
    counts = {state[key].shape[0] for key in differing if state[key].ndim}
    fit = all(made[key].shape[1:] == state[key].shape[1:] for key in differing)
    return counts.pop() if len(counts) == 1 and fit else None


def _torchvision(name: str) -> Callable[..., tuple[nn.Module, Any]]:
    from torchvision import models

    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError:
        known = ", ".join(models.list_models(models)[:8])
        raise ValueError(
            f"torchvision has no classifier {name!r} (it has {known}, …); timm's models are named timm/NAME"
        ) from None

    def make(*, pretrained: bool, **options: Any) -> tuple[nn.Module, Any]:
        model = models.get_model(name, weights=weights if pretrained else None, **options)
        return model, weights.transforms()

    return make


def _timm(name: str) -> Callable[..., tuple[nn.Module, Any]]:
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"timm/{name} needs timm: pip install 'xfeedback-widgets[timm]'"
        ) from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"{name.split('.', maxsplit=1)[0][:6]}*")[:5])
        raise ValueError(f"timm has no model {name!r}; similar: {near or 'none'}")

    def make(*, pretrained: bool, **options: Any) -> tuple[nn.Module, Any]:
        model = timm.create_model(name, pretrained=pretrained, **options)
        config = timm.data.resolve_data_config({}, model=model)
        return model, timm.data.create_transform(**config)

    return make
