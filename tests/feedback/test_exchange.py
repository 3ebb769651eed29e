"""Files: nothing lost, CRAYON's real lists byte for byte, hostile input named by line."""

from __future__ import annotations

import builtins
import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfeedback_widgets.feedback import (
    ExchangeError,
    Feedback,
    RegionMask,
    Stroke,
    UnitVerdict,
    Verdict,
    export_crayon,
    export_crayon_units,
    export_records,
    import_crayon,
    import_crayon_units,
    import_records,
)

ENDINGS = [".jsonl", ".csv", ".parquet"]
HARD_IDS = ["a,b", 'say "hi"', "two\nlines", "cr\r\nlf", "🦆/ö", "=1+1", "'=1", " x ", "@SUM(A1)"]
EVERYTHING = [
    *(Verdict(name, "accept", annotator="=cmd|' /C calc'!A0") for name in HARD_IDS),
    Verdict("7", "accept"),
    Verdict(
        "7",
        "reject",
        target=2**40,
        method="gradcam",
        version=0,
        map=np.random.default_rng(0).random((14, 14)),
        content_hash="00" * 16,
        annotator="ada",
        time=1795314725.3925085,
        duration=0.1,
    ),
    Verdict("7", "reject", necessary=True, unnecessary=False, quality=1, predicted=0),
    RegionMask("7", np.random.default_rng(0).integers(-1, 2, (500, 700)), annotator="ada"),
    RegionMask(
        "7", [[1, 0]], strokes=[Stroke("brush", 1, 2, [[0.5, 0.5, 0.75]]), Stroke("clear", 0)]
    ),
    UnitVerdict(2047, "unsure", version=3),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_lost(tmp_path, ending):
    path = tmp_path / f"feedback{ending}"
    assert export_records(EVERYTHING, path) == len(EVERYTHING)
    assert import_records(path) == EVERYTHING
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert import_records_of_none(path) == []


def import_records_of_none(path):
    export_records([], path)
    return import_records(path)


@given(name=st.text(min_size=1))
@pytest.mark.parametrize("ending", ENDINGS)
def test_any_id_comes_back_or_is_refused_at_export(tmp_path_factory, ending, name):
    path = tmp_path_factory.getbasetemp() / f"ids{ending}"
    record = Verdict(name, "accept")
    try:
        export_records([record], path)
    except ExchangeError:
        assert ending != ".jsonl"
        assert "\0" in name
    else:
        assert import_records(path) == [record]


def test_undecodable_names_go_to_json_lines(tmp_path):
    record = Verdict("\udce4", "accept")
    export_records([record], tmp_path / "a.jsonl")
    assert import_records(tmp_path / "a.jsonl") == [record]
    with pytest.raises(ExchangeError, match="jsonl"):
        export_records([record], tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_csv_has_no_cell_that_a_spreadsheet_would_run(tmp_path):
    export_records(EVERYTHING, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) > 100
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]


def test_table_made_by_hand(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffimage_id,answer\n7,accept\n\n8,reject\n", "utf-8")
    assert import_records(tmp_path / "a.csv") == [Verdict("7", "accept"), Verdict("8", "reject")]


LINE = json.dumps(Verdict("7", "accept", time=1.0).to_dict())
BAD_LINES = [
    ("{", "not JSON"),
    ("[]", "got list"),
    ("null", "NoneType"),
    ("[" * 100_000, "not JSON"),
    (LINE.replace('"7"', "7"), "image_id must be a string"),
    (LINE.replace("1.0", "NaN"), "NaN"),
    (LINE.replace("1.0", "1e999"), "finite"),
    (LINE.replace("accept", "yes"), "'yes'"),
    (LINE.replace("{", '{"kind": "verdict", ', 1), "'kind' is given twice"),
    (LINE.replace("{", '{"weight": 1, ', 1), "no field 'weight'"),
    (LINE.replace("1.0", "9" * 5000), "not JSON|finite|large"),
    (LINE, "repeats line 1"),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES)
def test_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{LINE}\n{line}\n")
    with pytest.raises(ExchangeError, match=f"line 2: .*({words})"):
        import_records(path)


def test_invalid_utf8_and_huge_lines_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.encode() + b"\n\xff\xfe\n")
    with pytest.raises(ExchangeError, match="line 2"):
        import_records(path)
    monkeypatch.setattr("xfeedback_widgets.feedback.exchange.MAX_LINE", 1000)
    path.write_text(f"{LINE}\n{' ' * 1001}\n")
    with pytest.raises(ExchangeError, match="line 2: longer than 1000"):
        import_records(path)


def test_array_bomb_is_not_unpacked(tmp_path):
    mask = RegionMask("7", np.zeros((4000, 4000)))
    data = mask.to_dict()
    data["mask"]["shape"] = [2, 2]
    (tmp_path / "a.jsonl").write_text(json.dumps(data))
    with pytest.raises(ExchangeError, match=r"line 1: mask.*does not fill"):
        import_records(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: columns"),
        ("image_id,answer,colour\n7,accept,red\n", "line 1: columns.*colour"),
        ("image_id,image_id\n7,8\n", "line 1: columns"),
        ("image_id,answer\n7,accept,red\n", "line 2: 3 cells"),
        ("image_id,answer\n7,accept\n8,yes\n", "line 3: .*'yes'"),
        ("image_id,answer,version\n7,accept,one\n", "line 2, column version: 'one'"),
        ("image_id,answer,map\n7,accept,[\n", "line 2, column map"),
        ("image_id,answer,quality\n7,accept,9\n", "line 2: quality.*9"),
        ("image_id,answer,necessary\n7,accept,1\n", "line 2, column necessary: '1'"),
        ('image_id,answer\n"7,accept\n', "line"),
        ("image_id,answer\n7,accept\n\xff\n", "line"),
    ],
)
def test_bad_table_is_named(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("latin-1"))
    limit = csv.field_size_limit()
    with pytest.raises(ExchangeError, match=words):
        import_records(path)
    assert csv.field_size_limit() == limit


def test_bad_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1nonsense")
    with pytest.raises(ExchangeError, match="parquet"):
        import_records(path)
    pq.write_table(pa.table({"image_id": [7], "answer": ["accept"]}), path)
    with pytest.raises(ExchangeError, match="line 1: image_id"):
        import_records(path)
    pq.write_table(pa.table({"image_id": ["7"], "answer": ["accept"], "map": [3]}), path)
    with pytest.raises(ExchangeError, match="line 1, column map"):
        import_records(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"xfeedback-widgets\[parquet\]"):
        export_records(EVERYTHING, tmp_path / "a.parquet")


def test_unknown_ending_lists_the_known(tmp_path):
    with pytest.raises(ExchangeError, match=r"'.pkl'.*\.jsonl, \.csv, \.parquet"):
        export_records([], tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("name", "length"), [("waterbirds", 4795), ("biased_celeba", 20200), ("background", 45405)]
)
def test_crayon_answers_come_back_byte_for_byte(shared_data, tmp_path, name, length):
    folder = shared_data / "crayon_feedback" / "annotation"
    ids = [f"{i:06d}.jpg" for i in range(length)]
    real, copy = folder / f"{name}_gradcam.json", tmp_path / "answers.json"
    verdicts = import_crayon(real, ids, annotator="crayon")
    assert len(verdicts) == length
    export_crayon(Feedback.of(verdicts), ids, copy)
    assert copy.read_bytes() == real.read_bytes()
    with pytest.raises(ExchangeError, match=f"{length} answers.*{length - 1} images"):
        import_crayon(real, ids[1:])


def test_crayon_waterbirds_holds_the_published_counts(shared_data):
    real = shared_data / "crayon_feedback" / "annotation" / "waterbirds_gradcam.json"
    counts = Feedback.of(import_crayon(real, list(map(str, range(4795))))).counts()
    assert counts == {"accept": 3414, "unsure": 1229, "reject": 152}


def test_crayon_asked_images_come_back_byte_for_byte(shared_data, tmp_path):
    folder = shared_data / "crayon_feedback" / "annotation"
    real, asked = folder / "background_gradcam.json", folder / "background_annotated.json"
    ids = [str(i) for i in range(45405)]
    feedback = Feedback.of(import_crayon(real, ids, asked=asked))
    assert len(feedback) == 4500
    export_crayon(feedback, ids, tmp_path / "answers", asked=tmp_path / "asked")
    assert (tmp_path / "answers").read_bytes() == real.read_bytes()
    assert (tmp_path / "asked").read_bytes() == asked.read_bytes()


@pytest.mark.parametrize("name", ["waterbirds", "biased_celeba", "background"])
def test_crayon_units_come_back_byte_for_byte(shared_data, tmp_path, name):
    real = shared_data / "crayon_feedback" / "annotation" / f"{name}_neuron.json"
    verdicts = import_crayon_units(real)
    assert {v.answer for v in verdicts} == {"accept", "reject"}
    export_crayon_units(Feedback.of(verdicts), tmp_path / "units.json")
    assert (tmp_path / "units.json").read_bytes() == real.read_bytes()
    with pytest.raises(ExchangeError, match=r"2048 answers.*512 units"):
        import_crayon_units(real, units=512)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["yes", "perhaps"]', "'perhaps' at index 1"),
        ('["yes", 1]', "1 at index 1"),
        ('["yes", ["no"]]', "index 1"),
        ('{"yes": 1}', "list is expected"),
        ("yes", "not JSON"),
        ("\xff", "not JSON"),
    ],
)
def test_other_lists_are_refused(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ExchangeError, match=words):
        import_crayon(path, ["a", "b"])


def test_crayon_needs_the_right_ids(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('["yes", "no"]')
    with pytest.raises(ExchangeError, match="not unique"):
        import_crayon(path, ["a", "a"])
    (tmp_path / "asked.json").write_text("[1.0, 0.0]")
    with pytest.raises(ExchangeError, match="index 1 was not asked"):
        import_crayon(path, ["a", "b"], asked=tmp_path / "asked.json")
    with pytest.raises(ExchangeError, match="'c'"):
        export_crayon(Feedback.of([Verdict("c", "accept")]), ["a", "b"], path)
    with pytest.raises(ExchangeError, match="unit 9"):
        export_crayon_units(Feedback.of([UnitVerdict(9, "accept")]), path, units=9)
    assert path.read_text() == '["yes", "no"]'
