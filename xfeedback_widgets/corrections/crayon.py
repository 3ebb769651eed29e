"""CRAYON: yes/no feedback on saliency maps (arXiv 2410.22312).

Here lives CRAYON-Attention, the first half of the paper: people accept or reject the Grad-CAM map of
an image, and fine-tuning then penalises attention outside accepted maps and inside rejected ones. The
arithmetic is :func:`attention_penalties`, a pure function over map tensors; the class looks up which
images of a batch were answered and with which map. Grad-CAM itself is in ``saliency``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.data.augment import resample
from xfeedback_widgets.saliency import GradCAM, normalize
from xfeedback_widgets.saliency.base import logits_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback, Verdict

_UNANSWERED, _ACCEPTED, _REJECTED = 0, 1, 2

#: (alpha, beta) where the caller gives none.
_DEFAULT_WEIGHTS = {"item": (0.1, 0.1), "paper": (1e7, 2e5)}


def attention_penalties(
    maps: Tensor,
    frozen: Tensor,
    accepted: Tensor,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Penalty of each answered image (CRAYON, section "Attention", losses L_yes and L_no).

    ``L_yes = Σ Ĝ(1−Ĝ₀) / Σ(1−Ĝ₀)`` for an accepted map, ``L_no = Σ ĜĜ₀ / ΣĜ₀`` for a rejected one.

    Parameters
    ----------
    maps
        ``float [N, h, w]``, the model's maps now, normalised to [0, 1] per image; differentiable.
    frozen
        ``float [N, h, w]``, the maps that people judged, normalised likewise.
    accepted
        ``bool [N]``, true where the answer was yes, false where it was no.
    reduction
        ``"mean"`` divides by the denominators above; ``"sum"`` is the plain sum that the paper uses for
        CelebA and Backgrounds.

    Returns
    -------
    Tensor
        ``float [N]`` ≥ 0. Where a denominator is zero (a rejected map without any attention) nothing
        was judged, and the penalty is zero rather than 0/0.
    """
    forbidden = torch.where(accepted[:, None, None], 1 - frozen, frozen)
    penalty = (maps * forbidden).sum((1, 2))
    if reduction == "sum":
        return penalty
    area = forbidden.sum((1, 2))
    return torch.where(area > 0, penalty / area.clamp_min(torch.finfo(area.dtype).tiny), 0.0)


class CrayonAttention(Correction):
    """CRAYON-Attention: fine-tune on cross-entropy plus penalties on judged saliency maps.

    With ``weighting="paper"`` the loss of a batch is the paper's ::

        L = Σ CE + (α/|yes|) Σ_yes L_yes + (β/|no|) Σ_no L_no

    where |yes| and |no| count *all* answers, not those in the batch. Its weight per answer changes
    with every new answer (1e7 for the first yes), so for interactive use the default
    ``weighting="item"`` gives each answer a fixed weight: ::

        L = mean( CE + α·[yes] L_yes + β·[no] L_no )

    "Unsure" and unanswered images contribute cross-entropy only.

    Parameters
    ----------
    alpha, beta
        Weights of accepted and of rejected maps. Default: 0.1 per answer for ``"item"`` (made for
        ``reduction="sum"`` over maps of about 7 × 7 cells), and the paper's Waterbirds values 1e7 and
        2e5 for ``"paper"``.
    weighting
        ``"item"`` or ``"paper"``, see above.
    peak
        How the maximum in ``Ĝ = G / max G`` is differentiated. ``"constant"`` treats it as a number, so
        that rejected attention can only fall; with ``"differentiable"``, the equation read literally,
        raising the peak lowers everything else, and the penalty can be met by looking harder at the
        rejected spot.
    reduction
        ``"sum"`` (the paper's CelebA and Backgrounds runs) weighs a cell of an accepted map like one of
        a rejected map; ``"mean"`` (Waterbirds) divides by the area judged.
    target
        Class whose map is trained: ``"judged"``, the class whose map the person saw (the label where
        an answer does not say); ``"label"``; ``"predicted"``, the model's present prediction.
    centred
        Explain ``z_c − mean(z)`` instead of ``z_c``: as softmax does not see a shift of all logits,
        neither should the map. False is the paper's Grad-CAM.
    layer
        Target layer of Grad-CAM, by name or module; None finds it.

    Notes
    -----
    The frozen map Ĝ₀ of an answer is the map the person saw, as stored with the verdict. Where it was
    not stored (imported answers), the map of the weights the run starts from is used, in eval mode.
    """

    name: ClassVar[str] = "CRAYON-Attention"
    learns_from: ClassVar[frozenset[str]] = frozenset({"verdicts"})

    def __init__(
        self,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        weighting: Literal["item", "paper"] = "item",
        reduction: Literal["mean", "sum"] = "sum",
        peak: Literal["constant", "differentiable"] = "constant",
        target: Literal["judged", "label", "predicted"] = "judged",
        centred: bool = True,
        layer: str | nn.Module | None = None,
    ) -> None:
        _one_of("weighting", weighting, tuple(_DEFAULT_WEIGHTS))
        _one_of("reduction", reduction, ("mean", "sum"))
        _one_of("peak", peak, ("constant", "differentiable"))
        _one_of("target", target, ("judged", "label", "predicted"))
        defaults = _DEFAULT_WEIGHTS[weighting]
        self.alpha = defaults[0] if alpha is None else float(alpha)
        self.beta = defaults[1] if beta is None else float(beta)
        if not (self.alpha >= 0 and self.beta >= 0):  # also refuses NaN
            raise ValueError(f"alpha and beta must be >= 0, got {alpha} and {beta}")
        self.weighting: Literal["item", "paper"] = weighting
        self.reduction: Literal["mean", "sum"] = reduction
        self.peak: Literal["constant", "differentiable"] = peak
        self.target: Literal["judged", "label", "predicted"] = target
        self.centred = centred
        self.layer = layer

    @classmethod
    def published(cls, **overrides: Any) -> CrayonAttention:
        """Return the paper's Waterbirds form: its weighting, reduction, gradient and plain Grad-CAM.

        Parameters
        ----------
        **overrides
            Constructor arguments that replace the paper's, for example ``alpha=1e6``.
        """
        paper: dict[str, Any] = {
            "weighting": "paper",
            "reduction": "mean",
            "peak": "differentiable",
            "target": "label",
            "centred": False,
        }
        return cls(**paper | overrides)

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option here
        """The method people should be shown: the one whose maps are trained."""
        return "centred_gradcam" if self.centred else "gradcam"

    def __repr__(self) -> str:
        return (
            f"CrayonAttention(alpha={self.alpha:g}, beta={self.beta:g}, "
            f"weighting={self.weighting!r}, reduction={self.reduction!r}, peak={self.peak!r}, "
            f"target={self.target!r}, centred={self.centred})"
        )

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Look up every yes and no, and collect the maps they were given about."""
        verdicts = {
            data.index(image_id): verdict
            for image_id, verdict in feedback.verdicts.items()
            if verdict.answer != "unsure" and image_id in data
        }
        device = next(model.parameters()).device
        self._cam = GradCAM(model, self.layer, centred=self.centred)
        # Tables over the whole set, so that looking up a batch is one indexing operation.
        self._answers = torch.full((len(data),), _UNANSWERED, dtype=torch.uint8, device=device)
        self._rows = torch.zeros(len(data), dtype=torch.long, device=device)
        self._targets = torch.full((len(data),), -1, dtype=torch.long, device=device)
        for row, (position, verdict) in enumerate(verdicts.items()):
            self._answers[position] = _ACCEPTED if verdict.answer == "accept" else _REJECTED
            self._rows[position] = row
            if self.target == "judged" and verdict.target is not None:
                self._targets[position] = verdict.target
        accepted = int((self._answers == _ACCEPTED).sum())
        rejected = int((self._answers == _REJECTED).sum())
        self._weights = (
            (self.alpha, self.beta)
            if self.weighting == "item"
            else (self.alpha / max(accepted, 1), self.beta / max(rejected, 1))
        )
        self._judged = self._judged_maps(data, verdicts, device)
        self._frozen = torch.zeros(0, 1, 1, device=device)

    def _judged_maps(
        self, data: ImageSet, verdicts: dict[int, Verdict], device: torch.device
    ) -> list[Tensor]:
        """``float32 [h, w]`` for each verdict in order, each at the size it was stored or computed."""
        maps = {
            position: torch.tensor(verdict.map.astype("float32"), device=device)
            for position, verdict in verdicts.items()
            if verdict.map is not None
        }
        missing = [position for position in verdicts if position not in maps]
        for start in range(0, len(missing), 64):
            batch = data.batch(missing[start : start + 64]).to(device)
            if len(batch):
                explained = self._cam.explain(batch.images, self._targets_of(batch))
                maps.update(zip(batch.indices.tolist(), explained, strict=True))
        unread = torch.zeros(
            1, 1, device=device
        )  # the image can no longer be opened: judges nothing
        return [maps.get(position, unread) for position in verdicts]

    def _frozen_at(self, size: tuple[int, int]) -> Tensor:
        """Ĝ₀ of every answer on the grid of the target layer, ``float32 [answers, h, w]``."""
        if tuple(self._frozen.shape[1:]) != size or len(self._frozen) != len(self._judged):
            judged = [resample(map_[None, None], None, size)[0, 0] for map_ in self._judged]
            self._frozen = normalize(torch.stack(judged))
        return self._frozen

    def _frozen_of(self, batch: Batch, answered: Tensor, size: tuple[int, int]) -> Tensor:
        """Ĝ₀ of a batch's answered images, moved as they were augmented."""
        # indices are on the CPU, the tables and `answered` where the model is
        frozen = self._frozen_at(size)[self._rows[batch.indices][answered]]
        source = None if batch.source is None else batch.source[answered]
        return resample(frozen[:, None], source, size)[:, 0]

    def _normalized(self, maps: Tensor) -> Tensor:
        if self.peak == "differentiable":
            return normalize(maps)
        peak = maps.detach().amax((1, 2), keepdim=True)
        return maps / torch.where(peak > 0, peak, 1.0)

    def _targets_of(self, batch: Batch) -> Tensor | None:
        """Class explained for each image; None means the prediction."""
        if self.target == "predicted":
            return None
        judged = self._targets[batch.indices]
        return torch.where(judged >= 0, judged, batch.labels)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward: logits and maps together, penalties where the image was answered."""
        answers = self._answers[batch.indices]
        answered = answers != _UNANSWERED
        if bool(answered.any()):
            logits, maps = self._cam.logits_and_maps(batch.images, self._targets_of(batch))
        else:  # no map is needed, and a head without a closed form would charge for it
            logits, maps = logits_of(model(batch.images)), None
        paper = self.weighting == "paper"
        logits = logits.float()
        cross_entropy = F.cross_entropy(logits, batch.labels, reduction="sum" if paper else "mean")
        correct = int((logits.argmax(1) == batch.labels).sum())
        if maps is None:
            zero = torch.zeros((), device=logits.device)
            yes, no = zero, zero
        else:
            accepted = answers[answered] == _ACCEPTED
            penalties = attention_penalties(
                self._normalized(maps[answered].float()),
                self._frozen_of(batch, answered, (maps.shape[1], maps.shape[2])),
                accepted,
                reduction=self.reduction,
            )
            scale = 1 if paper else len(batch)
            yes = self._weights[0] / scale * penalties[accepted].sum()
            no = self._weights[1] / scale * penalties[~accepted].sum()
        parts = {"cross_entropy": cross_entropy, "accepted": yes, "rejected": no}
        return Losses(
            total=cross_entropy + yes + no,
            parts={name: part.detach() for name, part in parts.items()},
            correct=correct,
            reduction="sum" if paper else "mean",
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
