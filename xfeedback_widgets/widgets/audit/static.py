"""A picture of an audit for readers without a kernel: the lowest classes, and the worst images of one."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from xfeedback_widgets.widgets import colors, layout
from xfeedback_widgets.widgets.audit.table import number, share
from xfeedback_widgets.widgets.static import font
from xfeedback_widgets.widgets.text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xfeedback_widgets.audit import Table
    from xfeedback_widgets.widgets.audit.shots import Shot

CLASSES, COUNT = 8, 6
_TILE, _GAP, _LINE, _SPAN = 128, 12, 20, 150
_INK, _SOFT, _BLUE, _ORANGE = "#1f2328", "#d4d4d8", "#0072b2", "#d55e00"
_WIDTH = 6 * _TILE + 7 * _GAP


def page(
    title: str,
    table: Table,
    images: Sequence[str],
    *,
    of: str,
    shots: Mapping[str, Shot],
    scores: Mapping[str, float],
) -> bytes:
    """Draw the first classes of a table with their scores, and some images with map and box.

    Parameters
    ----------
    title : str
        First line, plain text.
    table : Table
        The classes, in the order to show them.
    images : sequence of str
        At most :data:`COUNT`; those without a picture are left out.
    of : str
        Their class.
    shots, scores : mapping by image id

    Returns
    -------
    bytes
        PNG.
    """
    shown = [image_id for image_id in images if image_id in shots][:COUNT]
    lines = min(CLASSES, table.height)
    height = 2 * _GAP + (lines + 2) * _LINE + ((_TILE + 2 * _LINE + _GAP) if shown else 0)
    sheet = Image.new("RGB", (_WIDTH, height), "#ffffff")
    draw, face = ImageDraw.Draw(sheet), font()
    draw.text((_GAP, _GAP), shorten(title, 110), fill=_INK, font=face)
    for line in range(lines):
        _class(draw, face, table, line, _GAP + (line + 1) * _LINE + 4)
    y = 2 * _GAP + (lines + 1) * _LINE
    if shown:
        draw.text(
            (_GAP, y), f"Least attention on the object: {shorten(of, 60)}", fill=_INK, font=face
        )
    for place, image_id in enumerate(shown):
        x = _GAP + place * (_TILE + _GAP)
        tile = _tile(shots[image_id])
        left, top = (_TILE - tile.width) // 2, (_TILE - tile.height) // 2
        sheet.paste(tile, (x + left, y + _LINE + top))
        text = number(scores.get(image_id, math.nan))
        draw.text((x, y + _LINE + _TILE + 2), f"{text} in the box", fill=_INK, font=face)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _class(draw: ImageDraw.ImageDraw, face: object, table: Table, row: int, y: int) -> None:
    """Draw one class: name, score in its interval between 0 and 1, accuracy."""
    crs, low, high, even = (float(table[n][row]) for n in ("crs", "low", "high", "expected"))
    draw.text((_GAP, y), shorten(table["class"][row], 30), fill=_INK, font=face)  # type: ignore[arg-type]
    left, middle = _GAP + 230, y + 8
    draw.line((left, middle, left + _SPAN, middle), fill=_SOFT, width=1)
    if not math.isnan(low):
        draw.line((left + low * _SPAN, middle, left + high * _SPAN, middle), fill=_BLUE, width=4)
    if not math.isnan(crs):
        x = left + even * _SPAN
        draw.line((x, middle - 6, x, middle + 6), fill=_ORANGE, width=2)
        x = left + crs * _SPAN
        draw.ellipse((x - 4, middle - 4, x + 4, middle + 4), fill=_BLUE)
    said = (
        f"{number(crs)} in the box, {number(even)} by area; right {share(table['accuracy'][row])}"
    )
    if "difference" in table and not math.isnan(table["crs_before"][row]):
        said += f"; before {number(table['crs_before'][row])}"
    draw.text((left + _SPAN + _GAP, y), said, fill=_INK, font=face)  # type: ignore[arg-type]


def _tile(shot: Shot) -> Image.Image:
    height, width = shot.picture.shape[:2]
    size = layout.fit(width, height, _TILE, _TILE)
    enlarged = size[0] >= layout.PIXELATE_FROM * width
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
    tile = Image.fromarray(shot.picture).resize(size, how).convert("RGBA")
    if shot.saliency is not None:
        overlay = colors.colorize(colors.resize(shot.saliency, size[1], size[0]))
        overlay[..., 3] = np.round(overlay[..., 3] * 0.7).astype(np.uint8)
        tile.alpha_composite(Image.fromarray(overlay))
    draw = ImageDraw.Draw(tile)
    for line, ink in ((3, "#ffffff"), (1, "#000000")):
        for x0, y0, x1, y1 in shot.edges:
            ends = (x0 * (size[0] - 1), y0 * (size[1] - 1), x1 * (size[0] - 1), y1 * (size[1] - 1))
            draw.line(ends, fill=ink, width=line)
    return tile.convert("RGB")
