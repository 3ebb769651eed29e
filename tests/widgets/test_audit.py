"""The audit widget without a browser: classes listed, images explained, reviewed, audited again."""

from __future__ import annotations

import base64
import functools
import io
import re
import threading

import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from PIL import Image

import xfeedback_widgets as xf
from xfeedback_widgets.audit import AuditReport
from xfeedback_widgets.audit.rows import NO_REGION, ROW
from xfeedback_widgets.widgets.audit import table
from xfeedback_widgets.widgets.audit.desk import AuditDesk
from xfeedback_widgets.widgets.audit.shots import edges

NAMES = ["<b>dog</b>", "🐱 cat", "Dogfish"]


def report_of(scores, *, names=NAMES, ranks=None, weights="w"):
    """Make a report of images ``c-n`` with these scores by class; None: without a box."""
    flat = [(label, score) for label, values in enumerate(scores) for score in values]
    rows = np.zeros(len(flat), ROW)
    rows["index"], rows["area"], rows["confidence"] = np.arange(len(flat)), 0.25, 0.9
    for row, (label, score) in zip(rows, flat, strict=True):
        row["label"] = row["prediction"] = label
        row["rs"] = np.nan if score is None else score
        row["status"] = NO_REGION if score is None else 0
    if ranks is not None:
        rows["rank"] = ranks
        rows["prediction"] = np.where(rows["rank"] > 0, (rows["label"] + 1) % 3, rows["label"])
    ids = [f"{label}-{n}" for label, values in enumerate(scores) for n in range(len(values))]
    facts = {
        "model": "Net", "weights": weights, "images": len(flat), "data": "d", "class_names": names,
        "outputs": None, "saliency": "gradcam++", "regions": "boxes", "boxes": "", "batch_size": 8,
    }  # fmt: skip
    return AuditReport(rows, ids, facts)


def listed(desk):
    return [str(desk.table["class"][row]) for row in desk.rows]


@pytest.fixture
def opened(make_widget):
    return functools.partial(make_widget, xf.AuditWidget)


# -- the desk ------------------------------------------------------------------------------------


def test_classes_are_sorted_and_what_has_no_score_comes_last():
    desk = AuditDesk(report_of([[0.6, 0.8], [None, None], [0.1, 0.3, 0.2]]))
    assert listed(desk) == ["Dogfish", "<b>dog</b>", "🐱 cat"]
    desk.sort_by("crs")
    assert listed(desk) == ["<b>dog</b>", "Dogfish", "🐱 cat"], "no score is last either way"
    desk.sort_by("class")
    assert listed(desk) == ["<b>dog</b>", "Dogfish", "🐱 cat"]
    desk.sort_by("images")
    assert listed(desk)[-1] == "Dogfish"
    desk.next_column()
    assert (desk.sort, desk.descending) == ("accuracy", False)
    desk.sort_by("expected")
    desk.next_column()
    assert desk.sort == "class", "round again; there is no difference with one report"


def test_filter_pages_and_steps_keep_one_class_chosen():
    names = [f"class {n:02}" for n in range(25)]
    desk = AuditDesk(report_of([[n / 30] for n in range(25)], names=names), page_size=10)
    assert desk.name == "class 00"
    desk.step(11)
    assert (desk.name, desk.page_start) == ("class 11", 10), "the page follows"
    desk.turn(1)
    assert (desk.name, len(desk.page)) == ("class 20", 5)
    desk.turn(1)
    desk.step(99)
    assert desk.name == "class 24"
    desk.filter("CLASS 1")
    assert len(desk.rows) == 10
    assert desk.name == "class 10", "the chosen one is not listed: the first"
    desk.choose(24)
    assert desk.name == "class 10", "only what is listed can be chosen"
    desk.filter("nobody")
    assert (desk.name, desk.images, desk.page) == (None, [], [])
    desk.step(1)
    desk.filter("")
    assert len(desk.rows) == 25


def test_images_by_whether_the_model_is_right():
    desk = AuditDesk(report_of([[0.5, 0.1, 0.3, None]], names=["a"], ranks=[0, 1, 0, 0]), count=2)
    assert desk.images == ["0-1", "0-2"]
    desk.select(5)
    assert desk.image == "0-2"
    desk.show("right")
    assert desk.images == ["0-2", "0-0"]
    desk.show("wrong")
    assert (desk.images, desk.tile) == (["0-1"], 0)


def test_two_reports_show_what_changed():
    before = report_of([[0.1, 0.1], [0.5, 0.4], [0.9, 0.9]], weights="old")
    after = report_of([[0.3, 0.3], [0.4, 0.5], [None, None]], weights="new")
    desk = AuditDesk(after, before, sort="difference")
    assert listed(desk) == ["🐱 cat", "<b>dog</b>", "Dogfish"]
    text = re.sub("<.*?>", "", table.html(desk))
    assert "▲ +0.20 +0.20 … +0.20" in text
    assert "≈ +0.00 −0.10 … +0.10" in text, "no arrow where the interval holds zero"
    desk.choose(0)
    assert "before 0.10" in table.describe(desk)
    other = report_of([[0.1]], names=["x"])
    with pytest.raises(ValueError, match="different classes"):
        desk.use(other, before)
    desk.use(after, None)
    assert desk.sort == "crs", "there is nothing to compare any more"


def test_names_are_shown_as_they_are():
    html = table.html(AuditDesk(report_of([[0.1], [0.2], [0.3]])))
    assert "&lt;b&gt;dog&lt;/b&gt;" in html
    assert "<b>dog" not in html
    assert "🐱 cat" in html
    assert 'aria-sort="ascending"' in html


def test_edges_follow_the_pixels_of_a_region():
    inside = np.zeros((4, 8), bool)
    inside[1:3, 2:6] = True
    assert sorted(edges(inside)) == sorted(
        [
            (0.25, 0.25, 0.75, 0.25), (0.25, 0.75, 0.75, 0.75),
            (0.25, 0.25, 0.25, 0.75), (0.75, 0.25, 0.75, 0.75),
        ]
    )  # fmt: skip
    assert len(edges(np.ones((5, 5), bool))) == 4, "closed at the border"
    assert edges(np.zeros((5, 5), bool)) == ()
    noise = np.random.default_rng(0).random((300, 300)) > 0.5
    assert len(edges(noise)) < 64 * 64 * 2


# -- the widget ----------------------------------------------------------------------------------


def test_without_a_model_it_is_a_table(opened, key, pick):
    widget = opened(report_of([[0.6, 0.8], [0.5], [0.1]]))
    assert widget.classes == ("Dogfish", "🐱 cat", "<b>dog</b>")
    assert "Pass a session" in widget._controls.note.value
    assert widget.buttons["review"].disabled
    key(widget, "arrowdown")
    pick(widget, "class:0")
    key(widget, "arrowright")
    assert (widget.current, widget.images) == ("<b>dog</b>", ("0-0", "0-1"))
    assert "Image 0-1" in widget.bridge.announcement
    pick(widget, "sort:class")
    assert widget.classes[0] == "<b>dog</b>"
    key(widget, "d")
    assert widget.classes[0] == "🐱 cat"
    widget._controls.filter.value = "DOG"
    assert widget.wait()
    assert widget.classes == ("Dogfish", "<b>dog</b>")


def test_images_are_explained_and_reviewed(opened, session, key):
    report = session.audit()
    widget = opened(report, session)
    assert widget.current == report.ranking[0]
    assert widget.images == tuple(report.worst(report.ranking[0], 12))
    shots = [widget._shots.ready(image_id) for image_id in widget.images]
    assert all(shot.edges and shot.saliency.any() for shot in shots)
    # the very map whose share in the box is the score
    index = session.data.index(widget.images[0])
    shown = torch.from_numpy(shots[0].saliency.copy())[None]
    share = xf.metrics.energy_pointing_game(shown, session.data.mask(index)[None])
    assert share == pytest.approx(report.scores(widget.images[:1])[0], abs=0.02)
    assert widget._controls.gallery.tiles.value.count("xf-view-of") == 12
    assert widget._controls.gallery.sheet.value.count("data:image/png") == 24

    key(widget, "arrowright")
    key(widget, "r")
    assert widget.review.wait()
    assert widget.wait()
    assert widget.children[1] is widget.review
    first, second = widget.images[:2]
    assert widget.review.current == second, "the selected image first"
    widget.review.buttons["reject"].click()
    widget.review.wait()
    assert session.feedback.verdicts[second].answer == "reject"
    assert widget.review.current == first


def test_a_review_elsewhere_is_given_the_images(opened, review, session):
    elsewhere = review(order="dataset")
    widget = opened(session.audit(), session, review=elsewhere)
    widget.buttons["review"].click()
    assert widget.wait()
    assert elsewhere.wait()
    assert elsewhere.current == widget.images[0]
    assert len(widget.children) == 1
    widget.close()
    assert not elsewhere._closed, "what was given stays open"


def test_an_alignment_can_be_the_review(opened, session):
    """Its queue can be ordered by robustness as well, and what it is sent is judged first."""
    report = session.audit()
    alignment = xf.AlignmentWidget(session, order="robustness", audit=report)
    try:
        assert alignment.wait()
        assert report.scores([alignment.current])[0] == np.nanmin(report.rows["rs"])
        widget = opened(report, session, review=alignment)
        widget.choose(report.ranking[-1])
        alignment.buttons["adjust"].click()
        widget.buttons["review"].click()
        assert widget.wait()
        assert alignment.wait()
        assert (alignment.mode, alignment.current) == ("judge", widget.images[0])
        alignment.buttons["reject"].click()
        assert alignment.wait()
        assert alignment.current == widget.images[1]
        assert session.feedback.verdicts[widget.images[0]].answer == "reject"
    finally:
        alignment.close()


def test_held_out_images_send_their_class(opened, session, digits):
    held = xf.data.ImageSet(
        [digits[i] for i in range(30)],
        ids=[f"held-{i}" for i in range(30)],
        class_names=digits.class_names,
        masks=[digits.mask(i) for i in range(30)],
    )
    widget = opened(session.audit(held), session, data=held)
    widget.choose("one")
    widget.wait()
    widget.buttons["review"].click()
    assert widget.wait()
    assert widget.review.wait()
    assert session.data.labels[session.data.index(widget.review.current)] == 1
    assert widget.review._desk.length == int((session.data.labels == 1).sum())
    assert "not among those reviewed" in widget.status
    with pytest.raises(ValueError, match=r"'held-0', which is not in data"):
        xf.AuditWidget(widget.report, data=digits)


def test_audited_again_after_training(opened, session, pick):
    report = session.audit()
    widget = opened(report, session)
    widget.buttons["again"].click()
    assert widget.wait()
    assert "nothing has changed" in widget.status
    assert widget.report is report
    session.train(lr=1e-4)
    session.wait()
    assert session.version > 0
    assert widget.wait()
    assert "The model has changed since this audit" in widget._controls.note.value
    widget.buttons["again"].click()
    assert widget.wait()
    assert widget.before is report
    assert widget.report.facts["weights"] != report.facts["weights"]
    assert "Change" in widget._controls.table.value
    assert "→" in widget._controls.summary.value
    assert widget._controls.note.value == ""
    pick(widget, "sort:difference")
    assert widget._desk.sort == "difference"


def test_an_audit_can_be_stopped(opened, session, monkeypatch):
    report = session.audit()
    widget = opened(report, session)
    begun, go_on = threading.Event(), threading.Event()
    real = session.data.batch

    def slow(indices):
        begun.set()
        go_on.wait(10)
        return real(indices)

    session.train(lr=1e-4)
    session.wait()
    widget.wait()
    monkeypatch.setattr(type(session.data), "batch", lambda _, indices: slow(indices))
    widget.buttons["again"].click()
    assert begun.wait(10)
    widget.pump.flush()
    assert widget.buttons["again"].description == "Stop auditing (m)"
    widget.buttons["again"].click()
    go_on.set()
    assert widget.wait()
    assert widget.report is report
    assert widget.buttons["again"].description == "Audit again (m)"


def test_a_model_without_a_session(opened, digits, make_model, key):
    model = make_model().eval()
    report = xf.audit.audit(model, digits)
    widget = opened(report, model=model, data=digits)
    assert widget._controls.gallery.tiles.value.count("xf-view-of") == 12
    assert widget.buttons["review"].disabled
    key(widget, "r")
    assert "pass a session" not in widget.status, "a disabled button's key does nothing"
    pictures = opened(report, data=digits)
    assert "Pass model=" in pictures._controls.note.value
    assert pictures._shots.ready(pictures.images[0]).saliency is None


def test_a_picture_is_stored_for_readers_without_a_kernel(opened, session):
    widget = opened(session.audit(), session)
    bundle = widget._repr_mimebundle_()
    stored = bundle[0] if isinstance(bundle, tuple) else bundle
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(stored["image/png"]))))
    assert image.shape[1] > 400
    assert image.std() > 10


def test_options_that_do_not_exist_are_refused(digits, make_model, session):
    report = report_of([[0.1], [0.2], [0.3]])
    with pytest.raises(TypeError, match="did you mean 'page_size'"):
        xf.AuditWidget(report, page_sice=3)
    with pytest.raises(ValueError, match=r"unknown sort 'difference'"):
        xf.AuditWidget(report, sort="difference")
    with pytest.raises(ValueError, match="session and model were both given"):
        xf.AuditWidget(report, session, model=make_model())
    with pytest.raises(ValueError, match="count must be at least 1"):
        xf.AuditWidget(report, count=0)


def test_nothing_is_left_after_closing(session):
    report = session.audit()
    before, threads = set(_instances), threading.active_count()
    widget = xf.AuditWidget(report, session)
    widget.wait()
    widget.buttons["review"].click()
    widget.wait()
    widget.review.wait()
    widget.close()
    widget.close()
    assert set(_instances) <= before
    assert threading.active_count() == threads
