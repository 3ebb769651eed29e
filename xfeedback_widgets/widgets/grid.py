"""Many small pictures with their maps on one stage, for answering fast.

All pictures of a page are one sheet and all maps another, so a page of 48 costs two small images and
a reload brings it back in one message. Selection and answers are drawn, as signs and words and not by
colour alone, and said in a line below for those who cannot see them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from PIL import Image

from xfeedback_widgets.widgets import colors, layout
from xfeedback_widgets.widgets.stage import Stage
from xfeedback_widgets.widgets.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.widgets.explainer import Explained, Picture

PAGE_SIZES = (12, 24, 48)
# All lengths are multiples of MAP_SCALE, so that a map is a whole number of cells.
TILE, CAPTION, GAP, MAP_SCALE = 112, 20, 8, 4
_CELL_WIDTH, _CELL_HEIGHT = TILE + GAP, TILE + CAPTION + GAP
SIGNS = {"accept": "✓", "reject": "✕", "unsure": "?"}
_INKS = {"accept": "#2f7fb8", "reject": "#d1790b", "unsure": "#6b7280"}
_DASHES = {"accept": [], "reject": [6, 3], "unsure": [2, 3]}
_PAPER, _INK, _FOCUS = "#ffffff", "#1f2328", "#1967d2"


class GridView(ipywidgets.VBox):
    """A page of tiles, one of them selected.

    Parameters
    ----------
    class_names : sequence of str
    controls : sequence of Widget
        What stands above the tiles.
    on_ready : callable
        See :class:`~.stage.Stage`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        controls: Sequence[ipywidgets.Widget],
        on_ready: Callable[[], None],
    ) -> None:
        self._names = class_names
        self._ids: tuple[str, ...] = ()
        self._columns = 1
        self.stage = Stage(_CELL_WIDTH, _CELL_HEIGHT, on_ready)
        self.stage.add_class("xf-clickable")
        self.line = ipywidgets.HTML()
        self.line.add_class("xf-grid-line")
        bar = ipywidgets.HBox([*controls, self.line])
        bar.add_class("xf-row")
        super().__init__([bar, self.stage])
        self.add_class("xf-grid")

    @property
    def columns(self) -> int:
        """Tiles in a row, as last painted."""
        return self._columns

    def hit(self, x: float, y: float) -> int | None:
        """Return which tile lies at a relative position in [0, 1]; None between or beyond them."""
        width, height = self.stage.size
        column, row = int(x * width // _CELL_WIDTH), int(y * height // _CELL_HEIGHT)
        index = row * self._columns + column
        return index if column < self._columns and index < len(self._ids) else None

    def paint(
        self,
        image_ids: Sequence[str],
        *,
        pictures: Mapping[str, Picture],
        items: Mapping[str, Explained],
        failed: Collection[str],
        answers: Mapping[str, str],
        selected: int,
        look: layout.Look,
        width: int,
        ratio: float,
    ) -> None:
        """Show a page (for the UI pump); tiles whose picture or map is missing stay empty."""
        self._ids = tuple(image_ids)
        self._columns = max(1, min(len(image_ids) or 1, (width + GAP) // _CELL_WIDTH))
        rows = max(1, -(-len(image_ids) // self._columns))
        size = (self._columns * _CELL_WIDTH - GAP, rows * _CELL_HEIGHT - GAP)
        self.stage.resize(*size, ratio)
        places = {
            image_id: self._place(index, pictures[image_id])
            for index, image_id in enumerate(image_ids)
            if image_id in pictures
        }
        shown = {image_id: items[image_id] for image_id in places if image_id in items}

        def decorate(canvas: Any, ratio: float) -> None:
            for index, image_id in enumerate(image_ids):
                self._frame(
                    canvas,
                    ratio,
                    index,
                    caption=self._caption(items.get(image_id), image_id in failed),
                    answer=answers.get(image_id),
                    selected=index == selected,
                )

        self.stage.set_picture(_picture_sheet(size, places, pictures), decoration=decorate)
        if look.contour:
            self.stage.set_map(None, _contour_lines(places, shown))
        else:
            self.stage.set_map(_map_sheet(size, places, shown, look.colormap))
        self.stage.redraw(look.opacity)

    def describe(self, image_id: str, item: Explained | None, answer: str | None) -> str:
        """Return a tile in words."""
        parts = [f"Image {shorten(image_id)}"]
        if item is not None:
            parts.append(f"true {self._names[item.label]}, predicted {self._names[item.predicted]}")
            if item.empty:
                parts.append("no attention")
        parts.append(
            {"accept": "accepted", "reject": "rejected"}.get(answer or "", answer or "open")
        )
        return "; ".join(parts)

    def _corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self._columns)
        return column * _CELL_WIDTH, row * _CELL_HEIGHT

    def _place(self, index: int, picture: Picture) -> tuple[int, int, int, int]:
        """Return x, y, width, height of a picture in its tile, in whole map cells."""
        x, y = self._corner(index)
        width, height = layout.fit(*picture.size, TILE, TILE)
        width, height = (max(MAP_SCALE, side // MAP_SCALE * MAP_SCALE) for side in (width, height))
        left, top = ((TILE - side) // 2 // MAP_SCALE * MAP_SCALE for side in (width, height))
        return x + left, y + top, width, height

    def _frame(
        self,
        canvas: Any,
        ratio: float,
        index: int,
        *,
        caption: str,
        answer: str | None,
        selected: bool,
    ) -> None:
        x, y = self._corner(index)
        canvas.line_width = 3 * ratio
        if answer is not None:
            canvas.stroke_style = _INKS[answer]
            canvas.set_line_dash([length * ratio for length in _DASHES[answer]])
            _outline(canvas, x, y, 1.5, ratio)
            canvas.set_line_dash([])
        if selected:
            canvas.stroke_style = _PAPER
            _outline(canvas, x, y, 4.5, ratio)
            canvas.stroke_style = _FOCUS
            canvas.line_width = 4 * ratio
            _outline(canvas, x, y, 2, ratio)
        canvas.fill_style = _PAPER
        canvas.fill_rect(x * ratio, (y + TILE) * ratio, TILE * ratio, CAPTION * ratio)
        canvas.fill_style = _INK
        canvas.font = f"{round(12 * ratio)}px sans-serif"
        canvas.text_baseline = "middle"
        sign = f"{SIGNS[answer]} " if answer else ""
        middle = (y + TILE + CAPTION / 2) * ratio
        canvas.fill_text(f"{sign}{caption}", (x + 3) * ratio, middle, (TILE - 6) * ratio)

    def _caption(self, item: Explained | None, failed: bool) -> str:
        if item is None:
            return "unreadable" if failed else "…"
        true, predicted = (shorten(self._names[i], 10) for i in (item.label, item.predicted))
        return f"{true}" if item.label == item.predicted else f"{true} → {predicted}"


def _outline(canvas: Any, x: float, y: float, inset: float, ratio: float) -> None:
    """Stroke a tile's border, `inset` pixels inside it."""
    side = (TILE - 2 * inset) * ratio
    canvas.stroke_rect((x + inset) * ratio, (y + inset) * ratio, side, side)


Place = tuple[int, int, int, int]


def _picture_sheet(
    size: tuple[int, int], places: Mapping[str, Place], pictures: Mapping[str, Picture]
) -> bytes:
    sheet = Image.new("RGB", size, _PAPER)
    small = True
    for image_id, (x, y, width, height) in places.items():
        picture = pictures[image_id]
        image = Image.fromarray(picture.small)
        enlarged = width >= layout.PIXELATE_FROM * picture.size[0]
        small = small and enlarged
        how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
        sheet.paste(image.resize((width, height), how), (x, y))
    stream = io.BytesIO()
    if small:
        sheet.save(stream, "PNG", compress_level=3)
    else:
        sheet.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _map_sheet(
    size: tuple[int, int],
    places: Mapping[str, Place],
    items: Mapping[str, Explained],
    colormap: str,
) -> bytes:
    sheet: NDArray[np.uint8] = np.zeros(
        (size[1] // MAP_SCALE, size[0] // MAP_SCALE, 4), dtype=np.uint8
    )
    for image_id, item in items.items():
        x, y, width, height = (length // MAP_SCALE for length in places[image_id])
        tile = colors.colorize(colors.resize(item.saliency, height, width), colormap)
        sheet[y : y + height, x : x + width] = tile
    return colors.encode_png(sheet)


def _contour_lines(
    places: Mapping[str, Place], items: Mapping[str, Explained]
) -> list[tuple[float, NDArray[np.float32]]]:
    lines = []
    for image_id, item in items.items():
        x, y, width, height = places[image_id]
        shift = np.array([x, y], dtype=np.float32)
        lines += [
            (level, points[::2] + shift)
            for level, points in colors.contours(item.saliency, height, width)
        ]
    return lines
