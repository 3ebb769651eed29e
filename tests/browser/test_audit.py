"""An audit in a real browser: sort, filter, look at the worst images, review them, train, audit again."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

# Digits whose corners give the class away, and a network that has learned to read the corners.
SETUP = """
import tempfile, torch
import xfeedback_widgets as xf
from xfeedback_widgets.data import ImageSet, decoy_digits
from xfeedback_widgets.demo import learn, small_cnn

torch.manual_seed(0)
data = decoy_digits("train", corners=4)
names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
data = ImageSet([data[i] for i in range(500)], ids=data.ids[:500], class_names=names,
                masks=[data.mask(i) for i in range(500)])
model = small_cnn(1, data.num_classes)
learn(model, data, epochs=8)
"""
OPEN = """
session = xf.Session(model, data, tempfile.mkdtemp(dir="."), validation=data, annotator="me",
                     epochs=1, steps_per_epoch=5)
report = session.audit()
widget = xf.AuditWidget(report, session)
widget
"""
# A picture is on screen when the style sheet that holds it says so.
SEEN = """() => [...document.querySelectorAll('.xf-view-of')].filter(
    node => getComputedStyle(node).backgroundImage.startsWith('url("data:image/')).length >= 6"""


@pytest.fixture
def opened(scene):
    """Open a notebook with the widget and wait for the first pictures."""

    def make(setup: str = SETUP, last: str = OPEN, *, width: int = 1280):
        lab = scene([setup, last], width=width)
        lab.start(SEEN, timeout=120_000)
        lab.wait_until("widget.wait()")
        return lab

    return make


def _filter_and_peek(lab):
    # letters typed into the field filter, and are no keys
    lab.page.locator(".xf-filter input").fill("")
    lab.page.locator(".xf-filter input").press_sequentially("SEV")
    lab.wait_until("widget.classes == ('seven',) and widget.current == 'seven'")
    lab.page.locator(".xf-filter input").fill("")
    lab.wait_until("len(widget.classes) == 10 and widget.wait()")
    assert lab.evaluate("widget.review is None"), "r was typed, not pressed"

    # Space hides the maps here and now, without the kernel
    shade = "getComputedStyle(document.querySelector('.xf-view-of .xf-overlay')).opacity"
    lab.focus()
    lab.page.keyboard.down("Space")
    lab.page.wait_for_function(f"{shade} === '0'")
    lab.page.keyboard.up("Space")
    lab.page.wait_for_function(f"{shade} !== '0'")


def test_from_the_lowest_class_to_a_review_and_back(opened):
    lab = opened()
    lab.page.wait_for_timeout(300)
    lab.shot("audit")
    assert lab.evaluate("widget.current == report.ranking[0]")
    lab.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        lab.press(key)
    lab.wait_until("widget.current == report.ranking[2] and widget._desk.tile == 1")
    lab.page.locator('[data-pick="sort:accuracy"]').click()
    lab.wait_until("widget._desk.sort == 'accuracy'")
    lab.press("s")
    lab.press("d")
    lab.wait_until("widget._desk.sort == 'accuracy_top5' and widget._desk.descending")
    lab.press("2")
    lab.wait_until("widget._desk.which == 'right' and widget.wait()")
    lab.press("1")

    _filter_and_peek(lab)
    lab.page.locator('[data-pick="class:7"]').click()
    lab.wait_until("widget.current == 'seven' and widget.wait()")
    lab.button("Review these (r)").click()
    lab.wait_until("widget.review is not None and widget.review.wait()")
    lab.wait_until("widget.review.current == widget.images[0]")
    lab.page.get_by_role("button", name="Accept (a)").wait_for()
    roots = lab.page.locator(".xf-root")
    assert roots.count() == 2
    roots.nth(1).focus()
    for count in (1, 2, 3):
        lab.press("r")
        lab.wait_until(f"len(session.feedback) == {count} and widget.review.wait()")
    assert lab.evaluate("set(session.feedback.verdicts) == set(widget.images[:3])")
    lab.shot("audit-review")

    lab.press("t")
    lab.wait_until("session.version > 0 and not session.progress.active", timeout=180)
    lab.wait_text("robustness score", ".xf-curves")
    lab.wait_text("The model has changed since this audit")
    lab.button("Audit again (m)").click()
    lab.wait_until("widget.before is report and widget.wait()", timeout=60)
    lab.wait_text("Audited again")
    lab.page.locator('[data-pick="sort:difference"]').click()
    lab.wait_until("widget._desk.sort == 'difference' and widget.wait()")
    lab.page.wait_for_timeout(300)
    lab.shot("audit-compared")

    assert {"Review these (r)", "Audit again (m)", "Top-1"} <= lab.tab_through()
    assert not lab.problems


def test_narrow_window_with_hostile_names(opened, hostile_cell):
    hostile = """
masks = [data.mask(i) for i in range(len(data))]
data = ImageSet([data[i] for i in range(len(data))], class_names=names, masks=masks,
                ids=[f"<i>{i}</i>/</script>📁.png" for i in range(len(data))])
"""
    lab = opened(
        SETUP + hostile_cell + hostile,
        OPEN.replace("report, session", "report, session, before=report"),
        width=480,
    )
    lab.collapse_left()
    lab.page.wait_for_timeout(800)
    lab.shot("audit-narrow")
    assert lab.cut("button, input, table, td, .xf-tile, .xf-shot") == []
    lab.execute("widget.choose(names[6])")
    lab.wait_text("<script>window.hacked=1</script>", ".xf-said-of")
    lab.button("Review these (r)").click()
    lab.wait_until("widget.review is not None and widget.review.wait() and widget.wait()")
    lab.wait_text("12 images of </td>")
    assert lab.page.evaluate("window.hacked") is None
    assert lab.page.locator(".xf-root script, .xf-classes th b, .xf-classes img").count() == 0
    assert not lab.problems
