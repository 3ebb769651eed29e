"""The main job in a real browser: look, judge, train, see the maps change; by mouse, by keyboard."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_by_mouse(scene, setup_cell, open_cell):
    lab = scene([setup_cell, open_cell])
    lab.start()
    lab.wait_until("widget.wait()")
    lab.shot("quickstart")
    first = lab.evaluate("widget.current")
    lab.page.locator(".xf-single .xf-stage").hover()
    for name in ("Reject (r)", "Accept (a)", "Unsure (u)"):
        before = lab.evaluate("len(session.feedback)")
        lab.button(name).click()
        lab.wait_until(f"len(session.feedback) == {before + 1}")
    lab.wait_text("Saved:")
    assert lab.evaluate(f"session.feedback.verdicts[{first!r}].answer") == "reject"
    middle = lab.evaluate(f"session.feedback.verdicts[{first!r}].pointer[0].tolist()")
    assert middle[:2] == pytest.approx([0.5, 0.5], abs=0.02)
    lab.wait_painted()

    lab.button("Grid (g)").click()
    lab.wait_painted()
    lab.page.wait_for_timeout(300)
    lab.shot("grid")
    box = lab.page.locator(".xf-grid .xf-stage").bounding_box()
    lab.page.mouse.click(box["x"] + 60, box["y"] + 200)
    lab.wait_until("widget.selected >= 5")
    lab.button("Reject (r)").click()
    lab.wait_until("len(session.feedback) == 4")

    lab.button("Before / after (c)").click()
    lab.button("Train (t)").click()
    lab.wait_until("session.version > 0 and not session.progress.active", timeout=180)
    lab.wait_text("Finished")
    lab.wait_painted()
    lab.page.wait_for_timeout(300)
    lab.shot("before-after")

    lab.button("One image (1)").click()
    lab.button("Contour (h)").click()
    lab.wait_text("Heat map (h)")
    lab.shot("contour")
    version = lab.evaluate("session.version")
    lab.button("Roll back (Shift+V)").click()
    lab.wait_until("session.version == 0")
    lab.wait_text("Rolled back")
    assert version > 0
    assert not lab.problems


def answer_undo_and_go_back(lab) -> None:
    first = lab.evaluate("widget.current")
    for count, key in enumerate("aru", start=1):
        lab.press(key)
        lab.wait_until(f"len(session.feedback) == {count}")
    lab.press("z")
    lab.wait_until("len(session.feedback) == 2")
    lab.press("y")
    lab.wait_until("len(session.feedback) == 3")
    for _ in range(3):
        lab.press("b")
    lab.wait_until(f"widget.current == {first!r}")


def test_by_keyboard_only(scene, setup_cell, open_cell):
    lab = scene([setup_cell, open_cell])
    lab.start()
    lab.wait_until("widget.wait()")
    cells = lab.cells
    lab.focus()
    answer_undo_and_go_back(lab)
    lab.press("x")  # would cut the cell, b insert one
    lab.press("d")
    lab.press("d")

    # hold Space to see the picture without its map, here and now, without the kernel
    opacity = "getComputedStyle(document.querySelector('.xf-single .xf-overlay')).opacity"
    lab.page.keyboard.down("Space")
    lab.page.wait_for_function(f"Number({opacity}) === 0")
    lab.shot("peek")
    lab.page.keyboard.up("Space")
    lab.page.wait_for_function(f"Number({opacity}) === 1")

    lab.press("g")
    lab.wait_until("widget.mode == 'grid' and len(widget.page) > 12")
    lab.wait_painted()
    lab.press("ArrowRight")
    lab.press("ArrowDown")
    lab.wait_until("widget.selected > 2")
    selected = lab.evaluate("widget.page[widget.selected]")
    lab.press("r")
    lab.wait_until(f"{selected!r} in session.feedback.verdicts")
    lab.press("Shift+A")
    lab.wait_until("set(widget.page) <= set(session.feedback.verdicts)")
    lab.page.wait_for_timeout(300)
    lab.shot("grid-answered")

    lab.press("t")
    lab.wait_until("session.version > 0 and not session.progress.active", timeout=180)
    lab.wait_text("Finished")

    assert {"Accept (a)", "Reject (r)", "Train (t)"} <= lab.tab_through()
    answers = lab.evaluate("len(session.feedback)")
    lab.page.locator(".xf-settings select").first.focus()
    lab.press("a")
    lab.page.wait_for_timeout(300)
    assert lab.evaluate("len(session.feedback)") == answers
    assert lab.cells == cells
    assert not lab.problems


def test_every_control_has_a_name(scene, setup_cell, open_cell):
    lab = scene([setup_cell, open_cell])
    lab.start()
    assert lab.nameless() == []
    lab.page.wait_for_selector(".xf-root[role=group][aria-label*='240 images']")
    lab.page.wait_for_function(
        "document.querySelector('.xf-live').textContent.includes('true class')", timeout=5000
    )
