"""Many units at a glance: a page of tiles, each with its patches and three small buttons.

All patches of a page are one picture, held by a style sheet; the tiles only point into it. So an answer
or a step of the selection sends a few kilobytes of text, and the pictures cross the wire once.
"""

from __future__ import annotations

import base64
import io
import uuid
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
from PIL import Image

from xfeedback_widgets.widgets import layout
from xfeedback_widgets.widgets.board import classed, row
from xfeedback_widgets.widgets.grid import SIGNS
from xfeedback_widgets.widgets.neurons.desk import ANSWERED
from xfeedback_widgets.widgets.neurons.patches import THUMB
from xfeedback_widgets.widgets.text import escape, shorten, signed_percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xfeedback_widgets.widgets.neurons.collector import Findings
    from xfeedback_widgets.widgets.neurons.patches import Patch

_TILE, _GAP = 150, 8  # least width of a tile, and the space between two
_ACROSS = 12  # patches in a row of the picture


class UnitGrid(ipywidgets.VBox):
    """A page of units, one of them selected.

    Parameters
    ----------
    class_names : sequence of str
    controls : sequence of Widget
        What stands above the tiles.
    """

    def __init__(self, class_names: Sequence[str], controls: Sequence[ipywidgets.Widget]) -> None:
        self._names = class_names
        self._mark = f"xf-sheet-{uuid.uuid4().hex[:12]}"
        self._painted: list[tuple[int, bool]] = []
        self.columns = 1
        self.line = ipywidgets.HTML()
        self.sheet = classed(ipywidgets.HTML(), "xf-sheet")
        self.tiles = ipywidgets.HTML()
        super().__init__([row([*controls, self.line]), self.sheet, self.tiles])
        self.add_class("xf-units")
        self.add_class(self._mark)

    def paint(
        self,
        page: Sequence[int],
        *,
        patches: Mapping[int, Sequence[Patch]],
        found: Findings,
        answers: Mapping[int, str],
        selected: int,
        width: int,
    ) -> None:
        """Show a page (for the UI pump); units whose patches are missing stay empty."""
        self.columns = max(1, (width + _GAP) // (_TILE + _GAP))
        per_unit = int(found.survey.images.shape[1])
        held = [(unit, unit in patches) for unit in page]
        if held != self._painted:
            self._painted = held
            self.sheet.value = f"<style>.{self._mark} {{{_sheet(page, patches, per_unit)}}}</style>"
        cells = len(page) * per_unit
        tiles = "".join(
            self._tile(
                unit,
                found,
                answers.get(unit),
                on=index == selected,
                places=[
                    _place(index * per_unit + place, cells)
                    for place in range(len(patches.get(unit, ())))
                ],
            )
            for index, unit in enumerate(page)
        )
        self.tiles.value = (
            f'<div class="xf-tiles" style="grid-template-columns:repeat({self.columns},minmax(0,1fr))">'
            f"{tiles}</div>"
        )

    def _tile(
        self, unit: int, found: Findings, answer: str | None, *, on: bool, places: list[str]
    ) -> str:
        shares = found.evidence[:, unit]
        index = int(np.abs(shares).argmax())
        name = escape(shorten(self._names[index], 14))
        share = signed_percent(float(shares[index]))
        pictures = "".join(f'<i style="{place}"></i>' for place in places) or "…"
        buttons = "".join(
            f'<button type="button" tabindex="-1" data-pick="{unit}:{choice}" aria-label="Unit {unit}: '
            f'{words[2:]}" title="Unit {unit}: {words[2:]}"'
            f"{' class=xf-on aria-pressed=true' if choice == answer else ''}>{SIGNS[choice]}</button>"
            for choice, words in ANSWERED.items()
        )
        classes = f"xf-tile xf-is-{answer or 'open'}{' xf-selected' if on else ''}"
        words = f"<b>{ANSWERED[answer]}</b>" if answer else f"{share} for {name}"
        return (
            f'<div class="{classes}" data-pick="{unit}" role="group" aria-label="Unit {unit}">'
            f'<div class="xf-cuts">{pictures}</div>'
            f'<div class="xf-caption"><b>{unit}</b> {words}</div>'
            f'<div class="xf-choices">{buttons}</div></div>'
        )


def _sheet(page: Sequence[int], patches: Mapping[int, Sequence[Patch]], per_unit: int) -> str:
    """Return the declarations that hold all patches of a page as one picture."""
    cells = max(1, len(page) * per_unit)
    across, down = min(cells, _ACROSS), -(-cells // _ACROSS)
    sheet = Image.new("RGB", (across * THUMB, down * THUMB), "#ffffff")
    small = True
    for index, unit in enumerate(page):
        for place, patch in enumerate(patches.get(unit, ())[:per_unit]):
            if patch.thumb is None:
                continue
            y, x = divmod(index * per_unit + place, _ACROSS)
            sheet.paste(Image.fromarray(patch.thumb), (x * THUMB, y * THUMB))
            small = small and patch.cut[0] * layout.PIXELATE_FROM <= THUMB
    stream = io.BytesIO()
    if small:
        sheet.save(stream, "PNG", optimize=True)
    else:
        sheet.save(stream, "JPEG", quality=80)
    kind, data = "png" if small else "jpeg", base64.b64encode(stream.getvalue()).decode("ascii")
    return f"--xf-sheet:url(data:image/{kind};base64,{data});--xf-sheet-size:{across}00% {down}00%"


def _place(cell: int, cells: int) -> str:
    """Return where a patch lies in the picture of the page, in shares that hold at every size."""
    across, down = min(cells, _ACROSS), -(-cells // _ACROSS)
    y, x = divmod(cell, _ACROSS)
    left, top = (100 * at / (of - 1) if of > 1 else 0 for at, of in ((x, across), (y, down)))
    return f"background-position:{left:.3f}% {top:.3f}%"
