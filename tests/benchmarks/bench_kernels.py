"""Does the screen go on while the user's own cell is busy, under every ipykernel people have?

    python tests/benchmarks/bench_kernels.py [VERSION ...] [--json PATH]

The thread that runs a widget callback, and what a background thread may send, differ between minor
releases of ipykernel. Each version is installed into a temporary folder, without touching this
environment. In each, an answer is given by mouse and by key, training is started, a cell blocks the
kernel for eight seconds, and the texts of the training panel and the pictures of the map that appear
meanwhile are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import scenes

VERSIONS = ("6.31.0", "7.0.1", "7.3.0", "7.4.0")
TEXTS, MAPS = 8, 2  # at least so many different ones in six seconds
BUSY = """
import time
until = time.time() + 8
while time.time() < until:
    sum(range(20000))
"""


def install(version: str, folder: Path) -> Path:
    """Install one ipykernel, and nothing else, into a folder."""
    target = folder / version
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(target), f"ipykernel=={version}"], check=True)
    return target


def add_kernel(server, version: str, target: Path) -> str:
    """Make a kernel that finds that ipykernel first."""
    name = f"ipykernel-{version}"
    folder = Path(server.environment["JUPYTER_DATA_DIR"]) / "kernels" / name
    folder.mkdir(parents=True)
    paths = [str(target), server.environment["PYTHONPATH"]]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(paths)},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    return name


def measure(browser, server, version: str, target: Path) -> dict:
    kernel = add_kernel(server, version, target)
    name = f"busy-{version}"
    server.notebook(name, [scenes.SETUP, scenes.OPEN, BUSY], kernel)
    scene = scenes.Scene(browser, server, name)
    try:
        scene.open()
        scene.execute_cells(0, 2)
        scene.wait_painted()
        scene.wait_until("widget.wait()")
        assert scene.evaluate("__import__('ipykernel').__version__") == version
        scene.button("Reject (r)").click()
        scene.wait_until("len(session.feedback) == 1")
        scene.press("a")
        scene.wait_until("len(session.feedback) == 2")
        scene.wait_text("Saved:")
        idle = scene.evaluate("session.train(epochs=1000, batch_size=16)") or scene.watch(3000)
        scene.execute_cells(2)
        scene.page.wait_for_timeout(500)
        busy = scene.watch(6000)
        state = scene.evaluate("[session.progress.state, session.progress.message]", timeout=30)
        scene.execute("session.stop()")
        return {
            "ipykernel": version,
            "idle texts in 3 s": len(set(idle["texts"])),
            "busy texts in 6 s": len(set(busy["texts"])),
            "busy maps in 6 s": len(set(busy["maps"])),
            "problems": len(scene.problems),
            "training": " ".join(state),
        }
    finally:
        scene.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    parser.add_argument("--json", type=Path, default=Path("artifacts/benchmarks/kernels.json"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, scenes.lab() as (browser, server):
        for version in arguments.versions:
            row = measure(browser, server, version, install(version, Path(folder)))
            row["ok"] = row["busy texts in 6 s"] >= TEXTS and row["busy maps in 6 s"] >= MAPS
            rows.append(row)
            print(row, flush=True)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(rows, indent=1))
    print(f"bars: at least {TEXTS} texts and {MAPS} maps while the cell is busy")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
