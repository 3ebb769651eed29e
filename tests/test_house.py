"""The house: each part of the package imports only what stands below it; public names exist."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xfeedback_widgets as xf

PACKAGE = Path(xf.__file__).parent

#: From the roof to the foundation.
STOREYS = [
    {"cli"},
    {"demo"},
    {"widgets", "simulate"},
    {"session"},
    {"training"},
    {"audit"},
    {"metrics"},
    {"corrections"},
    {"units"},
    {"data"},
    {"feedback"},
    {"bayesian"},
    {"saliency"},
]
HEIGHT = {part: -level for level, storey in enumerate(STOREYS) for part in storey}


def _imports(path: Path) -> set[str]:
    """Parts of the package that a module imports, also inside functions."""
    names: set[str] = set()
    relative = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(relative[: len(relative) - node.level]) if node.level else []
            module = ".".join(
                [*(["xfeedback_widgets", *base] if node.level else []), node.module or ""]
            )
            names |= {f"{module.rstrip('.')}.{alias.name}" for alias in node.names}
    return {
        name.split(".")[1]
        for name in names
        if name.startswith("xfeedback_widgets.") and name.split(".")[1] in HEIGHT
    }


MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent != PACKAGE or p.stem in HEIGHT]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_what_stands_below(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in HEIGHT, f"{part} has no storey: add it to the house"
    for other in _imports(path) - {part}:
        assert HEIGHT[other] < HEIGHT[part], f"{part} may not import {other}"


def test_every_public_name_exists():
    for name in xf.__all__:
        assert getattr(xf, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = xf.nothing


def test_importing_the_package_does_not_load_what_most_calls_do_without():
    heavy = "captum, matplotlib, skimage, transformers, timm, ipywidgets, ipycanvas, pandas"
    code = (
        "import sys, xfeedback_widgets; "
        f"print(*[name for name in {heavy.split(', ')!r} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_files_of_feedback_are_read_without_torch():
    """Reading 400 MB of byproducts must not cost the memory of a framework first."""
    code = "import sys, xfeedback_widgets.feedback; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
