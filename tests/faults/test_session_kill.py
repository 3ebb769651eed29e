"""``kill -9`` while answers are given and training publishes: nothing acknowledged is lost.

A child process answers as fast as it can and prints each answer once ``record`` has returned, while its
trainer publishes a version every few steps. It is killed at a random instant; then the directory must
hold every printed answer, and the version it points to must load, bit for bit what was written.

The suite kills a few times; ``python tests/faults/test_session_kill.py 200`` as often as told.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.corrections import CrayonAttention
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback

IMAGES = 400


def _problem() -> tuple[nn.Module, ImageSet]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    images = torch.rand(IMAGES, 1, 8, 8)
    return model, ImageSet(
        [(image, i % 2) for i, image in enumerate(images)],
        ids=[f"image-{i}" for i in range(IMAGES)],
    )


def _child(directory: str) -> None:
    """Answer for ever; a line on standard output acknowledges an answer."""
    torch.set_num_threads(1)
    model, data = _problem()
    # the first step of a process imports half of torch: be past that before anyone counts
    xf.fine_tune(model, data, Feedback(), CrayonAttention(), epochs=1, steps_per_epoch=1)
    model, data = _problem()
    session = xf.Session(
        model, data, directory, CrayonAttention(), train_every=5,
        epochs=3, steps_per_epoch=2, batch_size=8, keep_versions=5,
    )  # fmt: skip
    print("ready", session.version, len(session.feedback), flush=True)
    while True:
        for image_id in data.ids:
            answer = random.choice(("accept", "reject", "unsure"))
            session.record(xf.Verdict(image_id, answer))
            print(image_id, answer, flush=True)


def kill_and_resume(directory: Path, kills: int, seed: int = 0) -> tuple[int, int]:
    """Kill the child ``kills`` times in one directory; return (answers acknowledged, versions)."""
    rng = random.Random(seed)
    acknowledged: list[tuple[str, str]] = []
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        ready = child.stdout.readline().split()
        assert ready[:1] == ["ready"], "the session did not resume"
        assert int(ready[2]) == len({image_id for image_id, _ in acknowledged})
        time.sleep(rng.uniform(0, 1.0))
        child.kill()
        # a last line without its newline was cut off while printing: it was never read by anyone
        lines = [line for line in child.stdout if line.endswith("\n")]
        child.wait()
        acknowledged += [(line.split()[0], line.split()[1]) for line in lines]

        model, data = _problem()
        with xf.Session(model, data, directory) as session:
            recorded = [(r.image_id, r.answer) for r in session.feedback.records]
            # at most one answer per kill was on disk before it could be acknowledged
            assert _is_subsequence(acknowledged, recorded), "an acknowledged answer was lost"
            assert session.damage == []
            weights = session._store.weights(session.version)  # checks the checksum
            live = model.state_dict()
            assert all(torch.equal(weights[name], live[name]) for name in live)
            acknowledged = recorded
            versions = session.versions[-1].number
    return len(acknowledged), versions


def _is_subsequence(some: list, of: list) -> bool:
    rest = iter(of)
    return all(item in rest for item in some)


def test_nothing_acknowledged_is_lost(tmp_path):
    answers, versions = kill_and_resume(tmp_path / "run", kills=4)
    assert answers > 20
    assert versions > 1


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        _child(sys.argv[2])
    else:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            kills = int(sys.argv[1])
            answers, versions = kill_and_resume(Path(folder) / "run", kills)
            print(f"{kills} kills: {answers} answers, 0 lost; {versions} versions, each loaded")
