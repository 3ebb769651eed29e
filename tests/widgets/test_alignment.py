"""The alignment widget without a browser: judge, draw, undo across restarts, filter, train again."""

from __future__ import annotations

import base64
import functools
import io
import threading
import time

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from PIL import Image

import xfeedback_widgets as xf
from xfeedback_widgets.feedback import RegionMask, Stroke
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import AlignmentWidget
from xfeedback_widgets.widgets.alignment import learning
from xfeedback_widgets.widgets.alignment.matrix import arrows
from xfeedback_widgets.widgets.drawing import Shares


@pytest.fixture
def align(session, make_widget):
    return functools.partial(make_widget, AlignmentWidget, session, order="dataset")


def draw(widget, *corners, value=1):
    """Draw a rectangle as a page would report it."""
    canvas = widget.canvas
    canvas.draw(Stroke("rectangle", value, points=corners))
    assert widget.wait()


def shown(widget):
    """All text on screen that comes from HTML."""
    return " ".join(w.value for w in tree(widget) if isinstance(w, ipywidgets.HTML))


def tree(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from tree(child)


# ------------------------------------------------------------------ judging


def test_a_judgement_is_saved_with_all_that_was_seen_and_goes_on(align, session, press):
    widget = align()
    first, item = widget.current, widget.explained
    press(widget, "reject")
    verdict = session.feedback.verdicts[first]
    assert verdict.answer == "reject"
    assert (verdict.predicted, verdict.target) == (item.predicted, item.target)
    assert (verdict.map == item.judged).all()
    assert verdict.quality is None
    assert "Saved: digit-0, ✕ unreasonable" in widget.status
    assert widget.current == "digit-1"


def test_the_path_of_the_pointer_is_kept_with_each_judgement_and_stroke(align, session, press):
    widget = align()

    def move(*row):
        message = {"kind": "path", "name": widget.bridge.traced}
        widget.bridge._handle_custom_msg(message, [np.array([row], "<f4").tobytes()])

    move(0.5, 0.25, 10)
    press(widget, "reject", "adjust")
    move(0.25, 0.5, 30)
    draw(widget, (0, 0), (4, 4))
    move(0.75, 0.5, 50)
    move(0.75, 0.75, 70)
    draw(widget, (4, 4), (8, 8), value=-1)
    assert session.feedback.verdicts["digit-0"].pointer.tolist() == [[0.5, 0.25, 10]]
    masks = [r for r in session.feedback.records if isinstance(r, RegionMask)]
    assert [mask.pointer.tolist() for mask in masks] == [
        [[0.25, 0.5, 30]],
        [[0.75, 0.5, 50], [0.75, 0.75, 70]],
    ]
    assert len(masks[-1].strokes) == 2
    kept = session.feedback.kept
    assert kept == {"duration": 3, "pointer": 3, "strokes": 2, "byproduct": 0}
    off = align(byproducts=False)
    press(off, "reject", "adjust")
    draw(off, (0, 0), (8, 8))
    assert session.feedback.kept == {**kept, "strokes": 3}


def test_the_long_form_is_recorded_and_opens_with_what_was_said(align, session, press, key):
    widget = align()
    assert widget._controls.form.layout.display == "none"
    key(widget, "shift+f", "g", "shift+r", "4", "i")
    verdict = session.feedback.verdicts["digit-0"]
    assert (verdict.necessary, verdict.unnecessary, verdict.quality) == (True, False, 4)
    assert widget.buttons["quality_4"].description == "4", "the next image begins with an open form"
    key(widget, "b")
    assert widget.buttons["quality_4"].description == "✓ 4"
    assert "has necessary detail, has no unnecessary detail, quality 4 of 5" in shown(widget)
    key(widget, "4", "i")
    assert session.feedback.verdicts["digit-0"].quality is None, "pressed again, it is left open"


def test_the_short_form_asks_nothing_more(align, session, key):
    widget = align()
    key(widget, "g", "4", "a")
    verdict = session.feedback.verdicts["digit-0"]
    assert (verdict.answer, verdict.necessary, verdict.quality) == ("accept", None, None)


def test_keys_follow_the_step_at_once(align, session):
    widget = align()
    # without waiting for the screen in between
    for name in ("i", "k", "i", "f"):
        widget.bridge._handle_custom_msg({"kind": "key", "key": name, "time": 0.0}, [])
    assert widget.wait()
    assert [v.answer for v in session.feedback.verdicts.values()] == ["reject"]
    assert widget.mode == "adjust"
    assert list(session.feedback.masks) == ["digit-0"]


def test_nothing_is_drawn_while_judging(align, session, key):
    widget = align()
    key(widget, "f", "delete", "+")
    assert "second step: 2 Adjust (k)" in widget.status
    assert session.feedback.masks == {}


# ------------------------------------------------------------------ adjusting


def test_only_unreasonable_maps_are_adjusted_and_each_stroke_is_saved(align, session, press):
    widget = align()
    press(widget, "reject", "accept", "reject", "adjust")
    assert widget.current == "digit-0"
    assert "<strong>0 of 2</strong> unreasonable" in widget._controls.summary.value
    drawing = widget.canvas.drawing
    draw(widget, (0, 0), (3, 2))
    assert widget.canvas.drawing is drawing, "one's own strokes do not open it anew"
    mask = session.feedback.masks["digit-0"]
    assert mask.mask.shape == (8, 8), "at the picture's resolution"
    assert mask.mask.sum() == 6
    assert [stroke.tool for stroke in mask.strokes] == ["rectangle"]
    assert (mask.target, mask.method, mask.version) == (0, session.saliency, 0)
    assert "Saved: digit-0, rectangle" in widget.status
    press(widget, "skip")
    assert widget.current == "digit-2", "digit-1 is reasonable"
    press(widget, "skip")
    assert widget.current == "digit-2", "it is the only one that is left"
    press(widget, "fill", "skip")
    assert widget.current is None
    assert "Every unreasonable map" in shown(widget)
    press(widget, "back")
    assert widget.current == "digit-2"


def test_the_models_own_map_is_a_start(align, session, press):
    widget = align()
    press(widget, "reject", "adjust", "relevant", "fill")
    stored = session.feedback.masks["digit-0"]
    saliency = widget.explained.saliency
    hot = np.asarray(Image.fromarray(saliency).resize((8, 8), Image.Resampling.BILINEAR)) > 0.5
    assert (stored.mask == hot).all()
    press(widget, "clear")
    assert session.feedback.masks["digit-0"].empty
    assert "<strong>0 of 1</strong> unreasonable" in widget._controls.summary.value


def test_a_stroke_that_cannot_be_saved_is_not_lost(align, session, press, monkeypatch):
    widget = align()
    press(widget, "reject", "reject", "adjust")
    real = session.record

    def full(_):
        raise OSError("no <space> left")

    monkeypatch.setattr(session, "record", full)
    draw(widget, (0, 0), (2, 2))
    assert "no &lt;space&gt; left" in widget.status
    assert session.feedback.masks == {}
    press(widget, "skip")
    assert widget.current == "digit-0", "it is not left behind"
    monkeypatch.setattr(session, "record", real)
    press(widget, "skip")
    assert session.feedback.masks["digit-0"].mask.sum() == 4
    assert widget.current == "digit-1"


def test_undo_of_what_could_not_be_saved(align, session, press, monkeypatch):
    widget = align()
    press(widget, "reject", "adjust")
    draw(widget, (0, 0), (2, 2))
    with monkeypatch.context() as patched:
        patched.setattr(session, "record", lambda _: 1 / 0)
        draw(widget, (4, 4), (8, 8))
    assert widget.canvas.drawing.mask.sum() == 4 + 16
    press(widget, "undo")
    assert widget.canvas.drawing.mask.sum() == 4
    assert len(session.feedback.records) == 2


def test_masks_of_others_are_seen_and_can_be_copied(align, session, press):
    widget = align()
    press(widget, "reject", "adjust")
    theirs = np.zeros((8, 8), np.int8)
    theirs[2:4, 2:4] = -1
    session.record(xf.RegionMask("digit-0", theirs, annotator="<b>eve</b>"))
    assert widget.wait()
    assert (widget.canvas.drawing.mask == theirs).all()
    draw(widget, (0, 0), (8, 8))
    assert "mask by &lt;b&gt;eve&lt;/b&gt;, original model" in shown(widget)
    press(widget, "copy")
    assert (session.feedback.masks["digit-0"].mask == theirs).all()


def test_masks_imported_at_another_size_are_brought_to_the_pictures(align, session, press):
    widget = align()
    press(widget, "reject", "reject")
    session.record(xf.RegionMask("digit-0", np.eye(4, dtype=np.int8)))
    press(widget, "adjust", "back")
    widget.go_to("digit-0")
    assert widget.wait()
    assert (widget.canvas.drawing.mask == np.kron(np.eye(4), np.ones((2, 2)))).all()


# ------------------------------------------------------------------ undo


@pytest.fixture
def kernel(digits, make_model, tmp_path):
    """Open session and widget, as a kernel that is started does; each call closes those before."""
    opened: list = []

    def restart() -> tuple[Session, AlignmentWidget]:
        while opened:
            opened.pop().close()
        opened.append(Session(make_model(), digits, tmp_path, annotator="me"))
        opened.append(AlignmentWidget(opened[0], order="dataset"))
        assert opened[1].wait()
        return opened[0], opened[1]

    yield restart
    while opened:
        opened.pop().close()


def masks_of(session):
    return {i: mask.mask.tobytes() for i, mask in session.feedback.masks.items()}


def draw_at_random(widget, random):
    """Draw something that changes the mask of one of the first five images."""
    widget.go_to(f"digit-{random.integers(5)}")
    assert widget._hand.flush()
    value, points = int(random.integers(-1, 2)), random.uniform(-2, 10, (6, 2))
    strokes = [
        Stroke("brush", value, 1.5, points),
        Stroke("polygon", value, points=points),
        Stroke("invert", 1),
    ]
    random.shuffle(strokes)
    assert any(widget.canvas.draw(stroke) for stroke in strokes)
    assert widget._hand.flush()


def test_a_hundred_strokes_are_undone_and_redone_exactly_across_images_and_restarts(kernel, press):
    """After every step, what the canvas shows and what a training would see is as it was, bit for bit."""
    random = np.random.default_rng(0)
    session, widget = kernel()
    press(widget, *["reject"] * 5, "adjust")
    states = [masks_of(session)]
    for _ in range(100):
        draw_at_random(widget, random)
        states.append(masks_of(session))
    assert len(session.feedback.records) == 105

    for action, indices in (("undo", range(99, -1, -1)), ("redo", range(1, 101))):
        for index in indices:
            if index in (30, 70):
                session, widget = kernel()
            widget.buttons[action].click()
            for thread in (widget._hand, widget.explainer, widget._hand):
                assert thread.flush()
            assert masks_of(session) == states[index]
            shown = session.feedback.masks.get(widget.current)
            drawn = widget.canvas.drawing.mask
            assert (drawn == (0 if shown is None else shown.mask)).all()
        if action == "undo":
            press(widget, "undo")
            assert len(session.feedback.verdicts) == 4, "then the judgements"
            press(widget, "redo")


def test_undo_returns_to_the_step_and_the_image(align, session, press):
    widget = align()
    press(widget, "reject", "reject", "adjust")
    draw(widget, (0, 0), (2, 2))
    press(widget, "skip", "judge")
    assert widget.mode == "judge"
    press(widget, "undo")
    assert (widget.mode, widget.current) == ("adjust", "digit-0")
    assert not widget.canvas.drawing.mask.any()
    press(widget, "undo")
    assert (widget.mode, widget.current) == ("judge", "digit-1")
    press(widget, "redo", "redo")
    assert (widget.mode, widget.current) == ("adjust", "digit-0")
    assert widget.canvas.drawing.mask.sum() == 4


# ------------------------------------------------------------------ the matrix


def cells(widget):
    return {name: widget.buttons[f"cell_{name}"].description for name in ("RA", "UA", "RIA", "UIA")}


def test_the_matrix_counts_and_a_cell_narrows_the_queue(align, session, press):
    widget = align()
    right = (session.predictions()[0].argmax(1) == session.data.labels).tolist()
    for position in range(8):
        assert widget.current == f"digit-{position}"
        press(widget, "accept" if position % 2 else "reject")
    expected = {
        name: [f"digit-{p}" for p in range(8) if (p % 2 == 1, right[p]) == kind]
        for name, kind in {
            "RA": (True, True), "UA": (False, True), "RIA": (True, False), "UIA": (False, False),
        }.items()
    }  # fmt: skip
    assert {name: list(ids) for name, ids in widget.matrix.ids.items()} == expected
    for name, text in cells(widget).items():
        assert text.startswith(f"{name}: {len(expected[name])} · ")
    chosen = max(expected, key=lambda name: len(expected[name]))
    press(widget, f"cell_{chosen}")
    assert cells(widget)[chosen].startswith("▸ ")
    assert f"only {chosen}" in shown(widget)
    visited = []
    while widget.current is not None:
        visited.append(widget.current)
        press(widget, "accept" if chosen.startswith("R") else "reject")
    assert visited == expected[chosen], "answered ones are shown again, each once"
    press(widget, f"cell_{chosen}")
    assert widget.current == "digit-8", "back in the whole queue"


def test_a_cell_narrows_what_is_adjusted_and_an_empty_one_nothing(align, session, press):
    widget = align()
    press(widget, *["reject"] * 6, "adjust")
    name = next(name for name, ids in widget.matrix.ids.items() if ids)
    press(widget, f"cell_{name}")
    assert widget.mode == "adjust"
    assert set(widget._desk._arranged()) == {session.data.index(i) for i in widget.matrix.ids[name]}
    press(widget, "cell_RA")
    assert "No image is reasonable, accurate" in widget.status
    assert widget.mode == "adjust"


def test_after_training_the_answered_images_come_again_and_the_matrix_moves(align, session, press):
    widget = align()
    press(widget, "reject", "reject", "accept")
    assert widget._controls.matrix.arrows.value == "", "there is nothing to compare yet"
    assert widget._controls.offer.layout.display == "none"
    before = widget.matrix.counts
    press(widget, "train")
    session.wait(60)
    assert widget.wait()
    assert session.version == 1
    assert "3 not judged again since the weights changed" in shown(widget)
    assert widget.buttons["again"].description == "Judge again: 3 (Shift+J)"
    press(widget, "again")
    assert widget.current == "digit-0"
    assert widget.explained.view.version == 1, "with its new map"
    press(widget, "accept", "accept")
    assert widget.current == "digit-2"
    assert "1 not judged again" in shown(widget)
    figure = widget._controls.matrix.arrows.value
    assert "l8 5-8 5z" in figure, "there is an arrow"
    first, now = learning.matrices(session, widget._desk)
    assert first.counts == before
    assert now.counts["RA"] + now.counts["RIA"] == 3
    press(widget, "accept")
    assert widget.current is None
    press(widget, "again")
    assert widget.current == "digit-3"


def test_right_or_wrong_follows_the_live_version(align, session, press):
    widget = align()
    press(widget, "accept")
    verdict = session.feedback.verdicts["digit-0"]
    right = widget.matrix.counts["RA"] == 1
    assert right == (verdict.predicted == 0)
    other = torch_shift(session)
    session.lock.acquire()
    try:
        session._live.publish(other, 1)
    finally:
        session.lock.release()
    session._tell("published", session.versions[0])
    assert widget.wait()
    assert widget.matrix.counts["RIA" if right else "RA"] == 1


def torch_shift(session):
    """Weights under which the first image is predicted otherwise: right becomes wrong, wrong right."""
    state = session._live.state()
    verdict = session.feedback.verdicts["digit-0"]
    wanted = 1 if verdict.predicted == 0 else 0
    bias = state["8.bias"].clone()
    bias[wanted] += 100
    return {**state, "8.bias": bias}


def test_arrows_say_in_words_what_they_show():
    figure = arrows({("UIA", "RA"): 3, ("RA", "UA"): 1, ("RA", "RA"): 5})
    assert 'aria-label="From first judged to now: UIA → RA: 3, RA → UA: 1"' in figure
    assert figure.count("l8 5-8 5z") == 2
    assert figure.count("stroke-dasharray") == 1, "what got worse is dashed"
    assert "none changed its cell" in arrows({("RA", "RA"): 5})


# ------------------------------------------------------------------ what training uses


def test_the_widget_says_what_training_will_use(align, session, press):
    widget = align()
    press(widget, "reject", "adjust")
    assert "Training will not use masks" in shown(widget)
    assert "will use the <strong>judgement</strong>." in shown(widget)
    draw(widget, (0, 0), (2, 2), value=-1)
    assert "will use the <strong>judgement</strong>, not the mask." in shown(widget)
    cell = widget.matrix.cells["digit-0"]
    label, mask = {"UA": ("0.4", "1.6"), "UIA": ("1", "1")}[cell]
    session.correction = xf.corrections.Gradia()
    press(widget, "judge", "adjust")
    assert "Training will not use masks" not in shown(widget)
    assert "will use the <strong>judgement and the mask</strong>." in shown(widget)
    assert f"As {cell}, its label counts × {label} and its mask × {mask}" in shown(widget)
    session.correction = xf.corrections.PlainFineTuning()
    press(widget, "judge")
    widget.go_to("digit-0")
    assert widget.wait()
    assert "neither judgements nor masks" in shown(widget)


def test_it_says_when_judgement_and_mask_contradict_each_other(align, session, press):
    widget = align()
    press(widget, "accept", "back")
    session.record(xf.RegionMask("digit-0", -np.ones((8, 8), np.int8)))
    assert widget.wait()
    assert "called reasonable, but 100 % of this map is marked irrelevant" in shown(widget)
    press(widget, "reject", "back")
    assert "contradict" not in shown(widget)
    assert "⚠" not in shown(widget)


@pytest.mark.parametrize(
    ("answer", "relevant", "irrelevant", "clash"),
    [
        ("accept", 0.0, 0.3, True),
        ("accept", 0.7, 0.1, False),
        ("reject", 0.95, 0.0, True),
        ("reject", 0.5, 0.5, False),
        ("unsure", 0.0, 1.0, False),
        (None, 1.0, 0.0, False),
    ],
)
def test_contradictions(answer, relevant, irrelevant, clash):
    assert bool(learning.contradiction(answer, Shares(relevant, irrelevant, 0, 0))) is clash


# ------------------------------------------------------------------ the rest


def test_names_from_data_are_escaped_everywhere(digits, make_model, tmp_path, press):
    names = ["<b>zero</b>", "🐱 & co", "</script>"]
    data = xf.data.ImageSet(
        [digits[i] for i in range(20)], ids=[f"<i>{i}</i>" for i in range(20)], class_names=names
    )
    with Session(make_model(), data, tmp_path, annotator="<u>me</u>") as session:
        widget = AlignmentWidget(session, order="dataset", form=True)
        widget.wait()
        press(widget, "reject", "accept", "adjust", "fill", "compare", "judge", "back")
        text = " ".join(w.value for w in _instances.values() if isinstance(w, ipywidgets.HTML))
        widget.close()
    assert "&lt;b&gt;zero&lt;/b&gt;" in text
    assert "&lt;u&gt;me&lt;/u&gt;" in text
    for tag in ("<b>zero", "<i>0", "<u>", "</script>"):
        assert tag not in text


def test_static_picture_shows_masks_for_readers_without_a_kernel(align, session, press):
    widget = align()
    press(widget, "reject", "adjust")

    def page():
        bundle = widget._repr_mimebundle_()
        return Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).convert("RGB")

    before = page()
    draw(widget, (0, 0), (8, 8), value=-1)
    after = page()
    orange = (209, 121, 11)
    colours = [{c: n for n, c in sheet.getcolors(1 << 20)} for sheet in (before, after)]
    assert orange not in colours[0]
    assert colours[1][orange] > 1000


def test_callbacks_return_at_once_while_a_large_mask_is_written(align, session, press):
    widget = align()
    press(widget, "reject", "adjust")
    real = session.record

    def slow(record):
        time.sleep(0.2)
        return real(record)

    session.record = slow
    started = time.perf_counter()
    widget.canvas.draw(Stroke("rectangle", 1, points=[(0, 0), (2, 2)]))
    widget.buttons["undo"].click()
    widget.canvas.draw(Stroke("rectangle", 1, points=[(4, 4), (8, 8)]))
    assert time.perf_counter() - started < 0.1
    assert widget.wait()
    del session.record
    assert [type(r).__name__ for r in session.feedback.records] == ["Verdict", "RegionMask"]


def test_what_is_pressed_is_done_in_order_and_writing_down_holds_no_lock(align, session, press):
    widget = align()
    press(widget, "reject", "adjust")
    real, free = session.record, []

    def look():
        if widget._desk.lock.acquire(timeout=1):
            free.append(True)
            widget._desk.lock.release()

    def record(record):
        other = threading.Thread(target=look)
        other.start()
        other.join()
        return real(record)

    session.record = record
    for action in ("fill", "invert", "undo", "skip", "back"):
        widget.buttons[action].click()
    assert widget.wait()
    del session.record
    assert free == [True, True]
    assert [s.tool for s in session.feedback.masks["digit-0"].strokes] == ["fill"]
    assert (widget.canvas.drawing.mask == session.feedback.masks["digit-0"].mask).all()


def test_closing_writes_down_what_was_drawn(session, press):
    widget = AlignmentWidget(session, order="dataset")
    widget.wait()
    press(widget, "reject", "adjust")
    real = session.record
    session.record = lambda record: (time.sleep(0.1), real(record))[1]
    widget.canvas.draw(Stroke("rectangle", 1, points=[(0, 0), (2, 2)]))
    widget.canvas.draw(Stroke("rectangle", 1, points=[(4, 4), (8, 8)]))
    widget.close()
    assert session.feedback.masks["digit-0"].mask.sum() == 4 + 16


@pytest.mark.filterwarnings("ignore:1 image")
def test_an_unreadable_image_is_named_and_nothing_can_be_drawn_on_it(
    digits, make_model, tmp_path, press
):
    class Broken:
        targets = digits.labels.tolist()

        def __len__(self):
            return len(digits)

        def __getitem__(self, index):
            if index == 1:
                raise OSError("disk <on> fire")
            return digits[index]

    data = xf.data.ImageSet(Broken(), ids=digits.ids, class_names=digits.class_names)
    with Session(make_model(), data, tmp_path, annotator="me") as session:
        widget = AlignmentWidget(session, order="dataset")
        widget.wait()
        press(widget, "reject")
        assert "disk &lt;on&gt; fire" in shown(widget)
        press(widget, "accept")
        assert len(session.feedback) == 1
        press(widget, "adjust")
        widget.go_to("digit-1")
        press(widget, "fill", "invert")
        assert session.feedback.masks == {}
        widget.close()


def test_closing_leaves_no_widget_and_no_thread(session):
    before, threads = set(_instances), set(threading.enumerate())
    widget = AlignmentWidget(session)
    widget.wait()
    widget.close()
    widget.close()
    left = [w for name, w in _instances.items() if name not in before]
    assert [type(w).__name__ for w in left if type(w).__name__ not in ("Canvas", "Layout")] == []
    assert not [
        t for t in threading.enumerate() if t not in threads and t.name.startswith("xfeedback")
    ]


def test_unknown_options_are_refused_with_a_hint(session):
    with pytest.raises(TypeError, match="'fom': did you mean 'form'"):
        AlignmentWidget(session, fom=True)
    with pytest.raises(ValueError, match="unknown colormap 'jet'"):
        AlignmentWidget(session, colormap="jet")
    with pytest.raises(ValueError, match="already means"):
        AlignmentWidget(session, keys={"accept": "f"})
