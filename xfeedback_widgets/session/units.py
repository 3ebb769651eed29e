"""Units of a session: the last layer as it is, what each unit responds to, what pruning would do.

The pass over the images is made once for all weights before the last layer, and kept in memory and on disk.
What is computed is in ``units``; which units are rejected is people's business.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import torch

from xfeedback_widgets import units as unit_tools
from xfeedback_widgets.units import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.training import LiveModel
    from xfeedback_widgets.units import Features, Head, Preview, UnitSurvey

#: Images whose features a preview keeps.
_PREVIEWED = 5000

_log = logging.getLogger(__name__)


class Units:
    """Reads the units of the live model.

    Parameters
    ----------
    live
        The model.
    data
        The training images.
    folder
        Where what was collected is kept.
    """

    def __init__(self, live: LiveModel, data: ImageSet, folder: Path) -> None:
        self._live, self._data, self._folder = live, data, folder
        self._found: Head | None = None
        self._survey: UnitSurvey | None = None
        self._previewed: ImageSet | None = None
        self._lock = threading.Lock()

    def head(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of the last linear layer, as :meth:`.Session.head` does."""
        with self._live.reading() as (model, _):
            weight, bias = unit_tools.parameters_of(self._head_of(model).classifier)
            return weight.cpu(), bias.cpu()

    def survey(
        self,
        *,
        patches: int,
        progress: Callable[[int, int], object] | None,
        stop: Callable[[], bool] | None,
    ) -> UnitSurvey:
        """Return what each unit responds to, collected now or before, as :meth:`.Session.units` does."""
        with self._live.reading() as (model, _):
            trunk = unit_tools.fingerprint(model, self._head_of(model))
        with self._lock:
            found = self._survey
            if found is not None and (found.fingerprint, found.peaks.shape[1]) == (trunk, patches):
                return found
            found = store.load(self._folder / store.name_of_survey(trunk, self._data, patches))
            if found is None:
                found = unit_tools.survey(
                    self._live.shadow(), self._data, patches=patches, progress=progress, stop=stop
                )
                try:
                    # of a newer trunk, where one was published meanwhile
                    name = store.name_of_survey(found.fingerprint, self._data, patches)
                    store.save(found, self._folder / name)
                except OSError as error:  # a cache that is missing costs time, not answers
                    _log.warning("the units could not be cached: %s", error)
            elif len(found.sample) == found.images_seen:
                unit_tools.remember(self._data, trunk, found.sample)
            self._survey = found
            return found

    def preview(self, train: Features, validation: ImageSet | None, *, l2: float) -> Preview:
        """Prepare to say what pruning would do now.

        Parameters
        ----------
        train
            Features of training images; measured on them where there is no `validation`.
        validation
            Images to measure on; at most 5,000 of them are.
        l2
            Of the layer that is fitted anew.
        """
        model = self._live.shadow()
        weight, bias = self.head()
        measured, data = train, self._data
        if validation is not None:
            if self._previewed is None:
                drawn = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))
                self._previewed = validation.subset(drawn[:_PREVIEWED])
            data = self._previewed
            measured = unit_tools.pooled_features(model, data)
        return unit_tools.Preview(train, measured, data, weight, bias, l2=l2)

    def _head_of(self, model: nn.Module) -> Head:
        """The live model's head, found by a probe once; the caller holds the model lock."""
        if self._found is None:
            self._found = unit_tools.find_head(model, self._data)
        return self._found
