"""Byproducts: the published fields, unchanged through JSON and the journal, refused when they cannot be."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfeedback_widgets.feedback import (
    Byproduct,
    CocoAB,
    Feedback,
    ImageNetAB,
    Journal,
    Point,
    RegionMask,
    Verdict,
    from_dict,
    hashed_id,
)

# The fields and their nesting as the authors' tools write them; all numbers are invented.
BROWSED = {
    "imageID": "n01440764/n01440764_105",
    "originalImageHeight": 375,
    "originalImageWidth": 500,
    "imageHeight": 243,
    "imageWidth": 243.5,
    "imagePosition": {"x": 857, "y": 1976},
    "hoveredRecord": [
        {"action": "enter", "time": 1641425051975},
        {"action": "leave", "time": 1641425052740},
    ],
    "hoveredCount": 1,
    "mouseTracking": [
        {"x": 0.0030864197530864196, "y": 1, "time": 1641425051975},
        {"x": 0.44135802469135804, "y": -0.0625, "time": 1641425052027},
    ],
    "selected": True,
    "selectedCount": 2,
    "selectedRecord": [
        {"x": 0.5401234567901234, "y": 0.4732510288065844, "time": 1641425052319},
        {"x": 0.5, "y": 0.4, "time": 1641425052500},
    ],
    "estimateTime": 344,
    "worker_id": "47DBDD543E",
}
TAGGED = {
    "image_id": 459214,
    "originalImageHeight": 428,
    "originalImageWidth": 640,
    "imageHeight": 450,
    "imageWidth": 450,
    "timeSpent": 22283,
    "actionHistories": [
        {"actionType": kind, "iconType": icon, "pointFrom": start, "pointTo": end, "timeAt": time}
        for kind, icon, start, end, time in (
            ("add", "pizza", None, {"x": 0.5, "y": 0.25}, 16686),
            ("add", "cup", None, {"x": 0.125, "y": 0.5}, 17000),
            ("move", "pizza", {"x": 0.5, "y": 0.25}, {"x": 0.75, "y": 0.5}, 18000),
            ("remove", "cup", {"x": 0.125, "y": 0.5}, None, 19000),
            ("add", "fork", None, {"x": 0.1, "y": 0.2}, 19500),
            ("remove", "fork", {"x": 0.1, "y": 0.2}, None, 19600),
            ("add", "fork", None, {"x": 0.9, "y": 0.8}, 19700),
        )
    ],
    "categoryHistories": [
        {"categoryIndex": 6, "categoryName": "Food", "timeAt": 10815, "usingKeyboard": False}
    ],
    "mouseTracking": [{"x": 0.6790490341753344, "y": 0.8622222222222222, "timeAt": 15725}],
    "worker_id": "00AA3B5E80",
    "hit_id": "3AMYWKA6YLE80",
    "page_id": 8,
}
KINDS = [(ImageNetAB, BROWSED), (CocoAB, TAGGED)]


@pytest.mark.parametrize(("kind", "published"), KINDS)
def test_published_json_comes_back_exactly(kind, published):
    record = kind.from_dict(published)
    assert json.dumps(record.to_dict()) == json.dumps(published)  # order and 1 against 1.0 included
    assert kind.from_dict(record.to_dict()) == record == pickle.loads(pickle.dumps(record))
    extended = published | {"assignment_id": "X", "page_idx": [2]}
    assert kind.from_dict(extended).to_dict() == extended
    assert kind.from_dict(extended) != record


PATH = st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2), st.floats(0, 2**40)), max_size=9).map(
    lambda rows: [
        [x, y, time] for (x, y, _), time in zip(rows, sorted(r[2] for r in rows), strict=True)
    ]
)


@given(PATH, st.integers(0, 2**41), st.text(min_size=1).filter(str.isprintable))
def test_any_record_survives_json_and_the_journals_form(path, start, worker):
    record = ImageNetAB(
        "a", 3, 4, 5, 6, mouseTracking=path, worker_id=worker, selected=True,
        selectedRecord=[(0.5, 0.25, start), (1, 0, start + 0.5)], hoveredRecord=[("enter", start)],
    )  # fmt: skip
    text = json.dumps(record.to_dict())
    again = ImageNetAB.from_dict(json.loads(text))
    assert again == record
    assert json.dumps(again.to_dict()) == text
    assert again.mouseTracking.tolist() == path
    kept = Byproduct("7", record, target=1, annotator=worker, time=2.0)
    assert from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


def test_the_final_click_is_the_last_that_selected():
    record = ImageNetAB.from_dict(BROWSED)
    assert record.final_click == (0.5, 0.4)
    assert record.pixels(record.final_click) == (250, 150)  # of the file, not of the page
    assert ImageNetAB.from_dict(BROWSED | {"selected": False}).final_click is None


def test_the_final_placement_honours_moves_and_removals():
    record = CocoAB.from_dict(TAGGED)
    assert record.final_placement == {"pizza": (0.75, 0.5), "fork": (0.9, 0.8)}
    assert record.pixels(record.final_placement["pizza"]) == (480, 214)


def test_an_end_that_is_none_may_be_left_out():
    data = copy.deepcopy(TAGGED)
    del data["actionHistories"][0]["pointFrom"], data["actionHistories"][3]["pointTo"]
    assert CocoAB.from_dict(data) == CocoAB.from_dict(TAGGED)


def _with(data, path, value):
    data = copy.deepcopy(data)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["imageID"], 7, "imageID.*7"),
        (["originalImageWidth"], 0, "originalImageWidth"),
        (["originalImageWidth"], 5.5, "whole number of pixels"),
        (["imageWidth"], True, "imageWidth.*True"),
        (["imageWidth"], 10**400, "imageWidth.*finite"),
        (["selected"], "yes", "selected.*'yes'"),
        (["selectedRecord"], {}, "selectedRecord must be a list"),
        (["selectedRecord"], [], "selected is true"),
        (["selectedRecord", 1, "x"], 5, r"selectedRecord\[1\]\.x.*5"),
        (["selectedRecord", 1, "time"], 1, r"selectedRecord\[1\] happened at 1, before"),
        (["selectedRecord", 0], {"x": 1, "time": 1}, r"selectedRecord\[0\] lacks 'y'"),
        (["selectedRecord", 0, "z"], 3, r"selectedRecord\[0\] has no field 'z'"),
        (["hoveredRecord", 0, "action"], "fly", r"hoveredRecord\[0\]\.action.*'fly'"),
        (["hoveredRecord", 1, "time"], 0, r"hoveredRecord\[1\]"),
        (["mouseTracking"], "path", "mouseTracking must be a list"),
        (["mouseTracking", 1, "y"], None, r"mouseTracking\[1\]\.y.*None"),
        (["mouseTracking", 1, "y"], 3, r"mouseTracking\[1\] is .*on or near"),
        (["mouseTracking", 1, "y"], float("nan"), r"mouseTracking\[1\] is .*nan"),
        (["mouseTracking", 1, "time"], 5, r"mouseTracking\[1\] happened at 5"),
        (["mouseTracking", 1, "time"], 10**400, r"mouseTracking\[1\]\.time.*finite"),
        (["estimateTime"], -1, "estimateTime"),
        (["worker_id"], "", "worker_id"),
    ],
)
def test_what_cannot_be_is_named(path, value, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ImageNetAB.from_dict(_with(BROWSED, path, value))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["image_id"], None, "image_id"),
        (["actionHistories", 2, "actionType"], "drop", r"actionHistories\[2\]\.actionType"),
        (["actionHistories", 2, "pointTo"], None, r"actionHistories\[2\]\.pointTo"),
        (["actionHistories", 3, "pointTo"], {"x": 0, "y": 0}, r"actionHistories\[3\]\.pointTo"),
        (["actionHistories", 3, "timeAt"], 10, r"actionHistories\[3\] happened"),
        (["categoryHistories", 0, "usingKeyboard"], 0, r"categoryHistories\[0\]\.usingKeyboard"),
        (["mouseTracking", 0], {"x": 0, "y": 0, "time": 1}, r"mouseTracking\[0\] lacks 'timeAt'"),
    ],
)
def test_what_cannot_be_on_a_tagging_page_is_named(path, value, words):
    with pytest.raises((TypeError, ValueError), match=words):
        CocoAB.from_dict(_with(TAGGED, path, value))


def test_workers_are_hashed_and_unknown_fields_left_out():
    record = ImageNetAB.from_dict(BROWSED | {"assignment_id": "tells"})
    hashed = record.hashed("salt")
    assert hashed.to_dict() == BROWSED | {"worker_id": hashed_id("47DBDD543E", "salt")}
    assert len(hashed.worker_id) == 10
    assert hashed.worker_id not in (record.worker_id, record.hashed("other").worker_id)


def _browsed(annotator, x, y=0.5, *, target=None, selected=True):
    clicks = [(x, y, 1.0)] if selected else []
    trace = ImageNetAB("a", 8, 8, 8, 8, selected=selected, selectedRecord=clicks)
    return Byproduct("7", trace, target=target, annotator=annotator)


def test_points_are_of_the_latest_traces_and_the_most_central_of_several_people():
    feedback = Feedback.of(
        [
            _browsed("ada", 0.9, target=1),
            _browsed("ada", 0.1, target=1),
            _browsed("bob", 0.3, target=1),
            _browsed("cyd", 0.2, target=1),
            _browsed("cyd", 0.7, target=2),
            _browsed("dan", 0.7, selected=False),
            _browsed("eve", 1.5, target=3),  # beside the picture
            Byproduct("7", CocoAB.from_dict(TAGGED), annotator="ada"),
        ]
    )
    wanted = {1: (0.2, 0.5), 2: (0.7, 0.5), "pizza": (0.75, 0.5), "fork": (0.9, 0.8)}
    assert feedback.points == {"7": wanted}
    assert isinstance(feedback.points["7"][1], Point)
    assert len(feedback.byproducts["7"]) == 7
    assert len(feedback) == 1


def test_the_journal_keeps_byproducts_and_undo_passes_over_them(tmp_path):
    path = tmp_path / "feedback.sqlite"
    said, seen = Verdict("7", "reject"), Byproduct("7", ImageNetAB.from_dict(BROWSED), target=0)
    with Journal(path) as journal:
        journal.append(said)
        journal.undo()
        journal.append(seen)
        assert journal.redo() == said
        assert journal.undo() == said
        assert journal.undo() is None
    with Journal(path) as journal:
        (again,) = journal.records()
        assert again == seen
        assert again.trace.mouseTracking.tolist() == seen.trace.mouseTracking.tolist()
        assert journal.events()[-1].kind == "retract"


def test_a_session_names_the_picture_of_a_byproduct(tmp_path, digits, make_model):
    from xfeedback_widgets import Session

    with Session(make_model(), digits, tmp_path / "s", annotator="ada") as session:
        stored = session.record(Byproduct(digits.ids[3], ImageNetAB.from_dict(BROWSED), target=1))
        assert stored.content_hash == digits.content_hash(3)
        assert stored.annotator == "ada"
        assert session.feedback.points == {digits.ids[3]: {1: (0.5, 0.4)}}
        with pytest.raises(ValueError, match="target 9"):
            session.record(Byproduct(digits.ids[3], ImageNetAB.from_dict(BROWSED), target=9))


def test_a_byproduct_needs_a_trace():
    with pytest.raises(TypeError, match="trace"):
        Byproduct("7", BROWSED)
    with pytest.raises(ValueError, match="unknown task 'flying'"):
        from_dict({"format": 1, "kind": "byproduct", "image_id": "7", "trace": {"task": "flying"}})


@given(PATH)
def test_answers_keep_the_pointers_path(path):
    for record in (
        Verdict("7", "reject", annotator="ada", pointer=path),
        RegionMask("7", [[1]], pointer=path),
    ):
        again = from_dict(json.loads(json.dumps(record.to_dict())))
        assert again == record
        assert again.pointer.tolist() == np.float32(path).reshape(-1, 3).tolist()
    merged = Feedback.of(
        [record := Verdict("7", "reject", pointer=path), replace(record, annotator="b")]
    )
    assert merged.verdicts["7"].pointer is None
    assert Verdict("7", "reject").to_dict().keys() == {"format", "kind", "image_id", "answer"}


def test_a_wrong_path_of_an_answer_is_named():
    with pytest.raises(ValueError, match=r"pointer\[1\] happened at 1"):
        Verdict("7", "reject", pointer=[[0, 0, 3], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"pointer must be \[n, 3\]"):
        RegionMask("7", [[1]], pointer=[[0, 0]])
