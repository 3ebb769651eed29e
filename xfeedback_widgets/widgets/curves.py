"""Live curves as small inline SVG: a few hundred bytes of text, no plotting library, no image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from xfeedback_widgets.widgets.text import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

# dashes tell the lines apart without colour; the colours are those of Okabe and Ito
_STYLES = (
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "8 3 2 3"),
    ("#7a7a7a", "1 2"),
)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 320, 132, 46, 18
_MOST_POINTS = 160


def figure(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return curves as an HTML figure.

    Parameters
    ----------
    title : str
        Caption, plain text.
    series : mapping of name to points (x, y)
        Points that are not finite are left out; so are empty series. More than a curve can show are
        :func:`thinned`.

    Returns
    -------
    str
        HTML; empty when there is nothing to show.
    """
    lines = {
        name: finite
        for name, points in series.items()
        if (finite := [(x, y) for x, y in thinned(points) if math.isfinite(x) and math.isfinite(y)])
    }
    if not lines:
        return ""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    low, high = min(ys), max(ys)
    if high - low < 1e-9:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    left, right = min(xs), max(*xs, min(xs) + 1e-9)
    summary = "; ".join(f"{name} now {points[-1][1]:.3g}" for name, points in lines.items())
    drawn, legend = [], []
    for index, (name, points) in enumerate(lines.items()):
        color, dash = _STYLES[index % len(_STYLES)]
        path = " ".join(
            f"{_LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - 6):.1f},"
            f"{6 + (high - y) / (high - low) * (_HEIGHT - _BOTTOM - 10):.1f}"
            for x, y in points
        )
        stroke = f'stroke="{color}" stroke-width="1.8" stroke-dasharray="{dash}"'
        if len(points) == 1:
            x, y = path.split(",")
            drawn.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>')
        else:
            drawn.append(f'<polyline points="{path}" fill="none" {stroke}/>')
        legend.append(
            f'<span><svg viewBox="0 0 22 8" style="width:22px;display:inline-block" aria-hidden="true">'
            f'<line x1="0" y1="4" x2="22" y2="4" {stroke}/></svg> '
            f"{escape(name.replace('_', ' '))} <strong>{points[-1][1]:.3g}</strong></span>"
        )
    frame = (
        f'<rect x="{_LEFT}" y="4" width="{_WIDTH - _LEFT - 4}" height="{_HEIGHT - _BOTTOM - 6}" '
        f'fill="none" stroke="currentColor" stroke-opacity="0.2"/>'
        f'<g font-size="10" fill="currentColor" fill-opacity="0.75">'
        f'<text x="{_LEFT - 4}" y="12" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{_HEIGHT - _BOTTOM - 4}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">{left:g}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 4}" text-anchor="end">{right:g}</text></g>'
    )
    return (
        f"<figure><figcaption>{escape(title)}: {' &nbsp; '.join(legend)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {escape(summary)}">{frame}{"".join(drawn)}</svg></figure>'
    )


def thinned(points: Sequence[T]) -> Sequence[T]:
    """Return as many of these, evenly spaced, as a curve can show; the last one is kept."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return (*points[:-1:step], *points[-1:])
