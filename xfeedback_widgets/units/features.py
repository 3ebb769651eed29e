"""What enters the linear layer, for every image of a set: computed once per trunk, then remembered.

A run of pruning, its preview and the next run after one more answer all start from the same features,
and only the trunk's weights decide whether they still hold. The last features of each set are therefore
kept in memory, for as long as the set itself lives.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xfeedback_widgets.units.head import find_head, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import nn

    from xfeedback_widgets.data import ImageSet


@dataclass(frozen=True, eq=False)
class Features:
    """Pooled activations of some images.

    Attributes
    ----------
    pooled
        ``float32 [N, K]`` on the CPU.
    labels, indices
        ``int64 [N]``: the class, and the position in the image set. Unreadable images are missing.
    """

    pooled: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)


_known: weakref.WeakKeyDictionary[ImageSet, tuple[str, Features]] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def pooled_features(
    model: nn.Module,
    data: ImageSet,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], object] | None = None,
) -> Features:
    """Compute what enters the linear layer for every image, or remember it.

    Parameters
    ----------
    model
        Classifier that ends in pooling and one linear layer; run in evaluation mode.
    data
        The images.
    batch_size
        Images per forward.
    progress
        Called with (images done, images in all).

    Returns
    -------
    Features
        In the order of ``data``; shared, so not to be changed.

    Raises
    ------
    NoLinearHeadError
        The model ends otherwise.
    UnreadableImageError
        Not a single image can be read.
    """
    steps = collect(model, data, batch_size=batch_size)
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if progress is not None:
            progress(done, len(data))


def collect(
    model: nn.Module, data: ImageSet, *, batch_size: int = 64
) -> Generator[int, None, Features]:
    """Do what `pooled_features` does in steps: yield how many images are done, return the features."""
    head = find_head(model, data)
    trunk = fingerprint(model, head)
    known = remembered(data, trunk)
    if known is not None:
        return known
    pooled, labels, indices = [], [], []
    for batch in data.batches(batch_size):
        pooled.append(head.read(model, batch.images)[1].cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
        yield int(batch.indices[-1]) + 1
    found = Features(torch.cat(pooled), torch.cat(labels), torch.cat(indices))
    remember(data, trunk, found)
    return found


def remembered(data: ImageSet, trunk: str) -> Features | None:
    """Return the features of a set under a trunk's fingerprint, if they are known."""
    with _guard:
        known = _known.get(data)
    return known[1] if known is not None and known[0] == trunk else None


def remember(data: ImageSet, trunk: str, features: Features) -> None:
    """Keep the features of a whole set, in place of those of an older trunk."""
    with _guard:
        _known[data] = (trunk, features)
