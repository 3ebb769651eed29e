"""What a person said or did: the kinds of feedback record, frozen, validated, equal by value.

A record says what was judged (an image, or a unit of the network), what the answer was, and enough
about the circumstances (weights version, saliency method, content hash, annotator, time) to use it
months later. Arrays are kept compressed (:mod:`.packing`) and unpacked when they are looked at.
Writing records to disk is :mod:`.journal`'s business, merging them is :mod:`.votes`', and file
formats are :mod:`.exchange`'s; only the JSON form of a single record is defined here.
"""

from __future__ import annotations

import math
import operator
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .byproducts import TASKS, Trace, checked_path
from .packing import ByValue, Packed, PackedField, packed
from .strokes import KeptStrokes, Stroke, StrokesField

Answer: TypeAlias = Literal["accept", "reject", "unsure"]
ANSWERS: tuple[str, ...] = get_args(Answer)

FORMAT = 1
"""Version of the JSON form; a reader refuses what it does not know instead of guessing."""


def _text(name: str, value: object, *, optional: bool) -> str | None:
    if value is None and optional:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}; write {name}=str(...)")
    if not value:
        remedy = "leave it out or pass None" if optional else "pass the id the ImageSet gives"
        raise ValueError(f"{name} is an empty string; {remedy}")
    if optional and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        # image ids may be undecodable file names; what people and libraries name themselves may not
        raise ValueError(f"{name} {value!r} is not valid Unicode text; choose another name")
    return value


def _number(name: str, value: object, *, optional: bool = True) -> int | None:
    if value is None and optional:
        return None
    # the plain type comes first: asking a protocol takes long, and a journal holds many numbers
    if isinstance(value, bool) or not isinstance(value, (int, SupportsIndex)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = operator.index(value)
    # the bound is SQLite's and parquet's: 64-bit integers
    if not 0 <= number < 2**63:
        raise ValueError(f"{name} must be 0 or larger (and fit 64 bits), got {number}")
    return number


def _flag(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    raise TypeError(f"{name} must be True, False or None, got {value!r}")


def _quality(value: object) -> int | None:
    number = _number("quality", value)
    if number is not None and not 1 <= number <= 5:
        raise ValueError(f"quality must be a whole number from 1 (worst) to 5 (best), got {number}")
    return number


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (bool, str)) or not isinstance(value, (float, SupportsFloat)):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}")
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} must be finite seconds, 0 or larger, got {seconds}")
    return seconds


def _answer(value: object) -> Answer:
    if value not in ANSWERS:
        raise ValueError(f"unknown answer {value!r}; use one of {', '.join(map(repr, ANSWERS))}")
    return value  # type: ignore[return-value]  # membership has just been checked


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    """Take anything array-like, torch tensors on any device included."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    array = np.asarray(value)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{name} must be 2-d [H, W] and not empty, got shape {array.shape}; "
            "pass one map, without batch or channel axis"
        )
    return array


def _frozen(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Copy, so that no one else's later writing can change what a person said."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.setflags(write=False)
    return copy


def _map(value: Any) -> npt.NDArray[np.float16]:
    array = _array("map", value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"map must hold numbers, got dtype {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # written so that NaN fails as well
        raise ValueError(
            f"map must be finite and within [0, 1], got values from {low} to {high}; "
            "normalise it first (xf.saliency.maps.normalize)"
        )
    return _frozen(array, "float16")


def _pointer(value: Any) -> npt.NDArray[np.float32]:
    return checked_path("pointer", value, dtype="float32")


def _mask(value: Any) -> npt.NDArray[np.int8]:
    array = _array("mask", value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"mask must hold numbers, got dtype {array.dtype}")
    odd = array[(array != -1) & (array != 0) & (array != 1)]
    if odd.size:
        raise ValueError(
            f"mask may only hold -1 (irrelevant), 0 (unset) and +1 (relevant), got {odd[0]}"
        )
    return _frozen(array, "int8")


class _Record(ByValue):
    """Equality by value and the JSON form, shared by all kinds."""

    _KIND: str

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON-safe values; fields that are None, or no strokes, are left out.

        Returns
        -------
        dict
            ``format`` (the version of this form), ``kind``, and the fields. An array is an object
            of ``dtype``, ``shape`` and ``zlib_base64`` (little-endian, C order).
        """
        out: dict[str, Any] = {"format": FORMAT, "kind": self._KIND}
        for name, value in vars(self).items():
            if isinstance(value, (Packed, KeptStrokes)):
                value = value.to_dict()  # noqa: PLW2901  # None without strokes
            if value is not None:
                out[name] = value
        return out


@dataclass(frozen=True, eq=False)
class Verdict(_Record):
    """One person's judgement of one saliency map.

    Parameters
    ----------
    image_id
        The stable id the ImageSet gives.
    answer
        ``"accept"``: the map lies on what matters; ``"reject"``: it does not; ``"unsure"``.
    target
        Class index whose map was shown.
    method
        Name of the saliency method.
    version
        Number of the weights the map was computed from.
    map
        The map the person judged: [h, w], values in [0, 1] (any real dtype; kept as a read-only
        float16 copy). Corrections use it as the frozen map; None means "compute it again".
    content_hash
        Hash of the picture that was shown.
    annotator
        Who answered.
    time
        When, in Unix seconds.
    duration
        How long the person looked, in seconds.
    necessary, unnecessary
        The long form of the answer, as GRADIA's study asked it: whether the map contains the
        necessary detail, and whether it contains unnecessary detail.
    quality
        The person's rating of the map, from 1 (worst) to 5 (best).
    predicted
        Class index the model predicted when the map was shown.
    pointer
        Path of the pointer over the picture while the person looked, where it is kept: [n, 3], x and y
        normalised to the displayed picture and ms since it was shown; read-only float32.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the value and the remedy.

    Examples
    --------
    >>> Verdict("7", "reject", annotator="ada").answer
    'reject'
    """

    image_id: str
    answer: Answer
    _: KW_ONLY
    target: int | None = None
    method: str | None = None
    version: int | None = None
    map: npt.NDArray[np.float16] | None = packed("float16", _map, default=None)  # noqa: RUF009
    content_hash: str | None = None
    annotator: str | None = None
    time: float | None = None
    duration: float | None = None
    necessary: bool | None = None
    unnecessary: bool | None = None
    quality: int | None = None
    predicted: int | None = None
    pointer: npt.NDArray[np.float32] | None = packed("float32", _pointer, default=None)  # noqa: RUF009

    _KIND = "verdict"

    def __post_init__(self) -> None:
        _text("image_id", self.image_id, optional=False)
        _answer(self.answer)
        _provenance(self)
        object.__setattr__(self, "necessary", _flag("necessary", self.necessary))
        object.__setattr__(self, "unnecessary", _flag("unnecessary", self.unnecessary))
        object.__setattr__(self, "quality", _quality(self.quality))


@dataclass(frozen=True, eq=False)
class RegionMask(_Record):
    """Regions a person drew on one picture.

    Parameters
    ----------
    image_id
        The stable id the ImageSet gives.
    mask
        [H, W] with -1 irrelevant, 0 unset, +1 relevant; kept as a read-only int8 copy. A mask that
        is 0 everywhere says that nothing is drawn, and so takes an earlier one back.
    strokes
        How the mask was drawn, oldest stroke first; empty when nobody knows.
    target, method, version, content_hash, annotator, time, duration, pointer
        As for :class:`Verdict`.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the value and the remedy.
    """

    image_id: str
    mask: npt.NDArray[np.int8] = packed("int8", _mask)  # noqa: RUF009  # a descriptor
    _: KW_ONLY
    strokes: tuple[Stroke, ...] = StrokesField()  # type: ignore[assignment]
    target: int | None = None
    method: str | None = None
    version: int | None = None
    content_hash: str | None = None
    annotator: str | None = None
    time: float | None = None
    duration: float | None = None
    pointer: npt.NDArray[np.float32] | None = packed("float32", _pointer, default=None)  # noqa: RUF009

    _KIND = "region_mask"

    def __post_init__(self) -> None:
        _text("image_id", self.image_id, optional=False)
        _provenance(self)

    @property
    def empty(self) -> bool:
        """Whether nothing is drawn: the mask is 0 everywhere."""
        return not self.mask.any()


@dataclass(frozen=True, eq=False)
class UnitVerdict(_Record):
    """One person's judgement of one unit (a channel of the penultimate feature map).

    Parameters
    ----------
    unit
        Channel index.
    answer
        ``"accept"``: what the unit responds to is relevant; ``"reject"``: irrelevant; ``"unsure"``.
    version, annotator, time, duration
        As for :class:`Verdict`.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the value and the remedy.
    """

    unit: int
    answer: Answer
    _: KW_ONLY
    version: int | None = None
    annotator: str | None = None
    time: float | None = None
    duration: float | None = None

    _KIND = "unit_verdict"

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", _number("unit", self.unit, optional=False))
        _answer(self.answer)
        _provenance(self)


@dataclass(frozen=True, eq=False)
class Byproduct(_Record):
    """What one person did with one picture while labelling it: clicks, the pointer's path, times.

    The latest of an annotator about an image and a class is the one that counts. It is what happened,
    not what was answered: undo passes over it.

    Parameters
    ----------
    image_id
        The stable id the ImageSet gives.
    trace
        What was captured: an :class:`~.byproducts.ImageNetAB` or a :class:`~.byproducts.CocoAB`.
    target
        Class index the page asked for; None where it asked for all classes.
    version, content_hash, annotator, time, duration
        As for :class:`Verdict`.

    Raises
    ------
    TypeError, ValueError
        For a value that cannot be right, naming the value and the remedy.
    """

    image_id: str
    trace: Trace
    _: KW_ONLY
    target: int | None = None
    version: int | None = None
    content_hash: str | None = None
    annotator: str | None = None
    time: float | None = None
    duration: float | None = None

    _KIND = "byproduct"

    def __post_init__(self) -> None:
        _text("image_id", self.image_id, optional=False)
        if not isinstance(self.trace, tuple(TASKS.values())):
            raise TypeError(f"trace must be an ImageNetAB or a CocoAB, got {self.trace!r}")
        _provenance(self)

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON-safe values; ``trace`` with its ``task`` and a compressed path."""
        task = next(name for name, kind in TASKS.items() if isinstance(self.trace, kind))
        return super().to_dict() | {"trace": {"task": task} | self.trace.packed_dict()}


Record: TypeAlias = Verdict | RegionMask | UnitVerdict | Byproduct

KINDS: dict[str, type[Verdict | RegionMask | UnitVerdict | Byproduct]] = {
    "verdict": Verdict,
    "region_mask": RegionMask,
    "unit_verdict": UnitVerdict,
    "byproduct": Byproduct,
}
"""Record classes by the ``kind`` they carry in files."""

_NEEDED: dict[type, set[str]] = {
    Verdict: {"image_id", "answer"},
    RegionMask: {"image_id", "mask"},
    UnitVerdict: {"unit", "answer"},
    Byproduct: {"image_id", "trace"},
}


def _provenance(record: _Record) -> None:
    names = {field.name for field in fields(record)}  # type: ignore[arg-type]
    for name in names & {"target", "version", "predicted"}:
        object.__setattr__(record, name, _number(name, getattr(record, name)))
    for name in names & {"method", "content_hash", "annotator"}:
        _text(name, getattr(record, name), optional=True)
    for name in names & {"time", "duration"}:
        object.__setattr__(record, name, _seconds(name, getattr(record, name)))


def from_dict(data: object, *, origin: str | None = None) -> Record:
    """Build a record from the JSON form that ``record.to_dict()`` gives.

    Parameters
    ----------
    data
        What ``json.loads`` gave; anything at all, it is checked.
    origin
        Where trusted data came from, in words that errors will use. Its arrays are then unpacked
        and checked only when they are looked at; None, for anything else: they are checked now.

    Returns
    -------
    Verdict, RegionMask, UnitVerdict or Byproduct

    Raises
    ------
    TypeError, ValueError
        When the data is not such a record, saying which field is at fault.
    """
    if not isinstance(data, dict):
        raise TypeError(f"a record must be a JSON object, got {type(data).__name__}")
    values = dict(data)
    version, kind = values.pop("format", None), values.pop("kind", None)
    if type(version) is not int or version != FORMAT:
        raise ValueError(
            f"unknown record format {version!r}; this version reads {FORMAT}: "
            "update xfeedback_widgets if the file is newer"
        )
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(map(repr, KINDS))}")
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{kind} has no field {unknown[0]!r}; its fields are {sorted(known)}")
    if missing := sorted(_NEEDED[cls] - set(values)):
        raise ValueError(f"{kind} lacks the field {missing[0]!r}")
    for name, value in values.items():
        declared = vars(cls).get(name)
        if isinstance(declared, (PackedField, StrokesField)) and value is not None:
            values[name] = declared.read(value, origin)
    if "trace" in values:
        values["trace"] = _read_trace(values["trace"], origin)
    return cls(**values)


def _read_trace(data: object, origin: str | None) -> Trace:
    if not isinstance(data, dict):
        raise TypeError(f"trace must be an object, got {type(data).__name__}")
    kind = TASKS.get(str(data.get("task")))
    if kind is None:
        raise ValueError(f"unknown task {data.get('task')!r}; use one of {', '.join(TASKS)}")
    rest = {name: value for name, value in data.items() if name != "task"}
    found: Trace = kind.from_dict(rest, origin=origin)
    return found
