"""What the browser benchmarks share with the browser tests: their JupyterLab and their notebooks."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_spec = importlib.util.spec_from_file_location(
    "browser_tests", Path(__file__).parents[1] / "browser" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_tests: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tests)

SETUP, OPEN = _tests.SETUP, _tests.OPEN
Scene, Hand = _tests.Scene, _tests.Hand


@contextlib.contextmanager
def lab() -> Iterator[tuple[Any, Any]]:
    """Start headless Chromium and a JupyterLab in a temporary folder; yields (browser, server)."""
    from playwright.sync_api import sync_playwright

    executable = _tests.find_chromium()
    if executable is None:
        raise SystemExit("no Chromium: install Debian's chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = _tests.Server(Path(folder) / "jupyter")
        try:
            browser = playwright.chromium.launch(
                executable_path=executable, args=_tests.CHROMIUM_FLAGS
            )
            yield browser, server
            browser.close()
        finally:
            server.close()
