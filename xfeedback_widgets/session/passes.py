"""Passes over all images of a session: what the live weights say of them, kept until the next version.

What a figure means, and what is done with it, is decided elsewhere: in ``bayesian`` and by the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from xfeedback_widgets import bayesian as bayesian_tools
from xfeedback_widgets import saliency as saliency_methods
from xfeedback_widgets.saliency import normalize
from xfeedback_widgets.saliency.base import evaluating, logits_of
from xfeedback_widgets.session.maps import STORED_MAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.training import LiveModel, Precedence

#: Images on which it is found out what an uncertainty means.
_EXPERIENCED = 256


class Passes:
    """Measures all images, batch by batch; each method blocks.

    Every method returns what it measured and the version of the weights, and takes ``stop``, which is asked
    before every batch: True ends the pass, and what was not seen is NaN. Only a complete pass is kept.

    Parameters
    ----------
    live
        The model.
    data
        The images.
    precedence
        To whom a pass gives way, between batches.
    """

    def __init__(self, live: LiveModel, data: ImageSet, precedence: Precedence) -> None:
        self._live, self._data, self._precedence = live, data, precedence
        self._predictions: tuple[int, Tensor] | None = None
        self._swept: dict[str, tuple[int, Tensor]] = {}
        self._experience: tuple[int, bayesian_tools.Experience] | None = None

    def predictions(self, batch_size: int, stop: Callable[[], bool]) -> tuple[Tensor, int]:
        """Return probabilities, ``float32 [N, C]``, and the version at the start.

        The model itself is asked, and its lock taken for each batch: a publication in between mixes two
        versions.
        """
        data, started = self._data, self._live.version
        if self._predictions is not None and self._predictions[0] == started:
            return self._predictions[1], started
        result = torch.full((len(data), data.num_classes), float("nan"))
        finished = True
        for start in range(0, len(data), batch_size):
            self._precedence.give_way()
            if stop():
                finished = False
                break
            batch = data.batch(range(start, min(start + batch_size, len(data))))
            if len(batch) == 0:
                continue
            with self._live.reading() as (model, _), torch.no_grad(), evaluating(model):
                images = batch.images.to(next(model.parameters()).device)
                result[batch.indices] = F.softmax(logits_of(model(images)).float(), 1).cpu()
        if finished:
            self._predictions = (started, result)
        return result, started

    def uncertainty(
        self, by: str, samples: int, batch_size: int, stop: Callable[[], bool]
    ) -> tuple[Tensor, int]:
        """Return a Bayesian model's ``"entropy"`` or ``"mutual_information"``, ``float32 [N]``."""

        def measure(model: nn.Module, batch: Batch) -> Tensor:
            predicted = bayesian_tools.predict(model, batch.images, samples=samples)
            return torch.stack([predicted.entropy, predicted.mutual_information], 1)

        both, version = self._sweep(f"uncertainty, {samples}", measure, batch_size, stop)
        return both.flatten(1)[:, 0 if by == "entropy" else -1], version

    def maps(self, saliency: str, batch_size: int, stop: Callable[[], bool]) -> tuple[Tensor, int]:
        """Return maps of the true classes, ``float32 [N, h, w]``, none larger than those stored."""

        def measure(model: nn.Module, batch: Batch) -> Tensor:
            maps = saliency_methods.create(saliency, model).explain(batch.images, batch.labels)
            size = (min(maps.shape[1], STORED_MAP), min(maps.shape[2], STORED_MAP))
            return normalize(F.adaptive_avg_pool2d(maps[:, None], size)[:, 0])

        return self._sweep("maps", measure, batch_size, stop)

    def experience(
        self, data: ImageSet, samples: int, stop: Callable[[], bool]
    ) -> tuple[bayesian_tools.Experience, int]:
        """Return what an uncertainty has meant, measured on at most 256 images of `data`.

        Raises
        ------
        ValueError
            The model is not Bayesian, or images have several labels.
        """
        if data.labels.ndim == 2:
            raise ValueError("images have several labels, so a prediction is not right or wrong")
        with self._live.reading() as (_, version):
            if self._experience is not None and self._experience[0] == version:
                return self._experience[1], version
            model = self._live.shadow()
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        seen, finished = [], True
        for rows in torch.split(chosen[:_EXPERIENCED], 32):
            self._precedence.give_way()
            if stop():
                finished = False
                break
            if len(batch := data.batch(rows.tolist())):
                predicted = bayesian_tools.predict(model, batch.images, samples=samples)
                seen.append(bayesian_tools.Experience.of(predicted, batch.labels))
        found = bayesian_tools.Experience.joined(seen)
        if finished:
            self._experience = version, found
        return found, version

    def _sweep(
        self,
        name: str,
        measure: Callable[[nn.Module, Batch], Tensor],
        batch_size: int,
        stop: Callable[[], bool],
    ) -> tuple[Tensor, int]:
        """What `measure` says of each image, by a copy of the live weights."""
        data, kept = self._data, self._swept.get(name)
        with self._live.reading() as (_, version):
            if kept is not None and kept[0] == version:
                return kept[1], version
            model = self._live.shadow()
        result, finished = torch.full((len(data), 1, 1), torch.nan), True
        for start in range(0, len(data), batch_size):
            self._precedence.give_way()
            if stop():
                finished = False
                break
            batch = data.batch(range(start, min(start + batch_size, len(data))))
            if len(batch) == 0:
                continue
            measured = measure(model, batch).cpu().float()
            if result.shape[1:] != measured.shape[1:]:
                result = torch.full((len(data), *measured.shape[1:]), torch.nan)
            result[batch.indices] = measured
        if finished:
            self._swept[name] = version, result
        return result, version
