"""The worst images of a class: picture, map over it, outline of the object, and what the model said.

Pictures and maps are held by a style sheet, the tiles point into it; so a step of the selection sends a
few kilobytes of text, and a picture crosses the wire once.
"""

from __future__ import annotations

import base64
import io
import math
import uuid
from typing import TYPE_CHECKING

import ipywidgets
from PIL import Image

from xfeedback_widgets.audit import STATUS
from xfeedback_widgets.widgets import colors, layout
from xfeedback_widgets.widgets.audit.table import number
from xfeedback_widgets.widgets.board import classed
from xfeedback_widgets.widgets.text import escape, percent, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.widgets.audit.shots import Segment, Shot


class Gallery(ipywidgets.VBox):
    """A page of images, one of them selected."""

    def __init__(self) -> None:
        self._mark = f"xf-shots-{uuid.uuid4().hex[:12]}"
        self._held: list[tuple[str, int]] = []
        self.sheet = classed(ipywidgets.HTML(), "xf-sheet")
        self.tiles = ipywidgets.HTML()
        super().__init__([self.sheet, self.tiles])
        self.add_class("xf-gallery")
        self.add_class(self._mark)

    def paint(
        self,
        image_ids: Sequence[str],
        rows: Sequence[np.void],
        *,
        report: AuditReport,
        before: Mapping[str, float],
        shots: Mapping[str, Shot],
        failed: Collection[str],
        live: bool,
        selected: int,
    ) -> None:
        """Show images (for the UI pump).

        Parameters
        ----------
        image_ids, rows
            Which, and their rows of the report.
        report : AuditReport
        before : mapping of image id to score
            In the other report.
        shots, failed
            What has been explained, and what could not be.
        live : bool
            Whether there will be pictures at all.
        selected : int
        """
        held = [(i, id(shots[i])) for i in image_ids if i in shots]
        if held != self._held:
            self._held = held
            ready = [shots.get(image_id) for image_id in image_ids]
            self.sheet.value = f"<style>.{self._mark} {{{_sheet(ready)}}}</style>"
        tiles = []
        for place, (image_id, row) in enumerate(zip(image_ids, rows, strict=True)):
            waiting = "unreadable" if image_id in failed else "…"
            frame = _frame(place, shots.get(image_id), waiting) if live else ""
            on = " xf-selected" if place == selected else ""
            words = describe(image_id, row, report, before.get(image_id))
            tiles.append(
                f'<div class="xf-tile{on}" data-pick="image:{place}" role="group" '
                f'aria-label="{escape(words)}" title="{escape(words)}">{frame}'
                f"{_caption(image_id, row, report, before.get(image_id), named=not live)}</div>"
            )
        text = "" if tiles else '<p class="xf-muted">No image of this class is like that.</p>'
        self.tiles.value = f'<div class="xf-tiles">{"".join(tiles)}</div>{text}'


def describe(image_id: str, row: np.void, report: AuditReport, before: float | None) -> str:
    """Return an image of a report in words, as plain text."""
    parts = [f"Image {shorten(image_id, 60)}", f"{number(float(row['rs']))} of the map in the box"]
    if before is not None and not math.isnan(before):
        parts.append(f"before {before:.2f}")
    parts.append(f"{number(float(row['area']))} by area")
    if row["status"]:
        parts.append(STATUS[row["status"]])
    seen = shorten(prediction(row, report), 40)
    sure = "" if math.isnan(row["confidence"]) else f", {percent(float(row['confidence']))}"
    parts.append(f"seen as {seen or 'nothing'}{sure}, {'right' if row['rank'] == 0 else 'wrong'}")
    return "; ".join(parts)


def prediction(row: np.void, report: AuditReport) -> str:
    """Return the name of what an image was taken for."""
    guess, outputs = int(row["prediction"]), report.facts["outputs"]
    if guess < 0:
        return ""
    label = guess if outputs is None else outputs.index(guess) if guess in outputs else -1
    return report.class_names[label] if 0 <= label < len(report.class_names) else f"output {guess}"


def _caption(
    image_id: str, row: np.void, report: AuditReport, before: float | None, *, named: bool
) -> str:
    right = row["rank"] == 0
    said = "✓ right" if right else f"✕ {escape(shorten(prediction(row, report), 18))}"
    now = number(float(row["rs"]))
    moved = ""
    if before is not None and not math.isnan(before) and now != number(before):
        sign = "▲" if float(row["rs"]) > before else "▼"
        moved = f' <small class="xf-muted">{sign} from {before:.2f}</small>'
    name = f"<small>{escape(shorten(image_id, 26))}</small>" if named else ""
    return f'<div class="xf-caption"><b>{now}</b>{moved} <span>{said}</span>{name}</div>'


def _frame(place: int, shot: Shot | None, waiting: str) -> str:
    if shot is None:
        return f'<div class="xf-shot"><small>{waiting}</small></div>'
    height, width = shot.picture.shape[:2]
    pixels = " xf-pixels" if width * layout.PIXELATE_FROM <= LEAST else ""
    heat = (
        ""
        if shot.saliency is None
        else (f'<i class="xf-overlay" style="background-image:var(--xf-m{place})"></i>')
    )
    return (
        f'<div class="xf-shot"><div class="xf-view-of{pixels}" style="aspect-ratio:{width}/{height};'
        f'{"width" if width >= height else "height"}:100%;background-image:var(--xf-p{place})">'
        f"{heat}{_outline(shot.edges)}</div></div>"
    )


LEAST = 150  # pixels of a tile's side, at least


def _outline(edges: Sequence[Segment]) -> str:
    """Return the border of the object as lines that stay thin at every size: dark on light."""
    if not edges:
        return ""
    path = "".join(f"M{a:.4g} {b:.4g}L{c:.4g} {d:.4g}" for a, b, c, d in edges)
    return (
        '<svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="xf-halo" d="{path}"/><path d="{path}"/></svg>'
    )


def _sheet(shots: Sequence[Shot | None]) -> str:
    """Return the declarations that hold pictures and maps."""
    found = []
    for place, shot in enumerate(shots):
        if shot is not None:
            found.append(f"--xf-p{place}:{_url(*_encoded(shot.picture))}")
            if shot.saliency is not None:
                found.append(f"--xf-m{place}:{_url('png', layout.heat(shot.saliency, 'cividis'))}")
    return ";".join(found)


def _encoded(picture: np.ndarray) -> tuple[str, bytes]:
    if max(picture.shape[:2]) <= 96:
        return "png", colors.encode_png(picture)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=82)
    return "jpeg", stream.getvalue()


def _url(kind: str, content: bytes) -> str:
    return f"url(data:image/{kind};base64,{base64.b64encode(content).decode('ascii')})"
