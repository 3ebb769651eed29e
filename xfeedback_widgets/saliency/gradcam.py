"""Grad-CAM, cheap enough to watch and differentiable enough to train on.

`LayerMethod` is the common part of the CAM family: it runs the model once and hands over the logits,
the activations of the target layer and the gradient of the explained class there. Where the head is a
global average pool and one linear layer that gradient is a row of the weight matrix; otherwise only
the head is differentiated. `GradCAM` turns the two into maps. Finding the layer is in ``layers.py``.
"""

from __future__ import annotations

import operator
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from xfeedback_widgets.saliency.base import (
    SaliencyMethod,
    Targets,
    class_indices,
    logits_of,
    prepared,
    recorded,
    submodules,
    tapped,
)
from xfeedback_widgets.saliency.layers import (
    TargetLayer,
    UnknownInputSizeError,
    find_target_layer,
    name_of,
)

__all__ = ["CentredGradCAM", "GradCAM", "LayerMethod"]


class Attention(NamedTuple):
    """What one forward gives the CAM family: logits, activations and the class's gradient there."""

    logits: Tensor  # [N, C]
    activations: Tensor  # [N, K, h, w], at least float32
    gradient: Tensor  # [N, K, h, w], or [N, K, 1, 1] where it is the same at every position


class LayerMethod(SaliencyMethod):
    """A method that looks at the activations of one layer.

    The layer is found when the object is made, by passing one noise image through the model; if no
    usual image size fits, by the first real image. It is found anew when modules of the model are
    replaced. If the target layer runs several times in a forward, its last call counts.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`.
    layer
        Name (``"features.3"``) or module; by default `find_target_layer` chooses.

    Raises
    ------
    NoSpatialLayerError
        If the model has no layer whose output can be laid over the image; says what to pass.
    ValueError
        If `layer` is not in the model.
    """

    def __init__(self, model: nn.Module, layer: str | nn.Module | None = None) -> None:
        super().__init__(model)
        self._layer = None if layer is None else name_of(self.model, layer)
        self._look()

    @property
    def target_layer(self) -> TargetLayer:
        """The layer in use.

        Raises
        ------
        NoSpatialLayerError
            If no usual image size fits the model and no image has been explained yet.
        """
        self._look_again(submodules(self.model))
        return self._found()

    @property
    def closed_form(self) -> bool:
        """Whether the head was proved to be a global average pool and one linear layer."""
        return self.target_layer.classifier is not None

    def on(self, model: nn.Module) -> Self:  # noqa: D102 — inherited
        twin = super().on(model)
        if twin._layer is not None:  # noqa: SLF001 — another object of this class
            name_of(twin.model, twin._layer)  # noqa: SLF001
        twin._look()  # noqa: SLF001
        return twin

    def _look(self) -> None:
        """Find the layer now if a probe image fits, so that no later call pays for it."""
        self._target: TargetLayer | None = None
        self._modules = submodules(self.model)
        try:
            self._target = find_target_layer(self.model, self._layer)
        except UnknownInputSizeError:
            self._target = None

    def _look_again(self, modules: list[nn.Module], images: Tensor | None = None) -> None:
        same = len(modules) == len(self._modules) and all(map(operator.is_, modules, self._modules))
        if self._target is None or not same:
            self._target = find_target_layer(self.model, self._layer, images)
            self._modules = modules

    def _found(self) -> TargetLayer:
        assert self._target is not None  # noqa: S101 — `_look_again` comes first and raises otherwise
        return self._target

    def _attend(
        self,
        images: Tensor,
        targets: Targets,
        *,
        graph: bool,
        centred: bool = False,
        constant: bool = False,
    ) -> Attention:
        """Run the model once; see `Attention`.

        With `graph`, all three are differentiable, but for a `constant` gradient.
        """
        target = self._found()
        size = (images.shape[2], images.shape[3])
        if target.classifier is None:
            logits, raw, gradient = self._head_gradient(
                target, images, targets, graph, centred, constant
            )
            gradient = target.spatial(gradient, size)
        else:
            with recorded(target.module) as seen:
                logits = logits_of(self.model(images))
            raw = seen[-1]
            weight = target.classifier.weight
            weight = weight.detach() if constant else weight
            chosen = weight[class_indices(targets, logits)]
            if centred:
                chosen = chosen - weight.mean(dim=0)
            gradient = chosen[:, :, None, None]
        activations = target.spatial(raw, size)
        if target.classifier is not None:
            gradient = _wide(gradient) / (activations.shape[2] * activations.shape[3])
        return Attention(logits, _wide(activations), _wide(gradient))

    def _head_gradient(
        self,
        target: TargetLayer,
        images: Tensor,
        targets: Targets,
        graph: bool,
        centred: bool,
        constant: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Differentiate what follows the layer, from the same forward that gives the logits.

        Without `graph` the trunk runs under ``no_grad`` and gradients are switched on at the layer, so
        that nothing of the trunk is kept. A model that forbids gradients around its own trunk undoes
        that switch, and is run once more with gradients allowed.
        """
        seen: list[Tensor] = []

        def cut(output: Tensor) -> Tensor:
            if not graph:
                torch.set_grad_enabled(mode=True)  # undone when the context below ends
            keep = graph and output.requires_grad
            seen.append(output if keep else output.detach().requires_grad_())
            return seen[-1].clone()  # the head may work in place; the activations must not change

        for allowed in (True,) if graph else (False, True):
            with torch.set_grad_enabled(allowed), tapped(target.module, cut):
                logits = logits_of(self.model(images))
            if logits.requires_grad:
                break
        indices = class_indices(targets, logits)
        with torch.enable_grad():
            score = logits.gather(1, indices[:, None]).sum()
            if centred:
                score = score - logits.mean(dim=1).sum()
            gradient = None
            if score.requires_grad:
                (gradient,) = torch.autograd.grad(
                    score,
                    seen[-1],
                    retain_graph=graph,
                    create_graph=graph and not constant,
                    allow_unused=True,
                )
        if gradient is None:
            raise ValueError(
                f"the logits do not depend on layer {target.name!r} in a differentiable way (is the "
                "model's forward decorated with no_grad?); pass another layer"
            )
        return logits, seen[-1], gradient


class GradCAM(LayerMethod):
    r"""Grad-CAM (Selvaraju et al., ICCV 2017): :math:`G_c = ReLU(\sum_k α_k h_k)`.

    :math:`α_k = mean_{ij} ∂z_c/∂h_{kij}`. Where the head is a global average pool and one linear layer
    (``closed_form``), :math:`α_k = W_{ck}/(HW)`: exactly the same map without any backward. Dropout
    between the pool and the linear layer is then left out of the map also in training mode: the
    map is that of the weights, not of one random draw.

    Parameters
    ----------
    model, layer
        See `LayerMethod`.
    centred
        Explain :math:`z_c - mean_{c'} z_{c'}` instead of :math:`z_c`, that is, subtract the mean weight
        over classes. Adding the same to all logits changes no probability; the centred map is blind to
        it too.

    Raises
    ------
    NoSpatialLayerError
        If the model has no layer whose output can be laid over the image; says what to pass.
    """

    name: ClassVar[str] = "gradcam"

    def __init__(
        self, model: nn.Module, layer: str | nn.Module | None = None, *, centred: bool = False
    ) -> None:
        super().__init__(model, layer)
        self.centred = centred

    def logits_and_maps(
        self,
        images: Tensor,
        targets: Targets = None,
        *,
        signed: bool = False,
        alpha: Literal["differentiable", "constant"] = "differentiable",
    ) -> tuple[Tensor, Tensor]:
        """Compute logits and maps from one forward, both differentiable: the path for training.

        The model runs in the mode it is in, with gradients as the caller has them: under ``no_grad``
        both results come without a graph.

        Parameters
        ----------
        images
            Floating point ``[N, C, H, W]``; not checked for NaN, which would cost a wait on a GPU.
        targets
            As for `explain`.
        signed
            Leave the ReLU out: what speaks against the class is negative, not zero.
        alpha
            ``"constant"`` treats the channel weights as numbers, so that a loss on the map is met by
            changing the activations only; any head is then differentiated once, not twice.

        Returns
        -------
        logits
            ``[N, C]``.
        maps
            ``[N, h, w]`` (≥ 0 unless `signed`), not normalised, float32 (float64 for a model in double
            precision).

        Raises
        ------
        ValueError
            If the images are not a non-empty float ``[N, C, H, W]`` batch, or a target is not a class.
        """
        graph = torch.is_grad_enabled()
        images = prepared(images, self.model)
        self._look_again(submodules(self.model), images)
        attention = self._attend(
            images, targets, graph=graph, centred=self.centred, constant=alpha == "constant"
        )
        maps = cam(attention.activations, channel_means(attention.gradient), signed=signed)
        return attention.logits, maps if graph else maps.detach()

    def _explain(self, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        attention = self._attend(images, targets, graph=False, centred=self.centred)
        return attention.logits, cam(attention.activations, channel_means(attention.gradient))


class CentredGradCAM(GradCAM):
    """`GradCAM` with ``centred=True`` under a name of its own, for menus and options.

    Parameters
    ----------
    model, layer
        See `LayerMethod`.
    """

    name: ClassVar[str] = "centred_gradcam"

    def __init__(self, model: nn.Module, layer: str | nn.Module | None = None) -> None:
        super().__init__(model, layer, centred=True)


def cam(activations: Tensor, weights: Tensor, *, signed: bool = False) -> Tensor:
    """Sum channels by weight and keep what speaks for the class.

    Parameters
    ----------
    activations
        ``[N, K, h, w]``.
    weights
        ``[N, K]``, same dtype.
    signed
        Keep what speaks against it as well.

    Returns
    -------
    Tensor
        ``[N, h, w]``, ≥ 0 unless `signed`.
    """
    device = activations.device.type
    if torch.is_autocast_enabled(device):  # would round the sum to 16 bits
        with torch.autocast(device, enabled=False):
            return cam(activations, weights, signed=signed)
    summed = weights[:, None] @ activations.flatten(2)
    summed = summed if signed else summed.relu()
    return summed.reshape(len(activations), *activations.shape[2:])


def channel_means(gradient: Tensor) -> Tensor:
    """Average ``[N, K, h, w]`` over positions; nothing to do where a gradient is constant."""
    return gradient[:, :, 0, 0] if gradient.shape[2:] == (1, 1) else gradient.mean(dim=(2, 3))


def _wide(tensor: Tensor) -> Tensor:
    """Leave 16-bit arithmetic: sums over thousands of channels need at least float32."""
    return tensor.float() if tensor.element_size() < 4 else tensor
