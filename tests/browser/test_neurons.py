"""Units in a real browser: look at patches, answer, see the preview move, publish, roll back."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

# Digits whose corners give the class away, and a network that has learned to read the corners.
SETUP = """
import tempfile, time, torch
import xfeedback_widgets as xf
from xfeedback_widgets.data import ImageSet, decoy_digits
from xfeedback_widgets.demo import learn, small_cnn

torch.manual_seed(0)
data, valid = decoy_digits("train", corners=4), decoy_digits("valid", corners=4)
model = small_cnn(1, data.num_classes)
learn(model, data, epochs=12)
"""
OPEN = """
session = xf.Session(model, data, tempfile.mkdtemp(dir="."), xf.corrections.CrayonPruning(), valid,
                     annotator="me")
widget = xf.NeuronWidget(session)
widget
"""
# A patch is on screen when its picture has arrived and been decoded.
SEEN = """() => [...document.querySelectorAll('.xf-patch img')].filter(
    image => image.complete && image.naturalWidth > 0).length >= 2"""


@pytest.fixture
def opened(scene):
    """Open a notebook with the widget and wait for the first unit."""

    def make(setup: str = SETUP, last: str = OPEN, *, width: int = 1280):
        lab = scene([setup, last], width=width)
        lab.start(SEEN, timeout=60_000)
        lab.wait_until("widget.wait()")
        return lab

    return make


def test_twenty_units_by_keyboard(opened):
    lab = opened()
    lab.shot("neurons")
    cells = lab.cells
    lab.execute("outside = session.suspicion()")
    lab.focus()

    previews = set()
    for count in range(1, 21):
        key = "i" if lab.evaluate("bool(outside[widget.unit] > 0.6)") else "a"
        lab.press(key)
        lab.wait_until(f"len(widget.answers) == {count} and widget.wait()")
        previews.add(lab.page.locator(".xf-previews").inner_text())
    answers = lab.evaluate("list(widget.answers.items())")
    rejected = [unit for unit, answer in answers if answer == "reject"]
    assert len(rejected) >= 3
    assert len(previews) >= 3, "the preview stood still"
    last = answers[-1][0]
    lab.press("z")
    lab.wait_until(f"widget.unit == {last} and len(widget.answers) == 19")
    # the page follows the kernel: a key does nothing while its button is disabled
    lab.page.locator(".xf-root button:enabled", has_text="Redo (y)").wait_for()
    lab.press("y")
    lab.wait_until("len(widget.answers) == 20 and widget.wait()")
    lab.wait_text("✕ irrelevant" if last in rejected else "✓ relevant", ".xf-unit")

    # Space shows the patches in their images here and now, without the kernel
    whole = "getComputedStyle(document.querySelector('.xf-whole')).visibility"
    assert lab.page.evaluate(whole) == "hidden"
    lab.page.keyboard.down("Space")
    lab.page.wait_for_function(f"{whole} === 'visible'")
    lab.shot("neurons-peek")
    lab.page.keyboard.up("Space")
    lab.page.wait_for_function(f"{whole} === 'hidden'")

    lab.press("t")
    lab.wait_until("session.version > 0 and not session.progress.active", timeout=180)
    lab.wait_text("Finished")
    lab.wait_until("widget.wait()")
    zero = lab.evaluate("(session.head()[0] == 0).all(0).nonzero().flatten().tolist()")
    assert set(rejected) <= set(zero)
    lab.shot("neurons-trained")
    assert lab.evaluate("widget.collecting") == "ready", (
        "pruning leaves the trunk: nothing is collected"
    )
    lab.press("Shift+V")
    lab.wait_until("session.version == 0")
    lab.wait_text("Rolled back")

    assert {"Relevant (a)", "Irrelevant (i)", "Train (t)"} <= lab.tab_through()
    assert lab.cells == cells
    assert not lab.problems


def test_grid_by_mouse_and_by_arrows(opened):
    lab = opened()
    lab.button("Grid (g)").click()
    lab.page.locator(".xf-tile").nth(23).wait_for()
    lab.wait_until("widget.wait()")
    page = lab.evaluate("list(widget.page)")
    lab.page.locator(f'[data-pick="{page[5]}:reject"]').click()
    lab.wait_until(
        f"session.feedback.units[{page[5]}].answer == 'reject' if session.feedback.units else 0"
    )
    lab.wait_until("widget.selected == 5")
    lab.press("ArrowRight")
    lab.press("u")
    lab.wait_until(f"{page[6]} in session.feedback.units and widget.selected == 7")
    lab.press("ArrowDown")
    lab.press("a")
    lab.wait_until("len(session.feedback.units) == 3 and widget.wait()")
    lab.page.wait_for_timeout(200)
    lab.shot("neurons-grid")
    lab.page.locator(f'[data-pick="{page[2]}"]').dblclick()
    lab.wait_until(f"widget.mode == 'one' and widget.unit == {page[2]}")
    lab.page.locator(".xf-patch").first.hover()
    lab.page.wait_for_timeout(200)
    lab.shot("neurons-hover")
    assert lab.nameless() == []
    assert not lab.problems


def test_narrow_window_with_hostile_names(opened, hostile_cell):
    hostile = """
data = ImageSet([data[i] for i in range(len(data))], class_names=names, groups=data.labels,
                ids=[f"<i>{i}</i>/</script>📁.png" for i in range(len(data))], group_names=names)
valid = None
"""
    lab = opened(
        SETUP + hostile_cell + hostile, OPEN.replace("CrayonPruning", "CrayonAttention"), width=480
    )
    lab.collapse_left()
    lab.page.wait_for_timeout(600)
    lab.button("Irrelevant (i)").click()
    lab.wait_until("len(session.feedback.units) == 1 and widget.wait()")
    lab.wait_text("Training will not use these answers")
    lab.shot("neurons-narrow")
    assert lab.cut("button, select, table, .xf-tile, .xf-patch, .xf-facts") == []
    lab.button("Grid (g)").click()
    lab.page.locator(".xf-tile").first.wait_for()
    lab.wait_until("widget.wait()")
    lab.page.wait_for_timeout(300)
    lab.shot("neurons-narrow-grid")
    assert lab.cut("button, select, table, .xf-tile, .xf-patch, .xf-facts") == []
    assert lab.page.evaluate("window.hacked") is None
    assert lab.page.locator(".xf-root script, .xf-root td b, .xf-caption i").count() == 0
    assert not lab.problems


def test_collecting_shows_its_progress_and_can_be_stopped(scene):
    slow = """
class Slow(torch.utils.data.Dataset):
    targets = data.labels.tolist()
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, index):
        time.sleep(0.005)
        return data[index]

slow = ImageSet(Slow(), ids=data.ids, class_names=data.class_names)
"""
    lab = scene(
        [SETUP.replace("learn(", "# learn("), slow, OPEN.replace("model, data", "model, slow")]
    )
    lab.open()
    lab.run_all()
    lab.wait_text("left", timeout=60_000)
    lab.shot("neurons-collecting")
    lab.button("Stop collecting (c)").click()
    lab.wait_text("Collecting was stopped")
    lab.focus()
    lab.press("a")  # nothing to answer yet
    lab.press("c")
    lab.wait_until("widget.collecting == 'ready' and widget.wait()", timeout=60)
    lab.page.wait_for_function(SEEN)
    assert lab.evaluate("len(session.feedback.records)") == 0
