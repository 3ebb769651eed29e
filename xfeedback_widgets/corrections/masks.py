"""Region masks of a run, ready to be compared with saliency maps.

What the corrections that learn from drawings share: which images of a batch have a mask, and how much of
each cell of a map is marked relevant or irrelevant, also where the image was augmented. The objectives are
in ``gradia``, ``res`` and ``mask_losses``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xfeedback_widgets.data.augment import resample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback, RegionMask

#: Larger grids are averaged anew for each batch: a table of them for every mask would fill the memory.
_KEPT_CELLS = 32 * 32


class DrawnMasks:
    """The masks people drew on the images of a set; those with nothing drawn are left out.

    Parameters
    ----------
    data
        The training images. Masks on images it does not hold are ignored.
    feedback
        Everything people said.
    device
        Where the maps will be.
    """

    def __init__(self, data: ImageSet, feedback: Feedback, device: torch.device) -> None:
        self.positions: list[int] = []
        self._masks: list[RegionMask] = []
        marked = []
        for image_id, mask in feedback.masks.items():
            values = mask.mask
            if image_id in data and values.any():
                self.positions.append(data.index(image_id))
                self._masks.append(mask)
                marked.append([bool((values > 0).any()), bool((values < 0).any())])
        self._device = device
        self._marked = torch.tensor(marked, dtype=torch.bool, device=device).reshape(-1, 2)
        self._rows = torch.full((len(data),), -1, dtype=torch.long)
        self._rows[self.positions] = torch.arange(len(self))
        self._table: Tensor | None = None

    def __len__(self) -> int:
        return len(self._masks)

    def have(self, batch: Batch) -> Tensor:
        """Say which images of a batch have a mask, ``bool [N]`` where the maps are."""
        return (self._rows[batch.indices] >= 0).to(self._device)

    def rows(self, batch: Batch) -> Tensor:
        """Return which masks a batch has, in its order, ``int64 [n]``, counted as in `positions`."""
        rows = self._rows[batch.indices]
        return rows[rows >= 0].to(self._device)

    def marked(self, batch: Batch) -> Tensor:
        """Say whether anything was marked relevant, and anything irrelevant, ``bool [n, 2]``.

        It is so of the mask, wherever augmentation may have moved the marks.
        """
        return self._marked[self.rows(batch)]

    def shares(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Return how much of each cell is marked, for the n images of a batch that have a mask.

        Parameters
        ----------
        batch
            Images, augmented or not.
        size
            (h, w) of the maps.

        Returns
        -------
        Tensor
            ``float32 [n, 2, h, w]`` in [0, 1]: the relevant share and the irrelevant one.
        """
        rows = self.rows(batch)
        if batch.source is None and size[0] * size[1] <= _KEPT_CELLS:
            if self._table is None or tuple(self._table.shape[2:]) != size:
                self._table = self._shares(range(len(self)), None, size)
            return self._table[rows]
        source = None if batch.source is None else batch.source[self.have(batch)]
        return self._shares(rows.tolist(), source, size)

    def relevant(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Return the relevant share ``[n, h, w]``: all that is not irrelevant, where only that is marked."""
        relevant, irrelevant = self.shares(batch, size).unbind(1)
        return torch.where(self.marked(batch)[:, :1, None], relevant, 1 - irrelevant)

    def irrelevant(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Return the irrelevant share ``[n, h, w]``: all that is not relevant, where only that is marked."""
        relevant, irrelevant = self.shares(batch, size).unbind(1)
        return torch.where(self.marked(batch)[:, 1:, None], irrelevant, 1 - relevant)

    def _shares(self, rows: Iterable[int], source: Tensor | None, size: tuple[int, int]) -> Tensor:
        shares = []
        for number, row in enumerate(rows):
            mask = torch.tensor(self._masks[row].mask, device=self._device)
            marks = torch.stack([mask > 0, mask < 0])[None].float()
            whence = None if source is None else source[number, None]
            shares.append(resample(marks, whence, size))
        return torch.cat(shares)
