"""What the mask formats share: whom a name means, which sizes are believed, what a label stands for.

Names, sizes and labels come from files that strangers may have made: each is looked at here before it is
used, and errors say which entry of which file is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from xfeedback_widgets.feedback.exchange import ExchangeError, parse_json
from xfeedback_widgets.feedback.records import RegionMask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

MAX_PIXELS = 2**26
"""Largest mask that is read: 8,192 × 8,192."""

MAX_BYTES = 2**30
"""Largest file that is read."""

SIGNS: Mapping[str, int] = MappingProxyType({"relevant": 1, "irrelevant": -1})
"""Labels by which masks are written, and read unless others are given."""

Ids: TypeAlias = Collection[str] | Mapping[str, tuple[int, int]]
"""Known image ids; as a mapping, with (height, width) of each picture."""

_V = TypeVar("_V")


@contextmanager
def refusing(where: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors into one that names the entry; exchange errors have named it already.

    Parameters
    ----------
    where
        The entry, and what is wrong with it if the errors do not say so.
    *errors
        What to turn.

    Raises
    ------
    ExchangeError
        In the place of any of them.
    """
    try:
        yield
    except ExchangeError:
        raise
    except errors as error:
        raise ExchangeError(f"{where}: {error}") from error


class Known:
    """The images a caller knows, and which of them a name in somebody's file means.

    Parameters
    ----------
    ids
        Image ids; a mapping also gives the (height, width) that masks must have. None: any id.
    """

    def __init__(self, ids: Ids | None) -> None:
        self._ids = ids
        self._short: dict[str, list[str]] = {}
        for image_id in () if ids is None else dict.fromkeys(ids):
            base = re.split(r"[/\\]", image_id)[-1]
            for short in {base, base.rpartition(".")[0] or base}:
                self._short.setdefault(short, []).append(image_id)

    def find(self, names: Collection[str], where: str) -> str:
        """Give the id that a name means.

        Parameters
        ----------
        names
            Readings of the name, the likeliest first. Where ids are known, the last part of a path,
            with or without its ending, is enough.
        where
            The entry, for errors.

        Returns
        -------
        str

        Raises
        ------
        ExchangeError
            When no known image, or more than one, has the name.
        """
        first = next(iter(names))
        if self._ids is None:
            return first
        for name in names:
            if name in self._ids:
                return name
        for name in names:
            base = re.split(r"[/\\]", name)[-1]
            for short in (base, base.rpartition(".")[0] or base):
                found = self._short.get(short, [])
                if len(found) > 1:
                    raise ExchangeError(f"{where}: {first!r} may mean {found[0]!r} or {found[1]!r}")
                if found:
                    return found[0]
        raise ExchangeError(f"{where}: there is no image {first!r} in the ids that were given")

    def check_size(self, image_id: str, size: tuple[int, int], where: str) -> None:
        """Refuse a mask that is not as large as its picture.

        Parameters
        ----------
        image_id
            As :meth:`find` gave it.
        size
            Height and width of the mask.
        where
            The entry, for errors.

        Raises
        ------
        ExchangeError
            When the sizes are known and differ.
        """
        if isinstance(self._ids, Mapping) and tuple(self._ids[image_id]) != size:
            height, width = self._ids[image_id]
            raise ExchangeError(
                f"{where}: the mask is {size[0]} × {size[1]}, the picture of {image_id!r} is "
                f"{height} × {width} (height × width)"
            )


def read_json(path: Path) -> Any:
    """Read a whole JSON file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Any JSON value

    Raises
    ------
    ExchangeError
        When it is too large or not JSON.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ExchangeError(f"{path}: larger than {MAX_BYTES} bytes")
    return parse_json(path.read_bytes(), str(path))


def pixel_size(height: object, width: object, where: str) -> tuple[int, int]:
    """Check the height and width that a file states.

    Parameters
    ----------
    height, width
        Anything.
    where
        The entry, for errors.

    Returns
    -------
    tuple of int

    Raises
    ------
    ExchangeError
        Unless both are positive whole numbers and not too large.
    """
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise ExchangeError(f"{where}: {height!r} × {width!r} is no size of a picture")
    if height * width > MAX_PIXELS:
        raise ExchangeError(
            f"{where}: {height} × {width} has more than {MAX_PIXELS} pixels; scale it down"
        )
    return height, width


def meaning(
    word: object, given: Mapping[str, _V] | None, usual: Mapping[str, _V], where: str, argument: str
) -> _V | None:
    """Say what a label stands for.

    Parameters
    ----------
    word
        The label in the file.
    given
        What the caller said labels stand for; what it lacks is left out. None: nothing was said.
    usual
        What they stand for then.
    where
        The entry, for errors.
    argument
        Name of the caller's argument, for errors.

    Returns
    -------
    The value, or None when the entry is to be left out.

    Raises
    ------
    ExchangeError
        When nothing was said and the label is not a usual one, or no text.
    """
    if not isinstance(word, str):
        raise ExchangeError(f"{where}: {word!r} is no label")
    if given is not None:
        return given.get(word)
    if word not in usual:
        raise ExchangeError(
            f"{where}: label {word!r} is none of {', '.join(map(repr, usual))}; say what it stands "
            f"for, as in {argument}={{{word!r}: {next(iter(usual.values()))!r}}}"
        )
    return usual[word]


def region_mask(
    image_id: str, mask: npt.NDArray[Any], annotator: str | None, where: str
) -> RegionMask:
    """Make the record of a mask.

    Parameters
    ----------
    image_id, mask, annotator
        As for :class:`RegionMask`.
    where
        The entry, for errors.

    Returns
    -------
    RegionMask

    Raises
    ------
    ExchangeError
        When they do not make a record.
    """
    with refusing(where, TypeError, ValueError):
        return RegionMask(image_id, mask, annotator=annotator)
