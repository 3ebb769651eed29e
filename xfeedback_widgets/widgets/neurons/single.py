"""One unit: its patches, each with its whole image behind it, and what there is to know about it.

The whole image is in the page already and CSS shows it while a patch has the pointer or the focus, or
while the peek key is held: no message to the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets
import numpy as np

from xfeedback_widgets.widgets import layout
from xfeedback_widgets.widgets.board import classed
from xfeedback_widgets.widgets.neurons.desk import ANSWERED
from xfeedback_widgets.widgets.text import escape, percent, shorten, signed, signed_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.widgets.neurons.collector import Findings
    from xfeedback_widgets.widgets.neurons.patches import Patch

_SHOWN = 160  # width of a patch on the page, about
_CLASSES = 8


class UnitView(ipywidgets.HBox):
    """The patches of a unit beside the facts about it.

    Parameters
    ----------
    class_names : sequence of str
    peek : str
        How the key is written that shows whole images; empty: there is none.
    """

    def __init__(self, class_names: Sequence[str], peek: str) -> None:
        self._names = class_names
        self._peek = f", or hold {peek}," if peek else ""
        self.patches = classed(ipywidgets.HTML(), "xf-column", "xf-patches-column")
        self.facts = classed(ipywidgets.HTML(), "xf-facts", "xf-column")
        super().__init__([self.patches, self.facts])
        self.add_class("xf-columns")
        self.add_class("xf-unit")

    def paint(
        self,
        unit: int,
        *,
        patches: Sequence[Patch] | None,
        found: Findings,
        together: Sequence[int],
        answer: str | None,
        target: int | None,
    ) -> None:
        """Show one unit (for the UI pump); patches that are None are still on their way."""
        if patches is None:
            self.patches.value = '<p class="xf-muted">Reading the patches …</p>'
        else:
            figures = "".join(
                self._figure(patch, place, len(patches)) for place, patch in enumerate(patches, 1)
            )
            self.patches.value = (
                f'<div class="xf-patches">{figures}</div><small class="xf-muted">What activates this unit '
                f"most. Point at a patch{self._peek} to see it in its image.</small>"
            )
        given = f' <span class="xf-badge">{ANSWERED[answer]}</span>' if answer else ""
        self.facts.value = (
            f"<div><strong>Unit {unit}</strong>{given}</div>"
            f"{_facts(unit, found, together)}{self._classes(unit, found, target)}"
        )

    def paint_text(self, text: str) -> None:
        """Show that there is no unit to look at (for the UI pump)."""
        self.patches.value = ""
        self.facts.value = f"<p><strong>{escape(text)}</strong></p>" if text else ""

    def describe(
        self, unit: int, patches: Sequence[Patch] | None, found: Findings, answer: str | None
    ) -> str:
        """Return the unit in a sentence, for screen readers."""
        seen = sorted({self._names[p.label] for p in patches or () if p.label >= 0})
        parts = [f"Unit {unit}"]
        if seen:
            parts.append(f"strongest on images of {', '.join(shorten(name) for name in seen)}")
        parts.append(f"fires in {percent(float(found.fires[unit]))} of the images")
        index = _strongest(found.evidence[:, unit], 1, None)[0]
        share = signed_percent(float(found.evidence[index, unit]))
        parts.append(f"{share} of the evidence for {shorten(self._names[index])}")
        if answer:
            parts.append(ANSWERED[answer][2:])
        return ", ".join(parts)

    def _figure(self, patch: Patch, place: int, of: int) -> str:
        name = self._names[patch.label] if patch.label >= 0 else "unknown class"
        what = f"Patch {place} of {of}, image {patch.image_id}, class {name}"
        if patch.failure:
            inner = f"<small>Unreadable: {escape(shorten(patch.failure, 80))}</small>"
        else:
            inner = _image(patch.crop, patch.cut, "xf-crop") + _whole(patch)
        return (
            f'<figure class="xf-patch" tabindex="0" aria-label="{escape(what)}" title="{escape(what)}">'
            f'<div class="xf-frame">{inner}</div><figcaption>{escape(shorten(name, 24))}'
            f'<small class="xf-muted">{escape(shorten(patch.image_id, 22))}</small></figcaption></figure>'
        )

    def _classes(self, unit: int, found: Findings, target: int | None) -> str:
        shares, weights = found.evidence[:, unit], found.weight[:, unit]
        shown = _strongest(shares, _CLASSES, target)
        largest = max(float(np.abs(shares[shown]).max()), 1e-9)
        rows = "".join(
            f"<tr{' class=xf-chosen' if index == target else ''}><th scope=row>{self._name(index)}</th>"
            f"<td>{_bar(float(shares[index]) / largest)}</td>"
            f'<td class="xf-number">{signed_percent(float(shares[index]))}</td>'
            f'<td class="xf-number">{signed(float(weights[index]))}</td></tr>'
            for index in shown
        )
        more = len(shares) - len(shown)
        left_out = f'<small class="xf-muted">and {more} classes with less</small>' if more else ""
        return (
            '<table class="xf-evidence"><tr><th>Class</th><th></th><th title="Signed share of all units\' '
            'contributions on images of the class">evidence</th><th>weight</th></tr>'
            f"{rows}</table>{left_out}"
        )

    def _name(self, index: int) -> str:
        name = self._names[index]
        return f'<span title="{escape(name)}">{escape(shorten(name, 24))}</span>'


def _facts(unit: int, found: Findings, together: Sequence[int]) -> str:
    rows = [("Fires", f"in <strong>{percent(float(found.fires[unit]))}</strong> of the images")]
    if found.outside is not None and not np.isnan(found.outside[unit]):
        share = percent(float(found.outside[unit]))
        rows.append(("Outside", f"{share} of its activation lies outside what is relevant"))
    others = [other for other in together if other != unit]
    if others:
        listed = ", ".join(map(str, others[:8])) + (", …" if len(others) > 8 else "")
        word = "unit" if len(others) == 1 else "units"
        rows.append(("Twins", f"{word} {listed}: same patches, one answer for all"))
    if not found.weight[:, unit].any():
        rows.append(("Pruned", "its weights are 0 in the live model"))
    cells = "".join(
        f'<tr><td class="xf-muted">{name}</td><td>{value}</td></tr>' for name, value in rows
    )
    return f"<table>{cells}</table>"


def _strongest(shares: np.ndarray, count: int, target: int | None) -> list[int]:
    """Indices of the classes with the largest shares, largest first, and the chosen class."""
    order = [int(index) for index in np.argsort(-np.abs(shares), kind="stable")[:count]]
    if target is not None and target not in order:
        order[-1] = target
    return order


def _image(url: str, size: tuple[int, int], name: str) -> str:
    pixelated = " xf-pixels" if size[0] * layout.PIXELATE_FROM <= _SHOWN else ""
    return f'<img class="{name}{pixelated}" src="{url}" alt="" draggable="false">'


def _whole(patch: Patch) -> str:
    width, height = patch.size
    longest = max(width, height)
    top, left, bottom, right = (100 * edge for edge in patch.box)
    return (
        f'<div class="xf-whole" aria-hidden="true"><div style="width:{100 * width / longest:.2f}%;'
        f'height:{100 * height / longest:.2f}%">{_image(patch.whole, patch.size, "")}'
        f'<i style="left:{left:.2f}%;top:{top:.2f}%;width:{right - left:.2f}%;'
        f'height:{bottom - top:.2f}%"></i></div></div>'
    )


def _bar(share: float) -> str:
    """Return a bar to the right of the middle for a positive share of the longest, to the left else."""
    side, sign = ("left", "plus") if share >= 0 else ("right", "minus")
    return (
        f'<span class="xf-signed"><i class="xf-{sign}" style="{side}:50%;'
        f'width:{50 * min(1.0, abs(share)):.1f}%"></i></span>'
    )
