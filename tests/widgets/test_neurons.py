"""The review of units without a browser: its buttons pressed, its messages handled, its text read."""

from __future__ import annotations

import base64
import functools
import io
import threading
import time

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from PIL import Image
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import NeuronWidget
from xfeedback_widgets.widgets.neurons import answering, preview
from xfeedback_widgets.widgets.neurons.patches import crop


@pytest.fixture
def twins_model(make_model):
    """A model whose units 2 and 5 are the same, and whose unit 7 never fires."""
    model = make_model()
    with torch.no_grad():
        convolution = model[3]
        convolution.weight[5], convolution.bias[5] = convolution.weight[2], convolution.bias[2]
        convolution.weight[7], convolution.bias[7] = 0.0, -1.0
    return model


@pytest.fixture
def session(digits, twins_model, tmp_path):
    correction = xf.corrections.CrayonPruning()
    with Session(
        twins_model, digits, tmp_path / "s", correction, digits, annotator="me", seed=0
    ) as made:
        yield made


@pytest.fixture
def neurons(session, make_widget):
    return functools.partial(make_widget, NeuronWidget, session)


def shown(widget) -> str:
    controls = widget._controls
    parts = (controls.single.patches, controls.single.facts, controls.grid.tiles, controls.preview)
    return "".join(part.value for part in (*parts, controls.summary, controls.notice))


def test_the_most_influential_unit_comes_first_with_its_patches(neurons, session):
    widget = neurons()
    weight, _ = session.head()
    assert widget.unit == xf.units.order(session.units(), weight)[0]
    patches = widget._controls.single.patches.value
    assert patches.count("xf-patch") > 3
    assert patches.count("<img") == 6, "three patches, each with its whole image"
    facts = widget._controls.single.facts.value
    assert f"Unit {widget.unit}" in facts
    assert f"{weight[0, widget.unit]:+.2f}".replace("-", "−") in facts
    assert "never fire" in widget._controls.summary.value


def test_an_answer_is_on_disk_when_the_press_returns_and_goes_on(neurons, session):
    widget = neurons()
    first = widget.unit
    widget.buttons["reject"].click()
    verdict = session.feedback.units[first]
    assert (verdict.answer, verdict.version, verdict.annotator) == ("reject", 0, "me")
    assert verdict.duration >= 0
    widget.wait()
    assert "Saved" in widget.status
    assert widget.unit != first


def test_twins_are_asked_once_answered_together_and_taken_back_together(neurons, session, key):
    widget = neurons()
    assert session.units().twins[2] == (2, 5)
    widget.go_to(5)
    widget.wait()
    assert widget.unit == 2
    assert "unit 5: same patches" in widget._controls.single.facts.value
    key(widget, "i")
    assert {u: v.answer for u, v in session.feedback.units.items()} == {2: "reject", 5: "reject"}
    key(widget, "u")
    key(widget, "z")
    key(widget, "z")
    assert session.feedback.units == {}
    assert widget.unit == 2
    key(widget, "y")
    assert set(session.feedback.units) == {2, 5}
    key(widget, "y")
    assert len(session.feedback.units) == 3
    widget.buttons["redo"].click()
    widget.wait()
    assert "Nothing more" in widget.status


def test_undo_stops_where_another_answer_begins(session):
    answering.record(session, [0, 1], "accept")
    answering.record(session, [2, 5], "reject")
    session.record(xf.Verdict("digit-0", "accept"))
    assert answering.undo(session).image_id == "digit-0"
    assert answering.undo(session).answer == "reject"
    assert set(session.feedback.units) == {0, 1}
    # asked alone by now, so one comes back, and the next is not half redone
    assert answering.redo(session, lambda _: (2,)).unit == 2
    assert set(session.feedback.units) == {0, 1, 2}


def test_keys_are_on_the_buttons_and_r_means_nothing(neurons, session, key):
    widget = neurons(keys={"unsure": "m"})
    texts = [widget.buttons[name].description for name in ("accept", "reject", "unsure")]
    assert texts == ["Relevant (a)", "Irrelevant (i)", "Unsure (m)"]
    key(widget, "r")
    assert not session.feedback
    for name in "aim":
        key(widget, name)
    assert list(widget.answers.values()) == ["accept", "reject", "unsure"]
    key(widget, "b")
    assert "? unsure" in widget._controls.single.facts.value


def test_what_was_answered_is_passed_over_when_the_session_resumes(neurons, key):
    first = neurons()
    given = [first.unit]
    key(first, "a")
    given.append(first.unit)
    key(first, "i")
    first.close()
    widget = neurons()
    assert list(widget.answers) == given
    assert widget.unit not in given


def test_the_preview_moves_with_irrelevant_answers_only(neurons, session, key):
    widget = neurons()
    assert widget.measured.then is None
    assert widget.measured.now == session.unit_preview().now
    key(widget, "a")
    assert widget.measured.then is None
    unit = widget.unit
    key(widget, "i")
    assert widget.measured.pruned == session.feedback.units.keys() - set(widget.answers) | {unit}
    assert set(widget.measured.then) == set(widget.measured.now)
    assert "would do now" in widget._controls.preview.value
    key(widget, "z")
    assert widget.measured.then is None


def test_the_table_of_the_preview_says_gain_and_loss_in_signs_and_escapes_names():
    now = {"accuracy": 0.5, "worst_group_accuracy": 0.25, "group: <b>a</b>": 0.25, "group: c": 0.75}
    then = {"accuracy": 0.6, "worst_group_accuracy": 0.25, "group: <b>a</b>": 0.3, "group: c": 0.7}
    refitted = {"accuracy": 0.55, "worst_group_accuracy": 0.2}
    measured = preview.Measured(now, refitted, then, frozenset({1, 2}))
    html = preview.table(measured, None, on="images")
    assert "without pruning any unit: accuracy 55.0%, worst group 20.0%" in html
    assert "these 2 units" in html
    assert "▲ +10.0" in html
    assert "<td>=</td>" in html
    assert "▼ −5.0" in html
    assert "&lt;b&gt;a&lt;/b&gt;" in html
    assert "<b>" not in html


def test_grid_by_keys_and_by_its_small_buttons(neurons, session, key, pick):
    widget = neurons(page_size=12)
    key(widget, "g")
    assert len(widget.page) == 10, "twelve units, one silent, one a twin"
    key(widget, "arrowright")
    key(widget, "i")
    assert widget.answers == {widget.page[1]: "reject"}
    assert widget.selected == 2, "an answer selects the next tile"
    key(widget, "arrowdown")
    assert widget.selected == 2 + widget._controls.grid.columns
    sheet = widget._controls.grid.sheet.value
    pick(widget, f"{widget.page[0]}:unsure")
    assert widget.answers[widget.page[0]] == "unsure"
    assert widget.selected == 0
    assert widget._controls.grid.sheet.value is sheet, "an answer does not send the pictures again"
    pick(widget, str(widget.page[4]), count=2)
    assert (widget.mode, widget.unit) == ("one", widget.page[4])
    pick(widget, "nonsense")
    assert "Could not select" in widget.status


def test_orders(neurons, session):
    survey, (weight, _) = session.units(), session.head()
    widget = neurons(order="random", seed=3)
    assert widget.page == tuple(xf.units.order(survey, weight, "random", seed=3))
    widget._controls.order_field.value = "suspicion"
    widget.wait()
    expected = xf.units.order(survey, weight, "suspicion", outside=session.suspicion())
    assert list(widget.page) == expected
    assert "lies outside" in widget._controls.single.facts.value
    widget._controls.order_field.value = "influence"
    widget._controls.target_field.value = 1
    widget.wait()
    assert list(widget.page) == xf.units.order(survey, weight, target=1)


def test_suspicion_without_any_knowledge_says_so(digits, make_model, tmp_path):
    data = xf.data.ImageSet([digits[i] for i in range(20)])
    with Session(make_model(), data, tmp_path) as session:
        widget = NeuronWidget(session, order="suspicion")
        widget.wait()
        assert "Nothing is known yet" in widget._controls.collect_text.value
        assert widget.unit == xf.units.order(session.units(), session.head()[0])[0]
        widget.close()


def test_training_prunes_and_rolling_back_brings_back(neurons, session, key):
    widget = neurons()
    unit = widget.unit
    key(widget, "i")
    expected = widget.measured.then["accuracy"]
    key(widget, "t")
    session.wait(60)
    widget.wait()
    assert session.version == 1
    assert not session.head()[0][:, unit].any()
    assert widget.measured.now["accuracy"] == pytest.approx(expected, abs=0.05)
    assert widget.collecting == "ready", "the trunk is the same, so nothing is collected anew"
    key(widget, "b")
    assert "its weights are 0" in widget._controls.single.facts.value
    widget.buttons["rollback"].click()
    widget.wait()
    assert session.version == 0
    assert "Rolled back" in widget.status
    assert "its weights are 0" not in widget._controls.single.facts.value


def stopped(**_):
    raise xf.units.SurveyStoppedError


def test_another_trunk_makes_the_patches_stale_until_they_are_collected_anew(
    neurons, session, monkeypatch, key
):
    widget = neurons()
    fingerprint = widget.survey.fingerprint
    session.record(xf.Verdict("digit-0", "reject", map=np.ones((4, 4), np.float16)))
    session.correction = xf.corrections.CrayonAttention()
    session.train(epochs=1)
    session.wait(60)
    widget.wait()
    assert widget.collecting == "stale"
    assert "of an earlier version" in widget._controls.collect_text.value
    assert widget.survey.fingerprint == fingerprint
    key(widget, "a")
    assert next(iter(session.feedback.units.values())).version == 0, "of what was looked at"
    with monkeypatch.context() as patch:
        patch.setattr(session, "units", stopped)
        key(widget, "c")
    assert widget.collecting == "stale", "what was there stays"
    key(widget, "c")
    assert widget.collecting == "ready"
    assert widget.survey.fingerprint != fingerprint
    assert widget._controls.collecting.layout.display == "none"


def test_collecting_can_be_stopped_and_started_again(session, monkeypatch):
    gate, real = threading.Event(), session.units

    def slow(*, progress=None, stop=None, **options):
        for done in range(10, 200, 10):
            progress(done, 200)
            if stop():
                raise xf.units.SurveyStoppedError
            if done == 100:
                gate.wait(10)
        return real(progress=progress, stop=stop, **options)

    monkeypatch.setattr(session, "units", slow)
    widget = NeuronWidget(session)
    while widget._collector.progress.done < 100:
        time.sleep(0.01)
    widget.pump.flush()
    assert "100 of 200 images" in widget._controls.collect_text.value
    assert widget._controls.collect_bar.value == 100
    assert widget.buttons["accept"].disabled
    widget.buttons["accept"].click()
    widget.buttons["collect"].click()
    gate.set()
    widget.wait()
    assert "stopped after 110 of 200" in widget._controls.collect_text.value
    assert not session.feedback
    monkeypatch.undo()
    widget.buttons["collect"].click()
    widget.wait()
    assert widget.unit is not None
    assert widget._controls.collecting.layout.display == "none"
    widget.close()


def test_a_model_without_units_says_why_and_what_to_do(digits, tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    with Session(model, digits, tmp_path, annotator="me") as session:
        widget = NeuronWidget(session)
        widget.wait()
        text = widget._controls.collect_text.value
        assert "no units" in text
        assert "use CrayonAttention" in text
        assert widget.buttons["reject"].disabled
        assert widget.unit is None
        widget.buttons["grid"].click()
        widget.buttons["reject"].click()
        widget.wait()
        assert "nothing left" in widget.status
        bundle = widget._repr_mimebundle_()
        assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
        widget.close()


def test_another_correction_is_named_with_the_remedy(neurons, session, key):
    session.correction = xf.corrections.CrayonAttention()
    widget = neurons()
    notice = widget._controls.notice
    assert "will not use these answers" in notice.value
    assert "session.correction = xf.corrections.CrayonPruning()" in notice.value
    session.correction = xf.corrections.Crayon()
    key(widget, "a")
    assert notice.value == ""
    assert notice.layout.display == "none"


def test_names_from_data_are_escaped_everywhere(digits, make_model, tmp_path, key):
    names = ["<b>zero</b>", "🐱 & co", "</script>"]
    data = xf.data.ImageSet(
        [digits[i] for i in range(40)], ids=[f"<i>{i}</i>" for i in range(40)], class_names=names,
        groups=digits.labels[:40], group_names=["<u>a</u>", "</table>", "<s>"],
    )  # fmt: skip
    with Session(make_model(), data, tmp_path, annotator="<q>me") as session:
        widget = NeuronWidget(session)
        widget.wait()
        for name in ("i", "b", "g", "i"):
            key(widget, name)
        text = shown(widget)
        assert "&lt;b&gt;zero&lt;/b&gt;" in text
        assert "&lt;u&gt;a&lt;/u&gt;" in text
        for tag in ("<b>zero", "</script>", "<u>", "<s>", "<q>", "<i>0", "<i>1"):
            assert tag not in text
        widget.close()


def test_an_unreadable_picture_is_named_and_its_unit_can_be_answered(
    neurons, session, monkeypatch, key
):
    def broken(_):
        raise OSError("disk <on> fire")

    monkeypatch.setattr(session.data, "picture", broken)
    widget = neurons()
    assert "disk &lt;on&gt; fire" in widget._controls.single.patches.value
    key(widget, "u")
    key(widget, "g")
    assert len(widget.answers) == 1


def test_nothing_is_called_saved_when_recording_fails(neurons, session, monkeypatch):
    widget = neurons()
    unit = widget.unit

    def full(_):
        raise OSError("no <space> left")

    monkeypatch.setattr(session, "record", full)
    widget.buttons["accept"].click()
    widget.wait()
    assert "Saved" not in widget.status
    assert "no &lt;space&gt; left" in widget.status
    assert widget.unit == unit


def test_options_that_do_not_exist_are_named(session):
    with pytest.raises(TypeError, match=r"NeuronWidget\(\) got .*'ordr': did you mean 'order'"):
        NeuronWidget(session, ordr="random")
    with pytest.raises(ValueError, match="unknown order 'size': choose one of 'influence'"):
        NeuronWidget(session, order="size")
    with pytest.raises(ValueError, match="no class 'onne': did you mean 'one'"):
        NeuronWidget(session, target="onne")
    with pytest.raises(ValueError, match="no action 'accept_rest'"):
        NeuronWidget(session, keys={"accept_rest": "q"})


def test_closing_leaves_no_widget_and_no_thread(session, key):
    widgets, threads = len(_instances), threading.active_count()
    for _ in range(2):
        widget = NeuronWidget(session)
        widget.wait()
        for name in ("a", "g", "1"):
            key(widget, name)
        widget.close()
        widget.close()
    NeuronWidget(session).close()  # in the middle of everything
    assert len(_instances) == widgets
    assert threading.active_count() == threads
    assert session._subscribers == []
    widget.buttons["accept"].click()  # a late message does nothing
    session.record(xf.UnitVerdict(0, "accept"))


def test_static_picture_for_readers_without_a_kernel(neurons, key):
    widget = neurons()
    key(widget, "a")
    image = Image.open(io.BytesIO(base64.b64decode(widget._repr_mimebundle_()["image/png"])))
    assert image.format == "PNG"
    assert len(image.getcolors(1 << 20)) > 20, "patches, not an empty page"


def test_callbacks_return_quickly_while_everything_else_works(neurons, session, monkeypatch):
    widget = neurons()
    real = session.unit_preview()

    class Slow:
        now, refitted = real.now, real.refitted

        def measure(self, pruned):
            time.sleep(0.5)
            return real.measure(pruned)

    monkeypatch.setattr(session, "unit_preview", Slow)
    widget._previewer.renew()
    took = []
    for _ in range(8):
        started = time.perf_counter()
        widget.buttons["reject"].click()
        took.append(time.perf_counter() - started)
    assert sorted(took)[6] < 0.1
    widget.wait()
    assert widget.measured.pruned == set(session.feedback.units), "the latest request wins"


@pytest.mark.parametrize(
    ("box", "shape"),
    [((0, 0, 1, 1), (10, 20)), ((0.5, 0.5, 0.5, 0.5), (1, 1)), ((0.25, 0, 0.5, 0.1), (3, 2))],
)
def test_a_cut_has_at_least_one_pixel_and_covers_its_box(box, shape):
    assert crop(np.zeros((10, 20, 3), np.uint8), box).shape[:2] == shape
