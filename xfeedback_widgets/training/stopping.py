"""Early stopping that needs no image without the shortcut.

Accuracy on images that have the shortcut says nothing of a model that leans on it, and others are not
to be had. What people called irrelevant says how to make some: an image in which that region is filled with
the content of another image must not be predicted differently. :class:`Exchange` measures how often it is
not, its *steadiness*; :class:`Patience` ends a run by it and takes the best weights back. Whether
weights may be published at all is ``guard``'s to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from xfeedback_widgets.corrections.bayesian import irrelevant_regions
from xfeedback_widgets.saliency.base import evaluating, logits_of, prepared
from xfeedback_widgets.training.live import load_in_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import Feedback

_IMAGES = 128
_PARTNERS = 2


class Exchange:
    """Answered images, and the same ones with what is irrelevant in them taken from another.

    Parameters
    ----------
    data
        The training images.
    feedback
        What people said of them: regions that masks mark −1, or hot regions of rejected maps. Of many, 128
        images are taken, always the same ones.

    Notes
    -----
    Each image gets the region of two others, whose labels are not its own where there are such.
    """

    def __init__(self, data: ImageSet, feedback: Feedback) -> None:
        regions = irrelevant_regions(data, feedback)
        order = torch.randperm(len(regions), generator=torch.Generator().manual_seed(0)).tolist()
        positions = list(regions)
        batch = data.batch([positions[i] for i in order[:_IMAGES]])
        self._images, size = batch.images, batch.images.shape[2:]
        irrelevant = [
            F.interpolate(regions[position][None, None].float(), tuple(size))[0] > 0
            for position in batch.indices.tolist()
        ]
        self._exchanged = [
            torch.where(torch.stack(irrelevant), self._images[partners], self._images)
            for partners in _partners(batch.labels)
        ]

    def __len__(self) -> int:
        return len(self._exchanged) and len(self._images)

    def steadiness(self, model: nn.Module, batch_size: int = 64) -> float:
        """Measure for how many images the prediction does not change when the region is exchanged.

        Parameters
        ----------
        model
            A classifier; left as it was found.
        batch_size
            Images per forward.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        ValueError
            Nothing was called irrelevant, or there is only one such image.
        """
        if not len(self):
            raise ValueError("fewer than two images have a region that was called irrelevant")
        before = _predicted(model, self._images, batch_size)
        same = [_predicted(model, images, batch_size) == before for images in self._exchanged]
        return float(torch.stack(same).float().mean())


def _partners(labels: Tensor) -> list[Tensor]:
    """Two other images for each, ``int64 [N]`` each; none where there is only one image."""
    count = len(labels)
    if count < 2:
        return []
    same = (labels[:, None] == labels).reshape(count, count, -1).all(2)
    # later images come first, those with the same label after all others, and the image itself last
    distance = (torch.arange(count) - torch.arange(count)[:, None]) % count
    far = distance + count * same + 2 * count * torch.eye(count, dtype=torch.long)
    return list(far.argsort(1)[:, : min(_PARTNERS, count - 1)].T)


def _predicted(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    weight = next(model.parameters())
    with torch.no_grad(), evaluating(model):
        logits = [
            logits_of(model(prepared(part.to(weight.device, weight.dtype), model)))
            for part in torch.split(images, batch_size)
        ]
    return torch.cat(logits).argmax(1)


class Patience:
    """Which epoch of a run was the best, its weights, and whether to go on.

    An epoch is better by its accuracy on the validation set, or else on the batches it was trained with,
    less the share of exchanged images whose prediction changed: at least so much accuracy is
    left where what is irrelevant tells nothing of the class, as far as the exchange is like that.

    Parameters
    ----------
    epochs
        How many to wait for a better one.
    exchange
        Measures steadiness; one without images counts accuracy only.
    """

    def __init__(self, epochs: int, exchange: Exchange) -> None:
        self._epochs, self._exchange = epochs, exchange
        self._last = 0
        self._score = -float("inf")
        self._state: dict[str, Tensor] = {}
        self.best = 0
        self.metrics: dict[str, float] = {}

    def measured(self, model: nn.Module, batch_size: int) -> dict[str, float]:
        """Return ``steadiness`` as metrics of an epoch; nothing where it cannot be measured."""
        if not len(self._exchange):
            return {}
        return {"steadiness": self._exchange.steadiness(model, batch_size)}

    def ends(self, model: nn.Module, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take note of an epoch, and say whether it was the last one to wait for."""
        accuracy = metrics.get("accuracy", metrics["train_accuracy"])
        score = accuracy - (1 - metrics.get("steadiness", 1.0))
        self._last = epoch
        if score > self._score:
            self._score, self.best, self.metrics = score, epoch, dict(metrics)
            state = model.state_dict()
            self._state = {n: value.clone() for n, value in state.items() if torch.is_tensor(value)}
        return epoch - self.best >= self._epochs

    def take_back(self, model: nn.Module) -> bool:
        """Load the best weights where others came after them; return whether it was so."""
        if self.best == self._last:
            return False
        load_in_place(model, self._state)
        return True
