"""The desk of the browsing: which pictures are asked about, which page is open, what each has seen.

No widget here. Pages are numbered from 0 and hold the same pictures for as long as the desk lives.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Byproduct, ImageNetAB
from xfeedback_widgets.widgets.browse.tracer import BrowseTrace
from xfeedback_widgets.widgets.labelling.desk import LabellingDesk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.explainer import Picture

MIXED_IN = 0.2


class BrowseDesk(LabellingDesk):
    """Where a person is in the pictures of one class; the key of one is its page and its tile there.

    Parameters
    ----------
    session : Session
    target : int
        The class.
    positions : sequence of int
        Of the pictures, in order.
    page_size : int

    Attributes
    ----------
    traces : dict of page number to tuple of BrowseTrace or None
        What the pictures of each page that was open have seen; None for an unreadable one.
    """

    def __init__(
        self, session: Session, *, target: int, positions: Sequence[int], page_size: int
    ) -> None:
        super().__init__(session, positions, page_size)
        self.mode = "grid"
        self.size, self.target = page_size, target
        self.traces: dict[int, tuple[BrowseTrace | None, ...]] = {}
        self.begin(self._order)
        seen = self.seen()
        ids = session.data.ids
        first = next((n for n, p in enumerate(self._order) if ids[p] not in seen), 0)
        self.turn(first // page_size)

    @property
    def number(self) -> int:
        """Of the open page."""
        return self.page_start // self.size

    @property
    def pages(self) -> int:
        """How many there are."""
        return -(-len(self._order) // self.size)

    def positions_of(self, number: int) -> tuple[int, ...]:
        """Return the positions of the pictures of a page in the data."""
        return self._order[number * self.size : (number + 1) * self.size]

    def ids_of(self, number: int) -> tuple[str, ...]:
        """Return the ids of the pictures of a page."""
        return tuple(self._session.data.ids[position] for position in self.positions_of(number))

    def seen(self) -> dict[str, ImageNetAB]:
        """Return what this annotator's journal says of each picture of the class, by image id."""
        return {
            one.image_id: one.trace
            for one in self._own()
            if one.target == self.target and isinstance(one.trace, ImageNetAB)
        }

    def open(self, number: int, pictures: Sequence[Picture | None]) -> None:
        """Begin to note what happens on a page, going on from what the journal has."""
        with self.lock:
            if number in self.traces:
                return
            seen, me = self.seen(), self._session.annotator
            self.traces[number] = tuple(
                None
                if picture is None
                else BrowseTrace(image_id, picture.size[::-1], me, seen.get(image_id))
                for image_id, picture in zip(self.ids_of(number), pictures, strict=True)
            )

    def chosen(self, number: int) -> list[int]:
        """Return which pictures of a page are selected."""
        with self.lock:
            traces = self.traces.get(number, ())
            return [n for n, trace in enumerate(traces) if trace is not None and trace.selected]

    def trace_of(self, key: tuple[int, int]) -> BrowseTrace:
        """Return what a picture that was on a page has seen."""
        number, tile = key
        trace = self.traces[number][tile]
        assert trace is not None  # noqa: S101  nothing happens to a picture that is not there
        return trace

    def due(self, left: int | None = None) -> list[tuple[int, int]]:
        """Return the keys of pictures of which more was seen than is recorded, and of all on a page left."""
        with self.lock:
            return [
                (number, tile)
                for number, traces in self.traces.items()
                for tile, trace in enumerate(traces)
                if trace is not None and (trace.dirty or (number == left and not trace.recorded))
            ]

    def byproduct(self, key: tuple[int, int]) -> Byproduct:
        """Return what a picture has seen as a record for the journal."""
        number, tile = key
        record = self.trace_of(key).record()
        return Byproduct(
            self.ids_of(number)[tile],
            record,
            target=self.target,
            duration=(record.estimateTime or 0.0) / 1000,
        )


def candidates(data: ImageSet, target: int, *, mixed_in: float, seed: int) -> list[int]:
    """Return the positions of the pictures to be asked about: those of a class, and some others.

    Parameters
    ----------
    data : ImageSet
    target : int
        The class.
    mixed_in : float
        Share of others, in [0, 1), as far as there are as many.
    seed : int
        Of which others, and of the order.
    """
    labels = data.labels
    shows = labels[:, target] if labels.ndim == 2 else labels == target
    own, others = shows.nonzero()[:, 0].tolist(), (~shows).nonzero()[:, 0].tolist()
    rng = random.Random(seed)
    wanted = round(len(own) * mixed_in / (1 - mixed_in))
    found: list[int] = own + rng.sample(others, min(wanted, len(others)))
    rng.shuffle(found)
    return found
