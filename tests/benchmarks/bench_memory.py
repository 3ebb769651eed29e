"""Memory of the quick start, in a process of its own: problem, session, widget, answers, training.

    python tests/benchmarks/bench_memory.py

Resident memory after ``import torch`` alone is told apart from what the quick start adds, because the
CUDA build of torch is some hundred MB larger before anything is done. The bar is for the CPU build: a
peak below 1.2 GB. On a CUDA build the difference has to stay below what the bar leaves beside the CPU
build's own import.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

BAR = 1200  # MB, 1e6 bytes
CPU_IMPORT = 250  # MB, resident after importing the CPU build of torch
ANSWERS = 40


def _resident() -> tuple[float, float]:
    """Resident memory of this process now and at its peak, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))


def _import_torch() -> None:
    import torch

    print("import torch", *_resident(), torch.version.cuda or "cpu", sep="\t", flush=True)


def _quick_start() -> None:
    import torch

    import xfeedback_widgets as xf
    from xfeedback_widgets import demo

    def say(step: str) -> None:
        print(step, *_resident(), torch.version.cuda or "cpu", sep="\t", flush=True)

    say("import")
    problem = demo.decoy_problem()
    say("train the model that cheats")
    with tempfile.TemporaryDirectory() as directory:
        session = xf.Session(
            problem.model, problem.train, directory, problem.correction, problem.valid,
            **problem.settings,
        )  # fmt: skip
        widget = xf.ReviewWidget(session, order="random")
        assert widget.wait(60)
        say("session and widget")
        annotator = xf.simulate.Annotator(problem.train, threshold=problem.threshold)
        assert demo.press(widget, annotator, ANSWERS) == ANSWERS
        say(f"{ANSWERS} answers")
        widget.buttons["train"].click()
        assert session.wait(600).state == "done"
        assert widget.wait(60)
        say("training")
        widget.close()
        session.close()


def _child(step: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, __file__, step], check=True, stdout=subprocess.PIPE, text=True
    )
    return [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]


def main() -> int:
    alone = _child("--import")[0]
    steps = _child("--quick-start")
    build = alone[3]
    print(f"{'resident memory, MB':32}{'now':>8}{'peak':>8}")
    for name, now, peak, _ in [alone, *steps]:
        print(f"{name:32}{float(now):>8.0f}{float(peak):>8.0f}")
    before, peak = float(alone[2]), float(steps[-1][2])
    print(f"the quick start adds {peak - before:.0f} MB to torch ({build} build)")
    if build == "cpu":
        met = peak < BAR
        print(f"bar: peak below {BAR} MB:", "met" if met else "MISSED")
    else:
        met = peak - before < BAR - CPU_IMPORT
        print(
            f"bar, for the CPU build: peak below {BAR} MB; here: no more than {BAR - CPU_IMPORT} MB "
            "added to torch:",
            "met" if met else "MISSED",
        )
    return 0 if met else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["--import"]:
        _import_torch()
    elif sys.argv[1:] == ["--quick-start"]:
        _quick_start()
    else:
        sys.exit(main())
