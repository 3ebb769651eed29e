"""The reasonability matrix: whether the prediction is right × whether the attention is reasonable.

Two questions give four cells: RA, UA, RIA and UIA, reasonable or unreasonable attention × accurate or
inaccurate prediction (GRADIA, Gao et al., CSCW 2022). Here is pure data: which image lies in which cell,
how many there are, and what moved between two matrices. Who predicted what is told from outside;
GRADIA's own file of labels is :mod:`.formats.gradia`'s business, and pictures are the widgets'.
"""

from __future__ import annotations

import html
from collections import Counter
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from .records import Answer, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .votes import Feedback

Cell: TypeAlias = Literal["RA", "UA", "RIA", "UIA"]
CELLS: tuple[Cell, ...] = get_args(Cell)
"""Reasonable or Unreasonable attention, Accurate or InAccurate prediction."""

_ROWS: Mapping[str, tuple[Cell, Cell]] = {"right": ("RA", "UA"), "wrong": ("RIA", "UIA")}
_NAMED = 5  # ids in a tooltip


def category(right: bool, answer: Answer | None) -> Cell | None:
    """Give the cell of one image.

    Parameters
    ----------
    right
        Whether the model predicted the image's class.
    answer
        ``"accept"``: the attention is reasonable; ``"reject"``: it is unreasonable.

    Returns
    -------
    str or None
        "RA", "UA", "RIA" or "UIA"; None when nobody decided ("unsure", or no answer).

    Examples
    --------
    >>> category(True, "reject")
    'UA'
    """
    cells: dict[tuple[bool, str | None], Cell] = {
        (True, "accept"): "RA",
        (True, "reject"): "UA",
        (False, "accept"): "RIA",
        (False, "reject"): "UIA",
    }
    return cells.get((bool(right), answer))


class ReasonabilityMatrix:
    """Which image lies in which cell; immutable, equal by value.

    Parameters
    ----------
    cells
        Image id → "RA", "UA", "RIA" or "UIA", in the order that :attr:`ids` keeps.

    Raises
    ------
    ValueError
        For a cell that does not exist, naming the image.

    Examples
    --------
    >>> before = ReasonabilityMatrix({"a.jpg": "UA", "b.jpg": "UIA"})
    >>> after = ReasonabilityMatrix({"a.jpg": "RA", "b.jpg": "UIA"})
    >>> after.counts
    {'RA': 1, 'UA': 0, 'RIA': 0, 'UIA': 1}
    >>> before.transitions(after)
    {('UA', 'RA'): 1, ('UIA', 'UIA'): 1}
    """

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        for image_id, cell in cells.items():
            if cell not in CELLS:
                raise ValueError(
                    f"image {image_id!r} has the cell {cell!r}; use one of {', '.join(CELLS)}"
                )
        self._cells = dict(cells)

    @classmethod
    def of(
        cls,
        feedback: Feedback,
        labels: Mapping[str, int],
        predicted: Mapping[str, int] | None = None,
    ) -> ReasonabilityMatrix:
        """Make the matrix of what people said.

        Parameters
        ----------
        feedback
            The answers; several votes about an image are merged.
        labels
            Image id → index of its true class.
        predicted
            Image id → index of the class that was predicted, by whichever weights are of interest.
            Images it lacks, and all images where it is None, count with the prediction that the
            verdict itself was recorded with (:attr:`Verdict.predicted`).

        Returns
        -------
        ReasonabilityMatrix
            Of the images with a decided verdict, a label and a prediction; others are left out.
        """
        found: dict[str, Cell] = {}
        for image_id, verdict in feedback.verdicts.items():
            label = labels.get(image_id)
            guess = (predicted or {}).get(image_id, verdict.predicted)
            cell = category(guess == label, verdict.answer)
            if label is not None and guess is not None and cell is not None:
                found[image_id] = cell
        return cls(found)

    @property
    def cells(self) -> Mapping[str, Cell]:
        """Image id → cell."""
        return MappingProxyType(self._cells)

    @cached_property
    def ids(self) -> Mapping[Cell, tuple[str, ...]]:
        """Cell → ids of its images, all four cells present."""
        return MappingProxyType(
            {cell: tuple(i for i, own in self._cells.items() if own == cell) for cell in CELLS}
        )

    @property
    def counts(self) -> dict[Cell, int]:
        """Cell → number of images, all four cells present."""
        return {cell: len(ids) for cell, ids in self.ids.items()}

    @property
    def shares(self) -> dict[Cell, float]:
        """Cell → share of the images, in [0, 1]; all zero where there are none."""
        return {cell: count / max(1, len(self)) for cell, count in self.counts.items()}

    def transitions(self, after: ReasonabilityMatrix) -> dict[tuple[Cell, Cell], int]:
        """Count how images moved.

        Parameters
        ----------
        after
            A later matrix. Images that only one of the two has are left out.

        Returns
        -------
        dict
            (cell in this matrix, cell in the later one) → number of images, in the order of
            ``CELLS``, staying included and without zeros.
        """
        both = self._cells.keys() & after.cells.keys()
        moves = Counter((self._cells[image_id], after.cells[image_id]) for image_id in both)
        pairs = [(before, now) for before in CELLS for now in CELLS]
        return {pair: moves[pair] for pair in pairs if pair in moves}

    def verdicts(self, *, annotator: str | None = None) -> list[Verdict]:
        """Give the answers behind the matrix as records.

        Parameters
        ----------
        annotator
            Whom to name in them.

        Returns
        -------
        list of Verdict
            "accept" for RA and RIA, "reject" for UA and UIA. Whether the prediction was right is not
            in them: a verdict holds the predicted class, which a matrix does not know.
        """
        return [
            Verdict(image_id, "accept" if cell.startswith("R") else "reject", annotator=annotator)
            for image_id, cell in self._cells.items()
        ]

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self._cells)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReasonabilityMatrix):
            return NotImplemented
        return self._cells == other._cells

    def __hash__(self) -> int:
        return hash(frozenset(self._cells.items()))

    def __repr__(self) -> str:
        counts = ", ".join(f"{cell} {count}" for cell, count in self.counts.items())
        return f"ReasonabilityMatrix({counts})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{row} prediction</th>{"".join(map(self._cell_html, cells))}</tr>'
            for row, cells in _ROWS.items()
        )
        return (
            f"<table><caption>{len(self)} images judged</caption><thead><tr><td></td>"
            '<th scope="col">reasonable attention</th><th scope="col">unreasonable attention</th>'
            f"</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _cell_html(self, cell: Cell) -> str:
        ids = self.ids[cell]
        named = ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
        share = f"{100 * self.shares[cell]:.0f} %"
        return f'<td title="{html.escape(named)}"><b>{cell}</b> {len(ids)} ({share})</td>'
