"""``kill -9`` at random instants: no acknowledged answer is lost.

``XFEEDBACK_KILLS`` sets how often a process is killed (25 unless told).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xfeedback_widgets.feedback import Journal

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("XFEEDBACK_KILLS", "25"))

# One process imports everything and forks a fresh annotator for each kill. An annotator writes what
# append() acknowledged to a pipe, whose contents outlive it.
DRIVER = """
import os, random, signal, sys, time
import numpy as np
from xfeedback_widgets.feedback import Journal, Verdict

def annotate(path, pipe):
    journal = Journal(path)
    assert journal.damage is None, journal.damage
    os.write(pipe, b"ready\\n")
    index = journal.count
    while True:
        seq = journal.append(Verdict(str(index), "accept", map=np.full((14, 14), index % 11 / 10)))
        os.write(pipe, b"%d %d\\n" % (seq, index))
        index += 1

random.seed(0)
for _ in range(int(sys.argv[2])):
    end, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            annotate(sys.argv[1], pipe)
        finally:
            os._exit(1)
    os.close(pipe)
    with os.fdopen(end) as lines:
        assert lines.readline() == "ready\\n"
        # from the very first append on, and in the midst of opening where the wait is 0
        time.sleep(random.choice([0, random.uniform(0, 0.02), random.uniform(0, 0.3)]))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status == signal.SIGKILL, status
        print(lines.read(), end="", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_no_acknowledged_answer_is_lost(tmp_path):
    path = tmp_path / "feedback.sqlite"
    command = [sys.executable, "-c", DRIVER, str(path), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    acknowledged = {int(seq): index for seq, index in map(str.split, done.stdout.splitlines())}
    assert len(acknowledged) > KILLS
    with Journal(path) as journal:
        assert journal.damage is None
        found = {event.seq: event.record.image_id for event in journal.events()}
    assert acknowledged.items() <= found.items()
    # at most the one write under way at each kill may be there without having been acknowledged
    assert len(found) <= len(acknowledged) + KILLS
