"""The desk of the tagging: which picture is on, which icons there are, what each page has seen. No widget."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

from xfeedback_widgets.feedback import Byproduct, CocoAB
from xfeedback_widgets.widgets.labelling.desk import LabellingDesk
from xfeedback_widgets.widgets.tag.tracer import TagTrace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.explainer import Picture

COCO_GROUPS = {
    "Person and accessories": "person,backpack,umbrella,handbag,tie,suitcase",
    "Animals": "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe",
    "Vehicles": "bicycle,car,motorcycle,airplane,bus,train,truck,boat",
    "Outdoor": "traffic light,fire hydrant,stop sign,parking meter,bench",
    "Sports": (
        "frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
        "tennis racket"
    ),
    "Kitchen": "bottle,wine glass,cup,fork,knife,spoon,bowl",
    "Food": "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake",
    "Furniture": "chair,couch,potted plant,bed,dining table,toilet",
    "Electronics": "tv,laptop,mouse,remote,keyboard,cell phone",
    "Appliances": "microwave,oven,toaster,sink,refrigerator",
    "Indoor": "book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
}
"""COCO's super-classes, used where all classes of the data are COCO's."""


def grouped(
    names: Sequence[str], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, list[int]]:
    """Return the icons of each group as indices of classes; each class is in one.

    Parameters
    ----------
    names : sequence of str
        Of the classes.
    groups : mapping of str to sequence of str, optional
        Names of classes by super-class; those left over follow as "Other". None: COCO's, where all classes
        are COCO's, else one group of all.

    Raises
    ------
    ValueError
        For a class that does not exist, or is in two groups.
    """
    if groups is None:
        coco = {group: classes.split(",") for group, classes in COCO_GROUPS.items()}
        known = {name for classes in coco.values() for name in classes}
        groups = (
            {group: [c for c in classes if c in names] for group, classes in coco.items()}
            if set(names) <= known
            else {"All classes": list(names)}
        )
    found: dict[str, list[int]] = {}
    seen: dict[str, str] = {}
    for group, classes in groups.items():
        for name in classes:
            if name not in names:
                raise ValueError(
                    f"group {group!r} has {name!r}, which is no class: {', '.join(names[:20])}"
                )
            if name in seen:
                raise ValueError(f"class {name!r} is in two groups: {seen[name]!r} and {group!r}")
            seen[name] = group
            found.setdefault(group, []).append(list(names).index(name))
    rest = [index for index, name in enumerate(names) if name not in seen]
    return found | ({"Other": rest} if rest else {})


class TagDesk(LabellingDesk):
    """Where a person is in the pictures; the key of one is its position in the data.

    Parameters
    ----------
    session : Session
    positions : sequence of int
        Of the pictures, in order.
    groups : dict of str to list of int
        Classes by group, as :func:`grouped` returns them.

    Attributes
    ----------
    icons, groups : tuple of str
        Names that rows refer to by number.
    traces : dict of position to TagTrace or None
        What each page that was open has seen; None: the picture cannot be read.
    """

    def __init__(
        self, session: Session, *, positions: Sequence[int], groups: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(session, positions, page_size=1)
        self.icons = tuple(session.data.class_names)
        self.groups = tuple(groups)
        self.traces: dict[int, TagTrace | None] = {}
        self._hit = uuid.uuid4().hex  # of this piece of work
        self.reread()
        self.begin(self._order)

    @property
    def current(self) -> str | None:
        """Id of the picture; None at the end."""
        return None if self.position is None else self._session.data.ids[self.position]

    def upcoming(self, count: int) -> list[int]:
        """Return the positions of the next pictures."""
        with self.lock:
            return self._queue.upcoming(count)

    def asks(self, position: int) -> bool:
        """Whether a picture is asked about at all."""
        return position in self._order

    def number(self, position: int) -> int:
        """Return which page of the work a picture is, from 0."""
        return self._order.index(position)

    def seen(self) -> dict[str, CocoAB]:
        """Return what this annotator's journal says of each picture, by image id."""
        return {one.image_id: one.trace for one in self._own() if isinstance(one.trace, CocoAB)}

    def reread(self) -> None:
        """Read from the journal which pictures need not be offered any more."""
        with self.lock:
            self.answered.clear()
            self.answered.update(map(self._session.data.index, self.seen()))

    def open(self, position: int, picture: Picture | None) -> None:
        """Begin to note what happens on a page, going on from what the journal has."""
        with self.lock:
            if position in self.traces:
                return
            image_id = self._session.data.ids[position]
            self.traces[position] = (
                None
                if picture is None
                else TagTrace(
                    image_id,
                    picture.size[::-1],
                    self.icons,
                    self.groups,
                    self._session.annotator,
                    self._hit,
                    self.number(position),
                    self.seen().get(image_id),
                )
            )

    def trace_of(self, key: int) -> TagTrace:
        """Return what a page that was open has seen."""
        trace = self.traces[key]
        assert trace is not None  # noqa: S101  nothing happens on a page that has no picture
        return trace

    def due(self) -> list[int]:
        """Return the keys of the pages that have seen more than is recorded."""
        with self.lock:
            traces = self.traces.items()
            return [key for key, trace in traces if trace is not None and trace.dirty]

    def byproduct(self, key: int) -> Byproduct:
        """Return what a page has seen as a record for the journal."""
        record = self.trace_of(key).record()
        return Byproduct(
            self._session.data.ids[key], record, duration=(record.timeSpent or 0.0) / 1000
        )


def shuffled(count: int, seed: int) -> list[int]:
    """Return all positions in a random order."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
