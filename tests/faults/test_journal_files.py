"""Files that are not what they should be: refused untouched, or an error that loses nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import xfeedback_widgets.feedback.journal as module
from xfeedback_widgets.feedback import Journal, JournalError, RegionMask, Verdict

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.sqlite"


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "make",
    [
        foreign_database,
        lambda path: path.write_text("dear diary"),
        lambda path: path.write_bytes(os.urandom(10_000)),
    ],
)
def test_foreign_file_is_refused_untouched(path, make):
    make(path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="not a feedback journal; it was left untouched"):
        Journal(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


def test_newer_schema_is_refused_untouched(path):
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"schema version 2.* reads 1; .*update"):
        Journal(path)
    assert path.read_bytes() == before


def test_folder_that_cannot_be_written_is_named():
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that even root cannot write")
    with pytest.raises(JournalError, match=r"/proc/feedback.sqlite: "):
        Journal("/proc/feedback.sqlite")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="writable"):
        Journal(tmp_path / "feedback.sqlite")


def test_full_disk_is_named_and_loses_nothing(path):
    big = RegionMask("big", [[(-1) ** (i * i * j % 7) for i in range(400)] for j in range(4000)])
    with Journal(path) as journal:
        journal.append(Verdict("1", "accept"))
        (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalError, match=r"not saved: .*full; free some space"):
            journal.append(big)
        assert journal.count == 1
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        assert journal.append(big) == 2
    with Journal(path) as journal:
        assert [r.image_id for r in journal.records()] == ["1", "big"]
        assert journal.damage is None


LIMITED = """
import resource, signal, sys
from xfeedback_widgets.feedback import Journal, JournalError, Verdict
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(sys.argv[1]) as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    saved = 0
    try:
        while saved < 10_000:
            saved = journal.append(Verdict(str(saved), "accept"))
    except JournalError as error:
        print(saved, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert journal.count == saved, journal.count
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_write_that_the_system_refuses_loses_nothing(path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, check=True
    )
    saved = int(done.stdout)
    assert saved > 10
    with Journal(path) as journal:
        assert [r.image_id for r in journal.records()] == [str(i) for i in range(saved)]
        assert journal.damage is None


def test_deleted_file_is_rebuilt_from_memory(path):
    with Journal(path) as journal:
        journal.append(Verdict("1", "accept"))
        for ending in ("", "-wal", "-shm"):
            Path(f"{path}{ending}").unlink()
        journal.append(Verdict("2", "accept"))
        assert "deleted" in journal.damage
    with Journal(path) as journal:
        assert [r.image_id for r in journal.records()] == ["1", "2"]


def test_interrupted_rescue_is_finished(path, monkeypatch):
    with Journal(path) as journal:
        for index in range(40):
            journal.append(Verdict(str(index), "accept"))
    content = bytearray(path.read_bytes())
    content[content.index(b'"image_id": "7"') + 13] ^= 1
    path.write_bytes(content)

    def dies(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish_rescue", lambda path: None)
        patch.setattr(module, "_sync_folder", dies)  # the first call comes before the switch
        with pytest.raises(KeyboardInterrupt):
            Journal(path)
    for step in ("switch", "done"):
        with monkeypatch.context() as patch:
            if step == "switch":
                patch.setattr(module.Path, "replace", _die_at_the_end(module.Path.replace))
                with pytest.raises(KeyboardInterrupt):
                    Journal(path)
            else:
                with Journal(path) as journal:
                    assert journal.count == 39
    assert len([p for p in path.parent.iterdir() if ".damaged-" in p.name]) >= 1


def _die_at_the_end(real):
    def replace(self, target):
        if self.name.endswith(".salvaged"):
            raise KeyboardInterrupt
        return real(self, target)

    return replace
