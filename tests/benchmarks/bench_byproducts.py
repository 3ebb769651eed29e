"""Reading a file as large as COCO-AB: how long it takes, and how much memory.

    python tests/benchmarks/bench_byproducts.py [--megabytes 398]

The file is written first, of tagging pages with about as much on them as the published ones. A fresh process
then reads it twice: record by record, as an import does, and keeping all of them, as a training run does.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

BAR = 500  # megabytes of resident memory

_READ = """
import resource, sys, time
from xfeedback_widgets.feedback import import_coco_ab
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
imported = peak()
kept, calls, start = [], [], time.perf_counter()
keep = kept.append if sys.argv[2] == "keep" else lambda record: None
count = 0
for record in import_coco_ab(sys.argv[1], on_progress=lambda *at: calls.append(at)):
    keep(record)
    count += len(record.final_placement)
print(count, time.perf_counter() - start, imported, peak(), len(calls))
"""


def _write(path: Path, megabytes: float) -> None:
    from xfeedback_widgets.feedback import CocoAB, export_ab

    rng = random.Random(0)
    icons = [f"class {number}" for number in range(80)]

    def pages():
        number = 0
        while not path.exists():
            number += 1
            steps = sorted(rng.uniform(0, 2e4) for _ in range(40))
            actions = [
                ("add", icon, None, (rng.random(), rng.random()), at)
                for icon, at in zip(rng.sample(icons, 5), sorted(rng.sample(steps, 5)), strict=True)
            ]
            yield CocoAB(
                number, 428, 640, 450, 450, timeSpent=20000, actionHistories=actions,
                categoryHistories=[(i, f"group {i}", at, False) for i, at in enumerate(steps[:8])],
                mouseTracking=[[rng.random(), rng.random(), at] for at in steps],
                worker_id="00AA3B5E80", hit_id="3AMYWKA6YLE80HK9QYYHI2YEL2YO6L", page_id=8,
            )  # fmt: skip

    # one page tells how many there must be
    export_ab([next(pages())], path, workers="keep")
    size = path.stat().st_size
    path.unlink()
    wanted = round(megabytes * 1e6 / size)
    export_ab((page for page, _ in zip(pages(), range(wanted), strict=False)), path, workers="keep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=398)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coco_ab.json"
        _write(path, arguments.megabytes)
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        for how in ("pass", "keep"):
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(path), how],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            count, seconds, imported, peak, calls = done.stdout.split()
            words = {"pass": "record by record", "keep": "keeping all records"}[how]
            print(
                f"{words:20} {float(seconds):6.1f} s  {float(peak):6.0f} MB resident (bar {BAR}), of which "
                f"{float(imported):.0f} before reading; {count} placements, progress told {calls} times"
            )


if __name__ == "__main__":
    main()
