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
    assert pickle.loads(pickle.dumps(stroke)) == stroke == Stroke.from_dict(stroke.to_dict())
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


GOOD = Stroke("brush", 1, 4, [[0, 1], [2, 3]]).to_dict()


@pytest.mark.parametrize(
    ("strokes", "words"),
    [
        ({}, "strokes must be a list"),
        ([7], "stroke must be an object"),
        ([{**GOOD, "colour": 1}], "stroke must be an object"),
        ([{**GOOD, "points": {**GOOD["points"], "shape": [2, 4]}}], "does not fill"),
        ([{**GOOD, "points": {**GOOD["points"], "shape": [4, 1]}}], r"shape \(4, 1\)"),
        ([{**GOOD, "points": {**GOOD["points"], "shape": [2**20, 2**20]}}], "at most"),
        ([{**GOOD, "value": "1"}], "value.*'1'"),
    ],
)
def test_foreign_json_is_refused(strokes, words):
    data = {**RegionMask("7", [[1]]).to_dict(), "strokes": strokes}
    with pytest.raises((TypeError, ValueError), match=words):
        from_dict(data)
