"""The rows of one shard on disk, so that an audit goes on after ``kill -9`` where it was.

A shard is two files that only grow, ``.rows`` (fixed size) and ``.ids`` (JSON lines), and a ``.json`` that
says what was audited and how much of the two is valid: it is replaced whole, after they are on disk. What
stands behind that point was written by a process that died, and is cut off and computed again. Shards
hold whole batches, and a batch is the same whoever computes it, so results agree bit for bit.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.audit.rows import ROW
from xfeedback_widgets.feedback.exchange import write_whole

try:
    import fcntl
except ImportError:  # Windows: one process per shard, unguarded
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

_EVERY = 5.0  # seconds between two points to go on from
_CHUNK = 2**22
_NAME = "shard-{:05d}-of-{:05d}"


class DamagedShardError(ValueError):
    """A shard's files are not what was written; the message names the file."""


class ShardFile:
    """One shard of an audit that is being written; a context manager.

    Parameters
    ----------
    directory
        Created where it does not exist.
    facts
        What is audited; a shard of other facts is never continued.
    shard
        (number, how many there are).

    Attributes
    ----------
    done : int
        How many rows are in the file.

    Raises
    ------
    ValueError
        The directory holds another audit: the fact that differs is named.
    DamagedShardError
        The files are shorter than they were, or have changed.
    RuntimeError
        Another process is writing this shard.
    """

    def __init__(self, directory: Path, facts: dict[str, Any], shard: tuple[int, int]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{_NAME.format(*shard)}.json"
        self._facts, self._shard = facts, shard
        self._rows = self._path.with_suffix(".rows").open("a+b")
        try:
            self._lock()
            for path in sorted(directory.glob("shard-*-of-*.json")):
                _check_same(_state(path)["facts"], facts, path)
                _check_count(path, shard[1])
            state = _state(self._path) if self._path.exists() else {"rows": 0, "ids": 0, "crc": 0}
            self.done, self._crc = state["rows"], state["crc"]
            self._ids = self._path.with_suffix(".ids").open("a+b")
        except BaseException:
            self._rows.close()
            raise
        try:
            _check_content(self._path, state)
            self._rows.truncate(self.done * ROW.itemsize)
            self._ids.truncate(state["ids"])
            self.save()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._ids.close()

    def append(self, rows: NDArray[np.void], ids: Sequence[str]) -> None:
        """Add the rows of one batch; every few seconds all so far is made safe."""
        content = rows.tobytes()
        self._rows.write(content)
        self._ids.write(b"".join(json.dumps(image_id).encode() + b"\n" for image_id in ids))
        self._crc = zlib.crc32(content, self._crc)
        self.done += len(rows)
        if time.monotonic() - self._saved > _EVERY:
            self.save()

    def save(self) -> None:
        """Put all rows on disk; a later process goes on from here."""
        for file in (self._rows, self._ids):
            file.flush()
            os.fsync(file.fileno())
        state = {
            "rows": self.done,
            "ids": self._ids.seek(0, os.SEEK_END),
            "crc": self._crc,
            "shard": self._shard,
            "facts": self._facts,
        }
        write_whole(self._path, json.dumps(state).encode())
        self._saved = time.monotonic()

    def _lock(self) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"another process is writing {self._path.with_suffix('.rows')}; give every process a shard "
                "of its own (shard=(number, count)), or wait for it"
            ) from error


def read_shards(
    directory: Path, shard: tuple[int, int] | None = None
) -> tuple[NDArray[np.void], list[str], dict[str, Any]]:
    """Read all shards of a directory, or one, finished or not.

    Returns
    -------
    rows, ids, facts
        By shard, then in the order of the images.

    Raises
    ------
    FileNotFoundError
        No shard there.
    ValueError
        Shards of different audits.
    DamagedShardError
        A file is not what was written.
    """
    name = "shard-*-of-*" if shard is None else _NAME.format(*shard)
    paths = sorted(directory.glob(f"{name}.json"))
    if not paths:
        raise FileNotFoundError(
            f"{directory} holds no audit (no shard-00000-of-00001.json or the like)"
        )
    states = [_state(path) for path in paths]
    facts = states[0]["facts"]
    rows = np.empty(sum(state["rows"] for state in states), dtype=ROW)
    ids: list[str] = []
    start = 0
    for path, state in zip(paths, states, strict=True):
        _check_same(state["facts"], facts, path)
        _check_content(path, state)
        part = np.fromfile(path.with_suffix(".rows"), dtype=ROW, count=state["rows"])
        rows[start : start + len(part)] = part
        start += len(part)
        with path.with_suffix(".ids").open("rb") as lines:
            ids += [json.loads(line) for _, line in zip(range(len(part)), lines, strict=False)]
    return rows, ids, facts


def finished(directory: Path, count: int) -> int:
    """Count the shards of `count` whose last row is on disk."""
    done = 0
    for path in directory.glob(f"shard-*-of-{count:05d}.json"):
        state = _state(path)
        done += state["rows"] == len(part_of(state["facts"], tuple(state["shard"])))
    return done


def part_of(facts: dict[str, Any], shard: tuple[int, int]) -> range:
    """Return the positions that a shard holds: whole batches, one after the other.

    Raises
    ------
    ValueError
        No such shard.
    """
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard is {shard}; expected (number, count) with 0 ≤ number < count")
    size, images = facts["batch_size"], facts["images"]
    batches = -(-images // size)
    first, last = batches * number // count, batches * (number + 1) // count
    return range(min(first * size, images), min(last * size, images))


def _state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
        whole = all(isinstance(state[name], int) for name in ("rows", "ids", "crc"))
        if not whole or not isinstance(state["facts"], dict):
            raise TypeError("fields are missing")  # noqa: TRY301 - named below
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedShardError(
            f"{path} cannot be read ({error}); delete it to start anew"
        ) from error
    return state  # type: ignore[no-any-return]


def _check_same(found: dict[str, Any], facts: dict[str, Any], path: Path) -> None:
    differing = [name for name in {**found, **facts} if found.get(name) != facts.get(name)]
    if differing:
        name = differing[0]
        was, now = (_shortened(each.get(name)) for each in (found, facts))
        raise ValueError(
            f"{path} belongs to another audit: {name} was {was} and is {now}; choose another directory, or "
            "delete this one to start anew"
        )


def _check_count(path: Path, count: int) -> None:
    if not path.stem.endswith(f"-of-{count:05d}"):
        raise ValueError(
            f"{path} is a part of another number of shards than {count}: go on with as many as before, or "
            "choose another directory"
        )


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _check_content(path: Path, state: dict[str, Any]) -> None:
    """Compare the checksum of the valid rows, and the length of the ids, with what was written."""
    crc, left = 0, state["rows"] * ROW.itemsize
    with path.with_suffix(".rows").open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    if left or crc != state["crc"]:
        raise DamagedShardError(
            f"{path.with_suffix('.rows')} is not what was written; delete it and {path.name} to start anew"
        )
    if path.with_suffix(".ids").stat().st_size < state["ids"]:
        raise DamagedShardError(
            f"{path.with_suffix('.ids')} is shorter than it was; delete it and {path.name} to start anew"
        )
