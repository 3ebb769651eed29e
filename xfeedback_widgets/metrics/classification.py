"""How often predictions are right, over all images and by group, and whether confidence tells the truth.

Pure functions over tensors. Where attention lies is in :mod:`xfeedback_widgets.metrics.localization`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Return the share of right predictions.

    Parameters
    ----------
    predictions
        Logits or probabilities ``[N, C]``, or predicted classes ``[N]`` (an integer dtype).
    labels
        int64 ``[N]``.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        Shapes that do not fit, or no image at all.

    Examples
    --------
    >>> accuracy(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 1]))
    0.75
    """
    return float(correct(predictions, labels).double().mean())


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the average precision, for images with several labels.

    Parameters
    ----------
    scores
        ``[N, C]``, higher where the class is more likely there.
    labels
        bool ``[N, C]``. Classes that are in no image are left out.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        Shapes that do not fit, or no image with any class.

    Examples
    --------
    >>> labels = torch.tensor([[True, False], [False, False], [True, False]])
    >>> round(mean_average_precision(torch.tensor([[3.0, 0], [2, 0], [1, 0]]), labels), 4)
    0.8333
    """
    from sklearn.metrics import average_precision_score

    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(
            f"scores is {list(scores.shape)} and labels {list(labels.shape)}; expected [N, C] twice"
        )
    there = labels.bool().any(0)
    if not bool(there.any()):
        raise ValueError("no image has any class: there is no precision to average")
    return float(
        average_precision_score(
            labels[:, there].cpu().numpy(), scores[:, there].detach().float().cpu().numpy()
        )
    )


def group_accuracies(
    predictions: Tensor, labels: Tensor, groups: Tensor, *, num_groups: int | None = None
) -> Tensor:
    """Return the accuracy within every group.

    Parameters
    ----------
    predictions, labels
        As in :func:`accuracy`.
    groups
        int64 ``[N]``, the group of every image, ≥ 0.
    num_groups
        How many groups there are; default: the highest one that occurs.

    Returns
    -------
    Tensor
        float64 ``[G]``; NaN for a group without images.

    Raises
    ------
    ValueError
        Shapes that do not fit, no image at all, or a group outside ``0 … num_groups - 1``.

    Examples
    --------
    >>> group_accuracies(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([0, 0, 2]))
    tensor([1., nan, 0.], dtype=torch.float64)
    """
    right = correct(predictions, labels).double()
    if groups.shape != labels.shape:
        raise ValueError(
            f"groups is {list(groups.shape)}, labels {list(labels.shape)}; one group per image"
        )
    count = int(groups.max()) + 1 if num_groups is None else num_groups
    if int(groups.min()) < 0 or int(groups.max()) >= count:
        raise ValueError(
            f"groups has values {int(groups.min())} … {int(groups.max())}, expected 0 … {count - 1}"
        )
    groups = groups.to(right.device, torch.int64)
    hits = torch.zeros(count, dtype=torch.float64, device=right.device).index_add_(0, groups, right)
    return hits / torch.bincount(groups, minlength=count)  # 0 / 0 is NaN: the group is empty


def worst_group_accuracy(predictions: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Return the lowest accuracy of any group that has images; see :func:`group_accuracies`."""
    by_group = group_accuracies(predictions, labels, groups)
    return float(by_group[~by_group.isnan()].min())


def mean_group_accuracy(predictions: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Return the mean accuracy of the groups that have images, every group counting alike."""
    return float(group_accuracies(predictions, labels, groups).nanmean())


def expected_calibration_error(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error: how far confidence is from accuracy.

    Images are sorted into `bins` bins of equal width by the probability of the predicted class; the error is
    ``Σ_b |B_b| / N · |accuracy(B_b) − confidence(B_b)|``.

    Parameters
    ----------
    probabilities
        Float ``[N, C]``, rows that sum to 1: ``logits.softmax(1)``.
    labels
        int64 ``[N]``.
    bins
        How many bins.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        Not probabilities, shapes that do not fit, no image at all, or no bin.
    """
    check_probabilities(probabilities)
    right = correct(probabilities, labels)
    return calibration_error(probabilities.amax(1), right, bins=bins)


def calibration_error(confidences: Tensor, right: Tensor, *, bins: int) -> float:
    """Return the expected calibration error of confidences ``[N]`` and hits (bool ``[N]``)."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least one bin is needed")
    confidences = confidences.double().clamp(0, 1)
    index = (confidences * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=confidences.device)
    gaps.index_add_(
        0, index, right.double() - confidences
    )  # |B| (accuracy − confidence) of every bin
    return float(gaps.abs().sum() / len(confidences))


def check_probabilities(probabilities: Tensor) -> None:
    """Refuse what is no float ``[N, C]`` of rows ≥ 0 that sum to 1."""
    if probabilities.ndim != 2 or not probabilities.is_floating_point():
        raise ValueError(f"probabilities is {list(probabilities.shape)}, expected float [N, C]")
    sums = probabilities.double().sum(1)
    if float(probabilities.min()) < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
        raise ValueError(
            "the rows of probabilities must be ≥ 0 and sum to 1; pass logits.softmax(1)"
        )


def correct(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return which predictions (scores ``[N, C]`` or classes ``[N]``) are right, bool ``[N]``."""
    if predictions.ndim == 2:
        predictions = predictions.argmax(1)
    elif predictions.ndim != 1 or predictions.is_floating_point():
        raise ValueError(
            f"predictions is {predictions.dtype} {list(predictions.shape)}; "
            "expected scores [N, C] or integer classes [N]"
        )
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels is {list(labels.shape)} for {len(predictions)} predictions; one per image"
        )
    if not len(labels):
        raise ValueError("no predictions were given; a metric needs at least one image")
    right: Tensor = predictions == labels.to(predictions.device)
    return right
