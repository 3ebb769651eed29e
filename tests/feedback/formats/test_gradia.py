"""GRADIA's labels: the real file byte for byte, and no word that it does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfeedback_widgets.feedback import (
    CELLS,
    ExchangeError,
    Feedback,
    ReasonabilityMatrix,
    export_gradia_labels,
    import_gradia_labels,
)


def test_real_labels_come_back_byte_for_byte(shared_data, tmp_path):
    real = shared_data / "gradia" / "reasonablity_val.json"
    matrix = import_gradia_labels(real)
    assert matrix.counts == {"RA": 402, "UA": 212, "RIA": 71, "UIA": 65}
    assert export_gradia_labels(matrix, tmp_path / "copy.json") == 750
    assert (tmp_path / "copy.json").read_bytes() == real.read_bytes()
    counts = Feedback.of(matrix.verdicts(annotator="gradia")).counts()
    assert counts == {"accept": 473, "reject": 277, "unsure": 0}
    ids = [f"coco/{name}" for name in matrix]
    assert list(import_gradia_labels(real, ids=reversed(ids))) == ids


IDS = st.text(st.characters(codec=None, exclude_categories=()), min_size=1)


@given(st.dictionaries(IDS, st.sampled_from(CELLS)))
def test_any_matrix_comes_back(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp() / "labels.json"
    export_gradia_labels(ReasonabilityMatrix(cells), path)
    assert list(import_gradia_labels(path).cells.items()) == list(cells.items())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a.jpg": "Unreasonable"}', "entry 'a.jpg': 'Unreasonable' is none of"),
        ('{"a.jpg": 1}', "entry 'a.jpg': 1 is none of"),
        ('{"": "Reasonable Accurate"}', "entry ''"),
        ('{"b.jpg": "Reasonable Accurate"}', "entry 'b.jpg': there is no image"),
        ('{"a.jpg": "Reasonable Accurate", "a": "Reasonable Accurate"}', "entry 'a': .*twice"),
        ('{"a.jpg": "Reasonable Accurate", "a.jpg": "Reasonable Accurate"}', "given twice"),
        ('["Reasonable Accurate"]', "object is expected"),
        ("{", "not JSON"),
    ],
)
def test_bad_entries_are_named(tmp_path, text, words):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(ExchangeError, match=words):
        import_gradia_labels(path, ids=["x/a.jpg"] if '""' not in text else None)


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("xfeedback_widgets.feedback.formats.entries.MAX_BYTES", 10)
    (tmp_path / "labels.json").write_text("{          }")
    with pytest.raises(ExchangeError, match="larger than 10 bytes"):
        import_gradia_labels(tmp_path / "labels.json")
