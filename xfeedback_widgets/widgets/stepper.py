"""A version chooser: two buttons around a label, with no trait that both a person and the pump write."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.training import Version


class Stepper(ipywidgets.HBox):
    """Chooses one of the session's versions.

    Parameters
    ----------
    title : str
        Stands before the chosen version.
    older, newer : Button
        What people press; their handlers call :meth:`step`.
    follow : bool
        Whether the newest version is chosen until somebody chooses another.
    """

    def __init__(
        self, title: str, older: ipywidgets.Button, newer: ipywidgets.Button, *, follow: bool
    ) -> None:
        self._title = title
        self._follow = follow
        self._chosen: int | None = None if follow else 0
        self._numbers: list[int] = [0]
        self._label = ipywidgets.HTML()
        super().__init__([older, newer, self._label])
        self.add_class("xf-stepper")

    @property
    def chosen(self) -> int:
        """Number of the version chosen; the newest while none is."""
        if self._chosen is None or self._chosen not in self._numbers:
            return self._numbers[-1] if self._follow else self._numbers[0]
        return self._chosen

    def step(self, by: int) -> None:
        """Choose an older (-1) or newer (+1) version; stays at the ends."""
        at = self._numbers.index(self.chosen) + by
        self._chosen = self._numbers[min(max(at, 0), len(self._numbers) - 1)]

    def paint(self, versions: Sequence[Version], live: int) -> None:
        """Show the choice (for the UI pump)."""
        self._numbers = [version.number for version in versions] or [0]
        number = self.chosen
        version = next((v for v in versions if v.number == number), None)
        details = escape(_details(version))
        self._label.value = (
            f"{escape(self._title)} <strong>{describe(number)}</strong>"
            f"{' · live' if number == live else ''}"
            f'<small class="xf-muted" title="{details}">{details}</small>'
        )


def describe(number: int) -> str:
    """Return the name of a version for people."""
    return "original model" if number == 0 else f"version {number}"


def metrics_text(metrics: dict[str, float]) -> str:
    """Return metrics as text: the ones people know first, as percentages."""
    names = {
        "accuracy": "accuracy",
        "worst_group_accuracy": "worst group",
        "attribution_overlap": "overlap",
        "robustness_score": "robustness",
    }
    shown = {
        name: label for name, label in names.items() if math.isfinite(metrics.get(name, math.nan))
    }
    found = [f"{label} {metrics[name]:.1%}" for name, label in shown.items()]
    return ", ".join(found)


def _details(version: Version | None) -> str:
    if version is None:
        return ""
    parts = [text] if (text := metrics_text(version.metrics)) else []
    if version.answers:
        parts.append(f"{version.answers} answers")
    parts.append(time.strftime("%H:%M:%S", time.localtime(version.created)))
    return " · ".join(parts)
