"""The review widget without a browser: its buttons pressed, its messages handled, its text read."""

from __future__ import annotations

import base64
import io
import re
import sys
import threading
import time
import types

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from PIL import Image

import xfeedback_widgets as xf
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import ReviewWidget


def test_it_is_an_ordinary_widget(review):
    widget = review()
    assert isinstance(widget, ipywidgets.VBox)
    assert ipywidgets.HBox([widget]).children == (widget,)


def test_an_answer_is_on_disk_before_the_screen_says_saved(review, session, press):
    widget = review()
    first, item = widget.current, widget.explained
    widget.buttons["reject"].click()
    assert session.feedback.verdicts[first].answer == "reject", "recorded when the callback returns"
    widget.wait()
    assert "Saved" in widget.status
    verdict = session.feedback.verdicts[first]
    assert verdict.version == session.version
    assert verdict.target == item.target
    assert verdict.method == session.saliency
    assert (verdict.map == item.judged).all()
    assert verdict.duration >= 0
    assert widget.current != first, "an answer goes on to the next image"


def move(widget, *rows):
    """Move the pointer over the picture, as the page would report it."""
    data = np.array(rows, "<f4").tobytes()
    message = {"kind": "path", "name": widget.bridge.traced}
    widget.bridge._handle_custom_msg(message, [data])


def test_the_path_of_the_pointer_is_kept_with_the_answer(review, session, press):
    widget = review()
    first = widget.current
    move(widget, (0.1, 0.2, 5), (0.3, 0.2, 22))
    move(widget, (0.5, np.inf, 30), (7, 0.5, 39))
    move(widget, (0.5, 0.5, 2))  # the page was loaded again
    stale = widget.bridge.traced
    press(widget, "reject")
    wanted = np.array([(0.1, 0.2, 5), (0.3, 0.2, 22), (2, 0.5, 39), (0.5, 0.5, 41)], np.float32)
    np.testing.assert_array_equal(session.feedback.verdicts[first].pointer, wanted)
    assert widget.bridge.traced not in ("", stale)
    widget.bridge._handle_custom_msg(
        {"kind": "path", "name": stale}, [np.zeros((1, 3), "<f4").tobytes()]
    )
    second = widget.current
    press(widget, "accept")
    assert session.feedback.verdicts[second].pointer is None
    press(widget, "grid")
    assert widget.bridge.traced == ""


def test_what_is_kept_is_said_and_can_be_switched_off(review, session, press):
    assert "how long you looked" in review()._controls.kept.value
    widget = review(byproducts=False)
    assert "Neither how long" in widget._controls.kept.value
    first = widget.current
    assert widget.bridge.traced == ""
    move(widget, (0.1, 0.2, 5))
    press(widget, "reject")
    verdict = session.feedback.verdicts[first]
    assert verdict.duration is None
    assert verdict.pointer is None
    assert not any(session.feedback.kept.values())


def test_nothing_is_called_saved_when_recording_fails(review, session, monkeypatch):
    widget = review()
    first = widget.current

    def full(_):
        raise OSError("no <space> left")

    monkeypatch.setattr(session, "record", full)
    widget.buttons["accept"].click()
    widget.wait()
    assert "Saved" not in widget.status
    assert "no &lt;space&gt; left" in widget.status
    assert "Traceback" in widget.status
    assert widget.current == first


def test_an_image_without_its_map_is_not_judged(review, session, monkeypatch):
    widget = review()
    held = threading.Event()
    real = session.explain

    def slow(*arguments, **options):
        held.wait(10)
        return real(*arguments, **options)

    monkeypatch.setattr(session, "explain", slow)
    widget.go_to(session.data.ids[99])
    widget.buttons["accept"].click()
    widget.pump.flush()
    assert "not there yet" in widget.status
    assert len(session.feedback) == 0
    held.set()
    widget.wait()
    widget.buttons["accept"].click()
    assert len(session.feedback) == 1


def test_undo_and_redo_work_across_images_and_return_to_them(review, session, press):
    widget = review(order="dataset")
    press(widget, "accept", "reject")
    assert widget.current == "digit-2"
    press(widget, "undo")
    assert widget.current == "digit-1"
    assert set(session.feedback.verdicts) == {"digit-0"}
    press(widget, "undo")
    assert widget.current == "digit-0"
    press(widget, "redo")
    assert set(session.feedback.verdicts) == {"digit-0"}
    press(widget, "undo", "undo")
    assert "Nothing more" in widget.status


def test_skip_back_and_arrows(review, press, key):
    widget = review(order="dataset")
    press(widget, "skip", "skip", "back")
    assert widget.current == "digit-1"
    key(widget, "arrowright")
    assert widget.current == "digit-2"
    key(widget, "arrowleft")
    assert widget.current == "digit-1"


def test_keys_do_what_the_buttons_say(review, session, key):
    widget = review(order="dataset", keys={"unsure": "m", "skip": None})
    assert widget.buttons["accept"].description == "Accept (a)"
    assert widget.buttons["unsure"].description == "Unsure (m)"
    assert widget.buttons["skip"].description == "Skip"
    for name in ("a", "r", "m", "s", "u"):
        key(widget, name)
    assert [v.answer for v in session.feedback.verdicts.values()] == ["accept", "reject", "unsure"]
    key(widget, "z")
    assert len(session.feedback) == 2
    for mode, name in (("grid", "g"), ("compare", "c"), ("one", "1")):
        key(widget, name)
        assert widget.mode == mode


def test_keys_can_be_switched_off(review, session, key):
    widget = review(keys=False)
    assert widget.buttons["accept"].description == "Accept"
    assert widget.bridge.hot_keys == []
    assert widget.bridge.peek_key == ""
    key(widget, "a")
    assert len(session.feedback) == 0


def test_answered_images_are_passed_over_when_the_session_resumes(review, session, press):
    first = review(order="dataset")
    press(first, "accept", "accept")
    first.close()
    assert review(order="dataset").current == "digit-2"


def test_other_annotators_answers_do_not_count_as_mine(review, session):
    session.record(xf.Verdict("digit-0", "reject", annotator="<b>eve</b>"))
    widget = review(order="dataset")
    assert widget.current == "digit-0"
    assert "<strong>0 of 120</strong>" in widget._controls.summary.value
    assert "&lt;b&gt;eve&lt;/b&gt;" in widget._controls.single.facts.value


def test_answers_given_by_a_script_are_seen(review, session):
    widget = review(order="dataset")
    session.record(xf.Verdict("digit-1", "reject"))
    widget.wait()
    assert "<strong>1 of 120</strong>" in widget._controls.summary.value
    widget.buttons["accept"].click()
    assert widget.current == "digit-2"


def test_class_filter(review, session, press):
    widget = review(order="dataset", classes=["two", 1])
    labels = [session.data.labels[session.data.index(i)] for i in widget._desk.upcoming(200)]
    assert {int(label) for label in labels} == {1, 2}
    widget._controls.class_field.value = 2
    widget.wait()
    assert session.data.labels[session.data.index(widget.current)] == 2


def test_an_order_by_predictions_begins_with_its_first_image(review, session):
    widget = review(order="dataset")
    widget.buttons["skip"].click()
    widget._controls.order_field.value = "misclassified"
    widget.wait()
    assert widget.explained.predicted != widget.explained.label


def test_least_confident_comes_first_once_predictions_are_there(review, session):
    widget = review()
    probabilities, _ = session.predictions()
    expected = probabilities.max(1).values.argsort(stable=True)
    assert widget.current == session.data.ids[int(expected[0])]


def test_the_image_under_ones_hands_does_not_change(session):
    gate = threading.Event()
    real = session.predictions

    def late(**options):
        gate.wait(10)
        return real(**options)

    session.predictions = late
    widget = ReviewWidget(session)
    widget.explainer.flush()
    widget.buttons["skip"].click()
    current = widget.current
    gate.set()
    assert widget.wait()
    assert widget.current == current
    widget.close()


def test_grid_by_keyboard(review, session, press, key):
    widget = review(order="dataset", page_size=12)
    press(widget, "grid")
    assert widget.page == session.data.ids[:12]
    key(widget, "arrowright")
    assert widget.selected == 1
    key(widget, "r")
    assert session.feedback.verdicts["digit-1"].answer == "reject"
    assert widget.selected == 2, "an answer selects the next tile"
    key(widget, "arrowdown")
    assert widget.selected == 2 + widget._controls.grid.columns
    press(widget, "accept_rest")
    assert session.feedback.counts() == {"accept": 11, "reject": 1, "unsure": 0}
    key(widget, "pagedown")
    assert widget.page == session.data.ids[12:24]
    key(widget, "enter")
    assert (widget.mode, widget.current) == ("one", "digit-12")
    assert "12 of 120" in re.sub("<.*?>", "", widget._controls.summary.value)


def test_grid_by_mouse_and_in_words(review, press):
    widget = review(order="dataset")
    press(widget, "grid")
    width, height = widget._controls.grid.stage.size
    click = {"kind": "click", "x": 130 / width, "y": 30 / height, "count": 1}
    widget.bridge._handle_custom_msg(click, [])
    widget.wait()
    assert widget.selected == 1
    assert "Image digit-1; true one" in widget._controls.grid.line.value
    press(widget, "unsure")
    widget.bridge._handle_custom_msg({**click, "count": 2}, [])
    widget.wait()
    assert (widget.mode, widget.current) == ("one", "digit-1")
    assert "? unsure" in widget._controls.single.facts.value


def test_training_from_the_panel_refreshes_maps_and_comparison(review, session, press):
    widget = review(order="dataset")
    press(widget, "reject", "accept")
    before = widget.explained
    widget.buttons["train"].click()
    session.wait(60)
    widget.wait()
    assert session.version == 1
    assert widget.explained.view.version == 1
    assert widget.explained.image_id == before.image_id
    assert "Finished" in widget._controls.training._state.value
    assert "<polyline" in widget._controls.training._curves.value
    press(widget, "compare")
    assert widget._controls.compare.versions == {"before": 0, "after": 1}
    press(widget, "after_older")
    assert widget._controls.compare.versions == {"before": 0, "after": 0}
    assert widget.buttons["accept"].disabled
    press(widget, "rollback")
    assert session.version == 0
    assert "Rolled back" in widget.status


def test_a_failed_training_is_shown(review, session, monkeypatch, press):
    widget = review()
    press(widget, "reject")

    def broken(*_):
        raise RuntimeError("out of <luck>")

    monkeypatch.setattr(session.correction, "loss", broken)
    widget.buttons["train"].click()
    session.wait(60)
    widget.wait()
    html = widget._controls.training._state.value
    assert "✕ Failed" in html
    assert "out of &lt;luck&gt;" in html
    assert "<details>" in html


def test_names_from_data_are_escaped_everywhere(digits, make_model, tmp_path, press):
    names = ["<b>zero</b>", "🐱 & co", "</script>"]
    data = xf.data.ImageSet(
        [digits[i] for i in range(20)], ids=[f"<i>{i}</i>" for i in range(20)], class_names=names
    )
    with Session(make_model(), data, tmp_path, annotator="<u>me</u>") as session:
        widget = ReviewWidget(session, order="dataset")
        widget.wait()
        press(widget, "accept", "back", "grid", "compare", "one")
        shown = [w.value for w in _instances.values() if isinstance(w, ipywidgets.HTML)]
        widget.close()
    text = "".join(shown)
    assert "&lt;b&gt;zero&lt;/b&gt;" in text
    assert "&lt;u&gt;me&lt;/u&gt;" in text
    for tag in ("<b>", "<i>", "<u>", "</script>"):
        assert tag not in text


def test_an_unreadable_image_is_named_and_can_be_skipped(digits, make_model, tmp_path, press):
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
        widget = ReviewWidget(session, order="dataset")
        widget.wait()
        press(widget, "accept")
        assert "disk &lt;on&gt; fire" in widget._controls.single.facts.value
        press(widget, "accept")
        assert len(session.feedback) == 1
        press(widget, "grid", "compare", "one", "skip")
        assert widget.current == "digit-2"
        press(widget, "accept")
        assert len(session.feedback) == 2
        widget.close()


def test_unknown_keyword_gets_the_nearest_name(session):
    with pytest.raises(TypeError, match="'ordr': did you mean 'order'"):
        ReviewWidget(session, ordr="random")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "best"}, "least_confident"),
        ({"classes": ["tow"]}, "did you mean 'two'"),
        ({"classes": []}, "at least one class"),
        ({"classes": [9]}, "no class 9"),
        ({"colormap": "jet"}, "cividis"),
        ({"page_size": 13}, "12, 24, 48"),
        ({"opacity": 3}, r"\[0, 1\]"),
        ({"target": "best"}, "predicted"),
        ({"method": "magic"}, "gradcam"),
        ({"keys": {"acept": "a"}}, "did you mean 'accept'"),
    ],
)
def test_bad_values_say_what_there_is(session, options, message):
    before = len(_instances)
    with pytest.raises(ValueError, match=message):
        ReviewWidget(session, **options)
    assert len(_instances) == before, "nothing is left behind"


def test_the_end_of_the_queue(digits, make_model, tmp_path, press):
    data = digits.subset(range(3))
    with Session(make_model(), data, tmp_path, annotator="me") as session:
        widget = ReviewWidget(session)
        widget.wait()
        press(widget, "accept", "accept", "accept")
        assert widget.current is None
        assert "Every image of this queue is answered" in widget._controls.single.facts.value
        press(widget, "accept", "skip", "grid", "compare", "one")
        assert len(session.feedback) == 3
        press(widget, "back")
        assert widget.current is not None
        widget.close()


def test_closing_leaves_no_widget_and_no_thread(session, press):
    ReviewWidget(session).close()  # the first one makes the sentinel canvas, which stays
    widgets, threads = len(_instances), threading.active_count()
    for _ in range(3):
        widget = ReviewWidget(session)
        widget.wait()
        press(widget, "accept", "grid", "compare", "one")
        widget.close()
        widget.close()
    assert len(_instances) == widgets
    assert threading.active_count() == threads
    assert session._subscribers == []
    widget.buttons["accept"].click()  # a late message does nothing
    session.record(xf.Verdict("digit-0", "accept"))


def test_the_number_of_widgets_stays_the_same_while_working(review, press, session):
    widget = review()
    press(widget, "accept", "grid", "compare", "one")
    before = len(_instances)
    for _ in range(30):
        widget.buttons["accept"].click()
        widget.buttons["grid"].click()
        widget.buttons["next_page"].click()
        widget.buttons["one"].click()
        widget.wait()
    assert len(_instances) == before


def test_a_page_that_comes_new_is_painted_again(review):
    widget = review()
    frames = widget.pump.frames
    widget._controls.single.stage.children[0]._handle_msg(
        {
            "content": {"data": {"method": "custom", "content": {"event": "client_ready"}}},
            "buffers": [],
        }
    )
    widget.wait()
    assert widget.pump.frames > frames


def test_presses_and_keys_take_precedence_and_scripts_do_not(review, session, key, monkeypatch):
    widget, claims = review(), []
    monkeypatch.setattr(session.precedence, "claim", lambda: claims.append(widget.current))
    session.record(xf.Verdict(session.data.ids[50], "reject"))
    assert not claims
    first = widget.current
    widget.buttons["reject"].click()
    assert claims == [first]
    key(widget, "a", "arrowleft")
    assert len(claims) == 3


def test_callbacks_return_quickly_while_training(review, session):
    widget = review()
    widget.buttons["reject"].click()
    session.train(epochs=200)
    took = []
    for _ in range(40):
        widget.explainer.flush()
        started = time.perf_counter()
        widget.buttons["accept"].click()
        took.append(time.perf_counter() - started)
    session.stop()
    session.wait(30)
    assert sorted(took)[30] < 0.05


def test_presses_from_several_threads_answer_different_images(review, session):
    widget = review(order="dataset")
    widget.buttons["grid"].click()
    widget.wait()

    def answer():
        for _ in range(5):
            widget.buttons["accept"].click()

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(session.feedback) == 20


def test_static_picture_for_readers_without_a_kernel(review, press):
    widget = review(order="dataset")
    press(widget, "accept", "reject")
    bundle = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    image = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert len(image.getcolors(1 << 20)) > 30, "pictures with maps, not an empty page"


def test_colab_gets_its_widget_manager(session, monkeypatch):
    import anywidget._util

    calls = []
    output = types.SimpleNamespace(enable_custom_widget_manager=lambda: calls.append(1))
    colab = types.ModuleType("google.colab")
    colab.output = output
    google = types.ModuleType("google")
    google.colab = colab
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    anywidget._util.enable_custom_widget_manager_once.cache_clear()
    ReviewWidget(session).close()
    assert calls == [1]


def test_the_least_robust_images_come_first(review, session, press):
    """By a report, or by an audit in the background; the first answer does not wait for it."""
    report = session.audit()
    scores = dict(zip(session.data.ids, report.scores(session.data.ids).tolist(), strict=True))
    expected = sorted(session.data.ids, key=scores.__getitem__)
    assert 0 < scores[expected[0]] < scores[expected[-1]]
    given = review(order="robustness", audit=report)
    assert given.current == expected[0]
    computed = review(order="robustness")
    assert computed.current == expected[0]
    assert "regions: masks of the image set" in computed.status
    press(computed, "reject", "skip")
    assert computed.current == expected[2]


def test_without_regions_the_widget_says_why_there_is_no_score(make_model, digits, tmp_path):
    bare = xf.data.ImageSet(
        [digits[i] for i in range(20)], ids=digits.ids[:20], class_names=digits.class_names
    )
    with Session(make_model(), bare, tmp_path, annotator="me") as session:
        widget = ReviewWidget(session, order="robustness")
        assert widget.wait()
        assert widget.current == bare.ids[0], "the dataset's order"
        assert "no robustness score" in widget.status
        mask = (digits.mask(7)[:8, :8]).numpy().astype("int8")
        session.record(xf.RegionMask(bare.ids[7], mask))
        for order in ("dataset", "robustness"):
            widget._controls.order_field.value = order
        assert widget.wait()
        assert "drawn by people on 1 image" in widget.status
        assert widget.current == bare.ids[7], "what has no score comes last"
        widget.close()


def test_offered_images_are_asked_again_in_their_order(review, session, press):
    widget = review(order="dataset")
    ids = session.data.ids
    press(widget, "accept")
    widget.offer([ids[40], ids[0], ids[7]])
    assert widget.wait()
    seen = []
    for _ in range(3):
        seen.append(widget.current)
        press(widget, "reject")
    assert seen == [ids[40], ids[0], ids[7]]
    assert session.feedback.verdicts[ids[0]].answer == "reject"
    assert widget.current is None
    widget._controls.order_field.value = "random"
    widget.wait()
    assert widget._desk.length == len(ids), "an order brings all of them back"
    with pytest.raises(KeyError):
        widget.offer(["nobody"])
    with pytest.raises(ValueError, match="at least one"):
        widget.offer([])
