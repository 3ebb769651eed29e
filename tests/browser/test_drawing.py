"""The drawing canvas in a real browser: mouse, touch, pen and keys, as people use them."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.browser

# The smallest host there can be: a bridge, the view, and buttons that say their keys.
HOST = """
import functools, ipywidgets, numpy as np
from PIL import Image
from xfeedback_widgets.widgets import colors, keys
from xfeedback_widgets.widgets.board import classed
from xfeedback_widgets.widgets.bridge import Bridge
from xfeedback_widgets.widgets.drawing import KEYS, Drawing, DrawingView
from xfeedback_widgets.widgets.explainer import Explained, Picture, View
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.pump import Pump

errors, said, buttons, keyed = [], [], {}, keys.choose(None, KEYS)

def button(action, text, tooltip):
    made = buttons[action] = ipywidgets.Button(
        description=f"{text} ({keys.caption(keyed[action])})", tooltip=tooltip)
    made.on_click(lambda _: view.actions[action]())
    return made

def on_key(name):
    if name in keys.MOVES:
        view.move(*keys.MOVES[name])
        return
    action = next(a for a, key in keyed.items() if key == name)
    if not buttons[action].disabled:
        view.actions[action]()

def say(text):
    said.append(text)
    pump.post("say", lambda: setattr(bridge, "announcement", text))

def on_size(width, ratio):
    size["box"], size["ratio"] = min(480, width - 30), ratio
    pump.post("picture", show)

def show():
    view.show(picture, item, Look("cividis", 0.6, False), **size)

size = {"box": 480, "ratio": 1.0}
pump = Pump(errors.append, lambda: None)
view = DrawingView(button=button, post=lambda job: pump.post(job, job), on_stroke=lambda stroke: None,
                   on_ready=lambda: pump.post("picture", show), say=say, on_error=errors.append)
bridge = Bridge("Canvas", on_key=on_key, on_click=lambda *_: None, on_size=on_size)
bridge.use(keyed | {"peek": "space"})
"""
PICTURE = """
from skimage import data
pixels = np.asarray(Image.fromarray(data.chelsea()[:, 75:375]).resize((240, 240)))
y, x = np.mgrid[:7, :7]
heat = np.exp(-((y - 2) ** 2 + (x - 4) ** 2) / 4).astype(np.float32)
picture = Picture((240, 240), colors.encode_picture(pixels), pixels)
item = Explained("cat", View("gradcam", "label", 0), heat, heat.astype(np.float16),
                 np.ones(2, np.float32) / 2, 0, 0)
view.put("cat", Drawing(240, 240), heat)
show()
root = classed(ipywidgets.VBox([bridge, view]), "xf-root")
root
"""

# Share of the pixels of a layer that are not empty.
INKED = """name => { const c = document.querySelector(`.xf-pad ${name}`);
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (d.length / 4); }"""
WET = "canvas.xf-wet"
DRY = "canvas:not(.xf-wet)"
SCALE = 2  # CSS pixels of a picture pixel: 240 are shown at 480


class Canvas:
    """The canvas on screen, in its own CSS pixels."""

    def __init__(self, lab) -> None:
        self.lab, self.page = lab, lab.page
        lab.open()
        lab.collapse_left()
        lab.run_all()
        self.page.wait_for_selector(".xf-pad[data-tool]", timeout=40_000)
        lab.wait_until("pump.flush()")
        self.settle()

    def settle(self) -> None:
        """Wait until the layout stands still, and find the canvas."""
        self.page.wait_for_timeout(400)
        self.page.evaluate("document.querySelector('.xf-root').scrollIntoView()")
        self.page.wait_for_timeout(200)
        box = self.page.locator(".xf-pad").bounding_box()
        self.corner = np.array([box["x"], box["y"]])

    def at(self, points):
        return np.asarray(points, float) + self.corner

    def drag(self, *points, steps: int = 4) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(point), steps=steps)
        mouse.up()

    def take(self, *keys: str) -> None:
        """Choose tools by their keys, and wait until the page has them."""
        for key in keys:
            self.lab.press(key)
            self.page.locator(".xf-tools .xf-on", has_text=f"({key})").wait_for()

    def strokes(self, count: int) -> list:
        """Wait for so many strokes; (tool, value, size, points) of each."""
        self.lab.wait_until(f"len(view.drawing.strokes) == {count} and pump.flush()")
        found = "[(s.tool, s.value, s.size, s.points.tolist()) for s in view.drawing.strokes]"
        return self.lab.evaluate(found)

    def fresh(self, name: str) -> None:
        """Begin with an empty picture and the first tools."""
        self.lab.execute(
            "view._toolbox.__init__(); said.clear(); "
            f"view.put({name!r}, Drawing(240, 240), heat); pump.flush()"
        )
        sheet = self.lab.evaluate("view.ink.sheet")
        self.page.wait_for_selector(f".xf-pad[data-tool=brush][data-sheet='{sheet}']")
        self.lab.focus()

    @contextlib.contextmanager
    def screen(self, width: int, ratio: int):
        """Look at the page on another screen; Playwright's own pictures would change it back."""
        self._line = self.page.context.new_cdp_session(self.page)
        size = {"width": width, "height": 1400, "deviceScaleFactor": ratio, "mobile": False}
        self._line.send("Emulation.setDeviceMetricsOverride", size)
        self.settle()
        yield
        self._line.send("Emulation.clearDeviceMetricsOverride")
        self._line.detach()

    def shot(self, name: str) -> None:
        self.page.wait_for_timeout(300)
        taken = self._line.send("Page.captureScreenshot")
        path = Path(__file__).parents[2] / "artifacts" / "browser" / f"{name}.png"
        path.write_bytes(base64.b64decode(taken["data"]))

    def inked(self, layer: str) -> float:
        return self.page.evaluate(INKED, layer)


@pytest.fixture(scope="module")
def canvas(lasting_scene):
    return Canvas(lasting_scene([HOST, PICTURE]))


@pytest.fixture
def on(canvas, request):
    """The canvas, empty; what goes wrong on it fails the test."""
    canvas.fresh(request.node.name)
    yield canvas
    assert canvas.lab.evaluate("[str(error) for error in errors]") == []
    assert not canvas.lab.problems


def eight(count: int):
    """An even walk along a figure of eight, a picture pixel or less at a time, with pressures."""
    t = np.linspace(0, 1.95 * np.pi, 20_001)
    line = np.stack([240 + 110 * np.sin(2 * t), 240 + 150 * np.cos(t)], axis=1)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    chosen = np.searchsorted(length, np.linspace(0, length[-1], count))
    return line[chosen], 0.25 + 0.6 * np.sin(t[chosen]) ** 2


def ideal(points, diameters):
    """The mask of a disc that follows a line, from the distances to every point of it."""
    t = np.linspace(0, len(points) - 1, 5 * len(points))
    at = np.stack([np.interp(t, np.arange(len(points)), axis) for axis in points.T], axis=1)
    radius = np.interp(t, np.arange(len(points)), diameters) / 2
    mask = np.zeros((240, 240), bool)
    for (x, y), r in zip(at, radius, strict=True):
        rows = np.arange(max(0, int(y - r)), min(240, int(y + r) + 2))
        columns = np.arange(max(0, int(x - r)), min(240, int(x + r) + 2))
        near = (rows[:, None] + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= r**2
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] |= near
    return mask


def test_a_mouse_a_finger_and_a_pen_of_1000_points_a_second(on, hand):
    lab, fast = on.lab, hand(on.lab)
    points, forces = eight(801)
    assert np.hypot(*np.diff(points, axis=0).T).max() / SCALE < 1
    for kind in ("mouse", "touch", "pen"):
        on.fresh(kind)
        fast.draw(on.at(points), kind, forces if kind == "pen" else None)
        ((tool, value, size, drawn),) = on.strokes(1)
        drawn = np.array(drawn)
        assert (tool, value) == ("brush", -1)
        assert drawn.shape == (801, 3 if kind == "pen" else 2), "every point arrives"
        assert np.abs(drawn[:, :2] - points / SCALE).max() < 0.02
        assert np.hypot(*np.diff(drawn[:, :2], axis=0).T).max() <= 1, "no gaps"
        if kind == "pen":
            assert np.abs(drawn[:, 2] - forces).max() < 1e-3
        widths = size * (forces if kind == "pen" else np.ones(801))
        wanted = ideal(points / SCALE, widths)
        mask = np.array(lab.evaluate("(view.drawing.mask == -1).astype(int).tolist()"), bool)
        assert (mask & wanted).sum() / (mask | wanted).sum() >= 0.99
        # the page lets go of its ink when the mask is there
        on.page.wait_for_function(f"layer => ({INKED})(layer) === 0", arg=WET)
        assert 0 < on.inked(DRY) - mask.mean() < 0.04  # its outline is drawn around it
        lab.shot(f"drawing-{kind}")


def test_two_fingers_enlarge_and_draw_nothing(on, hand):
    middle = on.at([240, 240])
    apart = [np.array([50 + 5 * k, 0]) for k in range(11)]
    hand(on.lab).touch(
        [
            ("touchStart", [middle - apart[0]]),
            ("touchStart", [middle - apart[0], middle + apart[0]]),
            *(("touchMove", [middle - by, middle + by]) for by in apart[1:]),
            ("touchEnd", []),
        ],
        pause=0.01,
    )
    on.lab.wait_until("abs(view._zoom - 2) < 0.01")
    on.strokes(0)


def test_a_stroke_that_leaves_the_canvas_while_the_kernel_is_busy(on):
    on.lab.client.execute("import time; time.sleep(3)", silent=True)
    on.drag((400, 200), (700, 250), (700, 400), (420, 380), (-200, 380))
    assert on.inked(WET) > 0.03, "ink does not wait for the kernel"
    ((*_, points),) = on.strokes(1)
    assert max(x for x, _ in points) > 240
    assert points[-1] == [-100, 190]
    on.page.wait_for_function(f"layer => ({INKED})(layer) === 0", arg=WET)
    on.page.mouse.move(*on.at((100, 100)))
    on.page.mouse.move(*on.at((150, 100)))
    on.strokes(1)  # nothing sticks to the pointer


def test_a_click_paints_and_shift_draws_straight(on):
    mouse, keyboard = on.page.mouse, on.page.keyboard
    on.take("+")
    mouse.click(*on.at((60, 60)))
    ((_, _, size, points),) = on.strokes(1)
    assert points == [[30, 30]]
    painted = on.lab.evaluate("int(view.drawing.mask.sum())")
    assert abs(painted - np.pi * size**2 / 4) < size
    keyboard.down("Shift")
    on.drag((100, 60), (180, 90), (300, 60))
    mouse.click(*on.at((300, 160)))  # on from where the last one ended
    keyboard.up("Shift")
    lines = [points for *_, points in on.strokes(3)[1:]]
    assert lines == [[[50, 30], [150, 30]], [[150, 30], [150, 80]]]


def test_rectangle_polygon_and_lasso(on):
    on.take("m")
    on.drag((300, 300), (400, 250), (460, 420))
    on.take("+", "l")
    for corner in ((40, 300), (140, 300), (200, 460), (140, 420)):
        on.page.mouse.click(*on.at(corner))
    on.page.mouse.move(*on.at((40, 420)))
    on.page.wait_for_timeout(100)
    on.lab.shot("drawing-polygon")
    on.lab.press("Backspace")
    on.lab.press("Enter")
    on.drag((100, 100), (180, 80), (220, 160), (100, 140), steps=10)  # it closes by itself
    on.page.mouse.click(*on.at((10, 10)))
    on.lab.press("Escape")  # no shape
    found = on.strokes(3)
    assert [(s[0], s[1]) for s in found] == [("rectangle", -1), ("polygon", 1), ("polygon", 1)]
    assert found[0][3] == [[150, 150], [230, 210]]
    assert found[1][3] == [[20, 150], [70, 150], [100, 230]]
    assert len(found[2][3]) == 31
    on.page.wait_for_timeout(100)
    on.lab.shot("drawing-shapes")


def test_zoom_and_pan_and_strokes_land_where_one_sees_them(on):
    mouse, lab = on.page.mouse, on.lab
    on.page.keyboard.down("Control")
    mouse.move(*on.at((120, 120)))
    for _ in range(4):
        mouse.wheel(0, -120)
        on.page.wait_for_timeout(30)
    on.page.keyboard.up("Control")
    zoom = lab.wait_until("view._zoom > 1.5 and view._zoom")
    mouse.down(button="middle")
    mouse.move(*on.at((90, 110)))
    mouse.up(button="middle")
    on.drag((90, 110), (90 + 20 * zoom, 110))
    ((*_, size, points),) = on.strokes(1)
    assert np.abs(np.array([points[0], points[-1]]) - [[60, 60], [70, 60]]).max() < 0.05
    lab.wait_until("view.stage.children[0].width > 700 and pump.flush()")
    lab.shot("drawing-zoomed")
    for key in ("]", "]", "w"):
        lab.press(key)
    lab.wait_until(f"view._zoom == 1 and view.ink.size > {1.4 * size}")


def test_keys_alone(on):
    lab, page = on.lab, on.page
    before = lab.cells
    for key in ("e", "ArrowUp", "ArrowUp", "ArrowRight", "-", "ArrowDown", "-", "ArrowLeft", "+"):
        lab.press(key)
    marked = [(tool, value) for tool, value, *_ in on.strokes(3)]
    assert marked == [("cells", -1), ("cells", -1), ("cells", 1)]
    lab.wait_text("Row 3 of 7, column 4 of 7: attention 78 %, relevant.", ".xf-bridge")
    assert "Irrelevant: " in page.locator(".xf-pad").get_attribute("aria-label")
    lab.shot("drawing-cells")

    # also from a button that has the focus
    lab.button("Relevant (+)").focus()
    lab.press("ArrowUp")
    lab.wait_until("said[-1].startswith('Row 2 of 7')")
    for _ in range(40):
        lab.press("Tab")
        if not page.evaluate("document.querySelector('.xf-root').contains(document.activeElement)"):
            break
    else:
        pytest.fail("Tab never leaves the canvas")
    assert lab.cells == before

    # Space shows the picture alone
    lab.focus()
    shown = "getComputedStyle(document.querySelector('.xf-pad canvas')).opacity"
    page.keyboard.down("Space")
    page.wait_for_function(f"{shown} === '0'")
    page.keyboard.up("Space")
    page.wait_for_function(f"{shown} === '1'")


def test_sharp_narrow_and_dark_screens(on):
    lab, page = on.lab, on.page
    other = "view.offer([('version 2', np.eye(24, dtype=np.int8))])"
    lab.execute(f"{other}; view.toolbar.threshold.value = 0.7; view.actions['fill']()")
    on.take("+")
    with on.screen(1280, 2):
        on.drag((60, 400), (200, 420), (420, 300))
        on.strokes(2)
        lab.execute("view.toolbar.threshold.value = 0.3")
        lab.wait_until("view.stage.children[0].width == 960 and pump.flush()")
        width = page.evaluate("document.querySelector('.xf-pad canvas').width")
        assert width == 960, "two pixels of the screen for each of the page"
        on.shot("drawing-sharp")

    theme = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab %s'})"
    page.evaluate(theme % "Dark")
    with on.screen(480, 1):
        lab.wait_until("view.stage.size[0] < 400 and pump.flush()")
        on.settle()
        width = page.locator(".xf-pad").bounding_box()["width"]
        on.drag((20, 20), (width - 20, 20))
        points = np.array(on.strokes(3)[-1][3])
        assert np.abs(points[0] - 20 * 240 / width).max() < 0.05, "strokes land where one sees them"
        assert lab.cut("button, canvas, .xf-legend, .widget-slider") == []
        on.shot("drawing-narrow")
    page.evaluate(theme % "Light")  # other tests share the server and its settings
    page.wait_for_timeout(200)
