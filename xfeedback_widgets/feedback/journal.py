"""The durable, append-only record of what people said: the one module that owns the SQLite connection.

An answer is on disk when :meth:`Journal.append` returns. Nothing is ever changed or deleted: undo
appends a retraction and redo appends its reversal, so history survives. Several processes may share
one journal. Damage is found (:mod:`.salvage` does the reading of bytes), named in
:attr:`Journal.damage`, and what is intact is carried over into a fresh file beside the damaged one.
Merging answers is :mod:`.votes`' business.

Beside ``feedback.sqlite`` stands an empty ``feedback.sqlite.lock``. Every write, opening and rescue
happens under its advisory lock: SQLite's own locks cannot cover replacing a damaged file.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import threading
import time
import warnings
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .records import KINDS, Byproduct, Record, from_dict
from .salvage import PAGE, Row, carve, gaps, wal_damage
from .votes import Feedback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

APPLICATION_ID = 0x58464A31  # "XFJ1"
SCHEMA_VERSION = 1
PATIENCE = 10.0
"""Seconds to wait for another process that holds the journal."""

_MARK = "/* xfeedback_widgets journal 1 */"  # also tells our damaged files from foreign ones
_SCHEMA = {
    "events": f"""CREATE TABLE events ( {_MARK}
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    annotator TEXT,
    time REAL NOT NULL,
    payload TEXT NOT NULL,
    checksum BLOB NOT NULL
)""",
    "no_update": """CREATE TRIGGER no_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    "no_delete": """CREATE TRIGGER no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
}
_COMPANIONS = ("-wal", "-shm", "-journal")
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "ocfs2", "gfs2", "vboxsf", "virtiofs", "drvfs", "prl_fs", "vmhgfs"),
}
_DAMAGE_WORDS = ("malformed", "not a database", "unsupported file format", "corrupt")

_NAMES = [kind.__name__ for kind in KINDS.values()]
_T = TypeVar("_T")


class JournalError(RuntimeError):
    """The journal cannot do what was asked; nothing that was saved is lost."""


class _DamagedError(Exception):
    """Internal: the bytes on disk are not what was written."""


# a damaged schema reaches us through an error message that is no longer UTF-8
_TROUBLE = (sqlite3.Error, _DamagedError, UnicodeDecodeError)


@dataclass(frozen=True)
class Event:
    """One line of the journal's history.

    Attributes
    ----------
    seq
        Sequence number, from 1.
    kind
        "verdict", "region_mask", "unit_verdict", "byproduct", "retract" (undo), "restore" (redo) or
        "salvage".
    annotator
        Who; None when unknown.
    time
        When it was appended, in Unix seconds.
    record
        The feedback record, for the kinds that are one.
    refers_to
        The event taken back or restored.
    """

    seq: int
    kind: str
    annotator: str | None
    time: float
    record: Record | None = None
    refers_to: int | None = None


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()  # the open journals of this process
_OPEN_GUARD = threading.Lock()


class Journal:
    """The append-only journal of one session directory.

    Safe to use from any thread, and by several processes at once.

    Parameters
    ----------
    path
        The SQLite file, ``feedback.sqlite``; it and its folder are made when absent.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    damage : str or None
        What was found damaged and what was done about it, in words for people; None normally.

    Raises
    ------
    JournalError
        When the folder cannot be written, the file is not a journal (it is left untouched), or was
        written by a newer version.

    Examples
    --------
    >>> from xfeedback_widgets.feedback import Verdict
    >>> with Journal(getfixture("tmp_path") / "feedback.sqlite") as journal:
    ...     number = journal.append(Verdict("7", "reject"))
    ...     undone = journal.undo()
    ...     print(number, undone.answer, journal.count)
    1 reject 0
    """

    _merged: Feedback | None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.damage: str | None = None
        self._guard = threading.RLock()
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._forget()
        with _named(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _FileLock(self.path.with_name(self.path.name + ".lock"))
            with self._lock:
                self._open()
        with _OPEN_GUARD:
            _OPEN.add(self)

    # -- writing ---------------------------------------------------------------------------------

    def append(self, record: Record) -> int:
        """Put a record on disk.

        Parameters
        ----------
        record
            What was said. It also ends the annotator's chance to redo what was undone before, unless
            it is a byproduct.

        Returns
        -------
        int
            Its sequence number. When this returns, the record survives a crash of the machine.

        Raises
        ------
        JournalError
            When it could not be saved (disk full, file gone, …). It is then not in the journal.
        """
        if not isinstance(record, tuple(KINDS.values())):
            raise TypeError(f"cannot record {record!r}; use {', '.join(_NAMES)}")
        payload = record.to_dict()
        row = self._write(lambda: (payload["kind"], record.annotator, payload))
        assert row is not None  # noqa: S101  # only undo and redo can find nothing to write
        return row.seq

    def undo(self, annotator: str | None = None) -> Record | None:
        """Take back the annotator's most recent answer that is in force; byproducts stay.

        Parameters
        ----------
        annotator
            Whose record; None for records without an annotator.

        Returns
        -------
        Record or None
            What was taken back, or None when there was nothing.

        Raises
        ------
        JournalError
            When the retraction could not be saved.
        """
        return self._move("retract", annotator)

    def redo(self, annotator: str | None = None) -> Record | None:
        """Restore the record the annotator took back last.

        Parameters
        ----------
        annotator
            Whose record; None for records without an annotator.

        Returns
        -------
        Record or None
            What was restored, or None when nothing is left to redo.

        Raises
        ------
        JournalError
            When the restoration could not be saved.
        """
        return self._move("restore", annotator)

    # -- reading ---------------------------------------------------------------------------------

    def can_undo(self, annotator: str | None = None) -> bool:
        """Whether :meth:`undo` would find something."""
        return self._read(lambda: bool(self._done.get(annotator)))

    def can_redo(self, annotator: str | None = None) -> bool:
        """Whether :meth:`redo` would find something."""
        return self._read(lambda: bool(self._undone.get(annotator)))

    def records(self) -> list[Record]:
        """Give the records in force, oldest first, those of other processes included.

        Returns
        -------
        list of Record
            Everything recorded and not taken back. Only new rows are read from disk.
        """
        return self._read(lambda: [self._records[seq] for seq in sorted(self._in_force)])

    def events(self) -> list[Event]:
        """Give the whole history, oldest first.

        Returns
        -------
        list of Event
        """
        return self._read(lambda: [self._event(row) for row in self._rows])

    def feedback(self) -> Feedback:
        """Give the merged view of the records in force.

        Returns
        -------
        Feedback
            The same object as before as long as nothing was added.
        """

        def merged() -> Feedback:
            if self._merged is None:
                self._merged = Feedback.of(self._records[seq] for seq in sorted(self._in_force))
            return self._merged

        return self._read(merged)

    @property
    def count(self) -> int:
        """Number of records in force."""
        return self._read(lambda: len(self._in_force))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._guard:
            if self._connection is None or self._process != os.getpid():
                return
            with _named(self.path), self._lock:
                self._disconnect()
            self._lock.close()
            with _OPEN_GUARD:
                _OPEN.discard(self)

    def __enter__(self) -> Journal:  # noqa: PYI034  # Self needs Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    # -- events in memory ------------------------------------------------------------------------

    def _forget(self) -> None:
        self._rows: list[Row] = []
        self._records: dict[int, Record] = {}
        self._in_force: set[int] = set()
        self._done: dict[str | None, list[int]] = {}
        self._undone: dict[str | None, list[int]] = {}
        self._known_missing: set[int] = set()
        self._merged = None

    def _apply(self, row: Row, record: Record | None) -> None:
        self._rows.append(row)
        self._merged = None
        done = self._done.setdefault(row.annotator, [])
        undone = self._undone.setdefault(row.annotator, [])
        if record is not None:
            self._records[row.seq] = record
            self._in_force.add(row.seq)
            if not isinstance(record, Byproduct):  # what happened cannot be taken back
                done.append(row.seq)
                undone.clear()
        elif row.kind in ("retract", "restore"):
            # after a rescue the event meant may be lost, or already in the wanted state
            seq = json.loads(row.payload)["seq"]
            here, there = (done, undone) if row.kind == "retract" else (undone, done)
            if seq in here:
                here.remove(seq)
            if seq in self._records and seq not in there:
                there.append(seq)
                (self._in_force.discard if row.kind == "retract" else self._in_force.add)(seq)
        else:
            self._known_missing.update(json.loads(row.payload)["missing"])

    def _event(self, row: Row) -> Event:
        refers = json.loads(row.payload)["seq"] if row.kind in ("retract", "restore") else None
        record = self._records.get(row.seq)
        return Event(row.seq, row.kind, row.annotator, row.time, record, refers)

    # -- transactions ----------------------------------------------------------------------------

    def _read(self, look: Callable[[], _T]) -> _T:
        with self._guard:
            self._check_open()
            try:
                self._check_file()
                self._catch_up()
            except _TROUBLE as error:
                if not _is_damage(error):
                    raise JournalError(f"cannot read {self.path}: {error}") from error
                with _named(self.path), self._lock:
                    self._recover(str(error))
            return look()

    def _write(self, make: Callable[[], tuple[str, str | None, Any] | None]) -> Row | None:
        """Append what ``make`` gives; it is called when every row on disk has been seen."""
        with self._guard:
            self._check_open()
            with _named(self.path, "not saved: "), self._lock:
                try:
                    return self._transact(make)
                except _TROUBLE as error:
                    if not _is_damage(error):
                        raise
                    self._recover(str(error))
                return self._transact(make)

    def _move(self, kind: str, annotator: str | None) -> Record | None:
        moved: list[int] = []

        def make() -> tuple[str, str | None, Any] | None:
            stacks = self._done if kind == "retract" else self._undone
            moved[:] = stacks.get(annotator, [])[-1:]
            return (kind, annotator, {"seq": moved[0]}) if moved else None

        with self._guard:
            self._write(make)
            return self._records[moved[0]] if moved else None

    def _transact(self, make: Callable[[], tuple[str, str | None, Any] | None]) -> Row | None:
        self._check_file()
        connection = self._connection
        assert connection is not None  # noqa: S101  # _check_open has seen it
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._catch_up()
            wanted = make()
            if wanted is None:
                connection.execute("ROLLBACK")
                return None
            kind, annotator, payload = wanted
            row = Row(self._next(), kind, annotator, time.time(), json.dumps(payload))
            _insert(connection, row)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        self._apply(row, _decode(row))
        return row

    def _next(self) -> int:
        return self._rows[-1].seq + 1 if self._rows else 1

    def _catch_up(self) -> None:
        """Read and check the rows that came since the last look."""
        connection = self._connection
        assert connection is not None  # noqa: S101  # callers have seen it
        new: list[tuple[Row, Record | None]] = []
        bad: list[int] = []
        for *values, checksum in connection.execute(
            "SELECT seq, kind, annotator, time, payload, checksum FROM events"
            " WHERE seq >= ? ORDER BY seq",
            (self._next(),),
        ):
            row = Row(*values)
            if not _sound(row) or row.checksum() != checksum:
                bad.append(row.seq)
            else:
                new.append((row, _decode(row)))
        if bad:
            raise _DamagedError(f"the checksum of event {_ranges(bad)} does not fit")
        known = set(self._known_missing)
        for row, _ in new:
            if row.kind == "salvage":
                known.update(json.loads(row.payload)["missing"])
        start = self._next()
        lost = {s for s in gaps(row.seq for row, _ in new) if s >= start} - known
        if lost:
            raise _DamagedError(f"event {_ranges(sorted(lost))} is gone")
        for row, record in new:
            self._apply(row, record)

    def _check_open(self) -> None:
        if self._process != os.getpid():
            raise JournalError(
                f"{self.path} was opened by the parent process; open it anew: Journal(path)"
            )
        if self._connection is None:
            raise JournalError(f"{self.path} is closed; open it anew: Journal(path)")

    # -- the file --------------------------------------------------------------------------------

    def _open(self) -> None:
        """Connect to a sound file and read it all; rescue it first when it is not sound."""
        _finish_rescue(self.path)
        try:
            if not self.path.exists():
                _start(self.path)
            # closing a raw descriptor would drop the POSIX locks of this process's connections,
            # and the first journal has looked already
            if not _open_in_this_process(self.path):
                _look_before(self.path)
            self._connect()
            self._catch_up()
        except _TROUBLE as error:
            if not _is_damage(error):
                self._disconnect()
                raise
            self._rescue(str(error))

    def _connect(self) -> None:
        connection = sqlite3.connect(
            self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        self._inode = _inode(self.path)
        connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
        wanted = "delete" if _needs_rollback_journal(self.path) else "wal"
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != wanted:
            # where the log's shared memory does not work, SQLite says so and stays as it was
            with suppress(sqlite3.OperationalError):
                connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _DamagedError(str(verdict))
        schema = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
        if schema != _SCHEMA:
            raise _DamagedError("the table definitions are not the ones that were written")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.DatabaseError):
                self._connection.close()
        self._connection = None

    def _check_file(self) -> None:
        # SQLite would go on writing into a file that was renamed or deleted under it
        if self._inode is None or _inode(self.path) != self._inode:
            raise _DamagedError("the file was replaced or deleted")

    def _is_at(self, inode: tuple[int, int] | None) -> bool:
        return self._connection is not None and self._inode == inode

    def _recover(self, reason: str) -> None:
        """Get from what was found to a sound file, connected and read."""
        if _inode(self.path) in (None, self._inode):
            self._rescue(reason)
            return
        # another process has rescued the file, or someone put another one in its place
        seen = {row for row in self._rows if row.kind == "salvage"}
        self._disconnect()
        self._forget()
        self._open()
        for row in self._rows:
            if row.kind == "salvage" and row not in seen and self.damage is None:
                self.damage = str(json.loads(row.payload)["text"])

    def _rescue(self, reason: str) -> None:
        """Carry every intact row over into a fresh file; keep the damaged one beside it."""
        self._disconnect()
        rows = carve(_content(self.path), _content(_beside(self.path, "-wal")))
        rows.update((row.seq, row) for row in self._rows)  # what was read before is known good
        kept = _keep(self.path)
        row = _salvage_row(self.path, kept, rows, reason)
        fresh = _create(_beside(self.path, ".new"), [*sorted(rows.values()), row])
        fresh.replace(_beside(self.path, ".salvaged"))  # from here on the rescue only goes forward
        _sync_folder(self.path)
        _finish_rescue(self.path)
        self._forget()
        self._connect()
        self._catch_up()
        text = str(json.loads(row.payload)["text"])
        self.damage = text if self.damage is None else f"{self.damage}\n{text}"


# -- functions over files ------------------------------------------------------------------------


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_in_this_process(path: Path) -> bool:
    inode = _inode(path)
    with _OPEN_GUARD:
        return any(journal._is_at(inode) for journal in _OPEN)  # noqa: SLF001


def _look_before(path: Path) -> None:
    """Decide from the raw bytes whether the file is ours and whole, before SQLite touches it."""
    with path.open("rb") as file:
        head = file.read(100)
    ours = head[:16] == b"SQLite format 3\0" and head[68:72] == APPLICATION_ID.to_bytes(4, "big")
    marked = ours or _holds_our_rows(path.read_bytes(), _content(_beside(path, "-wal")))
    cut = len(head) < 100 and b"SQLite format 3\0".startswith(head[:16])
    if not (marked or cut):
        raise JournalError(
            f"{path} is not a feedback journal; it was left untouched: "
            "choose another directory, or move the file away"
        )
    version = int.from_bytes(head[60:64], "big")
    # a single flipped bit is damage; a schema that is really newer would change more than that
    if ours and version > SCHEMA_VERSION and (version ^ SCHEMA_VERSION).bit_count() > 1:
        raise JournalError(
            f"{path} has schema version {version}, this version of xfeedback_widgets reads "
            f"{SCHEMA_VERSION}; it was left untouched: update xfeedback_widgets"
        )
    fixed = (head[16:18], head[20:24], head[56:60], head[60:64])
    expected = (PAGE.to_bytes(2, "big"), b"\0@  ", b"\0\0\0\1", SCHEMA_VERSION.to_bytes(4, "big"))
    if not ours or fixed != expected or head[18:20] not in (b"\1\1", b"\2\2"):
        raise _DamagedError("the header of the file is damaged")
    log, index = _content(_beside(path, "-wal")), _content(_beside(path, "-shm"))
    if problem := wal_damage(log, index):
        raise _DamagedError(problem)


def _holds_our_rows(main: bytes, wal: bytes) -> bool:
    return _MARK.encode() in main + wal or bool(carve(main, wal))


def _start(path: Path) -> None:
    """Put an empty journal where none is."""
    if any(_beside(path, ending).exists() for ending in ("-wal", "-journal")):
        raise _DamagedError("the file itself is gone, but its log is still there")
    _create(_beside(path, ".new"), []).replace(path)
    _sync_folder(path)


def _create(path: Path, rows: list[Row]) -> Path:
    """Write a complete journal at ``path``, on disk when this returns."""
    for ending in ("", *_COMPANIONS):
        _beside(path, ending).unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in _SCHEMA.values():
            connection.execute(statement)
        for row in rows:
            _insert(connection, row)
        connection.execute("COMMIT")
    finally:
        connection.close()
    _sync(path)
    return path


def _insert(connection: sqlite3.Connection, row: Row) -> None:
    connection.execute(
        "INSERT INTO events (seq, kind, annotator, time, payload, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (*row, row.checksum()),
    )


def _keep(path: Path) -> Path:
    """Give the damaged file, and its log, a second name that nothing will touch."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    kept, count = _beside(path, f".damaged-{stamp}"), 1
    while kept.exists():
        count += 1
        kept = _beside(path, f".damaged-{stamp}-{count}")
    for ending in ("", "-wal", "-journal"):
        if (source := _beside(path, ending)).exists():
            try:
                os.link(source, _beside(kept, ending))  # takes no space on a full disk
            except OSError:
                shutil.copy2(source, _beside(kept, ending))
                _sync(_beside(kept, ending))
    _sync_folder(path)
    return kept


def _salvage_row(path: Path, kept: Path, rows: dict[int, Row], reason: str) -> Row:
    known = {
        seq
        for row in rows.values()
        if row.kind == "salvage"
        for seq in json.loads(row.payload)["missing"]
    }
    last = max(rows, default=0)
    missing = [seq for seq in gaps(rows) if seq not in known]
    lost = f"Lost: event {_ranges(missing)}" if missing else "No event up to there is missing"
    copy = (
        f"The damaged file is kept as {kept.name}." if kept.exists() else "No copy could be kept."
    )
    text = (
        f"{path.name} was damaged ({reason}). Salvaged: {len(rows)} events, the last being number "
        f"{last}. {lost}; events after {last}, if there were any, are lost as well. {copy}"
    )
    payload = {"damaged": kept.name, "missing": missing, "reason": reason, "text": text}
    return Row(last + 1, "salvage", None, time.time(), json.dumps(payload))


def _finish_rescue(path: Path) -> None:
    """Put a salvaged file in place; also what is left to do when a rescue was killed half-way."""
    salvaged = _beside(path, ".salvaged")
    if salvaged.exists():
        # a log left beside the fresh file would be replayed into it
        for ending in _COMPANIONS:
            _beside(path, ending).unlink(missing_ok=True)
        _sync_folder(path)
        salvaged.replace(path)
        _sync_folder(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if sys.platform != "win32":  # Windows cannot open folders and needs no such thing
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _needs_rollback_journal(path: Path) -> bool:
    """Whether the file system cannot share memory between hosts, as a write-ahead log needs."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    found = (Path(), "")
    for line in lines:
        point, kind = line.split(" ")[1:3]
        mount = Path(point.encode().decode("unicode_escape"))  # spaces are written \040
        if path.resolve().is_relative_to(mount) and len(mount.parts) >= len(found[0].parts):
            found = (mount, kind)
    return found[1] in _NETWORK or found[1].startswith("fuse.")


# -- rows and errors -----------------------------------------------------------------------------


def _sound(row: Row) -> bool:
    return (
        isinstance(row.kind, str)
        and isinstance(row.annotator, (str, type(None)))
        and isinstance(row.time, float)
        and isinstance(row.payload, str)
    )


def _decode(row: Row) -> Record | None:
    """Give the record a row holds; None for the rows that are about other rows."""
    if row.kind in ("retract", "restore", "salvage"):
        return None
    try:
        # the row's checksum has been seen to fit: arrays can wait until somebody looks at them
        return from_dict(json.loads(row.payload), origin=f"event {row.seq} of the journal")
    except (TypeError, ValueError) as error:
        raise JournalError(
            f"event {row.seq} ({row.kind}) cannot be read ({error}); "
            "it may come from a newer xfeedback_widgets: update"
        ) from error


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as people do: 3, 5-9."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _is_damage(error: Exception) -> bool:
    words = (*_DAMAGE_WORDS, "could not decode", "no such table")
    named = isinstance(error, (_DamagedError, UnicodeDecodeError))
    return named or any(word in str(error).lower() for word in words)


_REMEDIES = {
    "full": "free some space and try again",
    "no space": "free some space and try again",
    "readonly": "make file and folder writable, or choose another directory",
    "read-only": "make file and folder writable, or choose another directory",
    "permission": "make file and folder writable, or choose another directory",
    "unable to open": "make file and folder writable, or choose another directory",
    "locked": "another process keeps it busy; close that one or try again",
}


@contextmanager
def _named(path: Path, what: str = "") -> Iterator[None]:
    """Turn what the system says into a :class:`JournalError` that names the file and the remedy."""
    try:
        yield
    except (OSError, *_TROUBLE) as error:
        words = str(error).lower()
        remedy = next((text for word, text in _REMEDIES.items() if word in words), "")
        raise JournalError(f"{what}{path}: {error}" + (remedy and f"; {remedy}")) from error


class _FileLock:
    """An advisory lock between processes, and between journals of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._try() or not self._current():
            if time.monotonic() > deadline:
                raise TimeoutError(f"locked by another process for {PATIENCE:.0f} s")
            time.sleep(0.0005)

    def __exit__(self, *_: object) -> None:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(self._descriptor, 0, os.SEEK_SET)
            msvcrt.locking(self._descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)

    def _try(self) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                os.lseek(self._descriptor, 0, os.SEEK_SET)
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            warnings.warn(
                f"no file locks at {self._path.parent} ({error}): "
                "use this journal from one process only",
                RuntimeWarning,
                stacklevel=4,
            )
        return True

    def _current(self) -> bool:
        """Whether the lock taken is on the file that stands there now; if not, take that one."""
        if _inode(self._path) == (
            (status := os.fstat(self._descriptor)).st_dev,
            status.st_ino,
        ):
            return True
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return False
