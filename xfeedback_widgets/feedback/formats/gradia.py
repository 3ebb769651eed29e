"""GRADIA's published labels: a JSON object of file name → "Unreasonable Accurate" and the like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from xfeedback_widgets.feedback.exchange import ExchangeError, write_whole
from xfeedback_widgets.feedback.reasonability import Cell, ReasonabilityMatrix

from .entries import Ids, Known, read_json

if TYPE_CHECKING:
    import os

_CELLS: dict[str, Cell] = {
    "Reasonable Accurate": "RA",
    "Unreasonable Accurate": "UA",
    "Reasonable Inaccurate": "RIA",
    "Unreasonable Inaccurate": "UIA",
}
_WORDS = {cell: words for words, cell in _CELLS.items()}


def import_gradia_labels(
    path: str | os.PathLike[str], *, ids: Ids | None = None
) -> ReasonabilityMatrix:
    """Read labels like GRADIA's ``reasonablity_val.json``.

    Parameters
    ----------
    path
        A JSON object of file name → words.
    ids
        Known image ids, of which each file name must mean one (a path's last part is enough); None:
        the file names are the ids.

    Returns
    -------
    ReasonabilityMatrix
        In the order of the file; :meth:`ReasonabilityMatrix.verdicts` gives its answers.

    Raises
    ------
    ExchangeError
        At the first entry whose words or name are unknown, naming it.
    """
    path = Path(path)
    found, known = read_json(path), Known(ids)
    if not isinstance(found, dict):
        raise ExchangeError(f"{path}: a JSON object is expected, got {type(found).__name__}")
    cells: dict[str, Cell] = {}
    for name, words in found.items():
        where = f"{path}, entry {name!r}"
        if not name or not isinstance(words, str) or words not in _CELLS:
            raise ExchangeError(f"{where}: {words!r} is none of {', '.join(map(repr, _CELLS))}")
        image_id = known.find([name], where)
        if image_id in cells:
            raise ExchangeError(f"{where}: image {image_id!r} is labelled twice")
        cells[image_id] = _CELLS[words]
    return ReasonabilityMatrix(cells)


def export_gradia_labels(matrix: ReasonabilityMatrix, path: str | os.PathLike[str]) -> int:
    """Write a reasonability matrix as GRADIA does: file name → words, the names being the ids.

    Parameters
    ----------
    matrix
        What to write.
    path
        The file. An existing one is replaced in one step.

    Returns
    -------
    int
        Number of images written.
    """
    words = {image_id: _WORDS[cell] for image_id, cell in matrix.cells.items()}
    write_whole(Path(path), json.dumps(words).encode())
    return len(words)
