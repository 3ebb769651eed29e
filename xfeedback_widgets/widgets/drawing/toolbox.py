"""What is in a person's hand: tool, what it paints, how large it is, and the cell cursor. Plain state."""

from __future__ import annotations

from dataclasses import dataclass, field

VALUES = {"relevant": 1, "irrelevant": -1, "erase": 0}
"""What is painted, by action."""

SHAPES = {"brush": "brush", "rectangle": "rectangle", "lasso": "polygon", "pan": "pan"}
"""Tool of the page, by action."""

MOST_CELLS = 28  # of a cursor's grid each way; finer maps get COARSE
COARSE = 16
_STEP = 1.25
_LARGEST = 0.8


@dataclass
class Toolbox:
    """Tool, value and sizes.

    Attributes
    ----------
    value : int
        What is painted: -1, 0 (erase) or +1.
    shape : str
        A key of :data:`SHAPES`.
    cell : tuple of int or None
        Row and column of the cell cursor; None while it is off.
    """

    value: int = -1
    shape: str = "brush"
    cell: tuple[int, int] | None = None
    # as shares of the picture's longer side, so that they look alike on pictures of any size
    _sizes: dict[bool, float] = field(default_factory=lambda: {False: 0.08, True: 0.12})

    def size(self, longest: int) -> float:
        """Return the diameter of brush or eraser on a picture, in its pixels, at least one."""
        return max(1.0, round(self._sizes[self.value == 0] * longest, 1))

    def resize(self, steps: int, longest: int) -> None:
        """Make brush or eraser larger (positive) or smaller, each with a size of its own."""
        wanted = self.size(longest) / longest * _STEP**steps
        self._sizes[self.value == 0] = min(_LARGEST, max(1.0 / longest, wanted))

    def move(self, columns: int, rows: int, grid: tuple[int, int]) -> None:
        """Move the cell cursor within a grid of (rows, columns)."""
        row, column = self.cell or (0, 0)
        self.cell = (
            min(max(row + rows, 0), grid[0] - 1),
            min(max(column + columns, 0), grid[1] - 1),
        )


def grid(
    heat_shape: tuple[int, ...] | None, size: tuple[int, int], least: int = 7
) -> tuple[int, int]:
    """Return rows and columns of the cell cursor.

    Parameters
    ----------
    heat_shape : tuple of int or None
        Rows and columns of the map; `least` each way without one, and fewer where it is too fine to
        walk over.
    size : tuple of int
        Width and height of the picture.
    """
    rows, columns = heat_shape or (least, least)
    if max(rows, columns) > MOST_CELLS:
        rows = columns = COARSE
    return min(rows, size[1]), min(columns, size[0])
