"""Arrays in records: kept compressed, unpacked when looked at, equal by value.

A session may hold thousands of masks of which a person looks at a few. A record therefore keeps
only the compressed bytes of its arrays (:class:`Packed`), and a field made by :func:`packed` gives a
fresh read-only array at each access, so that memory does not grow with the masks that were viewed.
What an array may hold is the business of :mod:`.records` and :mod:`.strokes`.
"""

from __future__ import annotations

import base64
import binascii
import math
import weakref
import zlib
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

MAX_ELEMENTS = 2**28
"""Largest array that is packed or unpacked: a picture of 16,384 × 16,384."""


class Packed:
    """A compressed array; immutable, equal and hashed by the values it holds.

    Make it with :meth:`of` from an array or with :meth:`read` from its JSON form.

    Attributes
    ----------
    dtype : str
        Name of the NumPy dtype.
    shape : tuple of int
        Shape of the array.
    """

    __slots__ = ("_cache", "_name", "_origin", "_text", "dtype", "shape")

    def __init__(
        self, dtype: str, shape: tuple[int, ...], text: str, name: str, origin: str = ""
    ) -> None:
        self.dtype, self.shape = dtype, shape
        self._text = text  # as in JSON: what is never looked at need not be decoded
        self._name, self._origin = name, origin  # for errors only
        self._cache: weakref.ref[npt.NDArray[Any]] | None = None

    @classmethod
    def of(cls, array: npt.NDArray[Any], name: str) -> Packed:
        """Compress a copy of an array.

        Parameters
        ----------
        array
            Any shape, at most ``MAX_ELEMENTS`` elements.
        name
            What errors call it.

        Returns
        -------
        Packed

        Raises
        ------
        ValueError
            When the array is too large.
        """
        if array.size > MAX_ELEMENTS:
            raise ValueError(f"{name} has {array.size} elements, at most {MAX_ELEMENTS} are kept")
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        text = base64.b64encode(zlib.compress(little.tobytes())).decode("ascii")
        return cls(array.dtype.name, array.shape, text, name)

    @classmethod
    def read(cls, name: str, data: object, dtype: str, *, origin: str = "") -> Packed:
        """Take the JSON form apart, without unpacking the array.

        Parameters
        ----------
        name
            What errors call it.
        data
            What ``json.loads`` gave; anything at all, it is checked.
        dtype
            The dtype it must have.
        origin
            Where the data came from, which errors of a later :meth:`array` will name.

        Returns
        -------
        Packed

        Raises
        ------
        TypeError, ValueError
            When it is not the JSON form of such a two-dimensional array.
        """
        if not isinstance(data, dict) or set(data) != {"dtype", "shape", "zlib_base64"}:
            raise ValueError(f"{name} must be an object with dtype, shape and zlib_base64")
        shape, text = data["shape"], data["zlib_base64"]
        if data["dtype"] != dtype:
            raise ValueError(f"{name} has dtype {data['dtype']!r}, expected {dtype!r}")
        if not _is_shape(shape):
            raise ValueError(
                f"{name} has shape {shape!r}, expected two positive whole numbers "
                f"and at most {MAX_ELEMENTS} elements"
            )
        if not isinstance(text, str):
            raise TypeError(f"{name}: zlib_base64 must be a string, got {type(text).__name__}")
        return cls(dtype, tuple(shape), text, name, origin and f"{origin}: ")

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns
        -------
        dict
            ``dtype``, ``shape`` and ``zlib_base64`` (little-endian, C order).
        """
        return {"dtype": self.dtype, "shape": list(self.shape), "zlib_base64": self._text}

    def array(self, check: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Unpack.

        Parameters
        ----------
        check
            Looks at the values, raises when they cannot be right, and gives the array to hand out.

        Returns
        -------
        numpy.ndarray
            Read-only; the same object as before while somebody still holds it.

        Raises
        ------
        ValueError
            When the data is damaged or ``check`` refuses it.
        """
        found = self._cache() if self._cache is not None else None
        if found is None:
            raw = np.frombuffer(self._raw(), np.dtype(self.dtype).newbyteorder("<"))
            try:
                found = check(raw.reshape(self.shape).astype(self.dtype, copy=False))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self._origin}{error}") from error
            self._cache = weakref.ref(found)
        return found

    def _raw(self) -> bytes:
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        inflate = zlib.decompressobj()
        try:
            # the bound keeps a hostile file from unpacking into gigabytes
            raw = inflate.decompress(base64.b64decode(self._text, validate=True), size + 1)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise ValueError(
                f"{self._origin}{self._name}: the array data cannot be unpacked ({error})"
            ) from error
        if len(raw) != size or not inflate.eof or inflate.unused_data:
            raise ValueError(
                f"{self._origin}{self._name}: the array data does not fill "
                f"shape {list(self.shape)} of {self.dtype}"
            )
        return raw

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed):
            return NotImplemented
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        # equal values may have been compressed by different versions of zlib
        return self._text == other._text or self._raw() == other._raw()

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, self._raw()))

    def __reduce__(self) -> tuple[type[Packed], tuple[str, tuple[int, ...], str, str, str]]:
        return type(self), (self.dtype, self.shape, self._text, self._name, self._origin)

    def __repr__(self) -> str:
        return f"Packed({self.dtype}, {self.shape}, {len(self._text)} characters)"


def _is_shape(value: object) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    rows, columns = value
    whole = type(rows) is type(columns) is int
    return whole and rows >= 0 and columns >= 0 and rows * columns <= MAX_ELEMENTS


class PackedField:
    """The descriptor behind :func:`packed`: a dataclass field that keeps its array compressed."""

    def __init__(
        self, dtype: str, check: Callable[[Any], npt.NDArray[Any]], default: object
    ) -> None:
        self.dtype = dtype
        self._check = check
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object | None, owner: type) -> Any:
        if record is None:  # the dataclass decorator asks for the default here
            if self._default is MISSING:
                raise AttributeError(f"{owner.__name__}.{self._name} has no default")
            return self._default
        kept = vars(record)[self._name]
        return None if kept is None else kept.array(self._check)

    def __set__(self, record: object, value: Any) -> None:
        if not isinstance(value, Packed) and not (value is None and self._default is None):
            value = Packed.of(self._check(value), self._name)
        vars(record)[self._name] = value

    def read(self, data: object, origin: str | None) -> Packed:
        """Read the JSON form of the field's array.

        Parameters
        ----------
        data
            What ``json.loads`` gave.
        origin
            Where trusted data came from, which errors will name: the array is then unpacked and
            checked only when it is looked at. None: it is checked now.

        Returns
        -------
        Packed

        Raises
        ------
        TypeError, ValueError
            When the data is not such an array.
        """
        kept = Packed.read(self._name, data, self.dtype, origin=origin or "")
        if origin is None:
            kept.array(self._check)
        return kept


def packed(
    dtype: str, check: Callable[[Any], npt.NDArray[Any]], *, default: object = MISSING
) -> Any:
    """Declare a dataclass field that holds an array.

    Parameters
    ----------
    dtype
        Name of the dtype that ``check`` gives.
    check
        Takes anything array-like, raises when it cannot be right, and gives a read-only array.
    default
        What the field holds when nothing is given; the field may be None where this is None.

    Returns
    -------
    PackedField
        A descriptor; its type is Any so that the field can be annotated with what it gives.
    """
    return PackedField(dtype, check, default)


class ByValue:
    """Equality and hash over a dataclass's fields, packed arrays compared by value."""

    def _key(self) -> tuple[object, ...]:
        # from __dict__: an access as an attribute would unpack every array
        return tuple(vars(self)[field.name] for field in fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))
