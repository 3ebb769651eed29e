"""What falls off while people label: clicks, pointer paths and times, as ImageNet-AB and COCO-AB keep them.

:class:`ImageNetAB` is one picture of a browsing page (click every picture that shows the class),
:class:`CocoAB` one picture of a tagging page (drag an icon of each class onto it): the records of
"Neglected Free Lunch" (arXiv 2303.17595), their fields named as there. Which image of which data set a
record is about, and who made it, is said by the journal's :class:`~.records.Byproduct` around it; files
are :mod:`.byproduct_files`' business, and how good the clicks are that of :mod:`xfeedback_widgets.metrics`.
"""

# ruff: noqa: N815 — fields are named as in the published files

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeAlias

import numpy as np

from .packing import ByValue, Packed, packed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_FAR = (-1.0, 2.0)
"""How far from its picture a pointer is believed, in sides of the picture: one of them at each end."""


class Point(NamedTuple):
    """A place: on the displayed picture from (0, 0), its left upper corner, to (1, 1)."""

    x: float
    y: float


class Click(NamedTuple):
    """A click that selected the picture; ``time`` in ms since 1970, None where nobody kept it."""

    x: float
    y: float
    time: float | None


class Hover(NamedTuple):
    """The pointer came ("enter") or went ("leave"); ``time`` in ms since 1970."""

    action: Literal["enter", "leave"]
    time: float


class Action(NamedTuple):
    """An icon was put on the picture ("add"), put elsewhere ("move") or taken off ("remove").

    ``iconType`` names the class, ``timeAt`` is in ms since the page opened.
    """

    actionType: Literal["add", "move", "remove"]
    iconType: str
    pointFrom: Point | None
    pointTo: Point | None
    timeAt: float


class Category(NamedTuple):
    """A group of icons was opened; ``timeAt`` in ms since the page opened."""

    categoryIndex: int
    categoryName: str
    timeAt: float
    usingKeyboard: bool


class _Trace(ByValue):
    """Reading, checking and the published JSON form, shared by both kinds of record."""

    _TIME: str  # what the paths of this format call their time
    mouseTracking: npt.NDArray[np.float64]
    originalImageHeight: int
    originalImageWidth: int
    worker_id: str | None
    others: str | None

    def to_dict(self) -> dict[str, Any]:
        """Give the record as the published files have it.

        Returns
        -------
        dict
            JSON-safe, fields in the order of the format; what is None was not in the file and is left
            out, but for the ends of an action.
        """
        return self._dict(lambda path: _path_dicts(path, self._TIME))

    def packed_dict(self) -> dict[str, Any]:
        """Give the record as the journal has it: the path of the pointer is compressed."""
        return self._dict(None)

    def _dict(
        self, write_path: Callable[[npt.NDArray[np.float64]], object] | None
    ) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Packed):
                out[name] = (
                    value.to_dict() if write_path is None else write_path(self.mouseTracking)
                )
            elif name != "others" and value is not None:
                out[name] = _plain(value)
        return out | (json.loads(self.others) if self.others else {})

    @classmethod
    def from_dict(cls, data: object, *, origin: str | None = None) -> Any:
        """Build a record from its JSON form, the published one or the journal's.

        Parameters
        ----------
        data
            What ``json.loads`` gave; anything at all, it is checked.
        origin
            Where trusted data came from: a compressed path is then checked when it is looked at.

        Returns
        -------
        ImageNetAB or CocoAB
            Fields that the format does not know are kept in ``others``.

        Raises
        ------
        TypeError, ValueError
            When the data is not such a record, naming the field at fault.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"a record must be a JSON object, got {type(data).__name__}")
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        known.pop("others")
        values = {name: data[name] for name in known if name in data}
        for name, field in known.items():
            needed = field.default is MISSING and field.default_factory is MISSING
            if needed and name not in values:
                raise ValueError(f"{cls.__name__} lacks the field {name!r}")
        path = values.get("mouseTracking", ())
        if isinstance(path, Mapping):
            values["mouseTracking"] = vars(cls)["mouseTracking"].read(path, origin)
        else:
            values["mouseTracking"] = _path_array(path, cls._TIME)
        others = {name: value for name, value in data.items() if name not in known}
        return cls(**values, **({"others": json.dumps(others)} if others else {}))

    def hashed(self, salt: str) -> Any:
        """Give the record without what tells who made it.

        Parameters
        ----------
        salt
            Mixed into the hash (:func:`hashed_id`); the same worker gets the same name for the same salt.

        Returns
        -------
        ImageNetAB or CocoAB
            ``worker_id`` hashed; fields unknown to the format, which might tell as well, left out.
        """
        worker = None if self.worker_id is None else hashed_id(self.worker_id, salt)
        twin = object.__new__(type(self))
        vars(twin).update(vars(self) | {"worker_id": worker, "others": None})
        return twin

    def pixels(self, point: Point) -> tuple[float, float]:
        """Give a point's x and y in pixels of the original picture, whatever its size on the page."""
        return point.x * self.originalImageWidth, point.y * self.originalImageHeight

    def _check(self, checks: Mapping[str, Callable[[str, Any], object]]) -> None:
        for name, check in checks.items():
            value = vars(self)[name]
            if value is not None or name in _NEEDED:
                object.__setattr__(self, name, check(name, value))


def _path_field(time: str) -> Any:
    return packed("float64", lambda value: checked_path("mouseTracking", value, time), default=())


@dataclass(frozen=True, eq=False)
class ImageNetAB(_Trace):
    """What one picture of a browsing page saw; fields as in ImageNet-AB.

    Parameters
    ----------
    imageID
        The picture, as the data set names it.
    originalImageHeight, originalImageWidth
        Of the file, in pixels: what points are multiplied with.
    imageHeight, imageWidth
        On the page, in CSS pixels; None where the file does not say.
    imagePosition
        Left upper corner on the page, in CSS pixels.
    hoveredRecord, hoveredCount
        When the pointer came and went, and how often it came.
    mouseTracking
        Path of the pointer while the picture was not selected: float64 [n, 3], x, y and time.
    selected, selectedCount, selectedRecord
        Whether the picture was selected at the end, how often it was, and each click that selected it.
    estimateTime
        How long the pointer was over the picture while it was not selected, in ms.
    worker_id
        Who.
    others
        Fields of the file that the format does not know, a JSON object as text.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the field and its place in a list. Times must not fall.

    Notes
    -----
    x and y are normalised to the displayed picture, times are in ms since 1970.
    """

    imageID: str
    originalImageHeight: int
    originalImageWidth: int
    imageHeight: float | None = None
    imageWidth: float | None = None
    _: KW_ONLY
    imagePosition: Point | None = None
    hoveredRecord: tuple[Hover, ...] = ()
    hoveredCount: int | None = None
    mouseTracking: npt.NDArray[np.float64] = _path_field("time")  # noqa: RUF009
    selected: bool = False
    selectedCount: int | None = None
    selectedRecord: tuple[Click, ...] = ()
    estimateTime: float | None = None
    worker_id: str | None = None
    others: str | None = None

    _TIME = "time"

    def __post_init__(self) -> None:
        self._check(_IMAGENET)
        _rising("hoveredRecord", [each.time for each in self.hoveredRecord])
        _rising("selectedRecord", [c.time for c in self.selectedRecord if c.time is not None])
        if self.selected and not self.selectedRecord:
            raise ValueError("selected is true, but selectedRecord holds no click that selected it")

    @property
    def final_click(self) -> Point | None:
        """Where the picture was clicked when it was last selected; None where it ended unselected."""
        if not self.selected:
            return None
        return Point(*self.selectedRecord[-1][:2])


@dataclass(frozen=True, eq=False)
class CocoAB(_Trace):
    """What one tagging page saw; fields as in COCO-AB.

    Parameters
    ----------
    image_id
        The picture, as the data set names it.
    originalImageHeight, originalImageWidth, imageHeight, imageWidth
        As for :class:`ImageNetAB`.
    timeSpent
        From opening the page to leaving it, in ms.
    actionHistories
        What was done with icons.
    categoryHistories
        Which groups of icons were opened.
    mouseTracking
        Path of the pointer over the picture: float64 [n, 3], x, y and time.
    worker_id, hit_id, page_id
        Who, in which piece of work, on which of its pages.
    others
        As for :class:`ImageNetAB`.

    Raises
    ------
    TypeError, ValueError
        As for :class:`ImageNetAB`.

    Notes
    -----
    x and y are normalised to the displayed picture, times are in ms since the page opened.
    """

    image_id: int | str
    originalImageHeight: int
    originalImageWidth: int
    imageHeight: float | None = None
    imageWidth: float | None = None
    _: KW_ONLY
    timeSpent: float | None = None
    actionHistories: tuple[Action, ...] = ()
    categoryHistories: tuple[Category, ...] = ()
    mouseTracking: npt.NDArray[np.float64] = _path_field("timeAt")  # noqa: RUF009
    worker_id: str | None = None
    hit_id: int | str | None = None
    page_id: int | str | None = None
    others: str | None = None

    _TIME = "timeAt"

    def __post_init__(self) -> None:
        self._check(_COCO)
        _rising("actionHistories", [each.timeAt for each in self.actionHistories])
        _rising("categoryHistories", [each.timeAt for each in self.categoryHistories])

    @property
    def final_placement(self) -> dict[str, Point]:
        """Where the icon of each class lay at the end; classes whose icon was removed are absent."""
        placed: dict[str, Point] = {}
        for action in self.actionHistories:
            if action.pointTo is None:
                placed.pop(action.iconType, None)
            else:
                placed[action.iconType] = action.pointTo
        return placed


Trace: TypeAlias = ImageNetAB | CocoAB

TASKS: dict[str, type[ImageNetAB | CocoAB]] = {"browsing": ImageNetAB, "tagging": CocoAB}
"""Record classes by what people were doing."""


def hashed_id(worker: str, salt: str) -> str:
    """Give a name that does not tell who somebody is: ten hexadecimal digits, as in the releases.

    Parameters
    ----------
    worker
        A name, for example of a login.
    salt
        Keep it to yourself: whoever has it can try names until one fits.

    Returns
    -------
    str
        The same for the same two words.
    """
    digest = hashlib.blake2b(worker.encode("utf-8", "surrogatepass"), key=_key(salt), digest_size=5)
    return digest.hexdigest().upper()


def _key(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode("utf-8", "surrogatepass")).digest()


# -- the JSON form -------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Turn named tuples into objects, and leave the rest."""
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        if names is None:
            return [_plain(each) for each in value]
        found = {name: _plain(each) for name, each in zip(names, value, strict=True)}
        if found.get("time", 0) is None:
            del found["time"]
        return found
    return value


def _path_dicts(path: npt.NDArray[np.float64], time: str) -> list[dict[str, float]]:
    # whole numbers as JavaScript writes them: exact, and times stay readable
    rows = [[int(v) if v.is_integer() else v for v in row] for row in path.tolist()]
    return [{"x": x, "y": y, time: at} for x, y, at in rows]


def _path_array(path: object, time: str) -> npt.NDArray[np.float64]:
    if not isinstance(path, (list, tuple)):
        raise TypeError(f"mouseTracking must be a list, got {type(path).__name__}")
    try:
        rows = [(place["x"], place["y"], place[time]) for place in path]
        if all(type(value) in (int, float) for row in rows for value in row):
            return np.array(rows, dtype=np.float64).reshape(-1, 3)
    except (TypeError, LookupError, OverflowError):
        pass
    for number, place in enumerate(path):  # slowly, to name what is wrong
        where = f"mouseTracking[{number}]"
        _object(where, place, ("x", "y", time))
        for name in ("x", "y", time):
            _number(f"{where}.{name}", place[name])
    raise ValueError("mouseTracking holds numbers that are too large")


def checked_path(
    name: str, value: object, time: str = "time", dtype: str = "float64"
) -> npt.NDArray[Any]:
    """Check the path of a pointer.

    Parameters
    ----------
    name
        What errors call it.
    value
        ``[n, 3]`` x, y (normalised to the displayed picture) and time in ms.
    time
        What errors call the time.
    dtype
        Of what is returned.

    Returns
    -------
    numpy.ndarray
        A read-only copy.

    Raises
    ------
    ValueError
        When it cannot be right, naming the place in the path.
    """
    # no negative zero: JSON has none
    path = np.array(value, dtype=dtype, order="C") + np.zeros((), dtype)
    if path.size == 0:
        path = path.reshape(0, 3)
    if path.ndim != 2 or path.shape[1] != 3:
        raise ValueError(f"{name} must be [n, 3] (x, y, {time}), got shape {path.shape}")
    places, times = path[:, :2], path[:, 2]
    wrong = (
        ~np.isfinite(path).all(1) | ((places < _FAR[0]) | (places > _FAR[1])).any(1) | (times < 0)
    )
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"{name}[{first}] is {path[first].tolist()}; x and y must be on or near the picture, "
            f"which is 0 to 1, and {time} must be 0 or later"
        )
    _rising(name, times)
    path.setflags(write=False)
    return path


# -- checking ------------------------------------------------------------------------------------


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    shown = repr(value)
    raise ValueError(
        f"{name} must be {expected}, got {shown if len(shown) < 80 else shown[:77] + '…'}"
    )


def _number(name: str, value: object) -> float:
    """Return an int or a float as it is: both are written back as they came."""
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(name, value, "a number")
    try:
        if math.isfinite(value):
            return value
    except OverflowError:
        pass
    _refuse(name, value, "a finite number")


def _place(name: str, value: object) -> float:
    number = _number(name, value)
    if not _FAR[0] <= number <= _FAR[1]:
        _refuse(name, number, "on or near the picture, which is 0 to 1")
    return number


def _moment(name: str, value: object) -> float:
    number = _number(name, value)
    if number < 0:
        _refuse(name, number, "a time in ms, 0 or later")
    return number


def _maybe(name: str, value: object) -> float | None:
    return None if value is None else _moment(name, value)


def _length(name: str, value: object) -> float:
    number = _number(name, value)
    if not 0 < number < 2**31:
        _refuse(name, number, "a length in pixels, more than 0")
    return number


def _pixels(name: str, value: object) -> int:
    number = _length(name, value)
    if not isinstance(number, int):
        _refuse(name, number, "a whole number of pixels")
    return number


def _count(name: str, value: object) -> int:
    number = _number(name, value)
    if not isinstance(number, int) or not 0 <= number < 2**63:
        _refuse(name, value, "a whole number, 0 or larger")
    return number


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        _refuse(name, value, "true or false")
    return bool(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        _refuse(name, value, "text that is not empty")
    return sys.intern(value)  # icons, categories and workers come again in every record


def _id(name: str, value: object) -> int | str:
    return _count(name, value) if isinstance(value, int) else _text(name, value)


def _others(name: str, value: object) -> str:
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        _refuse(name, value, "a JSON object as text")
    return str(value)


def _object(name: str, value: object, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(name, value, f"an object with {', '.join(names)}")
    if missing := [each for each in names if each not in value]:
        raise ValueError(f"{name} lacks {missing[0]!r}")
    if unknown := [each for each in value if each not in names]:
        raise ValueError(f"{name} has no field {str(unknown[0])[:80]!r}; it has {', '.join(names)}")
    return value


def _part(
    name: str, value: object, kind: Any, checks: Mapping[str, Callable[[str, Any], Any]]
) -> Any:
    """Make a named tuple of one, of an object, or of the bare values."""
    if isinstance(value, tuple) and len(value) == len(checks):
        value = dict(zip(checks, value, strict=True))
    found = _object(name, value, tuple(checks))
    return kind(*[check(f"{name}.{each}", found[each]) for each, check in checks.items()])


def _parts(make: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def check(name: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)):
            _refuse(name, value, "a list")
        return tuple(make(f"{name}[{number}]", each) for number, each in enumerate(value))

    return check


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def check(name: str, value: object) -> str:
        if value not in words:
            _refuse(name, value, f"one of {', '.join(map(repr, words))}")
        return str(value)

    return check


def _point(name: str, value: object) -> Point:
    return _part(name, value, Point, {"x": _place, "y": _place})  # type: ignore[no-any-return]


def _corner(name: str, value: object) -> Point:
    return _part(name, value, Point, {"x": _number, "y": _number})  # type: ignore[no-any-return]


def _click(name: str, value: object) -> Click:
    if isinstance(value, Mapping):  # the released XML has clicks without a time
        value = {"time": None} | dict(value)
    return _part(name, value, Click, {"x": _place, "y": _place, "time": _maybe})  # type: ignore[no-any-return]


def _hover(name: str, value: object) -> Hover:
    return _part(  # type: ignore[no-any-return]
        name, value, Hover, {"action": _one_of("enter", "leave"), "time": _moment}
    )


def _end(name: str, value: object) -> Point | None:
    return None if value is None else _point(name, value)


def _action(name: str, value: object) -> Action:
    if isinstance(value, Mapping):  # the published tool leaves out an end that is none
        value = {"pointFrom": None, "pointTo": None} | dict(value)
    found: Action = _part(
        name,
        value,
        Action,
        {
            "actionType": _one_of("add", "move", "remove"),
            "iconType": _text,
            "pointFrom": _end,
            "pointTo": _end,
            "timeAt": _moment,
        },
    )
    if (found.pointTo is None) != (found.actionType == "remove"):
        _refuse(
            f"{name}.pointTo",
            found.pointTo,
            "a point where an icon was put, and null for a removal",
        )
    return found


def _category(name: str, value: object) -> Category:
    checks = {
        "categoryIndex": _count,
        "categoryName": _text,
        "timeAt": _moment,
        "usingKeyboard": _flag,
    }
    return _part(name, value, Category, checks)  # type: ignore[no-any-return]


def _rising(name: str, times: Any) -> None:
    falls = np.flatnonzero(np.diff(np.asarray(times, dtype=np.float64)) < 0)
    if len(falls):
        number = int(falls[0]) + 1
        raise ValueError(
            f"{name}[{number}] happened at {times[number]}, before the entry ahead of it "
            f"({times[number - 1]}); times must not fall"
        )


_NEEDED = frozenset(
    {
        *("imageID", "image_id", "originalImageHeight", "originalImageWidth", "selected"),
        *("hoveredRecord", "selectedRecord", "actionHistories", "categoryHistories"),
    }
)
_SIZES: dict[str, Callable[[str, Any], object]] = {
    "originalImageHeight": _pixels,
    "originalImageWidth": _pixels,
    "imageHeight": _length,
    "imageWidth": _length,
    "worker_id": _text,
    "others": _others,
}
_IMAGENET: dict[str, Callable[[str, Any], object]] = _SIZES | {
    "imageID": _text,
    "imagePosition": _corner,
    "hoveredRecord": _parts(_hover),
    "hoveredCount": _count,
    "selected": _flag,
    "selectedCount": _count,
    "selectedRecord": _parts(_click),
    "estimateTime": _moment,
}
_COCO: dict[str, Callable[[str, Any], object]] = _SIZES | {
    "image_id": _id,
    "timeSpent": _moment,
    "actionHistories": _parts(_action),
    "categoryHistories": _parts(_category),
    "hit_id": _id,
    "page_id": _id,
}
