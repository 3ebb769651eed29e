"""Which units matter for which class, and which are worth asking a person about first.

Pure functions over a survey and the linear layer's weights, and one pass over the images where something
is known of what is relevant. Softmax does not see a shift of all logits, so weights are taken minus
their mean over classes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xfeedback_widgets.units.head import find_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import Feedback
    from xfeedback_widgets.units.survey import UnitSurvey

Order = Literal["influence", "suspicion", "random"]


def evidence(survey: UnitSurvey, weight: Tensor) -> Tensor:
    """Share of each class's evidence that comes from each unit, on that class's images.

    ``e_ck = (W_ck − mean_c' W_c'k) · f̄_ck``, divided by ``Σ_k |e_ck|``; f̄_c is the mean
    pooled activation over the images of class c.

    Parameters
    ----------
    survey
        Of the model's units.
    weight
        ``float [C, K]`` of the linear layer.

    Returns
    -------
    Tensor
        ``float32 [C, K]``; signed, and the absolute values of a class sum to 1 (or are all zero).
    """
    parts = (weight - weight.mean(0)) * survey.class_means[: len(weight)]
    total = parts.abs().sum(1, keepdim=True)
    return parts / torch.where(total > 0, total, 1.0)


def influence(survey: UnitSurvey, weight: Tensor, target: int | None = None) -> Tensor:
    """How much a unit moves the logits from image to image: ``|W_ck − mean_c' W_c'k| · std(f_k)``.

    A constant contribution is only a bias, which refitting absorbs; so the spread counts, not the mean.

    Parameters
    ----------
    survey
        Of the model's units.
    weight
        ``float [C, K]`` of the linear layer.
    target
        The class looked at; None: the root of the sum of squares over classes.

    Returns
    -------
    Tensor
        ``float32 [K]`` ≥ 0.
    """
    moves = (weight - weight.mean(0)) * survey.std
    return moves.norm(dim=0) if target is None else moves[target].abs()


def order(
    survey: UnitSurvey,
    weight: Tensor,
    by: Order = "influence",
    *,
    target: int | None = None,
    outside: Tensor | None = None,
    seed: int = 0,
) -> list[int]:
    """Return the units to ask about, the most interesting first.

    Units with identical patches are asked once: a group stands where its best member does, and is
    represented by its first.

    Parameters
    ----------
    survey
        Of the model's units.
    weight
        ``float [C, K]`` of the linear layer.
    by
        ``"influence"``; ``"suspicion"``, activation outside what is relevant, weighted by influence;
        ``"random"``.
    target
        Class for the influence; None: all.
    outside
        ``float [K]`` from :func:`suspicion`, for that order; NaN sorts last.
    seed
        Of the random order.

    Raises
    ------
    ValueError
        No such order, or ``"suspicion"`` without ``outside``.
    """
    asked = list(survey.twins)
    if by == "random":
        return random.Random(seed).sample(asked, len(asked))
    scores = influence(survey, weight, target)
    if by == "suspicion":
        if outside is None:
            raise ValueError("order 'suspicion' needs outside=, the result of suspicion()")
        scores = outside.nan_to_num(-1.0).clamp_min(0) * scores + outside.isnan() * -1.0
    elif by != "influence":
        raise ValueError(f"order must be 'influence', 'suspicion' or 'random', got {by!r}")
    return sorted(asked, key=lambda unit: -float(scores[list(survey.twins[unit])].max()))


def suspicion(
    model: nn.Module,
    data: ImageSet,
    feedback: Feedback | None = None,
    *,
    limit: int = 512,
    batch_size: int = 64,
    seed: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Share of each unit's activation that lies outside what is known to be relevant.

    ``Σ_n Σ_ij ReLU(a_kij) (1 − R_ij) / Σ_n Σ_ij ReLU(a_kij)`` over images with a known relevance R: the mask
    of the image, area-averaged to the grid; without one, the map of an accepted answer, or one minus that
    of a rejected one.

    Parameters
    ----------
    model
        Classifier that ends in pooling and one linear layer.
    data
        The images.
    feedback
        What people said, for images without a mask.
    limit
        At most so many images, drawn at random.
    batch_size, seed
        Images per forward; of the draw.
    stop
        Asked before every batch; True ends early, with what was seen.

    Returns
    -------
    Tensor
        ``float32 [K]`` in [0, 1]; NaN where a unit was not active on any such image.
    """
    head = find_head(model, data)
    judged = {
        data.index(image_id): verdict
        for image_id, verdict in (feedback.verdicts if feedback is not None else {}).items()
        if image_id in data and verdict.map is not None and verdict.answer != "unsure"
    }
    known = list(range(len(data))) if data.has_masks else sorted(judged)
    random.Random(seed).shuffle(known)
    outside = torch.zeros(head.units, dtype=torch.double)
    total = torch.zeros(head.units, dtype=torch.double)
    for start in range(0, min(limit, len(known)), batch_size):
        if stop is not None and stop():
            break
        batch = data.batch(known[start : min(start + batch_size, limit)])
        if len(batch) == 0:
            continue
        active = head.read(model, batch.images)[0].relu().cpu()
        for activation, index in zip(active, batch.indices.tolist(), strict=True):
            relevant = data.mask(index) if data.has_masks else None
            if relevant is None and index in judged:
                seen = torch.from_numpy(judged[index].map.astype("float32"))  # type: ignore[union-attr]
                relevant = seen if judged[index].answer == "accept" else 1 - seen
            if relevant is None:
                continue
            grid = (activation.shape[1], activation.shape[2])
            share = F.interpolate(relevant.float()[None, None], grid, mode="area")[0, 0]
            outside += (activation * (1 - share)).sum((1, 2)).double()
            total += activation.sum((1, 2)).double()
    return torch.where(total > 0, outside / total, float("nan")).float()
