"""A picture of the widget for readers without a kernel: pictures, maps and answers in one PNG.

Canvases are never part of a saved notebook. This page is stored beside the live widget, and is what
nbconvert, nbviewer and JupyterLab without a kernel show.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xfeedback_widgets.widgets import colors, layout
from xfeedback_widgets.widgets.single import ANSWERED
from xfeedback_widgets.widgets.text import percent, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.widgets.explainer import Explained, Picture

COUNT = 6
_TILE, _GAP, _LINE = 176, 14, 18
_RELEVANT, _IRRELEVANT = (47, 127, 184), (209, 121, 11)


def page(
    title: str,
    image_ids: Sequence[str],
    *,
    pictures: Mapping[str, Picture],
    items: Mapping[str, Explained],
    answers: Mapping[str, str],
    class_names: Sequence[str],
    look: layout.Look,
    words: Mapping[str, str] = ANSWERED,
    masks: Mapping[str, NDArray[np.int8]] | None = None,
) -> bytes:
    """Draw some images with map, classes and answer.

    Parameters
    ----------
    title : str
        First line, plain text.
    image_ids : sequence of str
        What to show, at most :data:`COUNT`; what has no picture yet is left out.
    pictures, items, answers : mapping by image id
    class_names : sequence of str
    look : Look

    Returns
    -------
    bytes
        PNG.
    """
    shown = [image_id for image_id in image_ids if image_id in pictures][:COUNT]
    columns = max(1, min(3, len(shown)))
    rows = -(-len(shown) // columns)
    height = 2 * _GAP + _LINE + rows * (_TILE + 3 * _LINE + _GAP)
    width = max(columns * (_TILE + _GAP) + _GAP, 420)
    sheet = Image.new("RGB", (width, height), "#ffffff")
    draw, face = ImageDraw.Draw(sheet), font()
    draw.text((_GAP, _GAP), title, fill="#1f2328", font=face)
    for index, image_id in enumerate(shown):
        row, column = divmod(index, columns)
        x = _GAP + column * (_TILE + _GAP)
        y = 2 * _GAP + _LINE + row * (_TILE + 3 * _LINE + _GAP)
        item = items.get(image_id)
        tile = _tile(pictures[image_id], item, look, (masks or {}).get(image_id))
        sheet.paste(tile, (x + (_TILE - tile.width) // 2, y + (_TILE - tile.height) // 2))
        said = words.get(answers.get(image_id, ""), "not answered")
        for number, text in enumerate(_lines(image_id, item, said, class_names)):
            draw.text((x, y + _TILE + 2 + number * _LINE), text, fill="#1f2328", font=face)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _tile(
    picture: Picture, item: Explained | None, look: layout.Look, mask: NDArray[np.int8] | None
) -> Image.Image:
    size = layout.fit(*picture.size, _TILE, _TILE)
    enlarged = size[0] >= layout.PIXELATE_FROM * picture.size[0]
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
    tile = Image.fromarray(picture.small).resize(size, how).convert("RGBA")
    if item is not None:
        overlay = colors.colorize(colors.resize(item.saliency, size[1], size[0]), look.colormap)
        overlay[..., 3] = np.round(overlay[..., 3] * look.opacity).astype(np.uint8)
        tile.alpha_composite(Image.fromarray(overlay))
    if mask is not None:
        tile.alpha_composite(_ink(mask, size))
    return tile.convert("RGB")


def _ink(mask: NDArray[np.int8], size: tuple[int, int]) -> Image.Image:
    """Return a mask as dots and hatching, each with its edge, transparent elsewhere."""
    enlarged = (
        np.asarray(Image.fromarray(mask.astype(np.uint8) + 1).resize(size, 0)).astype(int) - 1
    )
    y, x = np.indices(enlarged.shape)
    ink = np.zeros((*enlarged.shape, 4), np.uint8)
    dots, hatching = (x % 6 < 2) & (y % 6 < 2), (x + y) % 7 < 2
    for value, pattern, color in ((1, dots, _RELEVANT), (-1, hatching, _IRRELEVANT)):
        here = np.pad(enlarged == value, 1)
        inside = here[2:, 1:-1] & here[:-2, 1:-1] & here[1:-1, 2:] & here[1:-1, :-2]
        here = here[1:-1, 1:-1]
        ink[here & (pattern | ~inside)] = (*color, 255)
        ink[here & inside & ~pattern] = (*color, 70)
    return Image.fromarray(ink)


def _lines(
    image_id: str, item: Explained | None, said: str, class_names: Sequence[str]
) -> list[str]:
    lines = [shorten(image_id, 26)]
    if item is not None:
        true, predicted = (shorten(class_names[i], 10) for i in (item.label, item.predicted))
        lines.append(f"{true}, seen as {predicted} {percent(item.confidence)}")
    lines.append(said)
    return lines


def font() -> ImageFont.FreeTypeFont:
    """Return the font of these pages."""
    from matplotlib import font_manager

    # ships with matplotlib, and has the signs; Pillow's own font has Latin letters only
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
