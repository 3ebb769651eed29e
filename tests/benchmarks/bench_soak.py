"""Ten minutes of publishing while maps are computed and buttons pressed: no error, nothing grows.

    python tests/benchmarks/bench_soak.py [--minutes 10]

One process: the trainer publishes a version every few steps, the review widget explains and answers as
fast as it is pressed. Counted: errors shown anywhere, versions published, answers given; sampled: resident
memory, widgets alive, threads. The bars: 0 errors, and memory and widgets in the last third no higher than
in the second (the first third warms caches up).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time

import ipywidgets
import psutil
import torch
from sklearn.datasets import load_digits
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.data import ImageSet


def _problem() -> tuple[nn.Module, ImageSet]:
    images, labels = load_digits(return_X_y=True)
    tensors = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[:300] / 16
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    return model, ImageSet(
        list(zip(tensors, labels[:300].tolist(), strict=True)),
        ids=[f"digit-{i}" for i in range(300)],
    )


def main() -> int:  # noqa: PLR0915 - one experiment, told in order
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model, data = _problem()
    process = psutil.Process()
    errors: list[str] = []
    samples: list[tuple[float, float, int, int]] = []
    with tempfile.TemporaryDirectory() as directory:
        session = xf.Session(
            model, data, directory, epochs=10_000, steps_per_epoch=3, batch_size=16, keep_versions=5
        )
        session.subscribe(
            lambda event, payload: errors.append(str(payload.error)) if event == "error" else None
        )
        widget = xf.ReviewWidget(session, order="dataset")
        widget.wait(60)
        session.record(xf.Verdict(data.ids[0], "reject"))
        session.train()
        stop = threading.Event()

        def explain() -> None:
            """A user's cell that looks at maps in a loop."""
            for start in itertools.count():
                if stop.is_set():
                    return
                ids = [data.ids[(start * 8 + i) % len(data)] for i in range(8)]
                try:
                    session.explain(ids)
                except Exception as error:  # noqa: BLE001 - counting them is the point
                    errors.append(repr(error))

        looker = threading.Thread(target=explain)
        looker.start()
        begin = last = time.monotonic()
        pressed = 0
        while (now := time.monotonic()) < begin + 60 * arguments.minutes:
            for action in ("reject", "unsure", "undo", "redo", "back", "accept"):
                widget.buttons[action].click()
                pressed += 1
                time.sleep(0.02)
            if now - last >= max(1.0, 60 * arguments.minutes / 60):
                last = now
                samples.append(
                    (
                        now - begin,
                        process.memory_info().rss / 2**20,
                        len(ipywidgets.widgets.widget._instances),
                        threading.active_count(),
                    )
                )
        stop.set()
        looker.join()
        progress = session.progress
        session.stop()
        session.wait(60)
        published = session.version
        widget.close()
        session.close()
    if progress.state != "running":
        errors.append(f"the trainer was {progress.state}: {progress.error}")
    third = len(samples) // 3
    memory = [[s[1] for s in samples[i * third : (i + 1) * third]] for i in range(3)]
    widgets = [max(s[2] for s in samples[i * third : (i + 1) * third]) for i in range(3)]
    threads = [max(s[3] for s in samples[i * third : (i + 1) * third]) for i in range(3)]
    medians = [statistics.median(m) for m in memory]
    print(
        f"{arguments.minutes:g} minutes: {published} versions published, {pressed} presses, "
        f"{len(errors)} errors"
    )
    print(
        f"resident memory, median MiB of each third: {medians[0]:.0f}, {medians[1]:.0f}, {medians[2]:.0f}"
    )
    print(f"widgets alive, maximum of each third:      {widgets[0]}, {widgets[1]}, {widgets[2]}")
    print(f"threads, maximum of each third:            {threads[0]}, {threads[1]}, {threads[2]}")
    for error in sorted(set(errors))[:10]:
        print("error:", error)
    flat = medians[2] <= medians[1] * 1.03 and widgets[2] <= widgets[1]
    print(
        "bars: 0 errors, memory within 3 % and widgets no more than in the second third:", end=" "
    )
    print("met" if flat and not errors else "MISSED")
    return 0 if flat and not errors else 1


if __name__ == "__main__":
    sys.exit(main())
