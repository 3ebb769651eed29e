"""Where a person is in the pictures of a labelling page, and what has been seen of them. No widget here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from xfeedback_widgets.widgets.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xfeedback_widgets.feedback import Byproduct
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.labelling.tracer import Trace


class LabellingDesk(Walk, ABC):
    """Where a person is in the pictures, and what each that was on a page has seen.

    A subclass names a picture by what it finds its trace with: its key.

    Parameters
    ----------
    session : Session
    positions : sequence of int
        Of the pictures, in order.
    page_size : int
    """

    def __init__(self, session: Session, positions: Sequence[int], page_size: int) -> None:
        super().__init__(page_size)
        self._session, self._order = session, tuple(positions)

    @abstractmethod
    def trace_of(self, key: Any) -> Trace:
        """Return what a picture that was on a page has seen."""

    @abstractmethod
    def due(self) -> list[Any]:
        """Return the keys of the pictures of which more was seen than is recorded."""

    @abstractmethod
    def byproduct(self, key: Any) -> Byproduct:
        """Return what a picture has seen as a record for the journal."""

    def _own(self) -> Iterator[Byproduct]:
        """What the journal has of this annotator about the pictures, in their order."""
        data, me = self._session.data, self._session.annotator
        byproducts = self._session.feedback.byproducts
        for position in self._order:
            for one in byproducts.get(data.ids[position], ()):
                if one.annotator == me:
                    yield one
