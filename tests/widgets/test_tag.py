"""Tagging pages without a browser: what a page sends becomes records of COCO-AB, on disk and exact."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from xfeedback_widgets.corrections import Luab
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import export_ab, import_coco_ab
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import BrowseWidget, TagWidget
from xfeedback_widgets.widgets.tag.desk import COCO_GROUPS, grouped
from xfeedback_widgets.widgets.tag.tracer import GROUP, OPEN, PATH, PUT, TAKE

BEGAN = 1_700_000_000_000


@pytest.fixture
def tag(session, make_widget):
    return functools.partial(make_widget, TagWidget, session)


def send(widget, *rows, number=1, visit=0, places=(), sent=0):
    """Send what happened as the page does: (what, which, x, y, by key, ms since it began)."""
    data = np.array([(*row[:-1], BEGAN + row[-1]) for row in rows], "<f8")
    message = {"kind": "batch", "source": "page", "number": number, "visit": visit}
    message |= {"places": list(places), "time": BEGAN + (sent or max(row[-1] for row in rows))}
    widget.board.receive(message, [data.tobytes()])
    assert widget.wait()


def test_a_page_becomes_the_exact_record(tag, session):
    widget = tag(groups={"Round": ["zero", "two"], "Straight": ["one"]})
    rows = [
        (OPEN, 0, 0, 0, 0, 0), (PATH, 0, 0.1, 0.2, 0, 20), (PATH, 0, 0.11, 0.2, 0, 25),
        (PATH, 0, 0.3, 0.2, 0, 37), (PUT, 0, 0.5, 0.25, 0, 100), (GROUP, 1, 0, 0, 1, 150),
        (PUT, 1, 0.75, 0.5, 1, 300), (PUT, 0, 0.5, 0.5, 0, 400), (TAKE, 0, 0, 0, 0, 500),
        (TAKE, 2, 0, 0, 0, 510), (PUT, 0, 1.0, 0.0, 1, 600),
    ]  # fmt: skip
    send(widget, *rows, places=[(0, 0, 480, 360.5)], sent=640)
    assert widget.placed == {"one": (0.75, 0.5), "zero": (1.0, 0.0)}
    assert widget.board.placed == {"visit": 0, "icons": {"1": [0.75, 0.5], "0": [1.0, 0.0]}}
    assert widget.board.acknowledged == {"page": 1}
    assert f"Saved: {widget.current}, 2 icons" in widget.status
    record = widget.records[0].to_dict()
    hit = record.pop("hit_id")
    assert len(hit) == 32
    assert record == {
        "image_id": "digit-0",
        "originalImageHeight": 8,
        "originalImageWidth": 8,
        "imageHeight": 360.5,
        "imageWidth": 480,
        "timeSpent": 640,
        "actionHistories": [
            {"actionType": "add", "iconType": "zero", "pointFrom": None,
             "pointTo": {"x": 0.5, "y": 0.25}, "timeAt": 100},
            {"actionType": "add", "iconType": "one", "pointFrom": None,
             "pointTo": {"x": 0.75, "y": 0.5}, "timeAt": 300},
            {"actionType": "move", "iconType": "zero", "pointFrom": {"x": 0.5, "y": 0.25},
             "pointTo": {"x": 0.5, "y": 0.5}, "timeAt": 400},
            {"actionType": "remove", "iconType": "zero", "pointFrom": {"x": 0.5, "y": 0.5},
             "pointTo": None, "timeAt": 500},
            {"actionType": "add", "iconType": "zero", "pointFrom": None,
             "pointTo": {"x": 1.0, "y": 0.0}, "timeAt": 600},
        ],
        "categoryHistories": [
            {"categoryIndex": 1, "categoryName": "Straight", "timeAt": 150, "usingKeyboard": True}
        ],
        "mouseTracking": [
            {"x": 0.1, "y": 0.2, "timeAt": 20}, {"x": 0.3, "y": 0.2, "timeAt": 37},
        ],
        "worker_id": "me",
        "page_id": 0,
    }  # fmt: skip
    assert session.feedback.points["digit-0"] == widget.records[0].final_placement
    assert session.feedback.byproducts["digit-0"][0].duration == 0.64


def test_a_picture_that_nothing_is_on_is_a_record_too(tag):
    widget = tag()
    send(widget, (OPEN, 0, 0, 0, 0, 0), sent=700)
    assert not widget.records
    widget.buttons["skip"].click()
    assert widget.wait()
    assert widget.current == "digit-1"
    assert (widget.records[0].image_id, widget.records[0].timeSpent) == ("digit-0", 700)
    assert widget.records[0].actionHistories == ()
    assert widget.board.visit == 1


def test_gone_back_to_the_clock_goes_on_from_where_it_stood(tag):
    widget = tag()
    send(widget, (OPEN, 0, 0, 0, 0, 0), (PUT, 2, 0.5, 0.5, 0, 1000), sent=1500)
    widget.buttons["skip"].click()
    widget.buttons["back"].click()
    assert widget.wait()
    assert widget.current == "digit-0"
    send(widget, (OPEN, 0, 0, 0, 0, 60_000), (PUT, 2, 0.25, 0.5, 0, 60_200), number=2)
    widget.close()
    assert widget.records[0].timeSpent == 1700
    # opened anew, by a page whose own clock began elsewhere
    widget = tag()
    assert widget.current == "digit-1"
    widget.go_to("digit-0")
    assert widget.wait()
    assert widget.placed == {"two": (0.25, 0.5)}
    send(widget, (OPEN, 0, 0, 0, 0, -9000), (TAKE, 2, 0, 0, 1, -8000))
    assert [action.timeAt for action in widget.records[0].actionHistories] == [1000, 1700, 2700]
    assert widget.records[0].final_placement == {}


def test_a_placement_that_cannot_be_saved_is_not_acknowledged(tag, session, monkeypatch):
    widget = tag()
    with monkeypatch.context() as broken:

        def refuse(_):
            raise OSError("no space left on device")

        broken.setattr(session, "record", refuse)
        send(widget, (OPEN, 0, 0, 0, 0, 0), (PUT, 0, 0.5, 0.5, 0, 10))
        assert "no space left" in widget.status
    assert widget.board.acknowledged == {}
    send(widget, (PATH, 0, 0.5, 0.5, 0, 90), number=2)
    assert widget.board.acknowledged == {"page": 2}
    assert widget.records[0].final_placement == {"zero": (0.5, 0.5)}


@pytest.mark.parametrize(
    "row", [(PUT, 3, 0.5, 0.5, 0, 0), (GROUP, 1, 0, 0, 0, 0), (PUT, 0, np.inf, 0.5, 0, 0)]
)
def test_what_no_page_can_send_is_said_and_loses_nothing(tag, row):
    widget = tag()
    send(widget, (PUT, 0, 0.5, 0.5, 0, 10))
    send(widget, row, number=2)
    assert "reload" in widget.status
    assert widget.placed == {"zero": (0.5, 0.5)}


def test_files_hold_exactly_what_was_captured(tag, tmp_path):
    widget = tag()
    rows = [(PATH, 0, t / 100, t / 90, 0, 20 * t) for t in range(60)]
    send(widget, (OPEN, 0, 0, 0, 0, 0), *rows, (PUT, 1, 0.5, 0.25, 0, 9000))
    export_ab(widget.records, tmp_path / "kept.json", workers="keep")
    assert list(import_coco_ab(tmp_path / "kept.json")) == widget.records
    export_ab(widget.records, tmp_path / "hashed.json")
    assert '"me"' not in (tmp_path / "hashed.json").read_text()


def test_the_end_is_said(tag):
    widget = tag(images=["digit-5", "digit-7"], order="random")
    for _ in range(2):
        widget.buttons["skip"].click()
        assert widget.wait()
    assert widget.current is None
    assert widget.board.visit == -1
    assert "Every picture is tagged" in widget._controls.question.value
    assert "2 of 2 pictures" in widget._controls.summary.value
    widget.buttons["back"].click()
    assert widget.wait()
    assert widget.board.visit == 7
    with pytest.raises(ValueError, match="'digit-6' is not among"):
        widget.go_to("digit-6")


def test_groups():
    coco = [name for names in COCO_GROUPS.values() for name in names.split(",")]
    assert len(coco) == len(set(coco)) == 80
    assert grouped(["dog", "cat", "tv"], None) == {"Animals": [1, 0], "Electronics": [2]}
    assert grouped(["a", "b"], None) == {"All classes": [0, 1]}
    assert grouped(["a", "b", "c"], {"x": ["c"]}) == {"x": [2], "Other": [0, 1]}
    with pytest.raises(ValueError, match="is in two groups"):
        grouped(["a"], {"x": ["a"], "y": ["a"]})
    with pytest.raises(ValueError, match="'d', which is no class"):
        grouped(["a"], {"x": ["d"]})


def test_hostile_names_and_wrong_options(make_model, digits, tmp_path, session):
    names = ["<b>zero</b>", "  ", "🐱"]
    data = ImageSet(
        [digits[i] for i in range(8)], class_names=names, ids=[f"<i>{i}" for i in range(8)]
    )
    with Session(make_model(), data, tmp_path / "s") as opened:
        widget = TagWidget(opened)
        assert widget.wait()
        assert [icon["face"] for icon in widget.board.icons] == ["<b", "?", "🐱"]
        send(widget, (PUT, 0, 0.5, 0.5, 0, 10))
        assert "&lt;i&gt;" in widget.status
        assert widget._static().startswith(b"\x89PNG")
        widget.close()
    with pytest.raises(ValueError, match="icons has 'three'"):
        TagWidget(session, icons={"three": "3"})
    with pytest.raises(ValueError, match="order"):
        TagWidget(session, order="least")
    with pytest.raises(TypeError, match="did you mean 'groups'"):
        TagWidget(session, group={})
    with pytest.raises(ValueError, match="images is empty"):
        TagWidget(session, images=[])


def test_what_was_tagged_is_learned_from_pictures_with_several_labels(digits, tmp_path):
    torch.manual_seed(0)
    images = torch.stack([digits[i][0] for i in range(32)])
    flags = torch.nn.functional.one_hot(digits.labels[:32], 3).bool()
    flags[:, 2] |= flags[:, 0]
    data = ImageSet(
        [(image, None) for image in images],
        ids=digits.ids[:32],
        class_names=digits.class_names,
        labels=flags,
    )
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    )  # fmt: skip
    directory = tmp_path / "s"
    with Session(model, data, directory, Luab(weight=1.0), annotator="me", epochs=1) as opened:
        widget = TagWidget(opened)
        assert widget.wait()
        for number in range(8):
            rows = [(PUT, c, 0.5, 0.25, 0, 10) for c in flags[number].nonzero()[:, 0].tolist()]
            send(widget, (OPEN, 0, 0, 0, 0, 0), *rows, number=number + 1, visit=number)
            widget.buttons["skip"].click()
            assert widget.wait()
        assert {i: len(p) for i, p in opened.feedback.points.items()} == {
            data.ids[n]: int(flags[n].sum()) for n in range(8)
        }
        widget.buttons["train"].click()
        assert widget.wait()
        assert opened.wait(timeout=60).state == "done"
        assert opened.version == 1
        again = Luab()
        again.prepare(model, data, opened.feedback)
        assert torch.equal((again._weights > 0)[:8], flags[:8])
        widget.close()
        assert BrowseWidget(opened, "two", page_size=12).close() is None
