"""COCO: masks come back exactly, every COCO tool sees the same pixels, hostile entries are named."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from xfeedback_widgets.feedback import (
    ExchangeError,
    Feedback,
    RegionMask,
    export_coco,
    import_coco,
)

# the reference's own, under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-1, 1)
)
IDS = st.text(st.characters(codec=None, exclude_categories=()), min_size=1)


@settings(max_examples=60)
@given(st.dictionaries(IDS, MASKS, max_size=3))
def test_masks_come_back_exactly(tmp_path_factory, masks):
    path = tmp_path_factory.getbasetemp() / "coco.json"
    feedback = Feedback.of(RegionMask(name, mask) for name, mask in masks.items())
    assert export_coco(feedback, path) == len(masks)
    assert import_coco(path) == [r for r in feedback.masks.values() if not r.empty]


def test_other_tools_see_the_same_pixels(tmp_path, capsys):
    mask = np.random.default_rng(0).integers(-1, 2, (60, 80))
    export_coco(Feedback.of([RegionMask("7", mask)]), tmp_path / "a.json")
    tool = COCO(tmp_path / "a.json")
    for annotation in tool.anns.values():
        value = {"relevant": 1, "irrelevant": -1}[tool.cats[annotation["category_id"]]["name"]]
        assert (tool.annToMask(annotation) == (mask == value)).all()
        assert annotation["area"] == (mask == value).sum()


def test_real_polygons_are_what_the_reference_sees(shared_data, capsys):
    path = shared_data / "coco_subset" / "instances.json"
    tool = COCO(path)
    names = {c["name"]: 1 for c in tool.cats.values()}
    masks = {r.image_id: r.mask for r in import_coco(path, categories=names)}
    annotated = {a["image_id"] for a in tool.anns.values()}
    assert len(masks) == len(annotated) > 200
    for key in annotated:
        if any("segmentation" not in a for a in tool.imgToAnns[key]):
            continue  # a box, which the reference does not draw
        parts = [tool.annToMask(a) for a in tool.imgToAnns[key]]
        assert (masks[tool.imgs[key]["file_name"]] == np.max(parts, axis=0)).all()
    people = import_coco(path, categories={"person": -1})
    assert 0 < len(people) < len(masks)
    assert all(record.mask.min() == -1 for record in people)


def file(tmp_path, *annotations, **image):
    """A file with one 4 × 5 image "a.png" and the annotations, of the category "relevant"."""
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 5, **image}],
        "categories": [{"id": 1, "name": "relevant"}, {"id": 2, "name": "irrelevant"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(data))
    return path


ALL = {"segmentation": {"size": [4, 5], "counts": [0, 20]}}


def test_the_later_annotation_counts_and_images_without_any_say_nothing(tmp_path):
    square = {"segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "category_id": 2}
    (record,) = import_coco(file(tmp_path, ALL, square), ids={"x/a.jpg": (4, 5)}, annotator="ada")
    expected = np.ones((4, 5))
    expected[1:3, 1:4] = -1
    assert record == RegionMask("x/a.jpg", expected, annotator="ada")
    assert import_coco(file(tmp_path)) == []


@given(st.floats(-3, 12), st.floats(-3, 12), st.floats(0, 8), st.floats(0, 8))
def test_boxes_follow_the_rule_of_polygons(tmp_path_factory, x, y, width, height):
    path = tmp_path_factory.getbasetemp()
    corners = [x, y, x, y + height, x + width, y + height, x + width, y]
    size = {"height": 10, "width": 10}
    box = import_coco(file(path, {"bbox": [x, y, width, height]}, **size))[0].mask
    polygon = import_coco(file(path, {"segmentation": [corners]}, **size))[0].mask
    near_a_centre = min(abs(v % 1 - 0.5) for v in (x, y, x + width, y + height)) < 1e-6
    inside = min(x, y) >= 0 and max(x + width, y + height) <= 10
    assert (box == polygon).all() or near_a_centre or not inside


RUNS = coco_masks.encode(np.asfortranarray(np.eye(4, 5), np.uint8))["counts"].decode()
BAD = [
    ({"segmentation": {"size": [5, 4], "counts": [20]}}, "size .* is not the image's"),
    ({"segmentation": {"size": [4, 5], "counts": [19]}}, "fills 19 pixels"),
    ({"segmentation": {"size": [4, 5], "counts": [21]}}, "fills 21 pixels"),
    ({"segmentation": {"size": [4, 5], "counts": [0, -1, 21]}}, "whole numbers"),
    ({"segmentation": {"size": [4, 5], "counts": [0, 10**30]}}, "fills 1000"),
    ({"segmentation": {"size": [4, 5], "counts": [True] * 20}}, "whole numbers"),
    ({"segmentation": {"size": [4, 5], "counts": None}}, "whole numbers"),
    ({"segmentation": {"size": [4, 5], "counts": ""}}, "fills 0 pixels"),
    ({"segmentation": {"size": [4, 5], "counts": RUNS[:-1]}}, "fills|break off"),
    ({"segmentation": {"size": [4, 5], "counts": RUNS + "P"}}, "break off"),
    ({"segmentation": {"size": [4, 5], "counts": "é"}}, "'é'.*does not belong"),
    ({"segmentation": {"size": [4, 5], "counts": "o" * 50}}, "does not belong"),
    ({"segmentation": [[1, 1, 2, 2, 3]]}, "list of x, y"),
    ({"segmentation": [[1, 1, 2, 2]]}, "three vertices"),
    ({"segmentation": [[1, 1, 2, 2, 3, "3"]]}, "all of them numbers"),
    ({"segmentation": [[1, 1, 2, 2, 3, 10**400]]}, "all of them numbers"),
    ({"segmentation": [[1, 1, 2, 2, 3, 1e9]]}, "far outside"),
    ({"segmentation": [[0, 0, 5, 4] * 2**18]}, "outline"),
    ({"segmentation": [7]}, "list of x, y"),
    ({"segmentation": "all"}, "neither"),
    ({"bbox": [0, 0, -1, 4]}, "rectangle"),
    ({"bbox": [0, 0, 1e300, 4]}, "rectangle"),
    ({"bbox": [0, 0, "1", 4]}, "rectangle"),
    ({}, "neither"),
    ({**ALL, "image_id": 2}, "image_id 2 is not in images"),
    ({**ALL, "image_id": [1]}, "image_id .* is not in images"),
    ({**ALL, "category_id": 3}, "category_id 3 is not in categories"),
    ({**ALL, "id": 1}, "id 1 is given twice"),
    ({**ALL, "id": None}, "object with an id"),
]


@pytest.mark.parametrize(("annotation", "words"), BAD)
def test_bad_annotations_are_named(tmp_path, annotation, words):
    with pytest.raises(ExchangeError, match=f"entry 2 of annotations: .*({words})"):
        import_coco(file(tmp_path, ALL, annotation))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"height": 2**20, "width": 2**20}, "pixels; scale"),
        ({"height": 10**400}, "pixels; scale"),
        ({"height": 0}, "0 × 5 is no size"),
        ({"width": 5.0}, "4 × 5.0 is no size"),
        ({"width": True}, "no size"),
        ({"file_name": ""}, "is no name"),
        ({"file_name": None}, "is no name"),
        ({"file_name": "../b.png"}, "no image '../b.png'"),
        ({"height": 5, "width": 4}, "the picture of 'a' is 4 × 5"),
    ],
)
def test_bad_images_are_named(tmp_path, image, words):
    with pytest.raises(ExchangeError, match=f"entry 1 of images: .*{words}"):
        import_coco(file(tmp_path, ALL, **image), ids={"a": (4, 5)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["images"].append({**d["images"][0], "id": 2}), None),
        (lambda d: d["images"].append(dict(d["images"][0])), "entry 2 of images: id 1"),
        (lambda d: d["categories"].append({"id": 3, "name": "dog"}), r"entry 3 of categories.*'dog'"),
        (lambda d: d["categories"].append({"id": 3}), "entry 3 of categories: None is no label"),
        (lambda d: d.pop("categories"), "no list of categories"),
        (lambda d: d.update(annotations={}), "no list of annotations"),
        (lambda d: d["images"].append(7), "entry 2 of images: an object"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, change, words):
    path = file(tmp_path, ALL)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    if words is None:  # a second entry of the file that nobody annotated
        assert len(import_coco(path)) == 1
        data["annotations"].append({**ALL, "id": 2, "image_id": 2, "category_id": 1})
        path.write_text(json.dumps(data))
        words = "entry 2 of images: image 'a.png' is listed twice"
    with pytest.raises(ExchangeError, match=words):
        import_coco(path)


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"images": NaN}', "\xff"])
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ExchangeError, match=r"a\.json"):
        import_coco(tmp_path / "a.json")


def test_what_a_category_stands_for_must_be_a_sign(tmp_path):
    with pytest.raises(ExchangeError, match=r"mask may only hold.*7"):
        import_coco(file(tmp_path, ALL), categories={"relevant": 7})


def test_without_pycocotools_the_extra_is_named_and_run_lengths_are_read(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"xfeedback-widgets\[coco\]"):
        export_coco(Feedback.of([RegionMask("7", [[1]])]), tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(ImportError, match=r"xfeedback-widgets\[coco\]"):
        import_coco(file(tmp_path, {"segmentation": [[0, 0, 4, 0, 4, 4]]}))
    assert len(import_coco(file(tmp_path, ALL))) == 1
