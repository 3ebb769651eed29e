"""Grad-CAM++ and Smooth Grad-CAM++: pixel-wise weights for the gradients of Grad-CAM.

They share with ``gradcam.py`` the single forward and the head gradient, and differ in how gradients
become channel weights.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from xfeedback_widgets.saliency.base import Targets, class_indices
from xfeedback_widgets.saliency.gradcam import LayerMethod, cam

__all__ = ["GradCAMPlusPlus", "SmoothGradCAMPlusPlus"]


class GradCAMPlusPlus(LayerMethod):
    r"""Grad-CAM++ (Chattopadhay et al., WACV 2018).

    :math:`ReLU(\sum_k w_k A_k)` with :math:`w_k = \sum_{ij} a_{kij} ReLU(g_{kij})`, see
    `plus_plus_weights`. The published weights carry a factor :math:`\exp(z_c)`, which overflows
    float32 for logits above 88 and cancels when a map is normalised; it is left out.

    Parameters
    ----------
    model, layer
        See `LayerMethod`.

    Raises
    ------
    NoSpatialLayerError
        If the model has no layer whose output can be laid over the image; says what to pass.
    """

    name: ClassVar[str] = "gradcam++"

    def _explain(self, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        logits, activations, gradient = self._attend(images, targets, graph=False)
        return logits, cam(activations, plus_plus_weights(activations, gradient))


class SmoothGradCAMPlusPlus(GradCAMPlusPlus):
    """Smooth Grad-CAM++ (Omeiza et al., 2019): the mean Grad-CAM++ map of noisy copies of an image.

    All copies explain the same class: the requested one, or the one predicted for the clean image.
    The clean image takes one forward (its logits are those returned), every copy one more.

    Parameters
    ----------
    model, layer
        See `LayerMethod`.
    n
        Number of noisy copies.
    sigma
        Standard deviation of the Gaussian noise, as a share of each image's own range.
    generator
        CPU generator of the noise; by default every call starts from the same seed, so that the same
        image has the same map.

    Raises
    ------
    NoSpatialLayerError
        If the model has no layer whose output can be laid over the image; says what to pass.
    ValueError
        If `n` < 1 or `sigma` < 0.
    """

    name: ClassVar[str] = "smooth_gradcam++"

    def __init__(
        self,
        model: nn.Module,
        layer: str | nn.Module | None = None,
        *,
        n: int = 8,
        sigma: float = 0.15,
        generator: torch.Generator | None = None,
    ) -> None:
        if n < 1 or sigma < 0:
            raise ValueError(f"n must be ≥ 1 and sigma ≥ 0, got n={n}, sigma={sigma}")
        super().__init__(model, layer)
        self.n, self.sigma, self.generator = n, sigma, generator

    def _explain(self, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        logits = self._attend(images, targets, graph=False).logits
        indices = class_indices(targets, logits)
        generator = self.generator or torch.Generator().manual_seed(0)
        spread = self.sigma * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
        total = torch.zeros(())
        for _ in range(self.n):
            # drawn on the CPU in float32, so that a seed means the same noise on every device
            noise = torch.randn(images.shape, generator=generator).to(images.device, images.dtype)
            total = total + super()._explain(images + spread * noise, indices)[1]
        return logits, total / self.n


def plus_plus_weights(activations: Tensor, gradient: Tensor) -> Tensor:
    r"""Compute the channel weights of Grad-CAM++.

    :math:`w_k = \sum_{ij} a_{kij} ReLU(g_{kij})`, :math:`a = g² / (2g² + g³ \sum_{ij} A_{ij})`.
    Dividing by g² first gives :math:`a = 1 / (2 + g \sum A)`, which needs no ε: the squares of
    ordinary gradients, around 1e-4, would drown in one. Where that denominator is not positive (only
    possible for activations that are negative on average) the expansion behind it has no meaning, and
    the position gets weight 0.

    Parameters
    ----------
    activations
        ``[N, K, h, w]``.
    gradient
        ``[N, K, h, w]``, or ``[N, K, 1, 1]`` where it is constant.

    Returns
    -------
    Tensor
        ``[N, K]`` ≥ 0.
    """
    positive = gradient.relu()
    denominator = 2 + positive * activations.sum(dim=(2, 3), keepdim=True)
    usable = denominator > 0
    terms = torch.where(usable, positive / torch.where(usable, denominator, 1), 0)
    return terms.expand_as(activations).sum(dim=(2, 3))
