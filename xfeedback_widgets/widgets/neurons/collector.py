"""Collects what the session knows of units: their patches, the weights that read them, the order to ask in.

All of this takes time, from milliseconds to minutes, and happens on the thread of the
:class:`Collector`. What it has found is an immutable :class:`Findings`, how far it is a
:class:`Collecting`; others read both at any time. Nothing here touches a widget.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from xfeedback_widgets import units
from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.units import UnitSurvey

ORDERS = {"influence": "Influence", "suspicion": "Suspicion", "random": "Random"}

State = Literal["collecting", "stopping", "ready", "stale", "stopped", "failed"]


@dataclass(frozen=True)
class Findings:
    """What is known of the units.

    Attributes
    ----------
    survey
        Their patches.
    weight, evidence
        float32 [C, K]: the live layer's weights, and every unit's signed share of a class's evidence.
    fires
        float32 [K], share of images.
    version
        Of the weights the patches were collected from.
    outside
        float32 [K], share of activation outside what is known to be relevant; None: not measured.
    """

    survey: UnitSurvey
    weight: NDArray[np.float32]
    evidence: NDArray[np.float32]
    fires: NDArray[np.float32]
    version: int
    outside: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Collecting:
    """How far the collecting is; `eta` in seconds, None while unknown."""

    state: State = "collecting"
    done: int = 0
    total: int = 0
    eta: float | None = None
    error: Exception | None = None


class Collector(KeyedThread):
    """Collects in the background.

    Parameters
    ----------
    session : Session
    by, target
        Order of asking at first, one of :data:`ORDERS`, and the class whose influence counts.
    seed : int
        Of the random order.
    on_progress : callable
        Called when :attr:`progress` has changed.
    on_found : callable
        ``on_found(order, new)``: the units to ask about, in order, when they or their order changed;
        `new` when a person chose this order or the units are others than before, so that the queue
        begins anew.
    on_weights : callable
        Called when weights were read for which the patches hold: at first, and after a publication.
    on_error : callable
        Receives exceptions of everything but collecting the patches.
    """

    def __init__(
        self,
        session: Session,
        *,
        by: str,
        target: int | None,
        seed: int,
        on_progress: Callable[[], None],
        on_found: Callable[[list[int], bool], None],
        on_weights: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.findings: Findings | None = None
        self.progress = Collecting(total=len(session.data))
        self.note = ""
        self._session = session
        self._by, self._target, self._seed = by, target, seed
        self._on_progress, self._on_found = on_progress, on_found
        self._on_weights = on_weights
        self._halt = threading.Event()
        super().__init__("xfeedback-units", on_error)

    # ------------------------------------------------------------------ what others ask for

    def collect(self) -> None:
        """Collect the patches, from the session's cache where they are known."""
        self._halt.clear()
        self._tell(Collecting(total=len(self._session.data)))
        self.post("collect", self._collect)

    def halt(self) -> None:
        """Stop collecting; what was known before stays."""
        self._halt.set()
        if self.progress.state == "collecting":
            self._tell(dataclasses.replace(self.progress, state="stopping"))

    def arrange(self, by: str, target: int | None) -> None:
        """Put the units into another order."""
        self._by, self._target = by, target
        self.post("arrange", lambda: self._arrange(new=True))

    def follow(self) -> None:
        """Read the live weights anew: another version was published."""
        self.post("follow", self._follow, priority=-1)

    def close(self) -> None:
        """Stop whatever is being collected, and the thread."""
        self._halt.set()
        super().close()

    # ------------------------------------------------------------------ on the thread

    def _collect(self) -> None:
        started = time.monotonic()

        def progress(done: int, total: int) -> None:
            passed = time.monotonic() - started
            eta = passed / done * (total - done) if done and passed > 0.5 else None
            state: State = "stopping" if self._halt.is_set() else "collecting"
            self._tell(Collecting(state, done, total, eta))

        version = self._session.version
        try:
            survey = self._session.units(progress=progress, stop=self._halt.is_set)
            weight, _ = self._session.head()
        except units.SurveyStoppedError:
            self._tell(dataclasses.replace(self.progress, state="stopped"))
            self._follow()  # patches of an earlier version that are there stay in use
        except Exception as error:  # noqa: BLE001  datasets and models raise what they like
            self._tell(dataclasses.replace(self.progress, state="failed", error=error))
        else:
            self._keep(survey, weight, version)

    def _follow(self) -> None:
        found = self.findings
        if found is None:
            return
        weight, _ = self._session.head()
        version = self._session.version
        try:
            # collects nothing: gives the survey of these very weights if there is one
            survey = self._session.units(stop=lambda: True)
        except units.SurveyStoppedError:
            self._keep(found.survey, weight, version, state="stale")
        else:
            self._keep(survey, weight, version)

    def _keep(
        self, survey: UnitSurvey, weight: Tensor, version: int, state: State = "ready"
    ) -> None:
        before = self.findings
        if before is not None and before.survey.fingerprint != survey.fingerprint:
            before = None
        self.findings = Findings(
            survey=survey,
            weight=weight.numpy(),
            evidence=units.evidence(survey, weight).numpy(),
            fires=survey.fires.numpy(),
            version=version if before is None else before.version,
            outside=None if before is None else before.outside,
        )
        self._tell(Collecting(state, survey.images_seen, len(self._session.data)))
        if state == "ready":
            self._on_weights()
        self._arrange(new=before is None)

    def _arrange(self, *, new: bool) -> None:
        found = self.findings
        if found is None:
            return
        self.note = ""
        if self._by != "suspicion":
            self._on_found(self._order(found, self._by), new)
            return
        if new or found.outside is None:
            # this takes a while, so the queue begins by influence
            self.note = (
                "Measuring how much of each unit's activation lies outside what is relevant …"
            )
            self._on_found(self._order(found, "influence"), new)
            outside = self._session.suspicion(stop=self._no_longer_suspicious).numpy()
            self.note = ""
            if self._no_longer_suspicious():
                return  # whoever changed the order has posted the other one
            found = self.findings = dataclasses.replace(found, outside=outside)
        if found.outside is None or np.isnan(found.outside).all():
            self.note = (
                "Nothing is known yet of what is relevant: give the images masks, or answer maps in the "
                "ReviewWidget. Until then the units come by influence."
            )
            self._on_found(self._order(found, "influence"), False)
        else:
            self._on_found(self._order(found, "suspicion"), False)

    def _order(self, found: Findings, by: str) -> list[int]:
        return units.order(
            found.survey,
            torch.from_numpy(found.weight),
            by,  # type: ignore[arg-type]
            target=self._target,
            outside=None if found.outside is None else torch.from_numpy(found.outside),
            seed=self._seed,
        )

    def _no_longer_suspicious(self) -> bool:
        return self._halt.is_set() or self._by != "suspicion"

    def _tell(self, progress: Collecting) -> None:
        self.progress = progress
        self._on_progress()
