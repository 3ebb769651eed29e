"""A session with 5,000 drawn masks: how long it takes to open, and what looking at all of them leaves.

    python tests/benchmarks/bench_masks.py [--masks 5000] [--size 224] [--strokes 5] [--points 200] [--every]

Masks are drawn by wandering brushes and recorded with their strokes, one record each; with --every, one
record after every stroke, as the widget writes them, and the journal holds five times as many. A fresh
process then opens the journal, another the whole session (pictures are JPEG files in memory, so that
checking their contents costs what it costs); the first looks at every mask and every stroke, twice. The
bars: each opens in under 2 s, and looking at the masks leaves less than 10 MB (all of them unpacked would
be 250).
"""

from __future__ import annotations

import argparse
import gc
import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

BAR_SECONDS = 2.0
BAR_MEGABYTES = 10.0
RUNS = 3


def _drawing(rng: np.random.Generator, image_id: str, arguments: argparse.Namespace):
    from xfeedback_widgets.feedback import RegionMask, Stroke

    size = arguments.size
    canvas = Image.new("L", (size, size), 1)
    strokes = []
    for _ in range(arguments.strokes):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.15, arguments.points))
        steps = rng.gamma(2, 0.4, arguments.points)[:, None]
        path = rng.uniform(0, size, 2) + np.cumsum(
            steps * np.stack([np.cos(heading), np.sin(heading)], 1), 0
        )
        width, value = float(rng.integers(6, 24)), int(rng.choice([-1, 1]))
        ImageDraw.Draw(canvas).line(
            [tuple(point) for point in path], fill=value + 1, width=int(width), joint="curve"
        )
        strokes.append(Stroke("brush", value, width, path))
        mask = np.asarray(canvas).astype(np.int8) - 1
        yield RegionMask(image_id, mask, strokes=strokes, duration=4.0)


class _Jpegs:
    """Photograph-like pictures, as JPEG files in memory."""

    def __init__(self, count: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.files = []
        for _ in range(20):
            small = Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8))
            file = io.BytesIO()
            small.resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG")
            self.files.append(file.getvalue())
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(io.BytesIO(self.files[index % 20])), index % 2


def _session(directory: Path, arguments: argparse.Namespace):
    import torch

    import xfeedback_widgets as xf

    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )
    data = xf.data.ImageSet(
        _Jpegs(arguments.masks, arguments.size),
        ids=[f"photo-{i}.jpg" for i in range(arguments.masks)],
        labels=[i % 2 for i in range(arguments.masks)],
        class_names=["one", "two"],
    )
    start = time.perf_counter()
    session = xf.Session(model, data, directory, device="cpu")
    return session, time.perf_counter() - start


def _write(directory: Path, arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    session, _ = _session(directory, arguments)
    with session:
        for image_id in session.data.ids:
            for record in [*_drawing(rng, image_id, arguments)][0 if arguments.every else -1 :]:
                session.record(record)


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def _journal(directory: Path) -> list[float]:
    from xfeedback_widgets.feedback import Journal

    before = _resident()
    start = time.perf_counter()
    with Journal(directory / "feedback.sqlite") as journal:
        masks = journal.feedback().masks
        seconds = time.perf_counter() - start
        opened = _resident()
        looks = []
        for _ in range(2):
            start = time.perf_counter()
            for record in masks.values():
                assert record.mask.shape
                assert all(len(stroke.points) for stroke in record.strokes)
            looks.append((time.perf_counter() - start) / len(masks))
        gc.collect()
        return [seconds, opened - before, _resident() - opened, statistics.mean(looks)]


def _child(step: str, directory: Path, arguments: argparse.Namespace) -> list[float]:
    options = [
        f"--{name}={getattr(arguments, name)}" for name in ("masks", "size", "strokes", "points")
    ]
    command = [sys.executable, __file__, *options, f"--step={step}", f"--directory={directory}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("masks", 5000), ("size", 224), ("strokes", 5), ("points", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--every", action="store_true", help="one record after every stroke")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "journal":
        print(*_journal(arguments.directory))
    elif arguments.step == "session":
        session, seconds = _session(arguments.directory, arguments)
        session.close()
        print(seconds)
    if arguments.step:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        _write(directory, arguments)
        size = (directory / "feedback.sqlite").stat().st_size / 1e6
        print(
            f"{arguments.masks} masks of {arguments.size} × {arguments.size}, {arguments.strokes} "
            f"strokes of {arguments.points} points each: journal of {size:.0f} MB"
        )
        runs = [_child("journal", directory, arguments) for _ in range(RUNS)]
        seconds, opened, grown, look = map(statistics.median, zip(*runs, strict=True))
        session = statistics.median(_child("session", directory, arguments)[0] for _ in range(RUNS))
    print(f"{'open the journal, merge':28}{seconds:8.2f} s    + {opened:.0f} MB resident")
    print(f"{'open the session':28}{session:8.2f} s")
    print(f"{'look at a mask and strokes':28}{look * 1e3:8.2f} ms")
    print(f"{'all looked at, twice':28}{grown:+8.1f} MB resident")
    met = max(seconds, session) < BAR_SECONDS and grown < BAR_MEGABYTES
    print(
        f"bars: {BAR_SECONDS:.0f} s to open, {BAR_MEGABYTES:.0f} MB more:",
        "met" if met else "MISSED",
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
