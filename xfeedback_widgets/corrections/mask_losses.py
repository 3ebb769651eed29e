"""Plain losses on masks, which people compare with: Energy (Model Guidance) and RRR.

Both add one term to the cross-entropy of the batch and differ in what they look at: Energy at the share of
the class's attention that lies inside the mask, RRR at the gradient of the input outside it. What an
image's mask says is looked up by ``masks``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.corrections.baselines import PlainFineTuning
from xfeedback_widgets.corrections.masks import DrawnMasks
from xfeedback_widgets.saliency import GradCAM
from xfeedback_widgets.saliency.base import logits_of

if TYPE_CHECKING:
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback


def energy_loss(maps: Tensor, relevant: Tensor) -> Tensor:
    """Share of each map's energy outside the mask, ``1 − Σ M·A⁺ / Σ A⁺`` (Rao et al., ICCV 2023).

    Parameters
    ----------
    maps
        ``float [N, h, w]``; what is negative does not count.
    relevant
        The mask M, ``float [N, h, w]`` in [0, 1].

    Returns
    -------
    Tensor
        ``float [N]`` in [0, 1]; a map without any energy has none outside, and costs nothing.
    """
    positive = maps.clamp(min=0)
    energy = positive.sum((1, 2))
    outside = (positive * (1 - relevant)).sum((1, 2))
    return outside / torch.where(energy > 0, energy, 1.0)


def gradient_penalty(gradients: Tensor, irrelevant: Tensor) -> Tensor:
    """Squared input gradient where it should be none, ``Σ (A ⊙ ∂/∂x Σ_c log p_c)²`` (Ross et al., 2017).

    Parameters
    ----------
    gradients
        ``float [N, C, H, W]``, of the sum of each image's log probabilities.
    irrelevant
        The mask A, ``float [N, H, W]`` in [0, 1].

    Returns
    -------
    Tensor
        ``float [N]`` ≥ 0.
    """
    return (gradients * irrelevant[:, None]).square().sum((1, 2, 3))


class Energy(Correction):
    """Cross-entropy and the share of attention outside the masks: ``L = mean CE + weight · mean_n L_n``.

    ``L_n`` is :func:`energy_loss` of the label's Grad-CAM, over the batch's images with a mask. Relevant is
    what was marked relevant, or, where nothing was, all that was not marked irrelevant.

    Parameters
    ----------
    weight
        Of the term. The default was chosen on validation pictures of two problems.
    centred
        Explain a class against the mean of all; see :class:`~xfeedback_widgets.saliency.GradCAM`. Plain
        Grad-CAM, as in the literature, leaves attention that all classes share unpunished.
    layer
        Target layer of Grad-CAM, by name or module; None finds it.
    """

    name: ClassVar[str] = "Energy"
    learns_from: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __init__(
        self, *, weight: float = 3.0, centred: bool = True, layer: str | nn.Module | None = None
    ) -> None:
        self.weight = checked_weight("weight", weight)
        self.centred = centred
        self.layer = layer

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option here
        """The method people should be shown: the one whose maps are trained."""
        return "centred_gradcam" if self.centred else "gradcam"

    def __repr__(self) -> str:
        return f"Energy(weight={self.weight:g}, centred={self.centred})"

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
        relevant = self._drawn.relevant(batch, (maps.shape[1], maps.shape[2]))
        each = energy_loss(maps[have].float(), relevant)
        return with_cross_entropy(logits, batch, "attention", self.weight * each.mean())


class RightReasons(Correction):
    """RRR, right for the right reasons: penalise the input gradient on irrelevant pixels (opt-in).

    ``L = mean CE + weight · mean_n L_n`` with :func:`gradient_penalty` over the batch's images with a mask.
    Irrelevant is what was marked irrelevant, or, where nothing was, all that was not marked relevant.

    It is the dearest correction here: the gradient of the input is itself differentiated, through the whole
    network, so a step costs 3.3 to 3.9 plain steps. The forward is one, as everywhere.

    Parameters
    ----------
    weight
        Of the term. Gradients of the input shrink and grow with its scale and the network, so it is to be
        chosen such that the term starts about as large as the cross-entropy.
    """

    name: ClassVar[str] = "RRR"
    learns_from: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = checked_weight("weight", weight)

    def __repr__(self) -> str:
        return f"RightReasons(weight={self.weight:g})"

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Look up the masks."""
        self._drawn = DrawnMasks(data, feedback, next(model.parameters()).device)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward, and a backward that is differentiated again."""
        have = self._drawn.have(batch)
        if not bool(have.any()):
            return PlainFineTuning().loss(model, batch)
        images = batch.images.detach().requires_grad_()
        logits = logits_of(model(images)).float()
        (gradients,) = torch.autograd.grad(
            logits.log_softmax(1)[have].sum(), images, create_graph=True
        )
        irrelevant = self._drawn.irrelevant(batch, (images.shape[2], images.shape[3]))
        each = gradient_penalty(gradients[have].float(), irrelevant)
        return with_cross_entropy(logits, batch, "gradient", self.weight * each.mean())


def with_cross_entropy(logits: Tensor, batch: Batch, name: str, term: Tensor) -> Losses:
    """Add a term to the mean cross-entropy of a batch."""
    logits = logits.float()
    cross_entropy = F.cross_entropy(logits, batch.labels)
    return Losses(
        cross_entropy + term,
        {"cross_entropy": cross_entropy.detach(), name: term.detach()},
        int((logits.argmax(1) == batch.labels).sum()),
    )


def checked_weight(name: str, value: float) -> float:
    """Refuse a weight that is negative, infinite or NaN."""
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be >= 0 and finite, got {value}")
    return float(value)
