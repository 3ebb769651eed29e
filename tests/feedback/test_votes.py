"""Merging: CRAYON's majority rule, worked by hand, and kappa against scikit-learn."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from xfeedback_widgets.feedback import (
    Byproduct,
    ContentMismatchError,
    Feedback,
    ImageNetAB,
    RegionMask,
    Stroke,
    UnitVerdict,
    Verdict,
    check_content,
    majority,
)

A, U, R = "accept", "unsure", "reject"


@pytest.mark.parametrize(
    ("answers", "merged"),
    [
        ([A], A),
        ([U], U),
        ([R], R),
        ([A, U], A),  # 0.75
        ([A, A, R], U),  # 0.67
        ([A, R], U),  # 0.50
        ([A, U, R], U),  # 0.50
        ([U, R], R),  # 0.25
        ([U, U, U, R], R),  # 0.375
        ([A] * 7 + [R] * 3, U),  # 0.70 is not more than 0.7
        ([A] * 8 + [R] * 3, A),  # 0.727
    ],
)
def test_majority_worked_by_hand(answers, merged):
    assert majority(answers) == merged
    votes = [Verdict("7", answer, annotator=str(i)) for i, answer in enumerate(answers)]
    assert Feedback.of(votes).verdicts["7"].answer == merged


def test_majority_of_nobody_is_an_error():
    with pytest.raises(ValueError, match="no answers"):
        majority([])


def test_latest_answer_of_each_annotator_counts():
    feedback = Feedback.of(
        [
            Verdict("7", A, annotator="ada"),
            Verdict("7", R, annotator="bob"),
            Verdict("7", R, annotator="ada"),
        ]
    )
    assert [v.annotator for v in feedback.votes["7"]] == ["bob", "ada"]
    assert feedback.verdicts["7"].answer == R


def test_merged_verdict_keeps_the_map_that_was_agreed_on():
    maps = [np.full((2, 2), value) for value in (0.25, 0.5, 1.0)]
    answers = zip("abc", (A, A, U), maps, strict=True)
    votes = [Verdict("7", x, annotator=n, map=m, version=i) for i, (n, x, m) in enumerate(answers)]
    merged = Feedback.of(votes).verdicts["7"]
    assert merged.answer == A
    assert merged.version == 1
    assert merged.map[0, 0] == 0.5
    assert merged.annotator is None


def test_a_single_vote_is_kept_whole():
    vote = Verdict("7", R, annotator="ada", duration=2.0)
    assert Feedback.of([vote]).verdicts["7"] is vote


def test_units_stay_on_ties():
    feedback = Feedback.of(
        [
            UnitVerdict(1, A, annotator="ada"),
            UnitVerdict(1, R, annotator="bob"),
            UnitVerdict(2, R, annotator="ada"),
            UnitVerdict(2, U, annotator="bob"),
            UnitVerdict(3, U),
        ]
    )
    assert {unit: v.answer for unit, v in feedback.units.items()} == {1: A, 2: R, 3: A}
    assert len(feedback) == 0
    assert feedback


def test_counts_length_and_masks():
    old, new = (RegionMask("8", np.full((2, 2), value)) for value in (-1, 1))
    feedback = Feedback.of([Verdict("7", A), old, new])
    assert feedback.counts() == {A: 1, R: 0, U: 0}
    assert len(feedback) == 2
    assert feedback.masks == {"8": new}
    assert not Feedback.of([])


def test_view_is_immutable_and_travels():
    feedback = Feedback.of([Verdict("7", A)])
    with pytest.raises(TypeError):
        feedback.verdicts["8"] = Verdict("8", A)
    assert pickle.loads(pickle.dumps(feedback)) == copy.deepcopy(feedback) == feedback


def test_agreement_of_two_is_cohens_kappa():
    ada, bob = [A, A, R, R, U, A], [A, R, R, U, U, A]
    votes = [Verdict(str(i), x, annotator="ada") for i, x in enumerate(ada)]
    votes += [Verdict(str(i), x, annotator="bob") for i, x in enumerate(bob)]
    votes.append(Verdict("alone", R, annotator="bob"))
    agreement = Feedback.of(votes).agreement
    assert agreement.images == 6
    assert agreement.percent == pytest.approx(4 / 6)
    assert agreement.kappa == pytest.approx(cohen_kappa_score(ada, bob))


def test_agreement_where_kappa_is_not_defined():
    same = [Verdict("7", A, annotator=name) for name in (None, "ada", "bob")]
    assert Feedback.of(same).agreement.percent == 1
    assert Feedback.of(same).agreement.kappa is None
    assert Feedback.of(same[:1]).agreement.percent is None


def test_changed_picture_is_refused_with_both_hashes():
    records = [Verdict("7", A, content_hash="aaaa"), Verdict("8", A), UnitVerdict(1, A)]
    check_content(records, {"7": "aaaa", "8": "bbbb"}.get)
    check_content(records, {}.get)  # no such image: nothing to compare with
    with pytest.raises(ContentMismatchError, match=r"'7'.*aaaa.*cccc"):
        check_content(records, {"7": "cccc"}.get)


def test_what_is_kept_of_people_is_counted():
    given = [
        Verdict("7", "accept", duration=2.5, pointer=[[0.5, 0.5, 10]]),
        Verdict("8", "accept"),
        RegionMask("7", [[1]], strokes=(Stroke("clear", 0),), duration=1.0),
        Byproduct("7", ImageNetAB("7", 4, 4)),
    ]
    kept = Feedback.of(given).kept
    assert kept == {"duration": 2, "pointer": 1, "strokes": 1, "byproduct": 1}
    assert set(Feedback().kept.values()) == {0}
