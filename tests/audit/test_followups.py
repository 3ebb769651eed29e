"""Follow-ups on a model whose maps are its input, so that every number can be worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.data import Annotation, Box, Boxes, ImageSet

SIDE = 16


@pytest.fixture
def model():
    """Logits are the means of the channels, and channel c is the map of class c."""
    trunk, head = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
    trunk.weight.data, head.weight.data = torch.eye(3)[:, :, None, None], torch.eye(3)
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def picture(*spots):
    """An image with (channel, row, column, value) set."""
    image = torch.zeros(3, SIDE, SIDE)
    for channel, y, x, value in spots:
        image[channel, y, x] = value
    return image


def problem(images, labels, boxes):
    ids = [f"image-{i}" for i in range(len(images))]
    data = ImageSet(list(zip(images, labels, strict=True)), ids=ids, class_names=["a", "b", "c"])
    found = {
        name: Annotation(tuple(each), (SIDE, SIDE)) for name, each in zip(ids, boxes, strict=True)
    }
    return data, Boxes(found)


HALF, ALL, DOT = Box(0, 0, 8, SIDE), Box(0, 0, SIDE, SIDE), Box(3, 3, 4, 4)


def softmax(*logits):
    return float(torch.tensor(logits).softmax(0)[0])


def test_covering_by_hand(model):
    # class a has 256 in the box and 512 beside it: means 1 + 2
    data, boxes = problem([picture((0, 5, 5, 256.0), (0, 5, 12, 512.0))], [0], [[HALF]])
    table = xf.audit.cover(model, data, ["image-0"], boxes=boxes, fills=["mean"])
    row = {name: column[0] for name, column in table.items()}
    assert row["before"] == pytest.approx(softmax(3.0, 0, 0))
    # half of the picture becomes the mean, 3
    assert row["without_object"] == pytest.approx(softmax(2 + 3 / 2, 0, 0))
    assert row["object_only"] == pytest.approx(softmax(1 + 3 / 2, 0, 0))
    assert (row["class"], row["fill"], row["right_before"]) == ("a", "mean", True)


def test_every_fill_hides_the_object_and_repeats(model):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, SIDE, SIDE, generator=generator) * 0.1
    image[1, 2:6, 2:6] = 50.0  # class b, in the box only
    data, boxes = problem([image, image], [1, 1], [[Box(2, 2, 6, 6)], []])
    table = xf.audit.cover(model, data, ["image-1", "image-0"], boxes=boxes)
    assert table["image_id"].tolist() == ["image-0"] * 3  # the other has no box
    assert table["fill"].tolist() == ["noise", "blur", "mean"]
    assert (table["without_object"] < table["before"]).all()
    assert table["right_object_only"].all()
    again = xf.audit.cover(model, data, ["image-0"], boxes=boxes, batch_size=1)
    assert all(np.array_equal(table[name], again[name]) for name in table)
    with pytest.raises(ValueError, match=r"unknown fill \['paint'\]; known: noise, blur, mean"):
        xf.audit.cover(model, data, ["image-0"], boxes=boxes, fills=["paint"])
    assert xf.audit.cover(model, data, ["image-1"], boxes=boxes).height == 0
    assert (
        xf.audit.cover(model, data, ["image-0"], boxes=boxes, outputs=[1, 0, 2])["before"][0] < 0.1
    )


def test_same_map_other_class(model):
    same = picture((0, 5, 5, 256.0), (1, 5, 5, 512.0))  # a and b at one place, b stronger
    other = picture((0, 5, 5, 256.0), (1, 12, 12, 512.0))
    right = picture((0, 5, 5, 512.0), (1, 5, 5, 256.0))
    data, boxes = problem([other, same, right], [0, 0, 0], [[HALF]] * 3)
    report = xf.audit(model, data, boxes=boxes)
    table = xf.audit.same_map(model, data, report)
    assert table["image_id"].tolist() == ["image-1"]
    assert (table["class"][0], table["prediction"][0]) == ("a", "b")
    assert table["similarity"][0] == pytest.approx(1)
    both = xf.audit.same_map(model, data, report, at_least=0.0)
    assert both["image_id"].tolist() == ["image-1", "image-0"]
    assert both["similarity"][1] == 0


def test_boxes_that_cannot_tell(model):
    image = picture((0, 5, 5, 256.0), (0, 5, 12, 512.0), (1, 5, 12, 1024.0))
    own, rival = HALF._replace(name="a"), Box(8, 0, SIDE, SIDE, "b")
    on_c = rival._replace(name="c")
    data, boxes = problem([image] * 5, [0] * 5, [[ALL], [DOT], [own, rival], [own, on_c], [own]])
    table = xf.audit.ambiguous(xf.audit(model, data, boxes=boxes))
    assert table["image_id"].tolist() == [f"image-{i}" for i in range(4)]
    assert table["reason"].tolist() == [
        "box fills the picture", "box is tiny", "prediction is in the picture", "map on another object",
    ]  # fmt: skip
    assert table["elsewhere"][3] == pytest.approx(2 / 3)


@pytest.mark.parametrize("outputs", [None, [2, 1, 0]])
def test_candidates_for_natural_adversarials(model, outputs):
    def sees(output, y, x, **more):
        return (output if outputs is None else outputs[output], y, x, 2000.0 if more else 256.0)

    beside, on = (5, 12), (5, 5)
    images = [
        picture(sees(0, *beside)),  # a: right, for what is beside the object
        picture(
            sees(0, *on), sees(1, *on, sure=True)
        ),  # a on the object, taken for b: context absent
        picture(sees(0, *beside), sees(1, *on, sure=True)),  # a beside the object, taken for b
        picture(sees(1, *on), sees(0, *beside, sure=True)),  # b, taken for a: a's context without a
        picture(sees(1, *on), sees(2, *beside, sure=True)),  # b, taken for c: not about a
    ]
    data, boxes = problem(images, [0, 0, 0, 1, 1], [[HALF]] * 5)
    report = xf.audit(model, data, boxes=boxes, outputs=outputs)
    assert report.ranking == ["a", "b"]
    table = xf.audit.natural_adversarials(report, lowest=1)
    kinds = dict(zip(table["image_id"], table["kind"], strict=True))
    assert kinds == {"image-1": "context absent", "image-3": "object absent"}
    assert xf.audit.natural_adversarials(report, classes=["a"], confidence=1.1).height == 0
    with pytest.raises(ValueError, match="no class 'z'"):
        xf.audit.natural_adversarials(report, classes=["z"])
