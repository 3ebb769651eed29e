"""The reasonability matrix: four cells, what moved, nothing counted that nobody decided."""

from __future__ import annotations

import pytest

from xfeedback_widgets.feedback import (
    Feedback,
    ReasonabilityMatrix,
    RegionMask,
    Verdict,
    category,
)


@pytest.mark.parametrize(
    ("right", "answer", "cell"),
    [
        (True, "accept", "RA"),
        (True, "reject", "UA"),
        (False, "accept", "RIA"),
        (False, "reject", "UIA"),
        (True, "unsure", None),
        (False, None, None),
    ],
)
def test_category(right, answer, cell):
    assert category(right, answer) == cell


LABELS = {"a": 0, "b": 1, "c": 1, "d": 0}


def test_matrix_of_answers_takes_the_given_prediction_or_the_recorded_one():
    feedback = Feedback.of(
        [
            Verdict("a", "accept", predicted=0),
            Verdict("b", "reject", predicted=0),
            Verdict("c", "reject"),  # nobody knows the prediction
            Verdict("d", "unsure", predicted=0),
            Verdict("x", "accept", predicted=0),  # nobody knows the label
            RegionMask("e", [[1]]),
        ]
    )
    recorded = ReasonabilityMatrix.of(feedback, LABELS)
    assert recorded.cells == {"a": "RA", "b": "UIA"}
    now = ReasonabilityMatrix.of(feedback, LABELS, {"b": 1, "c": 1, "d": 1})
    assert now.cells == {"a": "RA", "b": "UA", "c": "UA"}
    assert now.ids == {"RA": ("a",), "UA": ("b", "c"), "RIA": (), "UIA": ()}
    assert now.shares == {"RA": 1 / 3, "UA": 2 / 3, "RIA": 0, "UIA": 0}
    assert recorded.transitions(now) == {("RA", "RA"): 1, ("UIA", "UA"): 1}
    assert repr(now) == "ReasonabilityMatrix(RA 1, UA 2, RIA 0, UIA 0)"


def test_votes_are_merged():
    votes = [
        Verdict("a", w, annotator=n, predicted=0)
        for n, w in zip("xyz", ["reject"] * 2 + ["accept"], strict=True)
    ]
    assert ReasonabilityMatrix.of(Feedback.of(votes), LABELS).cells == {"a": "UA"}


def test_equal_by_value_and_immutable():
    cells = {"a": "RA", "b": "UA"}
    matrix = ReasonabilityMatrix(cells)
    cells["c"] = "UIA"
    assert matrix == ReasonabilityMatrix({"b": "UA", "a": "RA"})
    assert hash(matrix) == hash(ReasonabilityMatrix({"b": "UA", "a": "RA"}))
    assert matrix != ReasonabilityMatrix({"a": "RA"})
    with pytest.raises(TypeError):
        matrix.cells["a"] = "UA"
    with pytest.raises(ValueError, match=r"'c'.*'XX'.*RA, UA"):
        ReasonabilityMatrix({"c": "XX"})


def test_page_escapes_ids_and_counts():
    page = ReasonabilityMatrix({"<b>&": "UA", **{f"{i}": "RA" for i in range(7)}})._repr_html_()
    assert 'title="&lt;b&gt;&amp;"><b>UA</b> 1 (12 %)' in page
    assert 'title="0, 1, 2, 3, 4, …"><b>RA</b> 7 (88 %)' in page
    assert "8 images judged" in page
    assert ReasonabilityMatrix({}).shares == dict.fromkeys(("RA", "UA", "RIA", "UIA"), 0.0)


def test_verdicts_say_what_the_cells_said():
    matrix = ReasonabilityMatrix({"a": "RA", "b": "UA", "c": "RIA", "d": "UIA"})
    assert [(v.image_id, v.answer, v.annotator) for v in matrix.verdicts(annotator="ada")] == [
        ("a", "accept", "ada"), ("b", "reject", "ada"), ("c", "accept", "ada"), ("d", "reject", "ada"),
    ]  # fmt: skip
