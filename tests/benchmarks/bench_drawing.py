"""Drawing: do all points arrive, how soon is there ink, and what do strokes cost.

    python tests/benchmarks/bench_drawing.py [--json PATH] [--strokes N]

A real JupyterLab in headless Chromium, and pointers of 800 points at 1,000 a second. The clock is the
page's own: from the time stamp of each point to the end of the frame in which its ink is painted, and, of
that, until the browser tells the page of it (it keeps a finger's moves back); from the end of a stroke to
the mask that holds it. The mask is compared with the ideal stroke by distance.
What strokes cost in the kernel is measured without a browser.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

import numpy as np
import scenes

from xfeedback_widgets.feedback.strokes import Stroke
from xfeedback_widgets.widgets.drawing import Drawing
from xfeedback_widgets.widgets.drawing.ink import encode

_spec = importlib.util.spec_from_file_location(
    "drawing_tests", Path(__file__).parents[1] / "browser" / "test_drawing.py"
)
assert _spec is not None
assert _spec.loader is not None
tests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tests)

COUNT = 801
# A message posted in a frame's callback is heard when the frame has been painted.
WATCH = """() => {
  const pad = document.querySelector('.xf-pad'), channel = new MessageChannel();
  const wet = document.querySelector('canvas.xf-wet');
  let stamps = [], frame = 0;
  window.begin = () => { window.ink = []; window.newest = []; window.held = []; window.echo = null; };
  channel.port1.onmessage = () => {
    const now = performance.now();
    for (const [last, all] of stamps) {
      window.newest.push(now - last);
      for (const stamp of all) window.ink.push(now - stamp);
    }
    stamps = [];
  };
  pad.addEventListener('pointermove', event => {
    if (!event.pressure && !event.buttons) return;
    window.held.push(performance.now() - event.timeStamp);
    stamps.push([event.timeStamp, event.getCoalescedEvents().map(each => each.timeStamp)]);
    frame ||= requestAnimationFrame(() => { frame = 0; channel.port2.postMessage(0); });
  });
  pad.addEventListener('pointerup', event => {
    const empty = () => {
      const data = wet.getContext('2d').getImageData(0, 0, wet.width, wet.height).data;
      for (let i = 3; i < data.length; i += 64) if (data[i]) return false;
      return true;
    };
    const look = () => empty() ? window.echo = performance.now() - event.timeStamp : setTimeout(look, 8);
    setTimeout(look, 8);
  });
}"""


def browser_rows(strokes: int) -> list[dict]:
    rows = []
    points, forces = tests.eight(COUNT)
    with scenes.lab() as (browser, server):
        server.notebook("drawing", [tests.HOST, tests.PICTURE])
        scene = scenes.Scene(browser, server, "drawing")
        try:
            on = tests.Canvas(scene)
            hand = scenes.Hand(scene)
            scene.page.evaluate(WATCH)
            for kind in ("mouse", "touch", "pen"):
                figures: dict[str, list[float]] = {}
                for number in range(strokes):
                    row = one_stroke(on, hand, f"{kind}-{number}", kind, points, forces)
                    for name, values in row.items():
                        figures.setdefault(name, []).extend(values)
                rows.append({"pointer": kind, **{name: summary(v) for name, v in figures.items()}})
            hand.close()
        finally:
            scene.close()
    return rows


def one_stroke(on, hand, name, kind, points, forces) -> dict[str, list[float]]:
    on.fresh(name)
    on.page.evaluate("window.begin()")
    hand.draw(on.at(points), kind, forces if kind == "pen" else None)
    on.page.wait_for_function("window.echo !== null")
    ((_, _, size, drawn),) = on.strokes(1)
    drawn = np.array(drawn)
    widths = size * (forces if kind == "pen" else np.ones(len(points)))
    wanted = tests.ideal(points / tests.SCALE, widths)
    mask = np.array(on.lab.evaluate("(view.drawing.mask == -1).astype(int).tolist()"), bool)
    return {
        "points": [len(drawn)],
        "gap, px": [float(np.hypot(*np.diff(drawn[:, :2], axis=0).T).max())],
        "IoU": [float((mask & wanted).sum() / (mask | wanted).sum())],
        "event to ink, ms": on.page.evaluate("window.newest"),
        "… to page, ms": on.page.evaluate("window.held"),
        "point to ink, ms": on.page.evaluate("window.ink"),
        "stroke to mask, ms": [on.page.evaluate("window.echo")],
    }


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        "least": ordered[0],
        "most": ordered[-1],
    }


def kernel_rows() -> list[dict]:
    """Milliseconds of what a callback and the pump do for one stroke."""
    rows = []
    heat = np.exp(-((np.mgrid[:7, :7] - 3.0) ** 2).sum(axis=0) / 5).astype(np.float32)
    for width, height in ((224, 224), (640, 480), (4000, 3000)):
        path, _ = tests.eight(COUNT)
        path = np.float32(path / 480 * [width, height])
        drawing = Drawing(width, height)
        stroke = Stroke("brush", -1, 0.08 * max(width, height), path)
        steps = {
            "brush, 800 points": lambda d=drawing, s=stroke: (d.add(s), d.take_back()),
            "lasso, 800 points": lambda d=drawing, p=path: (
                d.add(Stroke("polygon", 1, points=p)),
                d.take_back(),
            ),
            "fill": lambda d=drawing: d.fill(heat, 0.5, -1),
            "record": lambda d=drawing: d.record("a"),
            "mask for the page": lambda d=drawing: encode(d.mask),
            "words": lambda d=drawing: d.shares(heat),
        }
        for name, step in steps.items():
            taken = []
            for _ in range(9):
                start = time.perf_counter()
                step()
                taken.append(1000 * (time.perf_counter() - start))
            rows.append({"picture": f"{width} x {height}", "step": name, **summary(taken)})
            if name.startswith("lasso"):
                drawing.add(stroke)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("artifacts/benchmarks/drawing.json"))
    parser.add_argument("--strokes", type=int, default=10)
    arguments = parser.parse_args()
    kernel = kernel_rows()
    print(f"{'picture':12} {'step':20} {'p50, ms':>9} {'p95, ms':>9}")
    for row in kernel:
        print(f"{row['picture']:12} {row['step']:20} {row['p50']:>9.2f} {row['p95']:>9.2f}")
    browser = browser_rows(arguments.strokes)
    bars = {
        "points": f"= {COUNT}",
        "gap, px": "<= 1",
        "IoU": ">= 0.99",
        "event to ink, ms": "<= 16",
    }
    print(f"\n{'pointer':8} {'figure':20} {'p50':>8} {'p95':>8} {'least':>8} {'most':>8}  bar")
    for row in browser:
        for name, figure in row.items():
            if name != "pointer":
                numbers = " ".join(
                    f"{figure[key]:>8.4g}" for key in ("p50", "p95", "least", "most")
                )
                print(f"{row['pointer']:8} {name:20} {numbers}  {bars.get(name, '')}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"kernel": kernel, "browser": browser}, indent=1))


if __name__ == "__main__":
    main()
