"""The methods by name, for options and menus that hold a word instead of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.saliency.base import SaliencyMethod
from xfeedback_widgets.saliency.deeplift import DeepLift
from xfeedback_widgets.saliency.gradcam import CentredGradCAM, GradCAM, LayerMethod
from xfeedback_widgets.saliency.gradcam_plus_plus import GradCAMPlusPlus, SmoothGradCAMPlusPlus
from xfeedback_widgets.saliency.pixels import IntegratedGradients, Occlusion, Saliency

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METHODS", "create"]

#: Every method by its short name.
METHODS: dict[str, type[SaliencyMethod]] = {
    method.name: method
    for method in (
        GradCAM,
        CentredGradCAM,
        GradCAMPlusPlus,
        SmoothGradCAMPlusPlus,
        Saliency,
        IntegratedGradients,
        DeepLift,
        Occlusion,
    )
}


def create(
    method: str | type[SaliencyMethod] | SaliencyMethod,
    model: nn.Module,
    layer: str | nn.Module | None = None,
) -> SaliencyMethod:
    """Make the method meant by a name, a class or an example, for `model`.

    Parameters
    ----------
    method
        Key of `METHODS`, a class, or an object whose options are taken over.
    model
        Classifier to explain.
    layer
        Target layer, for a name or class of the CAM family; pixel methods have none.

    Returns
    -------
    SaliencyMethod
        `method` itself if it is an object that already belongs to `model`.

    Raises
    ------
    ValueError
        If the name is unknown; lists the known ones. If `layer` is given where it has no meaning.
    """
    if isinstance(method, SaliencyMethod):
        if layer is not None:
            raise ValueError(f"layer={layer!r} was given with a method that has its own; give one")
        return method if method.model is model else method.on(model)
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"unknown saliency method {method!r}; known: {', '.join(METHODS)}")
        method = METHODS[method]
    if issubclass(method, LayerMethod):
        return method(model, layer)
    if layer is not None:
        raise ValueError(f"{method.name!r} works on pixels and has no layer; leave layer out")
    return method(model)
