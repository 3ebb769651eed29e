"""Records: refused when they cannot be right, equal by value, unchanged through JSON."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xfeedback_widgets.feedback import RegionMask, UnitVerdict, Verdict, from_dict

MAPS = hnp.arrays(
    np.float16,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(0, 1, width=16),
)
MASKS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, 1)
)


@given(MAPS, st.text(min_size=1), st.floats(0, 2e9))
def test_verdict_survives_json(map_, image_id, time):
    verdict = Verdict(image_id, "unsure", target=3, map=map_, annotator="ada", time=time)
    assert from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


@given(MASKS)
def test_mask_survives_json(mask):
    record = RegionMask("a", mask, duration=0.5)
    assert from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_the_long_form_of_an_answer_survives_json():
    verdict = Verdict(
        "7", "reject", necessary=True, unnecessary=np.True_, quality=2, predicted=np.int64(5)
    )
    data = json.loads(json.dumps(verdict.to_dict()))
    assert (data["unnecessary"], data["quality"], data["predicted"]) == (True, 2, 5)
    assert from_dict(data) == verdict != replace(verdict, necessary=None)


def test_records_written_before_strokes_and_long_answers_still_read():
    array = {"shape": [1, 2], "zlib_base64": "eJz7zwgAAgEBAQ=="}
    old = {"format": 1, "kind": "region_mask", "image_id": "7", "mask": {"dtype": "int8", **array}}
    assert from_dict(old) == RegionMask("7", [[-1, 1]], strokes=())
    assert from_dict({"format": 1, "kind": "verdict", "image_id": "7", "answer": "accept"}) == (
        Verdict("7", "accept", necessary=None, predicted=None)
    )
    assert set(RegionMask("7", [[-1, 1]]).to_dict()) == set(old)


def test_undecodable_file_names_survive():
    verdict = Verdict("bild\udce4.png", "accept")
    assert from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_equality_looks_at_every_value():
    one = Verdict("7", "accept", map=np.eye(3))
    assert one == Verdict("7", "accept", map=torch.eye(3, dtype=torch.bfloat16))
    assert hash(one) == hash(pickle.loads(pickle.dumps(one)))
    assert one != Verdict("7", "accept", map=np.eye(3)[::-1])
    assert one != replace(one, map=None)
    assert one != replace(one, time=1.0)
    assert UnitVerdict(7, "accept") != Verdict("7", "accept")


def test_a_mask_knows_whether_anything_is_drawn():
    assert RegionMask("7", np.zeros((2, 2))).empty
    assert not RegionMask("7", [[0, -1]]).empty


def test_arrays_are_private_and_read_only():
    mask = np.ones((2, 2), np.int8)
    record = RegionMask("7", mask)
    mask[:] = 0
    assert record.mask.all()
    with pytest.raises(ValueError, match="read-only"):
        record.mask[0, 0] = 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Verdict("7", "yes"), "'yes'.*'accept', 'reject', 'unsure'"),
        (lambda: Verdict("7", ["accept"]), "accept"),
        (lambda: Verdict(7, "accept"), r"image_id.*7.*str\("),
        (lambda: Verdict("", "accept"), "image_id is an empty string"),
        (lambda: Verdict("7", "accept", annotator="\ud800"), "annotator.*Unicode"),
        (lambda: Verdict("7", "accept", version=-1), "version.*-1"),
        (lambda: Verdict("7", "accept", target=True), "target.*True"),
        (lambda: Verdict("7", "accept", time=float("nan")), "time.*nan"),
        (lambda: Verdict("7", "accept", duration="2"), "duration.*'2'"),
        (lambda: Verdict("7", "accept", map=np.full((2, 2), np.nan)), "map.*nan.*normalise"),
        (lambda: Verdict("7", "accept", map=np.full((2, 2), 7.0)), "map.*7.0.*normalise"),
        (lambda: Verdict("7", "accept", map=np.zeros((1, 7, 7))), r"map.*\(1, 7, 7\)"),
        (lambda: Verdict("7", "accept", map=np.zeros((0, 7))), r"map.*\(0, 7\)"),
        (lambda: Verdict("7", "accept", map=[["a"]]), "map must hold numbers"),
        (lambda: Verdict("7", "accept", necessary=1), "necessary.*1"),
        (lambda: Verdict("7", "accept", quality=6), "quality.*6"),
        (lambda: Verdict("7", "accept", predicted=-1), "predicted.*-1"),
        (lambda: RegionMask("7", np.array([[0, 2]])), "mask.*got 2"),
        (lambda: RegionMask("7", np.array([[0.5]])), "mask.*got 0.5"),
        (lambda: UnitVerdict(-1, "accept"), "unit.*-1"),
        (lambda: UnitVerdict(None, "accept"), "unit.*None"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=f"(?s){words}"):
        make()


GOOD = RegionMask("7", np.ones((2, 2))).to_dict()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "object, got list"),
        ({**GOOD, "format": 2}, "format 2"),
        ({**GOOD, "kind": "opinion"}, "unknown kind 'opinion'"),
        ({**GOOD, "kind": []}, "unknown kind"),
        ({**GOOD, "colour": 1}, "no field 'colour'"),
        ({k: v for k, v in GOOD.items() if k != "mask"}, "lacks the field 'mask'"),
        ({**GOOD, "mask": "AAAA"}, "dtype, shape"),
        ({**GOOD, "mask": {**GOOD["mask"], "dtype": "object"}}, "dtype 'object'"),
        ({**GOOD, "mask": {**GOOD["mask"], "shape": [2, 3]}}, "does not fill"),
        ({**GOOD, "mask": {**GOOD["mask"], "shape": [2, -2]}}, "shape"),
        ({**GOOD, "mask": {**GOOD["mask"], "shape": [2**15, 2**15]}}, "at most"),
        ({**GOOD, "mask": {**GOOD["mask"], "zlib_base64": "!!!"}}, "unpacked"),
    ],
)
def test_foreign_json_is_refused(data, words):
    with pytest.raises((TypeError, ValueError), match=words):
        from_dict(data)
