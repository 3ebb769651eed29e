"""The feature map whose channels are the units, and the linear layer that reads their averages.

:func:`find_head` establishes by a probe, not by a table of architectures, that a classifier ends so; what
it needs to know of the feature map it takes from ``saliency``. Going through a data set is the business
of ``features`` and ``survey``.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xfeedback_widgets.saliency import NoSpatialLayerError, TargetLayer, find_target_layer
from xfeedback_widgets.saliency.base import evaluating, logits_of, plain, prepared, recorded

if TYPE_CHECKING:
    from xfeedback_widgets.data import ImageSet

_REMEDY = (
    "pruning units needs a classifier that averages its last feature map over positions and reads it "
    "with one linear layer (ResNet, DenseNet, MobileNetV2, EfficientNet, RegNet, Swin, …); use "
    "CrayonAttention for this model, which needs no such head"
)


class NoLinearHeadError(ValueError):
    """The model does not end in global average pooling and one linear layer."""


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a classifier: K channels averaged over positions, and the layer that reads them.

    Attributes
    ----------
    target
        The layer whose channels are the units.
    classifier
        ``nn.Linear(K, C)``, a module of the model.
    """

    target: TargetLayer
    classifier: nn.Linear

    @property
    def units(self) -> int:
        """K, the number of units."""
        return self.classifier.in_features

    def read(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model once, in evaluation mode and without a graph.

        Parameters
        ----------
        model
            The one this head was found in.
        images
            Floating point ``[N, C, H, W]``, moved to the model's device and dtype.

        Returns
        -------
        activations
            ``float32 [N, K, h, w]``.
        pooled
            ``float32 [N, K]``, what enters the linear layer.
        """
        with torch.no_grad(), evaluating(model):
            images = prepared(images, model)
            activations, pooled = _read(model, self, images)
        return activations.float(), pooled.float()

    def activations(self, model: nn.Module, images: Tensor) -> Tensor:
        """Run the model as it is and return ``[N, K, h, w]``, with a graph where the caller wants one."""
        return _read(model, self, images)[0]


def find_head(model: nn.Module, data: ImageSet | None = None) -> Head:
    """Find the units of a classifier.

    Parameters
    ----------
    model
        Classifier of torchvision, timm or your own.
    data
        Its first image is what the model is probed with; None: noise of a usual size.

    Returns
    -------
    Head
        Its two layers are modules of ``model``.

    Raises
    ------
    NoLinearHeadError
        The model ends otherwise; says how, and what to use instead.
    """
    images = None if data is None else next(data.batches(1)).images
    try:
        target = find_target_layer(model, images=images)
    except NoSpatialLayerError as error:
        raise NoLinearHeadError(f"{error}; {_REMEDY}") from error
    if target.reader is None:
        raise NoLinearHeadError(
            f"what follows layer {target.name!r} of {type(plain(model)).__name__} is not one linear layer "
            f"over its averaged channels; {_REMEDY}"
        )
    return Head(target, target.reader)


def fingerprint(model: nn.Module, head: Head | None = None) -> str:
    """Hash all weights, or all but the linear layer's: equal trunks have equal features.

    Parameters
    ----------
    model
        Whose weights.
    head
        Whose linear layer to leave out; None: hash everything.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    own = set() if head is None else {id(p) for p in head.classifier.parameters()}
    digest = hashlib.sha256()
    for name, tensor in plain(model).state_dict(keep_vars=True).items():
        if torch.is_tensor(tensor) and id(tensor) not in own:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
            content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(content.numpy().data)
    return digest.hexdigest()[:32]


def parameters_of(classifier: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return copies of weight and bias, float32; a missing bias is zero."""
    weight = classifier.weight.detach().float().clone()
    bias = classifier.bias
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach().float().clone()


def write(classifier: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Put weight and bias into the layer, in place."""
    with torch.no_grad():
        classifier.weight.copy_(weight)
        if classifier.bias is not None:
            classifier.bias.copy_(bias)


def _read(model: nn.Module, head: Head, images: Tensor) -> tuple[Tensor, Tensor]:
    entered: list[Tensor] = []
    owner = threading.get_ident()

    def keep(_module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == owner:
            entered.append(inputs[0])

    handle = head.classifier.register_forward_pre_hook(keep)
    try:
        with recorded(head.target.module) as seen:
            logits_of(plain(model)(images))
    finally:
        handle.remove()
    return head.target.spatial(seen[-1], (images.shape[2], images.shape[3])), entered[-1]
