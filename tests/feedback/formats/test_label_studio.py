"""Label Studio: answers and masks come back exactly, its own files are read, hostile ones are named."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xfeedback_widgets.feedback import (
    LABEL_STUDIO_CONFIG,
    ExchangeError,
    Feedback,
    RegionMask,
    Verdict,
    export_label_studio,
    import_label_studio,
)

MASKS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-1, 1)
)
IDS = st.text(st.characters(codec=None, exclude_categories=()), min_size=1)
ANSWERS = st.sampled_from(["accept", "reject", "unsure", None])


@settings(max_examples=60)
@given(st.dictionaries(IDS, st.tuples(MASKS, ANSWERS), max_size=3))
def test_answers_and_masks_come_back_exactly(tmp_path_factory, given):
    path = tmp_path_factory.getbasetemp() / "tasks.json"
    masks = [RegionMask(name, mask) for name, (mask, _) in given.items()]
    verdicts = [Verdict(name, answer) for name, (_, answer) in given.items() if answer]
    assert export_label_studio(Feedback.of([*masks, *verdicts]), path) == len(given)
    found = Feedback.of(import_label_studio(path))
    assert found.masks == {r.image_id: r for r in masks if not r.empty}
    assert found.verdicts == {v.image_id: v for v in verdicts}


def test_a_large_plain_area_needs_several_runs(tmp_path):
    mask = np.ones((500, 700))
    export_label_studio(Feedback.of([RegionMask("7", mask)]), tmp_path / "a.json")
    assert import_label_studio(tmp_path / "a.json") == [RegionMask("7", mask)]


def test_the_labelling_interface_knows_what_is_written(tmp_path):
    feedback = Feedback.of([Verdict("7", "reject"), RegionMask("7", [[-1, 1]])])
    export_label_studio(feedback, tmp_path / "a.json")
    (task,) = json.loads((tmp_path / "a.json").read_text())
    page = ET.fromstring(LABEL_STUDIO_CONFIG)
    for result in task["annotations"][0]["result"]:
        (tag,) = [tag for tag in page if tag.get("name") == result["from_name"]]
        assert tag.tag.lower() == result["type"]
        assert tag.get("toName") == result["to_name"] == page[0].get("name")
        words = result["value"][result["type"]]
        assert set(words) <= {child.get("value") for child in tag}
    assert page[0].get("value") == "$image"


def region(kind, value, label="relevant", height=10, width=20, **result):
    value = {**value, kind: [label]}
    size = {"original_height": height, "original_width": width}
    return {"type": kind, "value": value, **size, **result}


def chosen(*words):
    return {"type": "choices", "value": {"choices": list(words)}}


def file(tmp_path, *results, image="a.png", **annotation):
    task = {"data": {"image": image}, "annotations": [{"result": list(results), **annotation}]}
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"image": "first.png"}, "annotations": []}, task]))
    return path


EYE = [0, 0, 0, 36, 57, 27, 252, 127, 246, 192, 35, 255, 182, 1, 31, 248]
"""A diagonal of 3 × 3 pixels as label-studio-converter 0.0.59 writes it."""

BRUSH = region("brushlabels", {"format": "rle", "rle": EYE}, height=3, width=3)
SQUARE = region("rectanglelabels", {"x": 10, "y": 20, "width": 50, "height": 30, "rotation": 0})
TRIANGLE = region("polygonlabels", {"points": [[0, 0], [100, 0], [0, 100]]}, "irrelevant")


def test_its_own_brush_is_read(tmp_path):
    (record,) = import_label_studio(file(tmp_path, BRUSH))
    assert (record.mask == np.eye(3)).all()


def test_literal_runs_of_other_writers_are_read(tmp_path):
    # two pixels in one literal run, of the widest length: the red of the first, the A of the second
    values = [9, 0, 0, 0, 0, 0, 0, 7]
    bits = f"{8:032b}{7:05b}0010001101111111" + f"011{7:016b}" + "".join(f"{v:08b}" for v in values)
    bits += "0" * (-len(bits) % 8)
    rle = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    brush = region("brushlabels", {"format": "rle", "rle": rle}, height=1, width=2)
    (record,) = import_label_studio(file(tmp_path, brush))
    assert record.mask.tolist() == [[0, 1]]


def test_shapes_answers_and_who_gave_them(tmp_path):
    comment = {"type": "textarea", "value": {"text": ["hm"]}}
    path = file(
        tmp_path, chosen("reasonable"), SQUARE, TRIANGLE, comment, completed_by={"email": "a@b.c"}
    )
    verdict, mask = import_label_studio(path)
    assert verdict == Verdict("a.png", "accept", annotator="a@b.c")
    expected = np.zeros((10, 20))
    expected[2:5, 2:12] = 1
    rows, columns = np.mgrid[:10, :20] + 0.5
    expected[columns / 20 + rows / 10 < 1] = -1
    on_the_line = np.isclose(columns / 20 + rows / 10, 1)
    assert (mask.mask == expected)[~on_the_line].all()
    assert import_label_studio(path, annotator="ada")[1].annotator == "ada"
    assert import_label_studio(file(tmp_path, SQUARE, was_cancelled=True)) == []


def test_a_turned_rectangle(tmp_path):
    # a quarter turn clockwise about the upper left corner puts it to the left of that corner
    turned = region("rectanglelabels", {"x": 50, "y": 0, "width": 30, "height": 40, "rotation": 90})
    (record,) = import_label_studio(file(tmp_path, turned))
    expected = np.zeros((10, 20))
    expected[0:6, 6:10] = 1
    assert (record.mask == expected).all()


def test_labels_and_choices_of_other_projects(tmp_path):
    dog = region("rectanglelabels", {"x": 0, "y": 0, "width": 100, "height": 100}, "Dog")
    path = file(tmp_path, chosen("Good map"), dog, TRIANGLE)
    verdict, mask = import_label_studio(path, labels={"Dog": -1}, choices={"Good map": "accept"})
    assert verdict.answer == "accept"
    assert (mask.mask == -1).all()
    assert import_label_studio(path, labels={}, choices={}) == []


@pytest.mark.parametrize(
    "image",
    [
        "photos/a.jpg",
        "/data/upload/1/0123abcd-a.jpg",
        "/data/local-files/?d=photos/a.jpg",
        "https://example.com/x%20y/a.jpg?token=7",
        "a",
    ],
)
def test_names_of_pictures(tmp_path, image):
    (record,) = import_label_studio(
        file(tmp_path, SQUARE, image=image), ids={"photos/a.jpg": (10, 20), "first": (1, 1)}
    )
    assert record.image_id == "photos/a.jpg"


def changed(result, **value):
    return {**result, "value": {**result["value"], **value}}


BAD = [
    (changed(BRUSH, rle=EYE[:-1]), "breaks off"),
    (changed(BRUSH, rle=[]), "breaks off"),
    (changed(BRUSH, rle=[*EYE[:3], 40, *EYE[4:]]), "fills 40 values"),
    (changed(BRUSH, rle=[255] * 4), "fills 4294967295 values"),
    (changed(BRUSH, rle=[*EYE[:8], 255, 255, 255, 255, 255]), "past the end"),
    (changed(BRUSH, rle=[256]), "from 0 to 255"),
    (changed(BRUSH, rle=[True]), "from 0 to 255"),
    (changed(BRUSH, rle="0000"), "format 'rle'"),
    (changed(BRUSH, format="png"), "format 'rle'"),
    ({**BRUSH, "original_width": 4}, "fills 36 values"),
    ({**BRUSH, "original_width": 2**30}, "pixels; scale"),
    ({**BRUSH, "original_width": None}, "no size"),
    ({**BRUSH, "image_rotation": 90}, "was turned"),
    (changed(BRUSH, brushlabels=["dog"]), r"'dog' is none of.*labels=\{'dog'"),
    (changed(BRUSH, brushlabels=["relevant", "irrelevant"]), "one label"),
    (changed(BRUSH, brushlabels=[7]), "7 is no label"),
    ({**BRUSH, "value": None}, "one label"),
    ({**BRUSH, "type": "ellipselabels"}, "'ellipselabels' cannot be read"),
    ({**BRUSH, "type": ["brushlabels"]}, "cannot be read"),
    ([], "object is expected"),
    (changed(SQUARE, x=float("inf")), "x must be in percent"),
    (changed(SQUARE, width="5"), "width must be in percent"),
    (changed(SQUARE, height=-1), "rectangle"),
    (changed(SQUARE, y=None), "y must be in percent"),
    (changed(SQUARE, rotation=1e9), "rotation"),
    (changed(SQUARE, rotation="90"), "rotation"),
    (changed(TRIANGLE, points=[[0, 0], [1, 1]]), "three vertices"),
    (changed(TRIANGLE, points=[[0, 0], [1, 1], [2]]), "list of x and y"),
    (changed(TRIANGLE, points=[[0, 0], [1, 1], [2, True]]), "y must be in percent"),
    (changed(TRIANGLE, points=[[0, 0], [1, 1], [2, 1e5]]), "far outside"),
    (chosen("perhaps"), r"'perhaps' is none of.*choices=\{'perhaps'"),
    (chosen(), "one choice"),
    (chosen("reasonable", "unsure"), "one choice"),
    (chosen("unsure"), "'unsure' after 'accept'"),
    ({"type": "choices"}, "one choice"),
]


@pytest.mark.parametrize(("result", "words"), BAD)
def test_bad_results_are_named(tmp_path, result, words):
    path = file(tmp_path, chosen("reasonable"), result)
    path.write_text(path.read_text().replace("Infinity", "1e999"))
    where = "task 2, entry 1 of annotations, entry 2 of result"
    with pytest.raises(ExchangeError, match=f"{where}: .*({words})"):
        import_label_studio(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "list of tasks"),
        ("[7]", "task 1: its data has no text 'image'"),
        ('[{"data": {"image": ""}}]', "task 1: its data has no text"),
        ('[{"data": {"img": "a"}}]', r"task 1: .*pass image="),
        ('[{"data": {"image": "a"}}]', "task 1: it has no list 'annotations'"),
        ('[{"data": {"image": "a"}, "annotations": [7]}]', "entry 1 of annotations: an object"),
        ('[{"data": {"image": "a"}, "annotations": [{}]}]', "no list 'result'"),
        ('[{"data": {"image": "../b"}, "annotations": []}]', "task 1: there is no image '../b'"),
        ('[{"data": {"image": "a"}, "annotations": []}, {"data": {"image": "x/a"}}]', "two tasks"),
        ("[" * 100_000, "not JSON"),
        ("\xff", "not JSON"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ExchangeError, match=words):
        import_label_studio(path, ids=["a"])


def test_pictures_of_another_size_and_wrong_meanings_are_refused(tmp_path):
    with pytest.raises(ExchangeError, match=r"entry 1 of result: the mask is 10 × 20"):
        import_label_studio(file(tmp_path, SQUARE), ids={"a": (20, 10), "first": (1, 1)})
    with pytest.raises(ExchangeError, match=r"entry 2 of result: the picture is \(3, 3\), and was"):
        import_label_studio(file(tmp_path, SQUARE, BRUSH))
    with pytest.raises(ExchangeError, match=r"mask may only hold.*7"):
        import_label_studio(file(tmp_path, SQUARE), labels={"relevant": 7})
    with pytest.raises(ExchangeError, match="unknown answer 'yes'"):
        import_label_studio(file(tmp_path, chosen("reasonable")), choices={"reasonable": "yes"})
