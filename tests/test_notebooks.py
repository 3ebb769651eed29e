"""Every notebook runs from top to bottom, and says what it promises."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def _run(name: str, folder: Path, *, after_first: str | None = None) -> str:
    """Run a copy of the notebook, a line added after its first code cell; return what it printed."""
    for path in NOTEBOOKS.glob(f"{Path(name).stem}.*"):  # and the results stored beside it
        shutil.copy(path, folder)
    notebook = nbformat.read(folder / name, as_version=4)
    if after_first is not None:
        first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(after_first))
    # threads that wait for each other on busy cores make small networks many times slower
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1", "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )


def test_quickstart(tmp_path):
    printed = _run("01_quickstart.ipynb", tmp_path)
    lie, now = (
        float(re.search(rf"{words}: +([0-9.]+)", printed).group(1))
        for words in ("corners lie", "corners lie, now")
    )
    plain, random = (
        float(re.search(rf"{name} +([0-9.]+)", printed).group(1))
        for name in ("plain fine-tuning", "random feedback")
    )
    assert lie < 0.6
    assert now > max(plain, random) + 0.2
    assert (tmp_path / "runs" / "quickstart" / "CURRENT").exists()


def test_crayon(tmp_path):
    """With fewer epochs than it is shipped with: what is tested is the notebook, not the method."""
    printed = _run("02_crayon.ipynb", tmp_path, after_first="problem.settings.update(epochs=3)")
    assert re.search(r"\d+ of 64 units rejected\ndone: 1 of 1 epochs published", printed)
    rows = re.findall(r"^(\S.*?) {2,}([01]\.\d{3}) +([01]\.\d{3})$", printed, re.MULTILINE)
    accuracy = {name: float(of_all) for name, of_all, _ in rows}
    worst = {name: float(group) for name, _, group in rows}
    assert list(worst) == [
        "base", "plain fine-tuning", "random answers",
        "Attention", "Pruning", "Attention+Pruning", "DFR (knows the groups)",
    ]  # fmt: skip
    assert worst["base"] < 0.2
    controls = max(worst["plain fine-tuning"], worst["random answers"])
    assert min(worst["Attention"], worst["Attention+Pruning"]) > controls + 0.1
    assert accuracy["Pruning"] != accuracy["base"]
    assert (tmp_path / "runs" / "crayon" / "CURRENT").exists()


def test_gradia(tmp_path):
    """With fewer epochs, too."""
    printed = _run("03_gradia.ipynb", tmp_path, after_first="problem.settings.update(epochs=3)")
    before, after = (
        {cell: int(count) for cell, count in re.findall(r"'(\w+)': (\d+)", line)}
        for line in re.findall(r"^(?:before|after): .*$", printed, re.MULTILINE)
    )
    assert sum(before.values()) == sum(after.values()) == 100
    assert after["UA"] < before["UA"] / 2
    rows = re.findall(
        r"^(\S.*?) {2,}([01]\.\d{3}) +([01]\.\d{3}) +([01]\.\d{3})$", printed, re.MULTILINE
    )
    worst = {name: float(group) for name, _, group, _ in rows}
    overlap = {name: float(share) for name, _, _, share in rows}
    controls = ["plain fine-tuning", "random masks", "shuffled masks"]
    assert list(worst) == ["base", *controls, "GRADIA"]
    assert worst["GRADIA"] > max(worst[name] for name in controls) + 0.2
    assert overlap["GRADIA"] < overlap["base"] / 2
    assert (tmp_path / "runs" / "gradia" / "CURRENT").exists()


def test_audit(tmp_path):
    """With fewer epochs of correction, too."""
    printed = _run("05_audit.ipynb", tmp_path, after_first="settings.update(epochs=2)")
    lowest = re.findall(r"^ +(\d) +\d +\d+ +([01]\.\d{3}) ", printed, re.MULTILINE)[:2]
    assert {name for name, _ in lowest} == {"3", "8"}, "the planted classes are the lowest"
    assert min(float(accuracy) for _, accuracy in lowest) > 0.95, "and accuracy does not tell"
    rows = re.findall(
        r"^(\S.*?) {2,}([01]\.\d{3}) +([01]\.\d\d) +([01]\.\d\d) ", printed, re.MULTILINE
    )
    mean = {name: (float(three) + float(eight)) / 2 for name, _, three, eight in rows}
    assert list(mean) == ["base", "plain fine-tuning", "random masks", "GRADIA"]
    assert mean["GRADIA"] > max(mean["plain fine-tuning"], mean["random masks"]) + 0.1
    assert "robustness score 0." in printed
    assert (tmp_path / "runs" / "audit" / "CURRENT").exists()


def test_bayesian(tmp_path):
    """With fewer steps than it is shipped with."""
    lighter = "base_steps, answers = 300, 40\nsettings.update(epochs=1, steps_per_epoch=80)"
    printed = _run("04_bayesian.ipynb", tmp_path, after_first=lighter)
    lie, now = (
        float(re.search(rf"{words}: +([0-9.]+)", printed).group(1))
        for words in ("corners lie", "corners lie, now")
    )
    assert lie < 0.88
    assert now > lie + 0.03
    number = r" +(-?[0-9.]+)"
    live = printed.partition("bench_bayesian.py")[0]  # before the table that is stored
    rows = re.findall(rf"^(\S.*?){number * 5}$", live, re.MULTILINE)
    accuracy = {name: float(row[0]) for name, *row in rows}
    overlap = {name: float(row[1]) for name, *row in rows}
    controls = ["converted", "plain fine-tuning", "random masks"]
    corrections = ["the paper's density", "with relevant marks", "scale-free density"]
    assert list(accuracy) == [*controls, *corrections]
    for told in corrections:
        assert accuracy[told] > max(accuracy[name] for name in controls) + 0.02
        assert overlap[told] < min(overlap[name] for name in controls)
    stored = (
        json.loads(path.read_text()) if (path := tmp_path / "04_bayesian.json").exists() else {}
    )
    for arm in stored.get("decoys", {}).get("mean", {}):
        assert re.search(rf"^{re.escape(arm)} +[01]\.\d{{3}} ", printed, re.MULTILINE)
    assert "bench_bayesian.py decoys --json" in printed
    assert (tmp_path / "runs" / "bayesian" / "CURRENT").exists()


def test_luab(tmp_path):
    """With fewer epochs, too."""
    printed = _run("06_luab.ipynb", tmp_path, after_first="settings.update(epochs=3)")
    inside, chance = map(float, re.search(r"^([01]\.\d+) of 400 .*: ([01]\.\d+)", printed).groups())
    assert inside > 0.75
    assert chance < 0.5
    rows = re.findall(
        r"^(\S.*?) {2,}([01]\.\d{3}) +([01]\.\d{3}) +([01]\.\d{3})$", printed, re.MULTILINE
    )
    accuracy = {name: float(share) for name, share, _, _ in rows}
    on_digit = {name: float(share) for name, _, _, share in rows}
    controls = ["base", "plain fine-tuning", "random points, head", "random points, map"]
    assert [*controls[:3], "LUAB, head", controls[3], "LUAB, map"] == list(accuracy)
    assert on_digit["LUAB, map"] > max(on_digit[name] for name in controls) + 0.03
    assert accuracy["LUAB, map"] > max(accuracy[name] for name in controls)
    assert (tmp_path / "runs" / "luab" / "clicks.json").exists()
    assert (tmp_path / "runs" / "luab" / "CURRENT").exists()


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_kept_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert not any("text/html" in o.get("data", {}) for o in cell.get("outputs", []))
        assert cell.get("execution_count") is None
