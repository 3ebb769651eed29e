"""A picture of the review of units for readers without a kernel: patches, facts, answers in one PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from xfeedback_widgets.widgets.neurons.desk import ANSWERED
from xfeedback_widgets.widgets.neurons.patches import THUMB
from xfeedback_widgets.widgets.static import font
from xfeedback_widgets.widgets.text import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xfeedback_widgets.widgets.neurons.collector import Findings
    from xfeedback_widgets.widgets.neurons.patches import Patch

COUNT = 6
_GAP, _LINE, _COLUMNS = 14, 18, 2


def page(
    title: str,
    shown: Sequence[int],
    *,
    patches: Mapping[int, Sequence[Patch]],
    found: Findings | None,
    answers: Mapping[int, str],
) -> bytes:
    """Draw some units with their patches, how often they fire, and the answer.

    Parameters
    ----------
    title : str
        First line, plain text.
    shown : sequence of int
        Units, at most :data:`COUNT`; those without patches are left out.
    patches, answers : mapping by unit
    found : Findings or None

    Returns
    -------
    bytes
        PNG.
    """
    drawn = [] if found is None else [unit for unit in shown if unit in patches][:COUNT]
    across = max([len(patches[unit]) for unit in drawn], default=3)
    cell = max(across * (THUMB + 4), 200) + _GAP
    tall = THUMB + 2 * _LINE + _GAP
    size = (_COLUMNS * cell + _GAP, 2 * _GAP + _LINE + -(-len(drawn) // _COLUMNS) * tall)
    sheet = Image.new("RGB", size, "#ffffff")
    draw, face = ImageDraw.Draw(sheet), font()
    draw.text((_GAP, _GAP), title, fill="#1f2328", font=face)
    for index, unit in enumerate(drawn):
        assert found is not None  # noqa: S101  nothing is drawn without
        row, column = divmod(index, _COLUMNS)
        x, y = _GAP + column * cell, 2 * _GAP + _LINE + row * tall
        for place, patch in enumerate(patches[unit]):
            if patch.thumb is not None:
                sheet.paste(Image.fromarray(patch.thumb), (x + place * (THUMB + 4), y))
        answer = ANSWERED.get(answers.get(unit, ""), "not answered")
        draw.text((x, y + THUMB + 2), f"unit {unit}: {answer}", fill="#1f2328", font=face)
        fires = f"fires in {percent(float(found.fires[unit]))} of the images"
        draw.text((x, y + THUMB + 2 + _LINE), fires, fill="#5b6470", font=face)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()
