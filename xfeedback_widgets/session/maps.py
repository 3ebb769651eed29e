"""Maps of images under the live weights of a session, under older ones, and under draws of Bayesian ones.

:class:`Explanation` is what comes of it, and :func:`judged_map` how much of a map is stored with a verdict.
The saliency methods themselves are in ``saliency``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional as F

from xfeedback_widgets import bayesian as bayesian_tools
from xfeedback_widgets import saliency as saliency_methods
from xfeedback_widgets.saliency import normalize
from xfeedback_widgets.training import load_in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.saliency import SaliencyMethod
    from xfeedback_widgets.saliency.base import Targets
    from xfeedback_widgets.training import LiveModel, VersionStore

#: Largest side of a map that is stored with a verdict; finer maps are area-averaged down to it.
STORED_MAP = 32


@dataclass(frozen=True)
class Explanation:
    """Maps of some images, and the predictions they explain, all from the same weights.

    Parameters
    ----------
    image_ids
        The images, in order. Unreadable ones are missing (their reason is in ``data.skipped``).
    maps
        ``float32 [N, h, w]`` in [0, 1] on the CPU, normalised per image; all zero: no attention.
    probabilities
        ``float32 [N, C]`` on the CPU.
    targets, labels
        ``int64 [N]``: the class explained, and the true one.
    version
        Number of the weights.
    method
        Name of the saliency method.
    doubt
        What draws of the weights say, where a Bayesian model was asked for them; maps and probabilities
        are then the means over the draws.
    """

    image_ids: tuple[str, ...]
    maps: Tensor
    probabilities: Tensor
    targets: Tensor
    labels: Tensor
    version: int
    method: str
    doubt: Doubt | None = None


@dataclass(frozen=True)
class Doubt:
    """How far draws of a Bayesian model's weights differ.

    Parameters
    ----------
    entropy, mutual_information
        ``float32 [N]`` on the CPU, in nats, as in :class:`~.bayesian.Prediction`.
    spread
        ``float32 [N, h, w]`` on the CPU: standard deviation of the maps, each divided by its maximum before.
    samples
        How many draws.
    """

    entropy: Tensor
    mutual_information: Tensor
    spread: Tensor
    samples: int


class Maps:
    """Explains images of a session.

    Parameters
    ----------
    live
        The model; older weights are loaded into a copy of it, which is made when it is first needed.
    store
        Its versions.
    data
        Whose images are explained.
    """

    def __init__(self, live: LiveModel, store: VersionStore, data: ImageSet) -> None:
        self._live, self._store, self._data = live, store, data
        self._methods: dict[str, SaliencyMethod] = {}
        self._scratch: tuple[int, nn.Module] | None = None
        self._scratch_lock = threading.Lock()

    def method(self, name: str) -> SaliencyMethod:
        """Return a saliency method on the live model.

        Raises
        ------
        ValueError
            No such method, or a model without maps.
        """
        if name not in self._methods:
            self._methods[name] = saliency_methods.create(name, self._live.model)
        return self._methods[name]

    def explain(
        self,
        batch: Batch,
        name: str,
        target: Literal["label", "predicted"] | int,
        version: int | None,
    ) -> Explanation:
        """Explain a batch by the method `name`; the rest is as for :meth:`.Session.explain`."""
        with self._live.reading() as (_, number):
            live = version is None or version == number
            if live:
                logits, maps, targets = _explain(self.method(name), batch, target)
            elif self._scratch is None:
                # copied before the scratch lock is taken: nobody waits for this lock with that one
                self._scratch = (number, self._live.shadow())
        if not live:
            assert version is not None  # noqa: S101 - else it is the live one
            with self._scratch_lock:
                number = version
                instance = saliency_methods.create(name, self._model_of(version))
                logits, maps, targets = _explain(instance, batch, target)
        return Explanation(
            image_ids=self._ids_of(batch),
            maps=normalize(maps.float()).cpu(),
            probabilities=F.softmax(logits.float(), dim=1).cpu(),
            targets=targets.cpu(),
            labels=batch.labels.cpu(),
            version=number,
            method=name,
        )

    def explain_draws(
        self,
        batch: Batch,
        name: str,
        target: Literal["label", "predicted"] | int,
        version: int | None,
        *,
        samples: int,
        stop: Callable[[], bool] | None,
    ) -> Explanation:
        """Explain a batch by the mean over `samples` draws of a Bayesian model's weights."""
        with self._live.reading() as (_, number):
            model = self._live.shadow()
        if version is not None and version != number:
            number = version
            load_in_place(model, self._store.weights(version))
        targets: Targets = batch.labels if target == "label" else None
        if isinstance(target, int):
            targets = target
        found = bayesian_tools.beliefs(
            model, batch.images, targets, method=name, samples=samples, stop=stop
        )
        prediction, maps = found.prediction, found.maps
        return Explanation(
            image_ids=self._ids_of(batch),
            maps=normalize(maps.mean).cpu(),
            probabilities=prediction.probabilities.cpu(),
            targets=found.targets.cpu(),
            labels=batch.labels.cpu(),
            version=number,
            method=name,
            doubt=Doubt(
                prediction.entropy.cpu(),
                prediction.mutual_information.cpu(),
                maps.std.cpu(),
                samples,
            ),
        )

    def _ids_of(self, batch: Batch) -> tuple[str, ...]:
        return tuple(self._data.ids[i] for i in batch.indices.tolist())

    def _model_of(self, version: int) -> nn.Module:
        """The scratch copy with that version's weights; the caller holds the scratch lock."""
        assert self._scratch is not None  # noqa: S101 - explain() has made it
        number, model = self._scratch
        if number != version:
            load_in_place(model, self._store.weights(version))
            self._scratch = (version, model)
        return model


def judged_map(map_: Tensor) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Return a map as it is stored with a verdict: float16, at most 32 cells a side.

    Parameters
    ----------
    map_
        ``float [h, w]`` in [0, 1].
    """
    h, w = map_.shape
    if max(h, w) > STORED_MAP:
        size = (min(h, STORED_MAP), min(w, STORED_MAP))
        map_ = normalize(F.adaptive_avg_pool2d(map_[None, None], size)[0])[0]
    return map_.numpy().astype(np.float16)


def _explain(
    method: SaliencyMethod, batch: Batch, target: Literal["label", "predicted"] | int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, raw maps and the classes explained."""
    if target == "predicted":
        logits, maps = method.logits_and_explain(batch.images, None)
        return logits, maps, logits.argmax(1)
    targets = batch.labels if target == "label" else torch.full_like(batch.labels, int(target))
    logits, maps = method.logits_and_explain(batch.images, targets)
    return logits, maps, targets
