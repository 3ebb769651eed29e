"""Boxes: readers against files as published, hostile files refused, and the push against painted masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from xfeedback_widgets.audit import Regions
from xfeedback_widgets.data import (
    Annotation,
    Box,
    Boxes,
    ImageSet,
    image_folder,
    mask_folder,
    read_boxes,
)
from xfeedback_widgets.data.views import push, view_of

VOC = """<annotation>
  <folder>VOC2012</folder><filename>2007_000027.jpg</filename>
  <source><database>The VOC2007 Database</database></source>
  <size><width>486</width><height>500</height><depth>3</depth></size>
  <object><name>person</name><bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>169</xmin><ymin>104</ymin><xmax>209</xmax><ymax>146</ymax></bndbox></part>
  </object>
  <object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>486</xmax><ymax>500</ymax></bndbox></object>
</annotation>"""
IMAGENET = """<annotation><folder>n01440764</folder><filename>%s</filename>
  <source><database>ILSVRC_2012</database></source>
  <size><width>500</width><height>375</height><depth>3</depth></size><segmented>0</segmented>
  <object><name>n01440764</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>0</xmin><ymin>8</ymin><xmax>441</xmax><ymax>193</ymax></bndbox></object>
</annotation>"""
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><folder>&c;</folder></annotation>'
)
FILE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


def test_reads_both_layouts_of_voc(tmp_path):
    (tmp_path / "n01440764").mkdir()
    (tmp_path / "n01440764" / "n01440764_10026.xml").write_text(IMAGENET)
    (tmp_path / "2007_000027.xml").write_text(VOC)
    found = read_boxes(tmp_path)
    # Pascal counts from 1, ImageNet from 0; a person's head is no person
    assert found["2007_000027.jpg"] == Annotation(
        (Box(173, 100, 349, 351, "person"), Box(0, 0, 486, 500, "dog")), (500, 486)
    )
    assert found["n01440764/n01440764_10026.JPEG"].boxes == (Box(0, 8, 441, 193, "n01440764"),)
    assert found.class_names == {"person", "dog", "n01440764"}
    assert found.source == "VOC XML"
    # images lie in a folder per class, annotations in one
    assert found.find("person/2007_000027.jpg") is found["2007_000027"]
    assert found.find("2007_000028.jpg") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "document type"),
        (LAUGHS.encode("utf-16"), "document type"),
        (FILE, "document type"),
        ("<annotation>", "no element found"),
        (VOC.replace("<xmax>349", "<xmax>174"), None),  # one pixel wide: 174 … 174
        (VOC.replace("<xmax>349", "<xmax>173"), "without area"),
        (VOC.replace("<xmax>349", "<xmax>nan"), "without area"),
        (VOC.replace("<xmax>349", "<xmax>620"), "outside its picture, 486×500"),
        (VOC.replace("<width>486", "<width>0"), "width is 0"),
        (VOC.replace("<ymin>101</ymin>", ""), "no ymin"),
        (VOC + " " * 2**20, "larger than"),
    ],
)
def test_names_the_file_it_refuses(tmp_path, text, reason):
    path = tmp_path / "bad.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if reason is None:
        assert len(read_boxes(path)["bad"].boxes) == 2
    else:
        with pytest.raises(ValueError, match=rf"bad\.xml is no VOC annotation: .*{reason}"):
            read_boxes(path)


def test_reads_coco_and_names_what_is_wrong(tmp_path):
    content = {
        "images": [{"id": 3, "file_name": "000000000003.jpg", "height": 100, "width": 200}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 3, "category_id": 18, "bbox": [10.5, 20, 30, 40.25]}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    assert dict(read_boxes(path, names={"dog": "Hund"})) == {
        "000000000003": Annotation((Box(10.5, 20, 40.5, 60.25, "Hund"),), (100, 200))
    }
    for change, reason in (
        ({"category_id": 7}, "category 7"),
        ({"bbox": [1, 2, 3]}, "not enough values"),
        ({"bbox": [1, 2, 500, 3]}, "outside its picture"),
    ):
        broken = content | {"annotations": [content["annotations"][0] | change]}
        path.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=rf"instances\.json.*{reason}"):
            read_boxes(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"instances\.json is no COCO file"):
        read_boxes(path)


def test_reads_tables(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("file,wnid,idx,xmin,ymin,xmax,ymax\nval_0.JPEG,n03444034,573,0,32,44,62\n")
    found = read_boxes(path, size=(64, 64), inclusive=True)
    assert found["val_0.JPEG"] == Annotation((Box(0, 32, 45, 63, "n03444034"),), (64, 64))
    path.write_text("image,x1,y1,x2,y2,width,height\na.png,1,1,3,3,8,6\na.png,2,2,8,6,8,6\n")
    assert read_boxes(path)["a"] == Annotation((Box(1, 1, 3, 3), Box(2, 2, 8, 6)), (6, 8))
    for text, reason in (
        ("image,x1,y1,x2\n", "no column ymax or y2 or bottom"),
        ("image,x1,y1,x2,y2\na,1,1,x,2\n", "line 2: could not convert"),
        ("image,x1,y1,x2,y2\na,1,1\n", "line 2"),
        ("image,x1,y1,x2,y2\na,3,1,3,2\n", "line 2.*without area"),
        ("image,x1,y1,x2,y2\n", "no row"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"boxes\.csv.*{reason}"):
            read_boxes(path)


def test_an_annotation_belongs_to_one_image():
    one = Annotation((Box(0, 0, 1, 1),))
    with pytest.raises(ValueError, match="two annotations of image 'a'"):
        Boxes({"a.jpg": one, "a.png": one})
    boxes = Boxes({"x/a.jpg": one, "y/a.jpg": one})
    assert boxes.find("x/a.png") is not None
    with pytest.raises(ValueError, match="several annotations are named 'a'"):
        boxes.find("z/a.png")


TRANSFORMS = [
    lambda a, b: v1.Compose([v1.Resize(a), v1.CenterCrop(b), v1.ToTensor()]),
    lambda a, b: v2.Compose(
        [
            v2.Resize((a, b)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.CenterCrop((b, a)),
        ]
    ),
    lambda a, b: v1.Compose([v1.CenterCrop((b, a)), v1.Resize(a, max_size=a + 9), v1.ToTensor()]),
    lambda a, b: ImageClassification(crop_size=b, resize_size=a),
]


@given(
    st.integers(20, 90), st.integers(20, 90), st.integers(16, 80), st.integers(16, 80),
    st.sampled_from(TRANSFORMS), st.tuples(*[st.floats(0, 1)] * 4),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_arithmetic_agrees_with_a_painted_mask(height, width, a, b, make, edges):
    transform = make(a, b)
    left, right = sorted(edge * (width - 6) for edge in edges[:2])
    top, bottom = sorted(edge * (height - 6) for edge in edges[2:])
    box = Box(round(left), round(top), round(right) + 6, round(bottom) + 6)
    picture = Image.fromarray(np.zeros((height, width, 3), np.uint8))
    size = tuple(transform(picture).shape[1:])
    view = view_of([transform], (height, width))
    assert view.size == size
    ours = push([box], (height, width), [transform], size)
    # a step without a name that is known: the painted mask goes through
    painted = push([box], (height, width), [transform, lambda tensor: tensor], size)
    # resampling moves an edge by at most a pixel, or half a source pixel where the picture grows
    margin = max(1, *(scale / 2 for scale in view.scale))
    differ = (ours != painted).nonzero().double() + 0.5
    for y, x in differ.tolist():
        near_y = min(abs(y - (e * view.scale[0] + view.offset[0])) for e in (box.ymin, box.ymax))
        near_x = min(abs(x - (e * view.scale[1] + view.offset[1])) for e in (box.xmin, box.xmax))
        assert min(near_y, near_x) <= margin


def test_agrees_with_torchvisions_own_boxes():
    from torchvision import tv_tensors

    steps = [v2.Resize(64), v2.CenterCrop(56)]
    corners = torch.tensor([[30.0, 10.0, 120.0, 90.0]])
    box = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(100, 150))
    expected = v2.Compose(steps)(box)[0].tolist()
    ours = push([Box(30, 10, 120, 90)], (100, 150), steps, (56, 56))
    rows, columns = ours.any(1).nonzero(), ours.any(0).nonzero()
    found = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    assert found == pytest.approx(expected, abs=0.6)


def test_a_crop_can_leave_a_box_out_of_view_and_a_small_one_keeps_a_pixel():
    steps = [v1.CenterCrop(10), v1.Resize(5)]
    assert not push([Box(0, 0, 4, 4)], (20, 20), steps, (5, 5)).any()
    assert push([Box(8.1, 8.1, 8.2, 8.2)], (20, 20), steps, (5, 5)).sum() == 1
    union = push([Box(5, 5, 15, 9), Box(5, 5, 9, 15)], (20, 20), steps, (5, 5))
    assert union.sum() == 16
    with pytest.raises(ValueError, match=r"20×20 pixels .* into 5×5, and the model is fed 7×7"):
        push([Box(8, 8, 9, 9)], (20, 20), steps, (7, 7))


def test_masks_in_files_go_through_the_same_crop(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    trimap = np.full((40, 60), 2, np.uint8)
    trimap[:, 30:] = 1
    trimap[:, 28:30] = 3
    for name in ("one", "two"):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(
            tmp_path / "images" / "cat" / f"{name}.jpg"
        )
    (tmp_path / "masks").mkdir()
    Image.fromarray(trimap).save(tmp_path / "masks" / "one.png")
    data = image_folder(
        tmp_path / "images", v1.Compose([v1.Resize(20), v1.CenterCrop(20), v1.ToTensor()])
    )
    masks = mask_folder(data, tmp_path / "masks", relevant=[1])
    assert masks(1) is None
    assert masks(0)[:, 10:].all()
    assert not masks(0)[:, :9].any()
    with pytest.raises(FileNotFoundError, match="holds no mask of any image"):
        mask_folder(data, tmp_path / "images")


def test_source_sizes_are_those_before_the_transform(tmp_path):
    picture = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "cat").mkdir()
    picture.save(tmp_path / "cat" / "1.png")
    shrink = v1.Compose([v1.Resize((2, 3)), v1.ToTensor()])
    in_files = image_folder(tmp_path, shrink)
    assert in_files.source_size(0) == (4, 6)
    assert in_files.subset([0]).preprocessing == (shrink,)
    assert ImageSet([(picture, 0)], transform=shrink).source_size(0) == (4, 6)
    assert ImageSet([(torch.rand(3, 5, 7), 0)]).source_size(0) == (5, 7)
    (tmp_path / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(RuntimeError, match=r"'cat/1\.png' cannot be read"):
        in_files.source_size(0)


def test_boxes_as_the_masks_of_an_image_set():
    """Of the image's own class, through its resize and crop; an audit knows them as boxes."""
    pictures = [Image.new("RGB", (40, 20)), Image.new("RGB", (40, 20)), Image.new("RGB", (40, 20))]
    boxes = Boxes(
        {
            "a.jpg": Annotation((Box(10, 0, 20, 10, "dog"), Box(30, 0, 40, 20, "cat")), (20, 40)),
            "b.jpg": Annotation((Box(0, 0, 5, 20, "cat"),), (20, 40)),
        },
        source="by hand",
    )
    transform = v1.Compose([v1.Resize(10), v1.CenterCrop(10), v1.ToTensor()])
    data = ImageSet(
        list(zip(pictures, [0, 0, 1], strict=True)),
        ids=["a.jpg", "b.jpg", "c.jpg"],
        class_names=["dog", "cat"],
        masks=boxes,
        transform=transform,
    )
    expected = torch.zeros(10, 10, dtype=torch.bool)
    expected[:5, :5] = True  # the crop keeps columns 10 to 29 of the picture, halved
    assert torch.equal(data.mask(0), expected)
    assert data.mask(1) is None, "no box of a dog"
    assert data.mask(2) is None, "no box at all"
    assert data.subset([0]).boxes is boxes
    regions = Regions(data)
    assert regions.source == "by hand"
    assert torch.equal(regions.at(0, 0, (10, 10)).inside, expected)
    both = ImageSet(
        [(p, 0) for p in pictures[:1]], ids=["a.jpg"], class_names=["dog", "cat"], masks=boxes,
        labels=[[1, 1]], transform=transform,
    )  # fmt: skip
    assert both.mask(0).sum() == 25, "the cat is out of view"
    wrong = ImageSet(
        [(Image.new("RGB", (30, 20)), 0)], ids=["a.jpg"], class_names=["dog"], masks=boxes
    )
    with pytest.raises(ValueError, match="another version of the picture"):
        wrong.mask(0)
