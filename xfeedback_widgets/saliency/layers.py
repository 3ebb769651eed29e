"""Finding the layer a class activation map is read from, in any classifier, by watching it work.

One forward and one backward of a probe image show every module's output, its layout and whether the
logits depend on its spatial positions; the last such output is the target layer. So there is no table
of architectures: CNNs, ``[N, H, W, C]`` networks (Swin) and token sequences (ViT) go through the same
few rules. The same probe *proves* whether the rest of the network is a global average pool and one
linear layer, which makes the closed form of Grad-CAM exact. The maps are computed elsewhere.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from xfeedback_widgets.saliency.base import evaluating, logits_of, plain, prepared, recorded, tapped

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NoSpatialLayerError", "TargetLayer", "find_target_layer"]

Layout = Literal["nchw", "nhwc", "tokens"]

#: Sizes tried when a model does not say what it expects: photographs first, digits last.
PROBE_SIZES = (224, 64, 32, 28, 96, 128, 256, 299, 384)

#: At most so many class, distillation and register tokens stand before the patches.
MAX_PREFIX_TOKENS = 16

#: What a model may raise when a probe image does not fit it.
MISFIT = (RuntimeError, ValueError, AssertionError, IndexError, TypeError)

#: Modules that only pass on, drop or pool what a layer before them computed.
PASSING = (
    nn.Identity,
    nn.Softmax,
    nn.modules.dropout._DropoutNd,  # noqa: SLF001 — the only common base class of all dropouts
    nn.modules.pooling._AvgPoolNd,  # noqa: SLF001
    nn.modules.pooling._AdaptiveAvgPoolNd,  # noqa: SLF001
    nn.modules.pooling._AdaptiveMaxPoolNd,  # noqa: SLF001
)

#: Autograd nodes of "average over all positions, reshape, one matrix product", and nothing else.
PRODUCTS = frozenset({"AddmmBackward0", "MmBackward0", "LinearBackward0"})
POOL_AND_RESHAPE = frozenset(
    {
        "MeanBackward0",
        "MeanBackward1",
        "ViewBackward0",
        "UnsafeViewBackward0",
        "ReshapeAliasBackward0",
        "AliasBackward0",
        "AsStridedBackward0",
        "AsStridedBackward1",
        "TBackward0",
        "PermuteBackward0",
        "TransposeBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "SqueezeBackward2",
        "UnsqueezeBackward0",
        "CloneBackward0",
    }
)


class NoSpatialLayerError(ValueError):
    """The model has no layer whose output can be laid over the image, or none was found."""


@dataclass(frozen=True, eq=False)
class TargetLayer:
    """The layer whose activations are mapped, and what the probe learned about it.

    Attributes
    ----------
    name
        As in ``model.named_modules()``.
    module
        The module itself, inside the model.
    layout
        ``"nchw"``, ``"nhwc"`` or ``"tokens"`` (``[N, L, C]``).
    prefix_tokens
        Class, distillation and register tokens before the patches; 0 for the other layouts.
    classifier
        The linear layer, where everything after `module` was proved to be a global average pool and
        this layer (dropout, which evaluation mode switches off, may stand between); otherwise None.
    reader
        The linear layer that gives the logits, where each of its inputs was seen to depend on one channel
        of `module` only: `classifier`, or one behind an activation function and a pool. Otherwise None.
    """

    name: str
    module: nn.Module
    layout: Layout
    prefix_tokens: int = 0
    classifier: nn.Linear | None = None
    reader: nn.Linear | None = None

    def spatial(self, activations: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Bring the layer's output into ``[N, C, h, w]``, without the prefix tokens.

        Parameters
        ----------
        activations
            Output of `module`, in its own layout.
        image_size
            (H, W) of the images; decides how a token sequence is folded.

        Returns
        -------
        Tensor
            A view where that is possible; differentiable.

        Raises
        ------
        NoSpatialLayerError
            If the output has the wrong number of dimensions.
        """
        if activations.ndim != (3 if self.layout == "tokens" else 4):
            raise NoSpatialLayerError(
                f"layer {self.name!r} now returns shape {tuple(activations.shape)}, which is not "
                f"{self.layout}; pass layer='name' of a layer with spatial output"
            )
        if self.layout == "nchw":
            return activations
        if self.layout == "nhwc":
            return activations.permute(0, 3, 1, 2)
        patches = activations[:, self.prefix_tokens :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *_grid(patches.shape[2], image_size))


def find_target_layer(
    model: nn.Module, layer: str | nn.Module | None = None, images: Tensor | None = None
) -> TargetLayer:
    """Find the last layer with spatial output that the logits depend on at every kind of position.

    In a ViT that reads its class token this is the normalisation before the last attention: after it,
    the patches have no influence. The model is left as it was found.

    Parameters
    ----------
    model
        Classifier (torchvision, timm, Hugging Face or your own).
    layer
        Name or module to use instead; only its layout is then found out.
    images
        Example input ``[N, C, H, W]``, of which the first is used; by default noise of the size the
        model declares, or of the first of some common sizes that it accepts.

    Returns
    -------
    TargetLayer
        The layer, its layout, and the classifier where the closed form holds.

    Raises
    ------
    NoSpatialLayerError
        If no layer qualifies, or the model accepts none of the sizes tried; says what to pass.
    ValueError
        If `layer` is not in the model.
    """
    model = plain(model)
    named = None if layer is None else name_of(model, layer)
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model):
        if images is not None:
            return _inspect(model, named, prepared(images[:1].clone(), model))
        refused: Exception | None = None
        for probe in _probes(model):
            try:
                return _inspect(model, named, prepared(probe, model))
            except NoSpatialLayerError:  # noqa: PERF203 — being refused is the point here
                raise
            except MISFIT as error:
                refused = refused or error
    raise UnknownInputSizeError(
        "the model accepts none of the usual image sizes "
        f"(first refusal: {refused}); pass example images: find_target_layer(model, images=batch)"
    )


class UnknownInputSizeError(NoSpatialLayerError):
    """No probe image fitted the model: the first real images will tell."""


def name_of(model: nn.Module, layer: str | nn.Module) -> str:
    """Give the qualified name of `layer` in `model`.

    Raises
    ------
    ValueError
        If it is not there, naming layers that look alike.
    """
    names: dict[str, nn.Module] = {name: m for name, m in model.named_modules() if name}
    if isinstance(layer, str):
        if layer in names:
            return layer
        close = difflib.get_close_matches(layer, names, n=5, cutoff=0.4) or list(names)[-5:]
        raise ValueError(f"the model has no layer {layer!r}; similar names: {', '.join(close)}")
    for name, module in names.items():
        if module is layer:
            return name
    raise ValueError(
        f"the {type(layer).__name__} passed as layer is not a submodule of this model; "
        "pass one of model.named_modules(), or its name"
    )


def _probes(model: nn.Module) -> Iterator[Tensor]:
    """Noise images of the size the model declares, then of common sizes."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    config = getattr(model, "config", None)
    channels = first.in_channels if first else getattr(config, "num_channels", 3)
    generator = torch.Generator().manual_seed(0)  # leaves the caller's random state alone
    for height, width in dict.fromkeys([*_declared_sizes(model), *((s, s) for s in PROBE_SIZES)]):
        yield torch.rand(1, channels, height, width, generator=generator)


def _declared_sizes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Sizes written down where torchvision, timm and Hugging Face write them."""
    for holder in (getattr(model, "config", None), *model.modules()):
        for attribute in ("image_size", "img_size"):
            size = getattr(holder, attribute, None)
            if isinstance(size, int):
                yield size, size
            elif isinstance(size, (tuple, list)) and len(size) == 2:
                yield int(size[0]), int(size[1])
    declared = getattr(model, "pretrained_cfg", None)
    if isinstance(declared, dict) and "input_size" in declared:
        yield declared["input_size"][-2], declared["input_size"][-1]


def _inspect(model: nn.Module, name: str | None, images: Tensor) -> TargetLayer:
    size = (images.shape[2], images.shape[3])
    if name is None:
        target = _last_influential(model, images)
    else:
        module = model.get_submodule(name)
        with recorded(module) as seen:
            logits_of(model(images))
        if not seen:
            raise ValueError(
                f"layer {name!r} is not used in the model's forward; pass another layer"
            )
        layout = _layout(seen[-1].shape, size, [])
        if layout is None and seen[-1].ndim == 4:
            layout = "nchw", 0  # an unusual aspect, but the user asked for this layer
        if layout is None:
            raise NoSpatialLayerError(
                f"layer {name!r} returns shape {tuple(seen[-1].shape)}, which has no height and width;"
                " pass a layer before pooling and flattening (see model.named_modules())"
            )
        target = TargetLayer(name, module, *layout)
    return TargetLayer(
        target.name,
        target.module,
        target.layout,
        target.prefix_tokens,
        *_proved_heads(model, target, images),
    )


def _last_influential(model: nn.Module, images: Tensor) -> TargetLayer:
    """Record all spatial outputs of one forward; take the last with a non-zero gradient."""
    size = (images.shape[2], images.shape[3])
    names = {module: name for name, module in model.named_modules()}
    outputs: list[tuple[TargetLayer, Tensor]] = []
    grids: list[tuple[int, int]] = []
    pooled: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Linear) and inputs[0].ndim == 2:
            pooled.append(inputs[0])
        if module is model or not isinstance(output, Tensor) or isinstance(module, PASSING):
            return
        layout = _layout(output.shape, size, grids)
        # keys, queries, values and hidden units are not the stream of tokens a block passes on
        inner = isinstance(module, nn.Linear) and layout != ("nchw", 0)
        if layout is None or inner or not output.requires_grad:
            return
        target = TargetLayer(names[module], module, *layout)
        if layout[0] != "tokens":
            grids.append(
                (target.spatial(output, size).shape[2], target.spatial(output, size).shape[3])
            )
        outputs.append((target, output))

    handles = [module.register_forward_hook(watch) for module in names]
    try:
        with torch.enable_grad():
            logits = logits_of(model(images.requires_grad_()))
    finally:
        for handle in handles:
            handle.remove()

    # The pooled features count too: a freshly made head may be zero, and would hide everything.
    with torch.enable_grad():
        ends = [end.double() for end in (logits, *pooled) if end.requires_grad]
        signal = sum(((end * _noise(end)).sum() for end in ends), torch.zeros(()))
    for target, output in reversed(outputs):
        (gradient,) = torch.autograd.grad(signal, output, retain_graph=True, allow_unused=True)
        if gradient is not None and target.spatial(gradient, size).any():
            return target
    raise NoSpatialLayerError(
        f"no layer of {type(model).__name__} has spatial output [N, C, H, W], [N, H, W, C] or tokens "
        f"[N, L, C] that the logits depend on, for images of {size[0]}×{size[1]}; pass one: "
        "layer='name' or a module (see model.named_modules()), or use a pixel method such as "
        "'saliency' or 'integrated_gradients', which need no layer"
    )


def _layout(
    shape: torch.Size, image_size: tuple[int, int], grids: list[tuple[int, int]]
) -> tuple[Layout, int] | None:
    """Recognise the layout of an output from its shape; `grids` are those seen earlier."""
    if len(shape) == 4:
        if _is_grid(shape[2], shape[3], image_size):
            return "nchw", 0
        if _is_grid(shape[1], shape[2], image_size):
            return "nhwc", 0
    if len(shape) == 3:
        length = shape[1]
        for height, width in reversed(grids):
            if height * width > 1 and 0 <= length - height * width <= MAX_PREFIX_TOKENS:
                return "tokens", length - height * width
        for prefix in range(min(MAX_PREFIX_TOKENS, length - 2) + 1):
            if _is_grid(*_grid(length - prefix, image_size), image_size):
                return "tokens", prefix
    return None


def _is_grid(height: int, width: int, image_size: tuple[int, int]) -> bool:
    """Tell whether height × width may be the image, reduced: more than a point, same proportions."""
    image_height, image_width = image_size
    if height * width <= 1 or height > image_height or width > image_width:
        return False
    if image_height == image_width:
        return height == width
    return abs(height - width * image_height / image_width) <= 1


def _grid(length: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Factor a number of patches into the (h, w) closest to the proportions of the image."""
    proportion = math.log(image_size[0] / image_size[1])
    heights = [h for h in range(1, length + 1) if length % h == 0]
    height = min(heights, key=lambda h: abs(math.log(h * h / length) - proportion))
    return height, length // height


def _proved_heads(
    model: nn.Module, target: TargetLayer, images: Tensor
) -> tuple[nn.Linear | None, nn.Linear | None]:
    """Return the linear layer as ``classifier`` and as ``reader`` of the target layer, each if it is one.

    Facts are established on the graph that one forward leaves behind the layer. The output of the linear
    layer is the logits. It is a reader if what enters it has, channel by channel, a gradient in its own
    channel only. It is the classifier if the graph holds only averages, reshapes and one matrix product,
    and that gradient is exactly 1/(HW) everywhere. Averages and reshapes do not depend on the values, so
    what holds for the probe holds for all images.
    """
    leaves: list[Tensor] = []
    products: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def cut(output: Tensor) -> Tensor:
        torch.set_grad_enabled(mode=True)  # undone when the caller's no_grad ends
        leaves.append(output.detach().requires_grad_())
        return leaves[-1].clone()

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        products.append((module, inputs[0], output))  # type: ignore[arg-type]

    handles = [m.register_forward_hook(watch) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad(), tapped(target.module, cut):
            logits = logits_of(model(images))
    finally:
        for handle in handles:
            handle.remove()
    if logits.grad_fn is None or not products:
        return None, None
    linear, features, output = products[-1]
    if output.shape != logits.shape or output.data_ptr() != logits.data_ptr():
        return None, None
    size = (images.shape[2], images.shape[3])
    if (
        features.grad_fn is None
        or features.shape[1:] != target.spatial(leaves[-1], size).shape[1:2]
    ):
        return None, None
    noises = [_noise(features, seed).to(features.dtype) for seed in (1, 2)]
    with torch.enable_grad():
        gradients = [
            target.spatial(
                torch.autograd.grad(
                    (features * noise).sum(),
                    leaves[-1],
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )[0],
                size,
            )
            for noise in noises
        ]
    tolerance = 8 * torch.finfo(gradients[0].dtype).eps
    # each channel's gradient, per unit of its own noise, must not depend on that of the others
    own, again = (
        g / n.flatten()[None, :, None, None] for g, n in zip(gradients, noises, strict=True)
    )
    if not own.any() or not torch.allclose(own, again, rtol=tolerance, atol=0):
        return None, None
    even = torch.full_like(own, 1 / own[0, 0].numel())
    exact = torch.allclose(own, even, rtol=tolerance, atol=0)
    return linear if exact and _is_pool_and_product(logits.grad_fn) else None, linear


def _is_pool_and_product(node: Any) -> bool:
    seen, pending, products = set(), [node], 0
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name()
        products += name in PRODUCTS
        if name not in PRODUCTS | POOL_AND_RESHAPE and not name.endswith("AccumulateGrad"):
            return False
        pending += [following for following, _ in node.next_functions if following is not None]
    return products == 1


def _noise(like: Tensor, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(like.shape, generator=generator, dtype=torch.double).add(0.5).to(like.device)
