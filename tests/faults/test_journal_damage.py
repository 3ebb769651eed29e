"""Flipped bits, truncation, garbage logs: right, or named; never a wrong record, never a silent loss."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from xfeedback_widgets.feedback import Journal, RegionMask, Verdict
from xfeedback_widgets.feedback.salvage import carve

RECORDS = [
    *(
        Verdict(f"{i}", "accept", map=np.full((7, 7), i / 60), annotator="ada" if i % 2 else None)
        for i in range(60)
    ),
    RegionMask("big", np.random.default_rng(0).integers(-1, 2, (200, 200)), annotator="ada"),
    *(Verdict(f"é{i}", "reject", time=float(i)) for i in range(60)),
]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """Give the bytes of a journal after a clean end."""
    path = tmp_path_factory.mktemp("closed") / "feedback.sqlite"
    with Journal(path) as journal:
        for record in RECORDS:
            journal.append(record)
    return {"": path.read_bytes()}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Give the bytes of a journal whose process was killed: most rows only in the log."""
    path = tmp_path_factory.mktemp("killed") / "feedback.sqlite"
    with Journal(path) as journal:
        for record in RECORDS:
            journal.append(record)
        return {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal", "-shm")}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "feedback.sqlite"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for ending, content in files.items():
        Path(f"{path}{ending}").write_bytes(content)
    return path


def check(path: Path, damaged: dict[str, bytes]) -> str | None:
    """Open a damaged journal and hold it to the promise; give what it says about damage."""
    expected = dict(enumerate(RECORDS, 1))
    with Journal(path) as journal:
        found = {event.seq: event.record for event in journal.events() if event.record}
        assert all(expected[seq] == record for seq, record in found.items())
        assert journal.damage or list(found) == list(expected), "a loss that was not named"
        said = journal.damage
        if said:
            kept = path.with_name(said.split("kept as ")[1].rstrip("."))
            for ending, content in damaged.items():
                if ending != "-shm":
                    assert Path(f"{kept}{ending}").read_bytes() == content
        number = journal.append(Verdict("after", "accept"))
    with Journal(path) as journal:  # the rescued journal is a journal like any other
        assert journal.damage is None
        assert journal.records() == [*found.values(), Verdict("after", "accept")]
        assert journal.events()[-1].seq == number
    return said


def test_untouched_files_are_not_called_damaged(tmp_path, closed, killed):
    assert check(put(tmp_path / "a", closed), closed) is None
    assert check(put(tmp_path / "b", killed), killed) is None


def test_every_row_can_be_carved(closed, killed):
    for files in (closed, killed):
        rows = carve(files[""], files.get("-wal", b""))
        assert sorted(rows) == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("state", ["closed", "killed"])
def test_flipped_bits(tmp_path, request, state):
    files = request.getfixturevalue(state)
    generator, named = random.Random(1), 0
    for _ in range(50):
        damaged = {end: bytearray(content) for end, content in files.items()}
        ending = generator.choice([end for end in damaged if end != "-shm"])
        position = generator.randrange(len(damaged[ending]))
        damaged[ending][position] ^= 1 << generator.randrange(8)
        named += check(put(tmp_path / "x", damaged), damaged) is not None
    assert named > 10


@pytest.mark.parametrize("position", range(100))
def test_flipped_bit_in_the_header(tmp_path, closed, position):
    damaged = bytearray(closed[""])
    damaged[position] ^= 1 << position % 8
    said = check(put(tmp_path / "x", {"": damaged}), {"": damaged})
    assert said is None or "No event up to there is missing" in said


@pytest.mark.parametrize("state", ["closed", "killed"])
def test_truncation(tmp_path, request, state):
    files = request.getfixturevalue(state)
    generator = random.Random(2)
    for trial in range(25):
        ending = generator.choice([end for end in files if end != "-shm"])
        length = generator.randrange(len(files[ending])) if trial else 0
        damaged = {**files, ending: files[ending][:length]}
        said = check(put(tmp_path / "x", damaged), damaged)
        # a log that holds every page makes the file itself superfluous
        assert said or (state == "killed" and ending == ""), (ending, length)


@pytest.mark.parametrize("with_index", [True, False])
def test_garbage_log(tmp_path, killed, with_index):
    log = bytearray(killed["-wal"])
    start = 32 + (24 + 4096) * 40 + 2000
    log[start : start + 64] = random.Random(3).randbytes(64)
    damaged = {"": killed[""], "-wal": bytes(log)}
    damaged |= {"-shm": killed["-shm"]} if with_index else {}
    said = check(put(tmp_path / "a", damaged), damaged)
    assert "write-ahead log" in said
    # later frames hold the rows of the broken one, so nothing at all is lost
    assert f"Salvaged: {len(RECORDS)} events" in said
    damaged = {"": killed[""], "-wal": random.Random(4).randbytes(50_000)}
    assert check(put(tmp_path / "b", damaged), damaged)


def test_first_page_overwritten(tmp_path, closed):
    damaged = {"": random.Random(5).randbytes(4096) + closed[""][4096:]}
    assert "header" in check(put(tmp_path / "x", damaged), damaged)


@pytest.mark.parametrize("offset", range(0, 60, 7))
def test_garbled_schema(tmp_path, closed, offset):
    damaged = bytearray(closed[""])
    damaged[damaged.index(b"CREATE TRIGGER") + offset] = 0xFE
    assert check(put(tmp_path / "x", {"": damaged}), {"": damaged})


def test_last_answer_cut_off_from_the_log(tmp_path, killed):
    """SQLite alone would forget it without a word: the log ends in a perfectly good frame."""
    damaged = {**killed, "-wal": killed["-wal"][: -(24 + 4096)]}
    assert "acknowledged" in check(put(tmp_path / "a", damaged), damaged)
    damaged = {**killed, "-wal": b""}
    assert "write-ahead log" in check(put(tmp_path / "b", damaged), damaged)


def test_lost_row_is_named(tmp_path, closed):
    damaged = bytearray(closed[""])
    damaged[damaged.index(b'"image_id": "33"') + 13] ^= 1
    said = check(put(tmp_path / "x", {"": damaged}), {"": damaged})
    assert "the checksum of event 34 does not fit" in said
    assert "Salvaged: 120 events" in said
    assert "Lost: event 34;" in said


def test_damage_found_while_open(tmp_path, closed):
    """A row damaged under a running session is restored from what the session has read."""
    path = put(tmp_path / "x", closed)
    with Journal(path) as journal, Journal(path) as other:
        assert journal.count == other.count == len(RECORDS)
        damaged = bytearray(path.read_bytes())
        damaged[4096:] = bytes(len(damaged) - 4096)
        with path.open("r+b") as file:
            file.write(damaged)
        for each in (journal, other):
            each._connection.execute("PRAGMA shrink_memory")  # forget the pages read before
        for name in ("one", "two"):
            journal.append(Verdict(name, "accept"))
        other.append(Verdict("three", "accept"))
        assert "kept as" in journal.damage
        assert "kept as" in other.damage
        new = [Verdict(name, "accept") for name in ("one", "two", "three")]
        assert journal.records() == other.records() == [*RECORDS, *new]
    with Journal(path) as journal:
        assert journal.records() == [*RECORDS, *new]


def test_new_row_damaged_before_it_is_read(tmp_path, closed):
    path = put(tmp_path / "x", closed)
    with Journal(path) as journal:
        row = carve(closed[""], b"")[121]
        journal._connection.execute(
            "INSERT INTO events VALUES (122, ?, ?, ?, ?, ?)", (*row[1:], row.checksum())
        )
        assert journal.records() == RECORDS
        assert "event 122" in journal.damage
        assert journal.append(Verdict("after", "accept")) == 123
