"""Alignment in a real browser: judge by keyboard, adjust by mouse, reload, narrow, train, judge again."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.browser

OPEN = """
import xfeedback_widgets as xf
session = xf.Session(model, data, tempfile.mkdtemp(dir="."), xf.corrections.Gradia(), data,
                     annotator="me", epochs=1)
widget = xf.AlignmentWidget(session, order="dataset")
widget
"""
HOSTILE = """
data = ImageSet([data[i] for i in range(len(data))], class_names=names,
                ids=[f"<i>{i}</i>/</script>📁.png" for i in range(len(data))])
"""
# Picture and map are on the screen; the ink above them may be empty.
PAINTED = """() => [...document.querySelectorAll('.xf-align .xf-stage > canvas')].filter(c => c.width &&
    c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 === 3 && v > 0)
).length === 2"""
# Pixels of the ink that the page shows of the mask.
INKED = """() => [...document.querySelectorAll('.xf-align .xf-pad canvas')].reduce((sum, c) => {
    if (!c.width) return sum;
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    for (let i = 3; i < d.length; i += 4) sum += d[i] > 0;
    return sum; }, 0)"""


def drag(lab, *path):
    """Draw with the mouse through points given as shares of the picture."""
    box = lab.page.locator(".xf-align .xf-stage").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]
    lab.page.mouse.move(*places[0])
    lab.page.mouse.down()
    for place in places[1:]:
        lab.page.mouse.move(*place, steps=5)
    lab.page.mouse.up()


@pytest.fixture
def opened(scene, setup_cell):
    """Open a notebook with the widget and wait for the first picture and its map."""

    def make(more: str = "", *, width: int = 1280):
        lab = scene([setup_cell + more, OPEN], width=width)
        lab.start(PAINTED)
        lab.wait_until("widget.wait()")
        lab.focus()
        return lab

    return make


def judge(lab, answers: str) -> None:
    for count, key in enumerate(answers, start=1):
        lab.press(key)
        lab.wait_until(f"len(session.feedback) == {count} and widget.wait()")


def test_judge_by_keyboard_adjust_by_mouse_and_reload_in_the_middle(opened):
    lab = opened()
    drag(lab, (0.2, 0.3), (0.6, 0.5))  # nothing can be drawn in this step, but the path is kept
    judge(lab, "iai")
    path = np.array(lab.evaluate("session.feedback.verdicts['digit-0'].pointer.tolist()"))
    np.testing.assert_allclose(path[[0, -1], :2], [(0.2, 0.3), (0.6, 0.5)], atol=0.01)
    assert np.diff(path[:, 2]).min() >= 1000 / 60 - 1
    lab.shot("alignment-judge")
    lab.press("k")
    lab.wait_until("(widget.mode, widget.current) == ('adjust', 'digit-0') and widget.wait()")
    sheet = lab.evaluate("widget.canvas.ink.sheet")  # the page has to hear of it, too
    lab.page.wait_for_selector(f".xf-pad[data-tool=brush][data-sheet='{sheet}']")
    assert lab.page.evaluate(INKED) == 0
    drag(lab, (0.1, 0.1), (0.9, 0.1), (0.9, 0.5))
    lab.wait_until("'digit-0' in session.feedback.masks")
    lab.wait_text("Saved: digit-0, brush.")
    path = np.array(lab.evaluate("session.feedback.masks['digit-0'].pointer.tolist()"))
    np.testing.assert_allclose(path[-1, :2], (0.9, 0.5), atol=0.03)
    marked = lab.evaluate("int((session.feedback.masks['digit-0'].mask == -1).sum())")
    assert 60 < marked < 300
    lab.press("z")
    lab.wait_until("'digit-0' not in session.feedback.masks")
    lab.page.wait_for_function(f"({INKED})() === 0")
    lab.press("y")
    lab.wait_until("'digit-0' in session.feedback.masks")
    assert lab.evaluate("int((session.feedback.masks['digit-0'].mask == -1).sum())") == marked
    lab.press("+")
    lab.press("f")
    lab.wait_until("(session.feedback.masks['digit-0'].mask == 1).any().item() and widget.wait()")
    lab.page.wait_for_function(f"({INKED})() > 1000")
    lab.page.wait_for_timeout(300)
    lab.shot("alignment-adjust")

    # a page that is loaded again in the middle shows picture, map and ink as before
    inked = lab.page.evaluate(INKED)
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    lab.page.reload()
    lab.page.wait_for_function(PAINTED, timeout=20_000)
    lab.page.wait_for_function(f"Math.abs(({INKED})() - {inked}) < 0.02 * {inked}")
    lab.shot("alignment-reloaded")
    assert {"1 Judge (j)", "Relevant (+)", "Next (s)"} <= (texts := lab.tab_through())
    assert any(text.startswith("UIA: ") for text in texts)
    assert not lab.problems


def test_the_matrix_narrows_the_queue_and_moves_after_training(opened):
    lab = opened()
    judge(lab, "iai")
    cell = lab.evaluate("widget.matrix.cells['digit-0']")
    lab.page.locator(".xf-matrix").get_by_role("button", name=f"{cell}: ").first.click()
    lab.wait_text(f"Showing only {cell}")
    assert lab.evaluate("widget.current") == "digit-0"
    lab.press({"UA": "7", "UIA": "9"}[cell])
    lab.wait_until("widget.current == 'digit-3' and widget.wait()")
    lab.press("k")
    lab.press("f")
    lab.wait_text("judgement and the mask")
    lab.press("t")
    lab.wait_until("session.version == 1 and not session.progress.active", timeout=180)
    lab.wait_text("3 not judged again")
    lab.press("Shift+J")
    lab.wait_until("(widget.mode, widget.current) == ('judge', 'digit-0') and widget.wait()")
    lab.press("a")
    lab.wait_until("session.feedback.verdicts['digit-0'].version == 1 and widget.wait()")
    moved = lab.evaluate("widget.matrix.cells['digit-0']")
    lab.wait_text(f"{cell} → {moved}: 1")
    lab.page.locator(".xf-arrows svg").scroll_into_view_if_needed()
    lab.shot("alignment-trained")
    assert not lab.problems


def test_narrow_and_dark_with_hostile_names(opened, hostile_cell):
    lab = opened(hostile_cell + HOSTILE, width=480)
    lab.collapse_left()
    lab.page.wait_for_timeout(600)
    lab.focus()
    lab.press("Shift+F")
    lab.press("g")
    lab.press("2")
    lab.press("i")
    lab.wait_until("session.feedback.counts()['reject'] == 1 and widget.wait()")
    lab.page.wait_for_selector(".xf-form-quality-2[aria-label*=Quality]")
    lab.page.wait_for_timeout(300)
    lab.shot("alignment-narrow-judge")
    assert lab.cut("button, select, table, svg, .xf-facts, .xf-stage") == []
    lab.press("k")
    lab.press("f")
    lab.wait_until("len(session.feedback.masks) == 1 and widget.wait()")
    lab.page.wait_for_timeout(300)
    lab.shot("alignment-narrow")
    assert lab.cut("button, select, table, svg, .xf-facts, .xf-stage") == []
    assert lab.page.evaluate("window.hacked") is None
    assert lab.page.locator(".xf-root script, .xf-facts td b, .xf-facts i").count() == 0
    dark = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    lab.page.evaluate(dark)
    lab.page.set_viewport_size({"width": 1280, "height": 1500})
    lab.page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    lab.page.wait_for_timeout(500)
    lab.shot("alignment-dark")
    assert not lab.problems
