"""``kill -9`` at 200 random instants while answers are given and training publishes.

    python tests/benchmarks/bench_kill.py [--kills 200] [--seed 0]

The experiment is that of ``tests/faults/test_session_kill.py``, which kills four times. The bar: no
acknowledged answer lost, every published version loads, every session resumes.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

TEST = Path(__file__).parents[1] / "faults" / "test_session_kill.py"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            answers, versions = _load(TEST).kill_and_resume(
                Path(folder) / "run", arguments.kills, arguments.seed
            )
        except AssertionError as error:
            print(f"{arguments.kills} kills: {error}; bar MISSED")
            return 1
    print(
        f"{arguments.kills} kills in {time.monotonic() - start:.0f} s: {answers} answers acknowledged, "
        f"0 lost; {versions} versions published, the newest loaded after each kill; bar met"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
