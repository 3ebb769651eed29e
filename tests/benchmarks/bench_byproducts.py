"""Reading a file as large as COCO-AB, and a page of 48 pictures in a real browser.

    python tests/benchmarks/bench_byproducts.py [files|browse ...] [--megabytes 398] [--turns 8]

``files``: a file is written first, of tagging pages with about as much on them as the published ones. A fresh
process then reads it twice: record by record, as an import does, and keeping all of them, as a training run
does. ``browse``: photographs of 256 pixels in a real JupyterLab; 300 places of the pointer at 1,000 a second
and 20 clicks, then the pages are turned, from the press to the frame in which all pictures can be seen.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BAR = 500  # megabytes of resident memory
TURN, MESSAGES, HERTZ = 400, 40, 60  # ms, at most; at most; places a second, at most

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


PHOTOGRAPHS = """
import tempfile, torch, numpy as np
import xfeedback_widgets as xf
from skimage import data as pictures
from PIL import Image
from xfeedback_widgets.demo import small_cnn

rng = np.random.default_rng(0)
sources = [Image.fromarray(each()) for each in (pictures.astronaut, pictures.chelsea, pictures.coffee)]

class Crops(torch.utils.data.Dataset):
    targets = [0] * 480
    def __len__(self):
        return 480
    def __getitem__(self, number):
        source = sources[number % 3]
        left, top = number % 37, number % 29
        return source.crop((left, top, left + 256, top + 256)), 0

names = ["picture", "other"]
to_tensor = lambda image: torch.tensor(np.asarray(image.resize((32, 32)))).permute(2, 0, 1) / 255
data = xf.data.ImageSet(Crops(), ids=[str(i) for i in range(480)], class_names=names, transform=to_tensor)
session = xf.Session(small_cnn(3, 2), data, tempfile.mkdtemp(dir="."), xf.corrections.Luab())
"""


def _browser_tests():
    path = Path(__file__).parents[1] / "browser" / "test_byproducts.py"
    spec = importlib.util.spec_from_file_location("byproducts_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def browse(arguments: argparse.Namespace) -> bool:
    import scenes

    tests = _browser_tests()
    with scenes.lab() as (browser, server):
        server.notebook("browse", [PHOTOGRAPHS, tests.BROWSE])
        scene = scenes.Scene(browser, server, "browse")
        try:
            scene.open()
            scene.collapse_left()
            scene.run_all()
            scene.page.wait_for_selector(".xf-picks[data-page='0']", timeout=60_000)
            scene.page.wait_for_timeout(1000)
            tiles = tests.boxes(scene, ".xf-pick")
            mouse = scenes.Hand(scene)
            tests.sweep(mouse, tiles)
            tests.click_all(mouse, tiles, [(n, 0.5, 0.5) for n in range(3, 43, 2)])
            scene.wait_until("len(widget.chosen) == 20")
            messages = scene.evaluate("len(messages)")
            mouse.close()
            turns = []
            for _ in range(arguments.turns):
                scene.page.evaluate(tests.TURN)
                scene.button("Next page").click()
                scene.page.wait_for_function("window.turned", timeout=20_000)
                turns.append(scene.page.evaluate("window.turned"))
                scene.page.wait_for_timeout(800)  # as long as somebody looks, at least
            scene.wait_until("widget.wait()")
            paths = scene.evaluate("[r.mouseTracking[:, 2].tolist() for r in widget.records]")
        finally:
            scene.close()
    times = sorted(itertools.chain.from_iterable(paths))
    fastest = 1000 / max(1e-9, min(b - a for a, b in itertools.pairwise(times)))
    middle, slow = statistics.median(turns), max(turns)
    print(
        f"300 places and 20 clicks: all clicks, {messages} messages (bar {MESSAGES}), {len(times)} places "
        f"kept, at most {fastest:.0f} a second (bar {HERTZ})\n"
        f"page of 48 turned: {middle:.0f} ms, slowest of {len(turns)} {slow:.0f} ms (bar {TURN})"
    )
    return messages <= MESSAGES and middle < TURN and fastest <= HERTZ * 1.05


def files(arguments: argparse.Namespace) -> bool:
    peaks = []
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
            peaks.append(float(peak))
            words = {"pass": "record by record", "keep": "keeping all records"}[how]
            print(
                f"{words:20} {float(seconds):6.1f} s  {float(peak):6.0f} MB resident (bar {BAR}), of which "
                f"{float(imported):.0f} before reading; {count} placements, progress told {calls} times"
            )
    return max(peaks) < BAR


PARTS = {"files": files, "browse": browse}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--megabytes", type=float, default=398)
    parser.add_argument("--turns", type=int, default=8)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    missed = [name for name in arguments.parts or PARTS if not PARTS[name](arguments)]
    for name in missed:
        print(f"{name}: a bar was missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
