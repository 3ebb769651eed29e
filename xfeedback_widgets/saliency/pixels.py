"""Captum's pixel attributions behind the same two verbs as the CAM family.

Saliency, Integrated Gradients and Occlusion need nothing but the model's output. DeepLIFT must see
every nonlinearity and has a module of its own. Captum is imported when a method is used.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from xfeedback_widgets.saliency.base import SaliencyMethod, Targets, class_indices, logits_of

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["IntegratedGradients", "Occlusion", "PixelMethod", "Saliency"]


class PixelMethod(SaliencyMethod):
    """A method that scores input pixels: its maps have the size of the image.

    One forward gives the logits (and the predicted class); Captum then runs the model as often as its
    method needs.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`. Pixel methods need no layer.
    """

    def _explain(self, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        logits = self._logits(images)
        # Captum marks its inputs as requiring gradients: give it a tensor of its own
        pixels = images.detach().clone().requires_grad_()
        scores = self._attribute(pixels, class_indices(targets, logits))
        return logits, self._pool(scores.detach().float().abs())

    def _logits(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images))

    @abstractmethod
    def _attribute(self, images: Tensor, indices: Tensor) -> Tensor:
        """Score every input value; ``[N, C, H, W]``, any sign."""

    def _pool(self, scores: Tensor) -> Tensor:
        """Pool the absolute scores of the channels of a pixel: their sum, unless a method differs."""
        return scores.sum(dim=1)


class Saliency(PixelMethod):
    """Size of the input gradient (Simonyan et al., 2014): ``max over channels |∂z_c/∂x|``.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`.
    """

    name: ClassVar[str] = "saliency"

    def _attribute(self, images: Tensor, indices: Tensor) -> Tensor:
        from captum.attr import Saliency as Captum

        scores: Tensor = Captum(self._logits).attribute(images, target=indices, abs=False)
        return scores

    def _pool(self, scores: Tensor) -> Tensor:
        return scores.amax(dim=1)


class IntegratedGradients(PixelMethod):
    """Integrated Gradients (Sundararajan et al., 2017), absolute values summed over channels.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`.
    n_steps
        Steps of the path integral.
    baselines
        Value where the path begins: a number, or a tensor that broadcasts to the images.
    """

    name: ClassVar[str] = "integrated_gradients"

    def __init__(
        self, model: nn.Module, *, n_steps: int = 50, baselines: float | Tensor = 0.0
    ) -> None:
        super().__init__(model)
        self.n_steps, self.baselines = n_steps, baselines

    def _attribute(self, images: Tensor, indices: Tensor) -> Tensor:
        from captum.attr import IntegratedGradients as Captum

        scores: Tensor = Captum(self._logits).attribute(
            images,
            baselines=start_of(self.baselines, images),
            target=indices,
            n_steps=self.n_steps,
            internal_batch_size=max(16, len(images)),  # all steps at once would exhaust memory
        )
        return scores


class Occlusion(PixelMethod):
    """Change of the logit when a square of the image is covered (Zeiler & Fergus, 2014).

    All channels are covered together; the map is the absolute change, averaged over the squares that
    contain a pixel.

    Parameters
    ----------
    model
        Classifier, see `SaliencyMethod`.
    window
        Side of the square in pixels. Default: a tenth of the image and odd, which is 3 for digits
        (28) and 23 for photos (224), as in the paper of the Bayesian CNN with feedback.
    stride
        Step between squares; default half a window.
    baselines
        Value that covers: a number, or a tensor that broadcasts to the images.
    perturbations_per_eval
        Squares evaluated in one forward; more is faster and takes more memory.

    Raises
    ------
    ValueError
        At `explain`, if `window` is larger than the image or `stride` larger than `window`.
    """

    name: ClassVar[str] = "occlusion"

    def __init__(
        self,
        model: nn.Module,
        *,
        window: int | None = None,
        stride: int | None = None,
        baselines: float | Tensor = 0.0,
        perturbations_per_eval: int = 4,
    ) -> None:
        super().__init__(model)
        self.window, self.stride, self.baselines = window, stride, baselines
        self.perturbations_per_eval = perturbations_per_eval

    def _attribute(self, images: Tensor, indices: Tensor) -> Tensor:
        from captum.attr import Occlusion as Captum

        channels, height, width = images.shape[1:]
        shorter = min(height, width)
        window = self.window or min(shorter, 2 * max(1, shorter // 20) + 1)
        stride = self.stride or max(1, window // 2)
        if not 1 <= stride <= window <= shorter:
            raise ValueError(
                f"occlusion needs 1 ≤ stride ≤ window ≤ the image's shorter side, got "
                f"stride={stride}, window={window} for images of {height}×{width}"
            )
        scores: Tensor = Captum(self._logits).attribute(
            images.detach(),
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=start_of(self.baselines, images),
            target=indices,
            perturbations_per_eval=self.perturbations_per_eval,
        )
        return scores

    def _pool(self, scores: Tensor) -> Tensor:
        return scores[:, 0]  # the channels are covered together and share one score


def start_of(baselines: float | Tensor, images: Tensor) -> Any:
    """Expand a baseline to the shape of the images, on their device and in their dtype."""
    values = torch.as_tensor(baselines, dtype=images.dtype, device=images.device)
    return values.expand_as(images).clone()
