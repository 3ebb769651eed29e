"""Strokes: refused when they cannot be right, unchanged through JSON, kept with their mask."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xfeedback_widgets.feedback import TOOLS, RegionMask, Stroke, from_dict

PLACES = st.floats(-5, 300, width=32)
POINTS = hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2)), elements=PLACES)
STROKES = st.builds(
    Stroke, st.sampled_from(TOOLS), st.sampled_from((-1, 0, 1)), st.floats(0, 99), POINTS
)


@given(st.lists(STROKES, max_size=3))
def test_strokes_survive_json_with_their_mask(strokes):
    record = RegionMask("7", np.eye(3), strokes=strokes)
    again = from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record
    assert [s.points.tolist() for s in again.strokes] == [s.points.tolist() for s in strokes]
    assert again != RegionMask("7", np.eye(3), strokes=[*strokes, Stroke("clear", 0)])


def test_the_pens_pressure_is_kept():
    stroke = Stroke("brush", 1, 8.5, [[0.5, 0.5, 0.25], [3, 4, 1]])
    record = RegionMask("7", np.eye(3), strokes=[Stroke("clear", 0), stroke])
    assert pickle.loads(pickle.dumps(record)).strokes[1] == stroke
    assert from_dict(record.to_dict()).strokes[1] == stroke
    assert stroke.points.tolist() == [[0.5, 0.5, 0.25], [3, 4, 1]]
    assert hash(stroke) != hash(Stroke("brush", 1, 8.5, stroke.points[:, :2]))
    with pytest.raises(ValueError, match="read-only"):
        stroke.points[0] = 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stroke("spray", 1), "'spray'.*brush"),
        (lambda: Stroke("brush", 2), "value.*2"),
        (lambda: Stroke("brush", True), "value.*True"),
        (lambda: Stroke("brush", 1, float("nan")), "size.*nan"),
        (lambda: Stroke("brush", 1, "4"), "size.*'4'"),
        (lambda: Stroke("brush", 1, 4, [[0, float("inf")]]), "finite"),
        (lambda: Stroke("brush", 1, 4, [[0, 1, 1.5]]), "pressure.*1.5"),
        (lambda: Stroke("brush", 1, 4, [0, 1]), r"shape \(2,\)"),
        (lambda: RegionMask("7", [[1]], strokes=["brush"]), "strokes.*'brush'"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


GOOD = RegionMask("7", [[1]], strokes=[Stroke("brush", 1, 4, [[0, 1], [2, 3]])]).to_dict()[
    "strokes"
]


def points(shape, **change):
    return {"points": {**GOOD["points"], "shape": shape, **change}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": [1]}, "object of tools, values"),
        ({"tools": "brush"}, "lists of equal length"),
        ({"tools": ["brush", "brush"]}, "lists of equal length"),
        ({"tools": ["spray"]}, "strokes: unknown tool 'spray'"),
        ({"values": ["1"]}, "strokes: value.*'1'"),
        ({"sizes": [None]}, "strokes: size.*None"),
        ({"lengths": [3]}, "strokes: .*size 4 into shape"),
        ({"lengths": [-1]}, r"\[-1, 2\] is no shape"),
        ({"lengths": [2**70]}, "strokes: "),
        ({"lengths": [1]}, "4 numbers for 2"),
        ({"columns": [1], "lengths": [4]}, r"shape \(4, 1\)"),
        ({"columns": ["2"]}, "no shape of points"),
        (points([5, 1]), "does not fill"),
        (points([2**20, 2**20]), "at most"),
        (points([4, 1], zlib_base64="!"), "cannot be unpacked"),
    ],
)
def test_foreign_json_is_refused_at_once_and_named_when_looked_at(change, words):
    data = {**RegionMask("7", [[1]]).to_dict(), "strokes": {**GOOD, **change}}
    with pytest.raises((TypeError, ValueError), match=words):
        from_dict(data)
    with pytest.raises((TypeError, ValueError), match=words):
        _ = from_dict(data, origin="event 3").strokes


def test_damage_names_the_event():
    data = {**RegionMask("7", [[1]]).to_dict(), "strokes": {**GOOD, "lengths": [1]}}
    with pytest.raises(ValueError, match=r"^event 3: strokes: there are 4 numbers for 2"):
        _ = from_dict(data, origin="event 3").strokes
    with pytest.raises(ValueError, match="strokes must be an object"):
        from_dict({**data, "strokes": []})
