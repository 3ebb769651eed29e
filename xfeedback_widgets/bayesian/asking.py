"""Which image to ask a person about next: scores per image, the highest first.

The paper leaves open how the few images that get feedback should be chosen. Three answers are here: where the
model is not sure, where only the *weights* are not sure, and where it looks at what was called irrelevant in
other images. Asking at random is what they have to beat. Who is asked, and what is done with the answer, is
not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xfeedback_widgets.bayesian.posterior import predict
from xfeedback_widgets.saliency import SaliencyMethod, create, normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.saliency.base import Targets

ASKING = ("entropy", "mutual_information", "overlap")
"""What :func:`worth_asking` can go by."""


def worth_asking(
    model: nn.Module,
    images: Tensor,
    *,
    by: str = "mutual_information",
    regions: Sequence[Tensor] = (),
    targets: Targets = None,
    method: str | type[SaliencyMethod] | SaliencyMethod = "gradcam",
    samples: int = 20,
    seed: int = 0,
) -> Tensor:
    """Score how much is to be learned from feedback on each image.

    Parameters
    ----------
    model
        A converted model; for ``"overlap"`` any classifier with maps.
    images
        Floating point ``[N, C, H, W]``, as the model expects them.
    by
        ``"entropy"``: of the prediction, all uncertainty. ``"mutual_information"``: the part of it that lies
        in the weights (as in Bayesian active learning by disagreement). ``"overlap"``: share of the map on
        `regions`.
    regions
        What was called irrelevant in other images, bool ``[H, W]`` each, of any size; only for ``"overlap"``.
    targets, method
        Class that is explained, and saliency method; only for ``"overlap"``.
    samples, seed
        Draws of the weights, for the other two.

    Returns
    -------
    Tensor
        float32 ``[N]`` ≥ 0, higher is more worth asking about. By ``"overlap"`` an image without
        attention has 0, and so have all where there are no regions yet.

    Raises
    ------
    ValueError
        Something else in `by`, and as :func:`~.posterior.predict`.
    """
    if by not in ASKING:
        raise ValueError(f"unknown by={by!r}: choose one of {', '.join(ASKING)}")
    if by == "overlap":
        return overlap_with(create(method, model).explain(images, targets), regions)
    found = predict(model, images, samples=samples, seed=seed)
    return found.entropy if by == "entropy" else found.mutual_information


def overlap_with(maps: Tensor, regions: Sequence[Tensor]) -> Tensor:
    """Return the share of each map that lies where other images had something irrelevant.

    ``Σ T ⊗ R / Σ T``, as in attribution overlap (eq. 17 of arXiv 2105.02653), with R the mean of all regions:
    a cell counts by how often it was irrelevant.

    Parameters
    ----------
    maps
        ``T``, float ``[N, h, w]`` ≥ 0.
    regions
        bool ``[H, W]`` each; averaged over the cells of the maps.

    Returns
    -------
    Tensor
        float32 ``[N]`` in [0, 1].
    """
    maps = normalize(maps.float())
    if not len(regions):
        return maps.new_zeros(len(maps))
    size = (maps.shape[1], maps.shape[2])
    cells = [
        F.interpolate(region[None, None].to(maps), size=size, mode="area") for region in regions
    ]
    often = torch.cat(cells).mean(0)[0]
    return (maps * often).sum((1, 2)) / maps.sum((1, 2)).clamp_min(torch.finfo(maps.dtype).tiny)
