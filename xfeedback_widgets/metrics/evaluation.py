"""Run a model over an image set once, and compute every metric the set allows.

The metrics themselves are pure functions in the two modules beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xfeedback_widgets.metrics import classification, localization
from xfeedback_widgets.saliency import base, is_empty
from xfeedback_widgets.saliency import create as create_saliency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xfeedback_widgets.data import Batch, ImageSet


def evaluate(
    model: nn.Module,
    data: ImageSet,
    *,
    batch_size: int = 64,
    saliency: str | base.SaliencyMethod | type[base.SaliencyMethod] | None = None,
) -> dict[str, float]:
    """Measure a classifier on an image set, with one forward per batch.

    The model runs where its parameters are, in evaluation mode and without a graph; every module is put
    back into the mode it was in. Unreadable images are left out (see ``data.skipped``).

    Parameters
    ----------
    model
        Classifier giving logits ``[N, C]``.
    data
        What to measure on.
    batch_size
        Images per forward.
    saliency
        A method, its class, or its name such as ``"gradcam"``, to measure attention as well: maps of the
        true class, so that the figures do not depend on what is predicted.

    Returns
    -------
    dict
        ``accuracy``, ``ece`` (15 bins) and ``top_class_share``, the share of images predicted as the class
        predicted most often (1: the predictions have collapsed); with groups ``worst_group_accuracy`` and
        ``mean_group_accuracy``; with `saliency` ``empty_maps``, the share of maps that are all zero; with
        masks as well
        ``attribution_overlap`` (masks are relevant, so the overlap is taken with their complement) and
        ``energy_pointing_game``, means over the images that have a mask and a map that is not empty, NaN
        where there is none.

    Raises
    ------
    UnreadableImageError
        Not a single image can be read.
    FloatingPointError
        With `saliency`, where the model's activations are not finite.
    """
    method = None if saliency is None else create_saliency(saliency, model)
    confidences, predictions, labels, indices = [], [], [], []
    empty, overlap, energy = [], [], []
    several = data.labels.ndim == 2
    for batch in data.batches(batch_size):
        if method is None:
            logits = _logits(model, batch)
        else:
            logits, maps = method.logits_and_explain(
                batch.images, None if several else batch.labels
            )
            empty.append(is_empty(maps).cpu())
            for some, masks in _masked(maps.cpu(), batch, data):
                overlap.append(localization.overlap_each(some, ~masks))
                energy.append(localization.energy_each(some, masks))
        if several:
            confidences.append(logits.float().cpu())
        else:
            confidence, prediction = logits.float().softmax(1).max(1)
            confidences.append(confidence.cpu())
            predictions.append(prediction.cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)

    true, rows = torch.cat(labels), torch.cat(indices)
    groups = None if data.groups is None else data.groups[rows]
    if several:
        metrics = _of_several(torch.cat(confidences), true)
    else:
        metrics = _of_one(torch.cat(confidences), torch.cat(predictions), true, groups)
    if method is not None:
        metrics["empty_maps"] = float(torch.cat(empty).double().mean())
        if data.has_masks:
            metrics["attribution_overlap"] = _mean(overlap)
            metrics["energy_pointing_game"] = _mean(energy)
    return metrics


def _of_one(
    confidences: Tensor, predicted: Tensor, true: Tensor, groups: Tensor | None
) -> dict[str, float]:
    right = classification.correct(predicted, true)
    metrics = {
        "accuracy": classification.accuracy(predicted, true),
        "ece": classification.calibration_error(confidences, right, bins=15),
        "top_class_share": float(predicted.bincount().max()) / len(predicted),
    }
    if groups is not None:
        metrics["worst_group_accuracy"] = classification.worst_group_accuracy(
            predicted, true, groups
        )
        metrics["mean_group_accuracy"] = classification.mean_group_accuracy(predicted, true, groups)
    return metrics


def _of_several(logits: Tensor, true: Tensor) -> dict[str, float]:
    return {
        "accuracy": float(((logits > 0) == true).double().mean()),
        "mean_average_precision": classification.mean_average_precision(logits, true),
        "top_class_share": float(logits.argmax(1).bincount().max()) / len(logits),
    }


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad(), base.evaluating(model):
        return base.logits_of(model(base.prepared(batch.images, model)))


def _masked(maps: Tensor, batch: Batch, data: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (maps ``[n, h, w]``, masks ``[n, H, W]``) of the images that have one, by size of mask."""
    by_size: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    if data.has_masks:
        for row, index in enumerate(batch.indices.tolist()):
            mask = data.mask(index)
            if mask is not None:
                by_size.setdefault(mask.shape, []).append((row, mask))
    for found in by_size.values():
        rows, masks = zip(*found, strict=True)
        yield maps[list(rows)], torch.stack(masks)


def _mean(values: list[Tensor]) -> float:
    return float(torch.cat(values).double().nanmean()) if values else float("nan")
