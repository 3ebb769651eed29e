"""The canvas as a widget, without a browser: messages in, strokes and painted state out."""

from __future__ import annotations

import threading

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

from xfeedback_widgets.feedback.strokes import Stroke
from xfeedback_widgets.widgets import keys
from xfeedback_widgets.widgets.canvas import sentinel
from xfeedback_widgets.widgets.drawing import KEYS, Drawing, DrawingView
from xfeedback_widgets.widgets.drawing.ink import encode
from xfeedback_widgets.widgets.explainer import Explained, Picture, View
from xfeedback_widgets.widgets.layout import Look
from xfeedback_widgets.widgets.pump import Pump

SIZE = (64, 48)
HEAT = np.zeros((6, 8), np.float32)
HEAT[1:3, 2:5] = 1.0


class Host:
    """Makes the buttons and keeps what the view reports, as a review does."""

    def __init__(self) -> None:
        self.buttons, self.strokes, self.said, self.errors = {}, [], [], []
        self.failing = False
        self.pump = Pump(self.errors.append, lambda: None)
        self.view = DrawingView(
            button=self.button,
            post=lambda job: self.pump.post("drawing", job),  # one key: the newest job wins
            on_stroke=self.on_stroke,
            on_ready=lambda: None,
            say=self.said.append,
            on_error=self.errors.append,
        )

    def button(self, action, text, tooltip):
        made = self.buttons[action] = ipywidgets.Button(
            description=f"{text} ({keys.caption(KEYS[action])})", tooltip=tooltip
        )
        made.on_click(lambda _: self.view.actions[action]())
        return made

    def on_stroke(self, stroke):
        if self.failing:
            raise OSError("disk full")
        self.strokes.append(stroke)

    def press(self, *actions):
        for action in actions:
            self.buttons[action].click()
        assert self.pump.flush()

    def page(
        self, points, *, name="p-0", tool="brush", value=-1, size=6.0, sheet=1, parts=2, count=None
    ):
        """Send a stroke as the page does: in parts, then its end."""
        points = np.asarray(points, "<f4")
        *first, last = np.array_split(points, parts)
        columns = points.shape[1]
        for part in first:
            content = {"kind": "points", "stroke": name, "columns": columns}
            self.view.ink.receive(content, [part.tobytes()])
        self.view.ink.receive(
            {
                "kind": "stroke",
                "stroke": name,
                "columns": columns,
                "tool": tool,
                "value": value,
                "size": size,
                "sheet": sheet,
                "count": count or len(points),
            },
            [memoryview(last.tobytes())],
        )
        assert self.pump.flush()


@pytest.fixture
def host():
    made = Host()
    made.view.put("first", Drawing(*SIZE), HEAT)
    assert made.pump.flush()
    yield made
    made.pump.close()
    made.view.close()


def decode(data):
    """Read a mask as the page does."""
    width, height, *runs = np.frombuffer(data, "<u4").tolist()
    return np.concatenate(
        [np.full(run & 0x3FFFFFFF, (run >> 30) - 1, np.int8) for run in runs]
    ).reshape(height, width)


def test_a_stroke_arrives_in_parts_and_comes_back_as_a_mask(host):
    points = [(5, 5), (9, 6), (20, 30), (21, 31), (22, 90)]
    host.page(points, parts=3)
    (stroke,) = host.strokes
    assert (stroke.tool, stroke.value, stroke.size) == ("brush", -1, 6.0)
    assert np.array_equal(stroke.points, np.float32(points))
    view = host.view
    assert np.array_equal(decode(view.ink.mask), Drawing(*SIZE, [stroke]).mask)
    assert view.ink.seen == ["p-0"], "the page lets go of its own ink"
    assert "Irrelevant: " in view.words.value
    assert "of the map" in view.ink.label
    assert not host.errors


def test_pressure_the_eraser_and_the_other_shapes(host):
    host.page([(5, 5, 0.5), (20, 5, 1.0)], value=1)
    host.page([(10, 5)], name="p-1", value=0, size=4.0, parts=1)
    host.page([(1, 1), (30, 20)], name="p-2", tool="rectangle", value=-1, parts=1)
    host.page([(1, 1), (30, 20), (4, 40)], name="p-3", tool="polygon", value=0)
    assert [(s.tool, s.value, s.size) for s in host.strokes] == [
        ("brush", 1, 6.0), ("eraser", 0, 4.0), ("rectangle", -1, 0.0), ("polygon", 0, 0.0),
    ]  # fmt: skip
    assert host.strokes[0].points[:, 2].tolist() == [0.5, 1.0]
    assert host.view.drawing.strokes == tuple(host.strokes)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"count": 9}, "5 of 9 points"),
        ({"tool": "<b>"}, "unknown tool"),
        ({"points": [(5, float("nan"))] * 5}, "finite"),
        ({"value": 7}, "value"),
        ({"size": -1.0}, "size"),
    ],
)
def test_a_message_that_cannot_be_used_is_said_and_dropped(host, change, word):
    host.page(**{"points": [(5, 5)] * 5, **change})
    assert not host.strokes
    assert word in str(host.errors.pop())
    assert host.view.ink.seen == ["p-0"], "the page drops its ink, too"
    assert not decode(host.view.ink.mask).any()
    for content in ({"kind": "stroke", "stroke": "x"}, {"kind": "zoom", "zoom": "much"}):
        host.view.ink.receive(content)
    assert len(host.errors) == 2


def test_parts_of_strokes_that_never_end_are_forgotten(host):
    part = [np.zeros((3, 2), "<f4").tobytes()]
    for number in range(50):
        host.view.ink.receive({"kind": "points", "stroke": f"p-{number}", "columns": 2}, part)
    assert len(host.view.ink._parts) <= 8
    host.view.ink.receive({"kind": "cancel", "stroke": "p-49"})
    assert "p-49" not in host.view.ink._parts


def test_a_stroke_on_the_picture_before_is_not_drawn_on_this_one(host):
    host.view.put("second", Drawing(32, 32), HEAT)
    host.page([(5, 5)], parts=1, sheet=1)
    assert not host.strokes
    assert "dropped" in host.said[-1]
    host.page([(5, 5)], name="p-1", parts=1, sheet=2)
    assert len(host.strokes) == 1


def test_the_same_picture_with_another_drawing_is_the_same_sheet(host):
    host.page([(5, 5)], parts=1)
    host.view.put("first", Drawing(*SIZE), HEAT)
    host.pump.flush()
    assert host.view.ink.sheet == 1
    assert not decode(host.view.ink.mask).any()


def test_what_cannot_be_written_down_is_not_shown(host):
    host.failing = True
    host.page([(5, 5)], parts=1)
    assert "disk full" in str(host.errors[-1])
    assert not decode(host.view.ink.mask).any()
    assert host.view.drawing.strokes == ()
    with pytest.raises(OSError, match="disk full"):
        host.view.draw(Stroke("rectangle", 1, points=np.float32([[0, 0], [9, 9]])))
    assert not host.view.drawing.mask.any()


def test_fill_invert_clear_and_copy(host):
    view = host.view
    host.press("irrelevant", "fill")
    hot = view.drawing.mask == -1
    assert np.array_equal(hot, view.drawing.hotter(HEAT, 0.5))
    host.press("invert")
    assert np.array_equal(view.drawing.mask == -1, ~hot)
    host.press("clear")
    assert not view.drawing.mask.any()
    assert host.buttons["clear"].disabled
    assert host.buttons["copy"].disabled
    earlier = np.ones((24, 32), np.int8)
    view.offer([("<b>version</b> 2", earlier), ("version 1", -earlier)])
    host.press("source", "copy")
    assert (view.drawing.mask == -1).all()
    host.press("source")
    assert "&lt;b&gt;version&lt;/b&gt; 2" in view.toolbar._source.value
    assert [stroke.tool for stroke in host.strokes] == ["fill", "invert", "clear", "copy"]


def test_the_threshold_is_seen_before_it_is_used(host):
    host.view.toolbar.threshold.value = 0.8
    host.pump.flush()
    assert np.array_equal(decode(host.view.ink.outline) == 1, host.view.drawing.hotter(HEAT, 0.8))
    host.press("fill")
    assert host.view.ink.outline == b""
    assert host.strokes[0].size == pytest.approx(0.8)


def test_without_a_map_nothing_can_be_filled(host):
    host.view.put("first", Drawing(*SIZE), np.zeros((6, 8), np.float32))
    host.page([(5, 5)], parts=1)
    assert host.buttons["fill"].disabled
    host.press("fill")  # a disabled button's key may still be in flight
    assert len(host.strokes) == 1
    assert "attention" not in host.view.describe()


def test_cells_are_marked_with_keys_alone(host):
    view = host.view
    assert not view.move(1, 0), "the arrows are the host's while the cursor is off"
    host.press("cells")
    assert view.ink.cell == [3, 4, 6, 8]
    assert view.move(-1, -1)
    host.press("irrelevant")
    assert host.said[-1] == "Row 3 of 6, column 4 of 8: attention 100 %, irrelevant."
    assert np.array_equal(
        np.argwhere(view.drawing.mask),
        np.argwhere(np.kron(np.eye(1, 48, 19).reshape(6, 8), np.ones((8, 8)))),
    )
    view.move(1, 0)
    host.press("relevant")
    host.press("erase")
    assert [(s.tool, s.value) for s in host.strokes] == [("cells", -1), ("cells", 1), ("cells", 0)]
    assert int(view.drawing.mask.sum()) == -64
    host.press("cells")
    assert view.ink.cell == []
    assert not view.move(1, 0)


def test_tools_and_sizes_are_shown(host):
    view = host.view
    for action, tool in (
        ("rectangle", "rectangle"),
        ("lasso", "polygon"),
        ("pan", "pan"),
        ("brush", "brush"),
    ):
        host.press(action)
        assert view.ink.tool == tool
        assert "xf-on" in host.buttons[action]._dom_classes
    before = view.ink.size
    host.press("larger")
    view.ink.receive({"kind": "size", "steps": 1})
    host.pump.flush()
    assert view.ink.size > before * 1.4
    view.enable(False)
    host.pump.flush()
    assert view.ink.tool == ""
    assert view.toolbar.layout.display == "none"


def test_every_action_has_a_button_with_its_key_and_an_explanation(host):
    assert set(host.view.actions) == set(KEYS) == set(host.buttons)
    assert len(set(keys.choose(None, KEYS).values())) == len(KEYS)
    for action, button in host.buttons.items():
        assert f"({keys.caption(KEYS[action])})" in button.description
        assert button.tooltip


def test_zooming_draws_the_picture_sharper(host):
    pixels = np.zeros((48, 64, 3), np.uint8)
    item = Explained(
        "a", View("gradcam", "label", 0), HEAT, HEAT.astype(np.float16), np.ones(2), 0, 0
    )
    show = lambda: host.view.show(  # noqa: E731
        Picture(SIZE, b"", pixels), item, Look("cividis", 0.6, contour=False), box=320, ratio=1.0
    )
    host.pump.post("picture", show)
    host.pump.flush()
    canvas = host.view.stage.children[0]
    assert canvas.width == 320
    sent = []
    host.view.ink.send = lambda content: sent.append((content, threading.current_thread().name))
    host.press("zoom_in", "whole")
    assert [content["factor"] for content, _ in sent] == [1.5, None]
    for zoom, width in ((3.0, 960), (16.0, 2048), (1.0, 320)):
        host.view.ink.receive({"kind": "zoom", "zoom": zoom})
        host.pump.flush()
        assert canvas.width == width
    assert host.view.stage.layout.width == "320px"


def test_only_the_pump_writes_to_widgets(host):
    writers = set()

    def note(change):
        writers.add(threading.current_thread().name)

    view = host.view
    for widget in (view.ink, view.words, *host.buttons.values(), view.toolbar.layout):
        widget.observe(note)
    view.offer([("one", np.ones((4, 4), np.int8))])
    for action in KEYS:
        host.press(action)
    host.page([(5, 5), (9, 9)])
    view.move(1, 1)
    view.enable(False)
    host.pump.flush()
    assert writers == {"xfeedback-ui"}


def test_a_mask_larger_than_a_screen_is_thinned_out_for_the_page():
    mask = np.zeros((3000, 5000), np.int8)
    mask[:1500] = -1
    shown = decode(encode(mask))
    assert max(shown.shape) <= 1024
    assert abs((shown == -1).mean() - 0.5) < 1e-3
    odd = np.random.default_rng(1).integers(-1, 2, (5, 7)).astype(np.int8)
    assert np.array_equal(decode(encode(odd)), odd)


def test_closing_leaves_no_widget_behind():
    sentinel()  # the one canvas that stays
    before = set(_instances)
    made = Host()
    made.view.put("a", Drawing(*SIZE), HEAT)
    made.press("fill")
    made.pump.close()
    made.view.close()
    assert [_instances[key] for key in set(_instances) - before] == []
