"""The quick-start notebook as its reader meets it: run, answer by keyboard, train, look again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_quickstart.ipynb"


def test_the_quick_start(scene):
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    shown = ["".join(c["source"]) for c in cells]
    upto = next(i for i, text in enumerate(shown) if "ReviewWidget" in text) + 1
    lab = scene(["%env OMP_NUM_THREADS=1", *shown[:upto]])
    lab.open()
    lab.run_all()
    lab.wait_painted(timeout=180_000)
    before = lab.evaluate("accuracy(problem.test)", timeout=60)
    # thirty answers, given as a person gives them: the key that the shown map deserves
    lab.execute(
        "annotator = xf.simulate.Annotator(problem.train, threshold=problem.threshold)\n"
        "def deserved():\n"
        "    shown = _widget.explained\n"
        "    return shown and annotator.judge(shown.image_id, torch.from_numpy(shown.saliency))\n"
        "import torch, gc\n"
        "_widget = next(o for o in gc.get_objects() if type(o) is xf.ReviewWidget)"
    )
    lab.focus()
    for answered in range(30):
        answer = lab.wait_until("_widget.wait(5) and deserved()", timeout=30)
        lab.press({"accept": "a", "reject": "r", "unsure": "u"}[answer])
        lab.wait_until(f"len(session.feedback) == {answered + 1}")
    lab.press("t")
    lab.wait_until("session.version > 0 and not session.progress.active", timeout=180)
    lab.wait_text("Finished")
    assert lab.evaluate("session.version") == lab.evaluate("session.settings.epochs")
    assert lab.evaluate("accuracy(problem.test)", timeout=60) > before + 0.1
    assert lab.evaluate("session.progress.error") is None
    lab.wait_until("_widget.wait(5)")
    lab.wait_painted()
    lab.page.wait_for_timeout(500)
    lab.shot("quickstart-notebook")
    assert not lab.problems
