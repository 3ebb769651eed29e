"""Run every benchmark in turn: ``python -m tests.benchmarks [NAME ...] [--list]``.

Each one is a script of its own that prints a table and says which bar each figure has to reach; this
runs them one after the other, so that none disturbs another's clock, and keeps what they print in
``artifacts/benchmarks``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = HERE.parents[1] / "artifacts" / "benchmarks"


def main() -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(known)}"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print(*known, sep="\n")
        return 0
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.names or known:
        print(f"── {name}", flush=True)
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(HERE / f"bench_{name}.py")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        with (OUTPUT / f"{name}.txt").open("w") as kept:
            for line in process.stdout:
                print(line, end="", flush=True)
                kept.write(line)
        if process.wait():
            failed.append(name)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
