"""Figures of a report: the lowest classes, accuracy × crs, and pictures with their map and box.

matplotlib figures without pyplot's global state. Names come from data: they are drawn as they are, never
read as formulas. What the numbers mean is said in ``report.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from xfeedback_widgets.audit.regions import Regions
from xfeedback_widgets.saliency import create, is_empty, normalize, upsample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from xfeedback_widgets.audit.regions import BoxSource, MaskSource
    from xfeedback_widgets.audit.report import AuditReport
    from xfeedback_widgets.data import ImageSet

_BLUE, _ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's, told apart by everybody
_MOSTLY_RIGHT = 0.5
_COLUMNS = 4


def ranking(report: AuditReport, count: int) -> Figure:
    """Draw the lowest classes as points with their intervals."""
    table = report.class_table
    table = table.rows(~np.isnan(table["crs"])).rows(slice(count))
    figure = Figure(figsize=(7, 1.2 + 0.24 * table.height), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(table.height)
    crs = table["crs"]
    reach = np.nan_to_num(np.abs(np.stack([crs - table["low"], table["high"] - crs])))
    axes.errorbar(crs, places, xerr=reach, fmt="o", color=_BLUE, label="crs, 95 % interval")
    axes.plot(
        table["expected"], places, "|", ms=11, mew=2, color=_ORANGE, label="if maps were even"
    )
    axes.set_yticks(places, [_short(name) for name in table["class"]])
    _plain(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of the map on the object")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _title(axes, f"{report.facts['model']}: least robust classes")
    return figure


def scatter(report: AuditReport, label: int) -> Figure:
    """Draw accuracy × crs; low and to the right is right for the wrong reasons."""
    table = report.class_table
    table = table.rows(~np.isnan(table["crs"]))
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(table["accuracy"], table["crs"], s=22, color=_BLUE, alpha=0.7, linewidths=0)
    named = np.flatnonzero(table["accuracy"] >= _MOSTLY_RIGHT)[:label]
    texts = []
    for place in named.tolist():
        accuracy, crs = float(table["accuracy"][place]), float(table["crs"][place])
        right = accuracy > 0.7  # no room to the right of the dot
        texts.append(
            axes.annotate(
                _short(table["class"][place]), (accuracy, crs), xytext=(-5 if right else 5, -2),
                textcoords="offset points", fontsize=8, ha="right" if right else "left",
            )
        )  # fmt: skip
    _plain(texts)
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1), xlabel="accuracy", ylabel="crs")
    axes.grid(alpha=0.3)
    _title(axes, f"{report.facts['model']}: right, and for the right reasons?")
    return figure


def worst(
    report: AuditReport,
    model: nn.Module,
    data: ImageSet,
    ids: Sequence[str],
    *,
    boxes: BoxSource | None,
    masks: MaskSource | None,
) -> Figure:
    """Draw images under their map, the outline of the box around the object."""
    regions = Regions(data, boxes=boxes, masks=masks)
    method = create(report.facts["saliency"], model)
    found = {
        image_id: row
        for image_id, row in zip(report.ids, report.rows, strict=True)
        if image_id in set(ids)
    }
    lines = max(1, -(-len(ids) // _COLUMNS))
    figure = Figure(figsize=(2.6 * _COLUMNS, 2.9 * lines), layout="constrained")
    for place, image_id in enumerate(ids):
        axes = figure.add_subplot(lines, _COLUMNS, place + 1)
        axes.set_axis_off()
        index = data.index(image_id)
        batch = data.batch([index])
        if not len(batch):
            continue
        label = int(batch.labels[0])
        outputs = report.facts["outputs"]
        picture = data.picture(index)
        size = (batch.images.shape[2], batch.images.shape[3])
        maps = normalize(method.explain(batch.images, label if outputs is None else outputs[label]))
        _overlay(axes, picture, maps[0].cpu(), regions.at(index, label, size).inside)
        row = found.get(image_id)
        mark = (
            ""
            if row is None
            else f"\nrs {row['rs']:.2f}, {'right' if row['rank'] == 0 else 'wrong'}"
        )
        _title(axes, f"{_short(data.class_names[label])}{mark}", size=9)
    return figure


def _overlay(axes: Any, picture: Any, saliency: Tensor, inside: Tensor | None) -> None:
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(picture, extent=extent)
    if not bool(is_empty(saliency)):
        smooth = upsample(saliency, (height, width)).numpy()
        axes.imshow(smooth, cmap="cividis", alpha=0.75 * smooth, vmin=0, vmax=1, extent=extent)
    if inside is not None:
        # framed with zeros, so that a region that touches the border is closed
        framed = np.pad(inside.numpy().astype(float), 1)
        rows = (np.arange(framed.shape[0]) - 0.5) * height / inside.shape[0]
        columns = (np.arange(framed.shape[1]) - 0.5) * width / inside.shape[1]
        axes.contour(columns, rows, framed, [0.5], colors="white", linewidths=3)
        axes.contour(columns, rows, framed, [0.5], colors="black", linewidths=1.2)
    axes.set(xlim=(-1, width + 1), ylim=(height + 1, -1))


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 32 else f"{text[:31]}…"


def _title(axes: Any, text: str, size: int = 11) -> None:
    _plain([axes.set_title(text, fontsize=size)])


def _plain(texts: Sequence[Any]) -> None:
    for text in texts:
        text.set_parse_math(False)  # a dollar in a name is a dollar
