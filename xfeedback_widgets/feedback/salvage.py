"""Reading a journal's bytes without SQLite: its rows' checksums, what a write-ahead log hides, rescue.

SQLite does not notice flipped bits in a row, and it silently forgets everything in a write-ahead log
from the first bad frame on. The functions here, all over plain bytes, close both holes: a checksum
per row, a look at the log *before* SQLite recovers from it, and a scan that carves every intact row
out of a file whatever state the rest is in. Opening, locking and replacing files is
:mod:`.journal`'s business. Formats: https://www.sqlite.org/fileformat2.html and walformat.html.
"""

from __future__ import annotations

import json
import re
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = 4096
"""Page size of every journal: fixed, so that a damaged header cannot hide the pages."""

_FRAME = 24 + PAGE
_WAL_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # byte order of the checksums


class Row(NamedTuple):
    """One event as it stands in the journal, without its checksum."""

    seq: int
    kind: str
    annotator: str | None
    time: float
    payload: str

    def checksum(self) -> bytes:
        """Give the 16 bytes (blake2b) stored beside the row.

        Rows are not chained to each other: sequence numbers without gaps already tell of a lost
        row, and a chain would make every row after a lost one unverifiable.
        """
        text = json.dumps([self.seq, self.kind, self.annotator, self.time, self.payload])
        return blake2b(text.encode(), digest_size=16).digest()


class _WalIndex(NamedTuple):
    """What SQLite last knew of the log; it survives a killed process in the ``-shm`` file."""

    last_frame: int
    checkpointed: int
    salts: bytes


def wal_damage(wal: bytes, shm: bytes) -> str | None:
    """Say what SQLite would silently drop from a write-ahead log, before it does.

    Parameters
    ----------
    wal, shm
        Contents of the ``-wal`` and ``-shm`` files, empty when absent. No writer may be active.

    Returns
    -------
    str or None
        What is wrong, or None. A log that ends in a write that was cut short is damage only when
        the ``-shm`` file cannot show that the write had never been acknowledged.
    """
    index = _wal_index(shm)
    pending = index is not None and index.last_frame > index.checkpointed
    header = _wal_header(wal)
    if header is None:
        if len(wal) > 32 or (wal and index is None) or pending:
            return f"the header of the write-ahead log ({len(wal)} bytes) is damaged or gone"
        return None
    order, salts, running = header
    known = None
    if index is not None and (index.salts == salts or not index.last_frame):
        known = index.last_frame
    frames = range(32, len(wal), _FRAME)
    good = commit = 0
    for number, start in enumerate(frames, 1):
        frame = wal[start : start + _FRAME]
        if not _frame_fits(frame, order, salts, running):
            break
        good, running = number, frame[16:24]
        commit = number if frame[4:8] != bytes(4) else commit
    if known is not None and known > commit:
        return f"the write-ahead log has {commit} of {known} acknowledged frames intact"
    for number, start in enumerate(frames, 1):
        if number > good + 1 and _frame_fits(
            wal[start : start + _FRAME], order, salts, wal[start - _FRAME + 16 : start - PAGE]
        ):
            return f"frame {good + 1} of the write-ahead log is damaged, but later frames are not"
    tail = wal[32 + good * _FRAME :]
    # frames of an earlier round of the log, with other salts, are normal leftovers
    if tail and known is None and (len(tail) < _FRAME or tail[8:16] == salts):
        return f"the write-ahead log breaks off in frame {good + 1}"
    return None


def carve(main: bytes, wal: bytes) -> dict[int, Row]:
    """Find every intact row in a journal's bytes.

    Neither the header nor the tree of pages is trusted: any place that looks like the start of a
    row is tried, and the row's own checksum decides. Rows are never changed once written, so an
    intact copy anywhere, a superseded page included, is the row.

    Parameters
    ----------
    main, wal
        Contents of the journal file and of its ``-wal`` file.

    Returns
    -------
    dict
        Intact rows by sequence number.
    """
    main_pages = [main[start : start + PAGE] for start in range(0, len(main), PAGE)]
    header = _wal_header(wal)
    running = header[2] if header else b""
    stale: list[tuple[int, bytes]] = []
    fresh: list[tuple[int, bytes]] = []
    for start in range(32, len(wal), _FRAME):
        frame = wal[start : start + _FRAME]
        fits = header is not None and _frame_fits(frame, header[0], header[1], running)
        running = frame[16:24] if fits else b""
        number = int.from_bytes(frame[:4], "big")
        (fresh if fits else stale).append((number, frame[24:]))
    # later sources win: a write that was rolled back can have left a row in a stale frame
    sources = [*stale, *enumerate(main_pages, 1), *fresh]
    pages: dict[int, list[bytes]] = {}
    for number, page in sources:
        pages.setdefault(number, []).insert(0, page)
    return {row.seq: row for _, page in sources for row in _rows_in(page, pages)}


def _wal_header(wal: bytes) -> tuple[str, bytes, bytes] | None:
    """Give byte order, salts and running checksum, or None when the header is no good."""
    if len(wal) < 32:
        return None
    order = _WAL_MAGIC.get(int.from_bytes(wal[:4], "big"))
    if order is None or _wal_checksum(order, bytes(8), wal[:24]) != wal[24:32]:
        return None
    return order, wal[16:24], wal[24:32]


def _frame_fits(frame: bytes, order: str, salts: bytes, running: bytes) -> bool:
    if len(frame) < _FRAME or frame[8:16] != salts or len(running) != 8:
        return False
    return _wal_checksum(order, running, frame[:8] + frame[24:]) == frame[16:24]


def _wal_checksum(order: str, running: bytes, data: bytes) -> bytes:
    one, two = struct.unpack(">2I", running)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return struct.pack(">2I", one, two)


def _wal_index(shm: bytes) -> _WalIndex | None:
    # two equal copies of a 48-byte header in native byte order, then the checkpoint counter
    if len(shm) < 100 or shm[:48] != shm[48:96] or not shm[12]:
        return None
    order = "<" if struct.pack("=H", 1) == b"\x01\x00" else ">"
    one, two = struct.unpack(">2I", _wal_checksum(order, bytes(8), shm[:40]))
    if struct.unpack("=2I", shm[40:48]) != (one, two):
        return None
    (last_frame,) = struct.unpack("=I", shm[16:20])
    (checkpointed,) = struct.unpack("=I", shm[96:100])
    return _WalIndex(last_frame, checkpointed, shm[32:40])


# A row is stored as varint length, varint seq, then a header that starts with its own size and a 0:
# seq lives in the varint before, so its column is NULL. That pair is what we look for.
_HEADER = re.compile(rb"(?=[\x06-\x14]\x00)")


def _rows_in(page: bytes, pages: dict[int, list[bytes]]) -> Iterator[Row]:
    for match in _HEADER.finditer(page):
        header = match.start()
        types = _types(page, header)
        if types is None:
            continue
        expected = page[header] + sum(map(_width, types))
        for start in range(header - 2, max(-1, header - 13), -1):
            size, after = _varint(page, start)
            seq, end = _varint(page, after)
            if size == expected and end == header:
                row = _row(seq, types, _content(page, header, size, pages))
                if row is not None:
                    yield row


def _types(page: bytes, header: int) -> list[int] | None:
    """Read the column types of the row whose header starts there; None when it is no row of ours."""
    end = header + page[header]
    types: list[int] = []
    at = header + 1
    while at < end <= len(page):
        serial, at = _varint(page, at)
        types.append(serial)
    # kind and payload are text, the checksum is 16 bytes
    fits = at == end and len(types) == 6 and types[5] == 44 and min(map(_width, types)) >= 0
    return types if fits and types[1] % 2 and types[4] % 2 else None


def _content(page: bytes, start: int, size: int, pages: dict[int, list[bytes]]) -> bytes:
    """Give the ``size`` bytes of a row, gathered from overflow pages where it is long."""
    if size <= PAGE - 35:
        return page[start : start + size]
    least = (PAGE - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE - 4)
    local = local if local <= PAGE - 35 else least
    parts = [page[start : start + local]]
    following = int.from_bytes(page[start + local : start + local + 4], "big")
    # a damaged chain may run in circles: no row is longer than all pages together
    for left in range(min(size, PAGE * len(pages)) - local, 0, 4 - PAGE):
        if following not in pages:
            break
        overflow = pages[following][0]
        parts.append(overflow[4 : 4 + left])
        following = int.from_bytes(overflow[:4], "big")
    return b"".join(parts)


def _row(seq: int, types: list[int], content: bytes) -> Row | None:
    """Decode the record format; None unless everything fits, the checksum included."""
    values: list[object] = []
    at = content[0]
    for serial in types:
        width = _width(serial)
        if at + width > len(content):
            return None
        values.append(_value(serial, content[at : at + width]))
        at += width
    _, kind, annotator, time, payload, checksum = values
    if not (isinstance(kind, str) and isinstance(payload, str) and isinstance(time, (int, float))):
        return None
    if annotator is not None and not isinstance(annotator, str):
        return None
    row = Row(seq, kind, annotator, float(time), payload)
    return row if row.checksum() == checksum else None


_FIXED_WIDTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)


def _width(serial: int) -> int:
    # 10 and 11 are reserved and come out negative
    return _FIXED_WIDTHS[serial] if serial < 10 else (serial - 12) // 2


def _value(serial: int, raw: bytes) -> object:
    if serial == 0:
        return None
    if serial < 7:
        return int.from_bytes(raw, "big", signed=True)
    if serial == 7:
        return float(struct.unpack(">d", raw)[0])
    if serial < 10:
        return serial - 8
    if serial % 2 == 0:
        return raw
    return raw.decode("utf-8", "replace")  # damaged text then fails the checksum


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """Give the number at ``start`` and the position after it."""
    value = 0
    for count, byte in enumerate(data[start : start + 9]):
        if count == 8:
            return value << 8 | byte, start + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, start + count + 1
    return value, len(data) + 1


def gaps(found: Iterable[int]) -> list[int]:
    """Give the sequence numbers missing between 1 and the largest found.

    Parameters
    ----------
    found
        Sequence numbers, in any order.

    Returns
    -------
    list of int
        Ascending; empty when nothing is missing.
    """
    present = set(found)
    return sorted(set(range(1, max(present, default=0))) - present)
