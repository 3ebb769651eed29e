"""RES-G: learn from masks that are inexact and incomplete (Gao et al., KDD 2022, arXiv 2206.13413).

People draw boundaries badly, leave regions out, and draw zeros and ones where a model's attention is
continuous. RES answers with marks in {-1, 0, +1} for exclude, unknown and include, with a slack, and with
targets that are smoothed over what was not marked. The arithmetic is :func:`smoothed_target` and
:func:`robust_loss`; what an image's mask says is looked up by ``masks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.corrections.baselines import PlainFineTuning
from xfeedback_widgets.corrections.mask_losses import checked_weight, with_cross_entropy
from xfeedback_widgets.corrections.masks import DrawnMasks
from xfeedback_widgets.saliency import GradCAM, normalize

if TYPE_CHECKING:
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback


def smoothed_target(shares: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Turn marks into a continuous target, and say how far it can be relied on.

    Parameters
    ----------
    shares
        ``float [N, 2, h, w]`` in [0, 1]: how much of each cell is included, and how much excluded.
    sigma
        Of the Gaussian, in cells; 0 does not smooth.

    Returns
    -------
    target
        ``float [N, h, w]`` in [0, 1]: the included share, smoothed and divided by its maximum, falling to
        zero as a cell is excluded.
    certainty
        ``float [N, h, w]`` in [0, 1]: the marked share of a cell, and in cells that are not marked the
        target itself. It is imputed as far as the Gaussian reaches and unknown beyond.
    """
    include, exclude = shares.unbind(1)
    smooth = normalize(_blurred(include, sigma))
    target = smooth * (1 - exclude)
    return target, torch.maximum((include + exclude).clamp(max=1), target)


def robust_loss(maps: Tensor, target: Tensor, certainty: Tensor, eta: float) -> Tensor:
    """Distance of each map from its target beyond the slack, ``Σ C max(0, |M − T| − η) / Σ C``.

    Parameters
    ----------
    maps
        M, ``float [N, h, w]`` in [0, 1].
    target, certainty
        T and C, as :func:`smoothed_target` gives them.
    eta
        Slack η in [0, 1).

    Returns
    -------
    Tensor
        ``float [N]`` in [0, 1]; zero where nothing is certain.
    """
    beyond = ((maps - target).abs() - eta).clamp(min=0)
    area = certainty.sum((1, 2))
    return (certainty * beyond).sum((1, 2)) / torch.where(area > 0, area, 1.0)


class ResG(Correction):
    """RES-G: cross-entropy and a distance to smoothed masks, ``L = mean CE + weight · mean_n L_n``.

    The form implemented: M is the label's Grad-CAM divided by its maximum. Masks are averaged over the
    cells of the map into the shares included, F⁺, and excluded, F⁻. The target is
    ``T = (1 − F⁻) · G_σ*F⁺ / max G_σ*F⁺`` and the certainty ``C = max(F⁺ + F⁻, T)``: the marked share, or,
    in cells that nobody marked, the imputed target itself. ``L_n = Σ C max(0, |M − T| − η) / Σ C``,
    averaged over the batch's images with a mask. These are the paper's three means (a slack for inexact
    boundaries, unknown cells that cost nothing for incomplete regions, a Gaussian target for binary masks
    beside continuous maps) as one distance; the paper binarises the map for the first two and adds the
    third as a term of its own, which needs a threshold and a weight more.

    Marks of both kinds are needed: with nothing excluded, attention elsewhere is unknown and costs nothing.

    Parameters
    ----------
    weight
        Of the term.
    eta
        Slack η in [0, 1): differences up to it cost nothing.
    sigma
        Of the Gaussian, in cells of the map.
    centred
        Explain a class against the mean of all; see :class:`~xfeedback_widgets.saliency.GradCAM`.
    layer
        Target layer of Grad-CAM, by name or module; None finds it.
    """

    name: ClassVar[str] = "RES-G"
    learns_from: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __init__(
        self,
        *,
        weight: float = 1.0,
        eta: float = 0.1,
        sigma: float = 1.0,
        centred: bool = False,
        layer: str | nn.Module | None = None,
    ) -> None:
        if not 0 <= eta < 1:
            raise ValueError(f"eta must be in [0, 1), got {eta}")
        self.weight = checked_weight("weight", weight)
        self.eta = eta
        self.sigma = checked_weight("sigma", sigma)
        self.centred = centred
        self.layer = layer

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option here
        """The method people should be shown: the one whose maps are trained."""
        return "centred_gradcam" if self.centred else "gradcam"

    def __repr__(self) -> str:
        return (
            f"ResG(weight={self.weight:g}, eta={self.eta:g}, sigma={self.sigma:g}, "
            f"centred={self.centred})"
        )

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Look up the masks."""
        self._cam = GradCAM(model, self.layer, centred=self.centred)
        self._drawn = DrawnMasks(data, feedback, next(model.parameters()).device)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward: logits and maps together."""
        have = self._drawn.have(batch)
        if not bool(have.any()):
            return PlainFineTuning().loss(model, batch)
        logits, maps = self._cam.logits_and_maps(batch.images, batch.labels)
        shares = self._drawn.shares(batch, (maps.shape[1], maps.shape[2]))
        target, certainty = smoothed_target(shares, self.sigma)
        each = robust_loss(normalize(maps[have].float()), target, certainty, self.eta)
        return with_cross_entropy(logits, batch, "attention", self.weight * each.mean())


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """Convolve ``[N, h, w]`` with a Gaussian out to three σ, the border continued."""
    reach = int(3 * sigma)
    if reach == 0:
        return maps
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-0.5 * (steps / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], [reach] * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[None, None, :, None])
    return F.conv2d(rows, kernel[None, None, None, :])[:, 0]
