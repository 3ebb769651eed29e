"""Labelling pages in a real browser: browse and tag as people do, and find all of it in the journal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytestmark = pytest.mark.browser

SETUP = """
import tempfile, torch
import xfeedback_widgets as xf
from xfeedback_widgets.data import decoy_digits
from xfeedback_widgets.demo import small_cnn

names = ["<b>zero</b> 🐱", "<img src=x onerror='window.hacked=1'>", "two", "&amp;", "a" * 60,
         "</script><script>window.hacked=1</script>", "naïve ünïcode", "seven", "日本語", "  spaces  "]
digits = decoy_digits("train", corners=4)
digits = digits.subset(range(700))
data = xf.data.ImageSet([digits[i] for i in range(len(digits))], class_names=names, ids=digits.ids)
session = xf.Session(small_cnn(1, 10), data, tempfile.mkdtemp(dir="."), xf.corrections.Luab(),
                     annotator="me", epochs=1)
"""
BROWSE = """
messages = []
widget = xf.BrowseWidget(session, 0, description="A <i>ring</i>, 🎈 or an egg; not the letter O.")
widget.pages.on_msg(lambda *_: messages.append(1))
widget
"""
TAG = """
widget = xf.TagWidget(session, groups={"Round <b>": [names[0], names[6], names[8]], "🎈": names[1:3]},
                      icons={names[0]: "🐱"})
widget
"""
# From the press of the button to the frame in which every picture of the next page can be seen.
TURN = """() => { window.turned = null; let began = 0;
    const grid = document.querySelector('.xf-picks'), before = grid.dataset.page;
    addEventListener('pointerdown', event => { began = event.timeStamp; }, {capture: true, once: true});
    const look = () => { if (grid.dataset.page === before) return setTimeout(look, 2);
        requestAnimationFrame(() => { window.turned = performance.now() - began; }); };
    look(); }"""


def opened(scene, cell, ready):
    lab = scene([SETUP, cell])
    lab.open()
    lab.collapse_left()
    lab.run_all()
    lab.page.wait_for_selector(ready, timeout=40_000)
    lab.page.wait_for_timeout(300)
    return lab


def boxes(lab, selector):
    return [node.bounding_box() for node in lab.page.locator(selector).all()]


def inside(box, x, y):
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def narrow(lab, name):
    lab.page.set_viewport_size({"width": 480, "height": 1500})
    lab.page.wait_for_timeout(500)
    lab.shot(name)
    # names of icons may jut out of the icons
    assert lab.cut("button, .xf-cell, .xf-board, .xf-question, .xf-kept", texts=False) == []


def nothing_reached_the_notebook(lab, cells):
    assert lab.cells == cells
    assert lab.page.evaluate("window.hacked") is None
    assert (
        lab.page.locator(".xf-root script, .xf-root i i, .xf-question i, .xf-name b").count() == 0
    )
    assert lab.nameless() == []
    assert not lab.problems


def reload(lab, ready):
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    lab.page.reload()
    lab.page.wait_for_selector(ready, timeout=20_000)
    lab.page.wait_for_timeout(300)


def sweep(mouse, tiles):
    """Move to 300 places at 1,000 a second, over three rows of pictures and back."""
    ends = np.array([inside(tiles[n], 0.5, 0.5) for n in (0, 7, 15, 8, 16, 23)])
    at = np.linspace(0, len(ends) - 1, 300)
    path = np.stack([np.interp(at, range(len(ends)), ends[:, axis]) for axis in (0, 1)], 1)
    mouse.send([mouse._mouse("mouseMoved", point, "mouse", 0) for point in path])


def click_all(mouse, tiles, spots):
    names = [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)]
    events = [
        mouse._mouse(name, inside(tiles[number], x, y), "mouse", buttons)
        for number, x, y in spots
        for name, buttons in names
    ]
    mouse.send(events, pause=0.02)


def check_browsed(records, spots):
    """Every click where it was, all paths at 60 places a second, all times in order."""
    clicks = {n: r["selectedRecord"] for n, r in enumerate(records) if r["selectedRecord"]}
    assert set(clicks) == {number for number, *_ in spots} | {2}
    for number, x, y in spots:
        (click,) = clicks[number]
        assert abs(click["x"] - x) + abs(click["y"] - y) < 0.03
    assert [(c["x"], c["y"]) for c in clicks[2]] == [(0.3, 0.4)]
    assert [n for n in clicks if not records[n]["selected"]] == [3]
    times = sorted(place["time"] for record in records for place in record["mouseTracking"])
    assert len(times) >= 12
    assert min(b - a for a, b in itertools.pairwise(times)) >= 1000 / 60 - 1
    for record in records:
        assert record["imageWidth"] > 80
        hovers = [hover["action"] for hover in record["hoveredRecord"]]
        assert hovers == ["enter", "leave"] * (len(hovers) // 2)
        assert record["hoveredCount"] == len(hovers) // 2
        assert all(0 <= p["x"] <= 1 and 0 <= p["y"] <= 1 for p in record["mouseTracking"])
    assert sum(record["estimateTime"] for record in records) > 200


def test_browse_a_page_of_48(scene, hand):
    lab = opened(scene, BROWSE, ".xf-picks[data-page='0']")
    tiles, cells = boxes(lab, ".xf-pick"), lab.cells
    assert len(tiles) == 48
    spots = [(n, 0.2 + 0.012 * n, 0.9 - 0.02 * n) for n in range(3, 43, 2)]
    mouse = hand(lab)
    sweep(mouse, tiles)
    click_all(mouse, tiles, spots)
    lab.wait_until("len(widget.chosen) == 20 and widget.wait()")
    lab.page.wait_for_function("!document.querySelector('.xf-unsaved')")
    lab.page.mouse.move(2, 2)
    lab.shot("byproducts-browse")
    count = lab.evaluate("len(messages)")

    reload(lab, ".xf-picks[data-page='0']")
    picked = "[...document.querySelectorAll('.xf-pick[aria-pressed=true]')].map(t => +t.dataset.tile).join()"
    acknowledged = ",".join(str(number) for number, *_ in spots)
    lab.page.wait_for_function(f"{picked} === '{acknowledged}'")

    # by keys alone: go to the pictures and to 3, take it back, point in 2 and take that; then type
    lab.focus()
    keys = ["ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "Space", "ArrowLeft"]
    keys += ["Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowUp", "Enter", "x", "b", "d", "d"]
    for key in keys:
        lab.press(key)
    lab.wait_until("len(widget.chosen) == 20 and widget.page[3] not in widget.chosen")
    name = "document.activeElement.getAttribute('aria-label')"
    assert lab.page.evaluate(name) == "Picture 3 of 48"
    lab.press("PageDown")
    lab.page.wait_for_selector(".xf-picks[data-page='1']")
    lab.wait_until("len(widget.records) == 48 and widget.wait()")
    check_browsed(lab.evaluate("[r.to_dict() for r in widget.records]"), spots)

    lab.page.evaluate(TURN)
    lab.button("Previous page").click()
    lab.page.wait_for_function("window.turned")
    turned = lab.page.evaluate("window.turned")
    print(f"\n300 places and 20 clicks in {count} messages; page turned in {turned:.0f} ms")
    assert count <= 40
    narrow(lab, "byproducts-browse-narrow")
    nothing_reached_the_notebook(lab, cells)


class Tagging:
    """A tagging page on screen, and what a mouse does on it."""

    def __init__(self, lab) -> None:
        self.lab = lab
        (self.board,) = boxes(lab, ".xf-board")

    def drag(self, selector, x, y) -> None:
        mouse = self.lab.page.mouse
        mouse.move(*inside(self.lab.page.locator(selector).bounding_box(), 0.5, 0.5))
        mouse.down()
        mouse.move(*inside(self.board, x, y), steps=4)
        mouse.up()

    def icon(self, number) -> str:
        """Open the group of an icon; return where it is found."""
        tab = self.lab.page.locator(".xf-group").nth(0 if number in (0, 6, 8) else 1)
        if tab.get_attribute("aria-selected") != "true":
            tab.click()
        return f".xf-icon[data-icon='{number}']"

    def recorded(self):
        """Return the last record, and its actions with icons as numbers."""
        record = self.lab.evaluate("widget.records[-1].to_dict()")
        names = self.lab.evaluate("list(names)")
        return record, [
            (a["actionType"], names.index(a["iconType"]), a["pointFrom"], a["pointTo"])
            for a in record["actionHistories"]
        ]


PIN = ".xf-pin[data-icon='{}'] .xf-placed"


def tag_by_mouse(page):
    """Add five icons, move one, remove two in two ways, add one again, move one by its icon."""
    five = {0: (0.25, 0.5), 6: (0.5, 0.25), 8: (0.75, 0.75), 1: (0.1, 0.9), 2: (0.9, 0.1)}
    for number, spot in five.items():
        page.drag(page.icon(number), *spot)
    page.drag(PIN.format(8), 0.5, 0.6)
    page.drag(PIN.format(0), 0.5, -0.2)  # off the picture
    page.lab.page.locator(PIN.format(6)).hover()
    page.lab.page.locator(".xf-pin[data-icon='6'] .xf-off").click()
    page.drag(page.icon(0), 0.3, 0.3)
    page.drag(page.icon(8), 0.6, 0.6)
    return [
        *(("add", number, None, spot) for number, spot in five.items()),
        ("move", 8, five[8], (0.5, 0.6)),
        ("remove", 0, five[0], None),
        ("remove", 6, five[6], None),
        ("add", 0, None, (0.3, 0.3)),
        ("move", 8, (0.5, 0.6), (0.6, 0.6)),
    ]


def check_tagged(record, actions, done, width):
    assert [action[:2] for action in actions] == [action[:2] for action in done]
    for got, wanted in zip(actions, done, strict=True):
        for spot, at in zip(got[2:], wanted[2:], strict=True):
            assert (spot is None) == (at is None)
            assert spot is None or abs(spot["x"] - at[0]) + abs(spot["y"] - at[1]) < 0.01
    assert [(c["categoryIndex"], c["categoryName"], c["usingKeyboard"])
            for c in record["categoryHistories"]] == [(1, "🎈", False), (0, "Round <b>", False)]  # fmt: skip
    for key in ("actionHistories", "categoryHistories", "mouseTracking"):
        times = [each["timeAt"] for each in record[key]]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= record["timeSpent"]
    assert abs(record["imageWidth"] - width) < 1
    gaps = np.diff([place["timeAt"] for place in record["mouseTracking"]])
    assert len(gaps) > 10
    assert gaps.min() >= 1000 / 60 - 1


# Tab leads to the icons; Enter takes one, arrows move it from the middle, Enter puts it down.
KEYS = [
    *("Tab", "Enter", "ArrowLeft", "ArrowLeft", "Shift+ArrowUp", "Enter"),
    *("ArrowRight", "Enter", "ArrowDown", "Enter"),
    *("ArrowRight", "Space", "ArrowUp", "Enter"),
    *("Shift+Tab", "ArrowRight", "Tab", "Enter", "ArrowRight", "Enter"),
    *("ArrowRight", "Enter", "Escape", "x", "b", "Enter", "ArrowUp", "ArrowUp", "Enter"),
    *("Enter", "ArrowDown", "Enter", "Delete", "Enter", "Enter"),  # moved, removed, added again
]
KEYED = [
    ("add", 0, None, {"x": 0.4, "y": 0.49}),
    ("add", 6, None, {"x": 0.5, "y": 0.55}),
    ("add", 8, None, {"x": 0.5, "y": 0.45}),
    ("add", 1, None, {"x": 0.55, "y": 0.5}),
    ("add", 2, None, {"x": 0.5, "y": 0.4}),
    ("move", 2, {"x": 0.5, "y": 0.4}, {"x": 0.5, "y": 0.45}),
    ("remove", 2, {"x": 0.5, "y": 0.45}, None),
    ("add", 2, None, {"x": 0.5, "y": 0.5}),
]


def test_tag_by_mouse_and_by_keyboard(scene):
    lab = opened(scene, TAG, ".xf-tagging[data-visit='0']")
    cells, page = lab.cells, Tagging(lab)
    done = tag_by_mouse(page)
    lab.wait_until("len(widget.placed) == 4 and widget.wait()")
    lab.page.wait_for_function("!document.querySelector('.xf-unsaved')")
    lab.page.locator(PIN.format(2)).hover()
    lab.page.wait_for_timeout(200)
    lab.shot("byproducts-tag")
    check_tagged(*page.recorded(), done, page.board["width"])

    reload(lab, ".xf-tagging[data-visit='0']")
    lab.page.wait_for_function("document.querySelectorAll('.xf-pin').length === 4")

    lab.focus()
    lab.press("PageDown")
    lab.page.wait_for_selector(".xf-tagging[data-visit='1']")
    lab.page.locator(".xf-group[aria-selected=true]").focus()
    for key in KEYS:
        lab.press(key)
    # what was pressed last, too
    lab.page.wait_for_function("!document.querySelector('.xf-unsaved')")
    lab.wait_until("len(widget.placed) == 5 and widget.wait()")
    lab.shot("byproducts-tag-keys")
    record, actions = page.recorded()
    assert actions == KEYED
    assert [c["usingKeyboard"] for c in record["categoryHistories"]] == [True]
    first = lab.page.locator(PIN.format(0)).get_attribute("aria-label")
    assert first.startswith("<b>zero</b> 🐱, at 40 % from the left, 49 % from the top")
    narrow(lab, "byproducts-tag-narrow")
    nothing_reached_the_notebook(lab, cells)
