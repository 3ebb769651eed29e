"""How long a person waits in the browser: click to "saved", click to the next image, kernel callbacks.

    python tests/benchmarks/bench_latency.py [--json PATH] [--answers N]

A real JupyterLab in headless Chromium. The clock is the page's own: from the click event to the moment
the status line says "Saved", and to the first frame in which heading, picture and map are those of the
next image. The callback is timed in the kernel. Each is measured at rest and while training runs, on
the digits of the browser tests and on ResNet-18 with pictures of 224 pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import scenes

BARS = {
    "click to saved, ms": {"at rest": 50, "training": 50},
    "callback, ms": {"at rest": 20, "training": 20},
    "click to next image, ms": {"at rest": 250, "training": 500},
}
LARGE = """
from torchvision.models import resnet18
model = resnet18(num_classes=10)
images = nn.functional.interpolate(images, size=224).repeat(1, 3, 1, 1)
data = ImageSet(list(zip(images, labels.tolist())), ids=[f"digit-{i}" for i in range(count)],
                class_names=names)
"""
OPEN = """
directory = tempfile.mkdtemp(dir=".")
session = Session(model, data, directory, CrayonAttention(), annotator="me")
widget = ReviewWidget(session, order="dataset")
widget
"""
TIMED = """
import time
took, act = [], widget._actions["reject"]
def timed():
    started = time.perf_counter()
    act()
    took.append(1000 * (time.perf_counter() - started))
widget._actions["reject"] = timed
"""
# Words are watched by an observer, and pixels only after the words have changed and as small copies:
# looking must not cost what is being measured.
WATCH = """() => {
  const small = document.createElement('canvas');
  small.width = small.height = 16;
  const context = small.getContext('2d', {willReadFrequently: true});
  const print = kind => {
    context.clearRect(0, 0, 16, 16);
    context.drawImage(document.querySelector(`.xf-single .${kind}`), 0, 0, 16, 16);
    return context.getImageData(0, 0, 16, 16).data.join();
  };
  const prints = () => [print('xf-picture'), print('xf-overlay')];
  const status = () => document.querySelector('.xf-status').textContent;
  const heading = () => document.querySelector('.xf-facts strong').textContent;
  const changes = (selector, changed) => new Promise(done => {
    const look = () => { if (changed()) { observer.disconnect(); done(performance.now()); } };
    const observer = new MutationObserver(look);
    const watched = {childList: true, subtree: true, characterData: true};
    observer.observe(document.querySelector(selector), watched);
  });
  window.arm = () => { window.before = prints(); window.result = null; };
  document.addEventListener('click', async event => {
    if (!event.target.closest('.xf-reject')) return;
    const start = event.timeStamp, [said, named] = [status(), heading()];
    const saved = changes('.xf-status', () => status() !== said && status().startsWith('Saved'));
    await changes('.xf-facts', () => heading() !== named);
    const facts = () => document.querySelector('.xf-facts').textContent;
    const painted = ([picture, map]) =>
      picture !== window.before[0] && !facts().includes('Computing') &&
      (map !== window.before[1] || facts().includes('No attention'));
    while (!painted(prints()))
      await new Promise(go => setTimeout(go, 4));
    await new Promise(requestAnimationFrame);
    const shown_at = performance.now();
    window.result = {saved: await saved - start, painted: shown_at - start};
  }, true);
}"""


def answer(scene, count: int) -> dict[str, list[float]]:
    """Answer some images as a quick person does, and return what was measured."""
    scene.execute("took.clear()")
    figures: dict[str, list[float]] = {name: [] for name in BARS}
    for _ in range(count):
        scene.page.evaluate("window.arm()")
        box = scene.button("Reject (r)").bounding_box()
        scene.page.mouse.click(box["x"] + 20, box["y"] + 20)
        scene.page.wait_for_function("window.result !== null", timeout=12_000)
        result = scene.page.evaluate("window.result")
        figures["click to saved, ms"].append(result["saved"])
        figures["click to next image, ms"].append(result["painted"])
        time.sleep(0.25)
    figures["callback, ms"] = scene.evaluate("took")
    return figures


def measure(browser, server, name: str, extra: str, count: int) -> list[dict]:
    server.notebook(name, [scenes.SETUP + extra, OPEN])
    scene = scenes.Scene(browser, server, name)
    rows = []
    try:
        scene.start()
        scene.execute(TIMED)
        scene.wait_until("widget.wait()", timeout=60)
        scene.page.evaluate(WATCH)
        answer(scene, 5)
        for load in ("at rest", "training"):
            if load == "training":
                scene.execute("session.train(epochs=1000, batch_size=8)")
                scene.wait_until("session.progress.step > 2", timeout=180)
            for figure, values in answer(scene, count).items():
                rows.append(
                    {
                        "model": name,
                        "load": load,
                        "figure": figure,
                        "p50": statistics.median(values),
                        "p95": float(np.percentile(values, 95)),
                        "bar": BARS[figure][load],
                        "count": len(values),
                    }
                )
            if load == "training":
                assert scene.evaluate("session.progress.active"), "the training ended too early"
        scene.execute("session.stop(); session.wait(60)", timeout=90)
    finally:
        scene.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("artifacts/benchmarks/latency.json"))
    parser.add_argument("--answers", type=int, default=100)
    arguments = parser.parse_args()
    with scenes.lab() as (browser, server):
        rows = measure(browser, server, "digits", "", arguments.answers)
        rows += measure(browser, server, "resnet18", LARGE, arguments.answers)
    print(f"{'model':10} {'load':9} {'figure':25} {'p50':>7} {'p95':>7} {'bar':>5}")
    for row in rows:
        mark = "" if row["p95"] <= row["bar"] else "  above"
        print(
            f"{row['model']:10} {row['load']:9} {row['figure']:25} "
            f"{row['p50']:>7.1f} {row['p95']:>7.1f} {row['bar']:>5}{mark}"
        )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
