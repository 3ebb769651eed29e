"""The reasonability matrix on the page: four cells to press, and arrows from what was to what is.

Rows say whether the prediction is right, columns whether the attention is reasonable. What is counted is
`xfeedback_widgets.feedback.reasonability`'s business; here it is laid out and said in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from xfeedback_widgets.widgets.board import classed
from xfeedback_widgets.widgets.text import escape, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xfeedback_widgets.feedback.reasonability import Cell

CELLS: dict[Cell, str] = {
    "RA": "reasonable, accurate",
    "UA": "unreasonable, accurate",
    "RIA": "reasonable, inaccurate",
    "UIA": "unreasonable, inaccurate",
}
_ORDER = tuple(CELLS)
_WIDTH, _ROW, _TOP, _LEFT, _RIGHT = 300, 30, 22, 74, 226
_WIDEST = 9.0  # pixels: the line of all images


class MatrixView(ipywidgets.VBox):
    """Counts of the four cells, each a button that narrows the queue to it.

    Parameters
    ----------
    button : callable
        ``button(action, text, tooltip)`` makes the button of an action; the actions are ``"cell_RA"``,
        ``"cell_UA"``, ``"cell_RIA"`` and ``"cell_UIA"``.
    """

    def __init__(self, button: Callable[..., ipywidgets.Button]) -> None:
        self._cells = {
            cell: button(
                f"cell_{cell}", cell, f"Show only these images: {text}; press again for all"
            )
            for cell, text in CELLS.items()
        }
        self._titles = {cell: made.description for cell, made in self._cells.items()}
        kinds = ("", "Attention<br>reasonable", "Attention<br>unreasonable")
        head = [ipywidgets.HTML(text) for text in kinds]
        right, wrong = (ipywidgets.HTML(f"Prediction {text}") for text in ("right", "wrong"))
        cell = self._cells
        self.grid = classed(
            ipywidgets.Box([*head, right, cell["RA"], cell["UA"], wrong, cell["RIA"], cell["UIA"]]),
            "xf-matrix",
        )
        self.arrows = classed(ipywidgets.HTML(), "xf-arrows")
        self.caption = classed(ipywidgets.HTML(), "xf-matrix-caption")
        columns = classed(ipywidgets.HBox([self.grid, self.arrows]), "xf-columns")
        super().__init__([columns, self.caption])
        self.add_class("xf-panel")

    def paint(
        self,
        counts: Mapping[Cell, int],
        moves: Mapping[tuple[Cell, Cell], int],
        *,
        chosen: str | None,
        caption: str,
    ) -> None:
        """Show the matrix (for the UI pump).

        Parameters
        ----------
        counts : mapping of cell to int
        moves : mapping of (cell before, cell now) to int
            Empty: nothing to compare.
        chosen : str or None
            Cell that the queue is narrowed to.
        caption : str
            HTML below.
        """
        total = sum(counts.values())
        for cell, made in self._cells.items():
            name, _, key = self._titles[cell].partition(" ")
            share = f" · {percent(counts[cell] / total)}" if total else ""
            mark = "▸ " if cell == chosen else ""
            made.description = f"{mark}{name}: {counts[cell]}{share} {key}".strip()
            (made.add_class if cell == chosen else made.remove_class)("xf-on")
        self.arrows.value = arrows(moves) if moves else ""
        self.caption.value = caption


def arrows(moves: Mapping[tuple[Cell, Cell], int]) -> str:
    """Return how images moved between cells as an HTML figure, the numbers in words below it.

    Parameters
    ----------
    moves : mapping of (cell before, cell now) to int
        Images that stayed included.
    """
    total = max(1, sum(moves.values()))
    moved = {move: n for move, n in moves.items() if n and move[0] != move[1]}
    listed = sorted(moved.items(), key=lambda item: -item[1])
    words = ", ".join(f"{a} → {b}: {n}" for (a, b), n in listed) or "none changed its cell"
    lines = [_line(a, b, n / total) for (a, b), n in moves.items() if n]
    nodes = [
        _node(cell, sum(n for move, n in moves.items() if move[side] == cell), side)
        for cell in _ORDER
        for side in (0, 1)
    ]
    heads = (
        f'<text x="{_LEFT}" y="12" text-anchor="end">first judged</text>'
        f'<text x="{_RIGHT}" y="12">now</text>'
    )
    height = _TOP + _ROW * len(_ORDER)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="From first judged to now: '
        f'{escape(words)}"><g font-size="12" fill="currentColor">{heads}{"".join(nodes)}</g>'
        f"{''.join(lines)}</svg>"
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def _y(cell: Cell) -> float:
    return _TOP + _ROW * (_ORDER.index(cell) + 0.5)


def _node(cell: Cell, count: int, side: int) -> str:
    x, anchor = (_RIGHT, "start") if side else (_LEFT, "end")
    text = f"{count} {cell}" if side else f"{cell} {count}"
    return f'<text x="{x}" y="{_y(cell) + 4:.0f}" text-anchor="{anchor}">{text}</text>'


def _line(before: Cell, now: Cell, share: float) -> str:
    """Draw one arrow: solid for what got better, dashed for what got worse, thin for what stayed."""
    width = max(1.2, _WIDEST * share)
    y, to = _y(before), _y(now)
    change = _change(before, now)
    color, more = {
        "better": ("#2f7fb8", ""),
        "worse": ("#d1790b", ' stroke-dasharray="5 3"'),
        "other": ("currentColor", ' stroke-opacity="0.6"'),
        "same": ("currentColor", ' stroke-opacity="0.3"'),
    }[change]
    left, right = _LEFT + 8, _RIGHT - 8
    middle, end = (left + right) / 2, right if change == "same" else right - 7
    tip = "" if change == "same" else f'<path d="M{end} {to - 5:.0f}l8 5-8 5z" fill="{color}"/>'
    return (
        f'<path d="M{left} {y:.0f}C{middle:.0f} {y:.0f} {middle:.0f} {to:.0f} {end} {to:.0f}" fill="none" '
        f'stroke="{color}" stroke-width="{width:.1f}"{more}/>{tip}'
    )


def _change(before: Cell, now: Cell) -> str:
    """Tell whether a move is for the better; right and reasonable are both good."""
    rank = {"RA": (1, 1), "UA": (1, 0), "RIA": (0, 1), "UIA": (0, 0)}
    gain = [now_ - before_ for before_, now_ in zip(rank[before], rank[now], strict=True)]
    if not any(gain):
        return "same"
    if min(gain) >= 0:
        return "better"
    return "worse" if max(gain) <= 0 else "other"
