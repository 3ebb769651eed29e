"""The journal: durable, append-only, undone and redone by appending, shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import xfeedback_widgets.feedback.journal as module
from xfeedback_widgets.feedback import (
    Journal,
    JournalError,
    RegionMask,
    UnitVerdict,
    Verdict,
)

ROOT = Path(__file__).resolve().parents[2]
ALL_KINDS = [
    Verdict("7", "reject", map=np.eye(7), annotator="ada", time=12.0),
    RegionMask("bild\udce4 🦆", np.random.default_rng(0).integers(-1, 2, (300, 300))),
    UnitVerdict(12, "accept", annotator="o'hara\n"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.sqlite"


def test_reopening_gives_the_same_records(path):
    with Journal(path) as journal:
        assert [journal.append(record) for record in ALL_KINDS] == [1, 2, 3]
        assert journal.records() == ALL_KINDS
    with Journal(path) as journal:
        assert journal.records() == ALL_KINDS
        assert journal.count == 3
        assert journal.damage is None
        assert [event.kind for event in journal.events()] == [
            "verdict",
            "region_mask",
            "unit_verdict",
        ]
        assert journal.feedback() is journal.feedback()
        assert len(journal.feedback()) == 2


class UndoRedo(RuleBasedStateMachine):
    """Two annotators against the obvious model: a list, and a stack of what was undone, each."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "feedback.sqlite"
        self.journal, self.other = Journal(self.path), Journal(self.path)
        self.kept: list[Verdict] = []  # in the order of recording
        self.order: list[Verdict] = []
        self.done = {"ada": [], None: []}
        self.undone = {"ada": [], None: []}

    names = st.sampled_from(["ada", None])

    @rule(name=names)
    def record(self, name):
        record = Verdict(str(len(self.order)), "accept", annotator=name)
        self.journal.append(record)
        self.order.append(record)
        self.done[name].append(record)
        self.undone[name].clear()

    @rule(name=names)
    def undo(self, name):
        expected = self.done[name].pop() if self.done[name] else None
        self.undone[name] += [expected] if expected else []
        assert self.journal.undo(name) == expected

    @rule(name=names)
    def redo(self, name):
        expected = self.undone[name].pop() if self.undone[name] else None
        self.done[name] += [expected] if expected else []
        assert self.other.redo(name) == expected  # by another connection, as by another process

    @rule()
    def reopen(self):
        self.journal.close()
        self.journal = Journal(self.path)

    @invariant()
    def same(self):
        in_force = {*self.done["ada"], *self.done[None]}
        expected = [record for record in self.order if record in in_force]
        for journal in (self.journal, self.other):
            assert journal.records() == expected
            assert journal.count == len(expected)
            for name in ("ada", None):
                assert journal.can_undo(name) == bool(self.done[name])
                assert journal.can_redo(name) == bool(self.undone[name])

    def teardown(self):
        self.journal.close()
        self.other.close()
        self.folder.cleanup()


UndoRedo.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_undo_and_redo = UndoRedo.TestCase


def test_history_survives_undo(path):
    with Journal(path) as journal:
        journal.append(ALL_KINDS[0])
        assert journal.undo("ada") == ALL_KINDS[0]
        assert journal.undo("bob") is None
        assert journal.redo("ada") == ALL_KINDS[0]
        history = [(event.kind, event.refers_to) for event in journal.events()]
    assert history == [("verdict", None), ("retract", 1), ("restore", 1)]


def test_rows_cannot_be_changed_or_deleted(path):
    with Journal(path) as journal:
        journal.append(ALL_KINDS[0])
        stranger = sqlite3.connect(path)
        for statement in ("UPDATE events SET payload = ''", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                stranger.execute(statement)
        stranger.close()


def test_durability_settings_hold(path):
    with Journal(path) as journal:
        pragma = journal._connection.execute
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert pragma("PRAGMA busy_timeout").fetchone() == (10_000,)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("nfs4", "delete"), ("fuse.sshfs", "delete"), ("ext4", "wal"), ("fuseblk", "wal")],
)
def test_network_mounts_get_a_rollback_journal(path, monkeypatch, kind, mode):
    point = str(path.parent).replace(" ", r"\040")
    mounts = f"/dev/a / ext4 rw 0 0\nserver:/x {point} {kind} rw 0 0\n"
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: mounts if str(self) == "/proc/mounts" else real(self, *a, **k),
    )
    with Journal(path) as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
        journal.append(ALL_KINDS[0])
    with Journal(path) as journal:
        assert journal.records() == ALL_KINDS[:1]
        assert journal.damage is None


def test_a_journal_moves_between_modes(path, monkeypatch):
    with Journal(path) as journal:
        journal.append(ALL_KINDS[0])
    monkeypatch.setattr(module, "_needs_rollback_journal", lambda path: True)
    with Journal(path) as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert journal.records() == ALL_KINDS[:1]


def test_threads_share_a_journal(path):
    with Journal(path) as journal:
        numbers: list[int] = []

        def work(name: str) -> None:
            for index in range(20):
                numbers.append(journal.append(Verdict(f"{name}{index}", "accept", annotator=name)))
                journal.records()

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == list(range(1, 81))
        assert len({record.image_id for record in journal.records()}) == 80


WRITERS = """
import os, sys
from xfeedback_widgets.feedback import Journal, Verdict

def write(path, name):
    with Journal(path) as journal:
        for index in range(40):
            journal.append(Verdict(f"{name}{index}", "accept", annotator=name))
            if index % 10 == 9:
                journal.undo(name)

children = []
for name in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        try:
            write(sys.argv[1], name)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_processes_share_a_journal(path):
    command = [sys.executable, "-c", WRITERS, str(path), "ada", "bob", "cy"]
    with Journal(path) as journal:
        writers = subprocess.Popen(command, cwd=ROOT)
        while writers.poll() is None:
            if journal.count:
                journal.append(Verdict(f"me{journal.count}", "unsure"))
            time.sleep(0.005)
        assert writers.returncode == 0
        assert [r for r in journal.records() if r.annotator is None]
        for name in ("ada", "bob", "cy"):
            theirs = [r.image_id for r in journal.records() if r.annotator == name]
            assert theirs == [f"{name}{i}" for i in range(40) if i % 10 != 9]
        assert journal.damage is None


def test_a_forked_child_may_not_write_through_the_parents_connection(path):
    with Journal(path) as journal:
        journal._process += 1  # what a child would see
        with pytest.raises(JournalError, match="parent process"):
            journal.append(ALL_KINDS[0])
        journal._process -= 1


def test_closed_journal_says_so(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.records()


def test_only_records_are_recorded(path):
    with Journal(path) as journal, pytest.raises(TypeError, match="'accept'"):
        journal.append("accept")


def test_busy_file_is_named(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with Journal(path) as journal:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match=r"not saved: .*locked; another process"):
            journal.append(ALL_KINDS[0])
        blocker.execute("ROLLBACK")
        blocker.close()
        assert journal.append(ALL_KINDS[0]) == 1


def test_the_lock_waits_only_so_long(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with Journal(path) as journal:
        holder = module._FileLock(path.with_name("feedback.sqlite.lock"))
        with holder, pytest.raises(JournalError, match=r"not saved: .*locked by another"):
            journal.append(ALL_KINDS[0])
        holder.close()
        assert journal.append(ALL_KINDS[0]) == 1


def test_a_deleted_lock_file_is_made_again(path):
    with Journal(path) as journal, Journal(path) as other:
        path.with_name("feedback.sqlite.lock").unlink()
        journal.append(ALL_KINDS[0])
        other.append(ALL_KINDS[1])
        inodes = {os.fstat(j._lock._descriptor).st_ino for j in (journal, other)}
        assert len(inodes) == 1
        assert journal.count == 2
