"""Whether a model knows what it does not know: proper scores, and telling strange images from known ones.

Pure functions over tensors. Calibration, which needs bins, is in
:mod:`xfeedback_widgets.metrics.classification`; where uncertainty comes from is the model's business.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xfeedback_widgets.metrics.classification import check_probabilities, correct


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean of ``−log p(label)``, in nats; lower is better.

    Parameters
    ----------
    probabilities
        Float ``[N, C]``, rows that sum to 1. A label of probability 0 counts as the smallest positive
        double, so that one certain mistake does not hide all the rest.
    labels
        int64 ``[N]``, each a class.

    Returns
    -------
    float
        ≥ 0.

    Raises
    ------
    ValueError
        Not probabilities, labels that are no classes, shapes that do not fit, or no image at all.

    Examples
    --------
    >>> round(negative_log_likelihood(torch.tensor([[0.5, 0.5]]), torch.tensor([1])), 4)
    0.6931
    """
    likely = _of_labels(probabilities, labels)
    return float(-likely.clamp_min(torch.finfo(likely.dtype).tiny).log().mean())


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean squared distance of the probabilities from the truth, ``Σ_c (p_c − [c = y])²``.

    Parameters
    ----------
    probabilities, labels
        As in :func:`negative_log_likelihood`.

    Returns
    -------
    float
        In [0, 2]; lower is better. Brier's own definition, summed over classes: for two classes it is twice
        the one over the positive class only.

    Raises
    ------
    ValueError
        As :func:`negative_log_likelihood`.

    Examples
    --------
    >>> brier_score(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    0.5
    """
    likely = _of_labels(probabilities, labels)
    squares = probabilities.double().square().sum(1)
    return float((squares - 2 * likely + 1).mean())


def out_of_distribution_auroc(known: Tensor, strange: Tensor) -> float:
    """Return how well a score tells strange images from known ones: the area under the ROC curve.

    Parameters
    ----------
    known
        Score of each image like those trained on, float ``[N]``: entropy or mutual information, say.
    strange
        Score of each image from elsewhere, float ``[M]``; ought to be higher.

    Returns
    -------
    float
        The probability that a strange image has the higher score, ties counting half; 0.5 is chance.

    Raises
    ------
    ValueError
        No image of either kind, scores that are not finite, or not one per image.

    Examples
    --------
    >>> out_of_distribution_auroc(torch.tensor([0.1, 0.4]), torch.tensor([0.4, 0.9]))
    0.875
    """
    for name, scores in (("known", known), ("strange", strange)):
        if scores.ndim != 1 or not len(scores) or not bool(torch.isfinite(scores).all()):
            raise ValueError(
                f"{name} is {list(scores.shape)}; expected one finite score [N] per image, at least one"
            )
    ranked = known.double().sort().values
    strange = strange.double().to(ranked.device)
    below = torch.searchsorted(ranked, strange, side="left")
    not_above = torch.searchsorted(ranked, strange, side="right")
    return float((below + not_above).double().mean() / (2 * len(ranked)))


def _of_labels(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Check, and return the probability of each label, float64 ``[N]``."""
    check_probabilities(probabilities)
    correct(probabilities, labels)  # for its checks of shapes
    if int(labels.min()) < 0 or int(labels.max()) >= probabilities.shape[1]:
        raise ValueError(
            f"labels has values {int(labels.min())} … {int(labels.max())}, expected classes "
            f"0 … {probabilities.shape[1] - 1}"
        )
    chosen = labels.to(probabilities.device, torch.int64)[:, None]
    return probabilities.double().gather(1, chosen)[:, 0]
