"""Clicks against what they should be on: by hand, against boxes, and on real people's clicks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xfeedback_widgets.data import Annotation, Box, Boxes, ImageSet
from xfeedback_widgets.feedback import (
    Byproduct,
    CocoAB,
    Feedback,
    ImageNetAB,
    Journal,
    import_bubbleview,
)
from xfeedback_widgets.metrics import click_quality, hit_rate


def _browsed(image, who, x=None, y=0.1, *, target=0, time=None):
    clicks = [] if x is None else [(x, y, 1)]
    trace = ImageNetAB("a", 4, 4, selected=bool(clicks), selectedRecord=clicks, estimateTime=time)
    return Byproduct(image, trace, target=target, annotator=who)


@pytest.fixture
def data():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2] = True  # the upper half
    masks[1, 0, 0] = True
    images = [(torch.rand(1, 4, 4), label) for label in (0, 1, 0)]
    return ImageSet(images, ids=["a", "b", "empty"], class_names=["cat", "dog"], masks=masks)


def test_quality_by_hand(data):
    feedback = Feedback.of(
        [
            _browsed("a", "ada", 0.9, time=4000),  # replaced by the next
            _browsed("a", "ada", 0.1, time=1000),
            _browsed("a", "bob", 0.1, 0.6, time=3000),
            _browsed("a", "cyd", time=9000),  # did not select it
            _browsed("b", "ada", 0.3, target=1, time=2000),
            _browsed("empty", "ada", 0.3),
            _browsed("gone", "ada", 0.3),
        ]
    )
    found = click_quality(feedback, data)
    assert found.overall == (1 / 3, pytest.approx((0.5 + 0.5 + 1 / 16) / 3), 3)
    assert found.by_annotator == {"ada": (0.5, 0.28125, 2), "bob": (0, 0.5, 1)}
    assert found.by_class == {"cat": (0.5, 0.5, 2), "dog": (0, 0.0625, 1)}
    assert found.seconds == {"ada": 1.5, "bob": 3, "cyd": 9}
    assert found.pairs == 3
    assert found.agreement == pytest.approx(1 / 3)
    assert found.distance == pytest.approx(0.5)
    assert click_quality(Feedback(), data).overall is None


def test_placements_are_compared_with_the_boxes_of_their_class():
    boxes = Boxes(
        {"a": Annotation((Box(0, 0, 40, 40, "cat"), Box(60, 0, 100, 40, "dog")), size=(80, 100))}
    )
    from PIL import Image
    from torchvision import transforms

    steps = transforms.Compose(
        [transforms.Resize((40, 50)), transforms.CenterCrop(40), transforms.ToTensor()]
    )
    data = ImageSet(
        [(Image.new("RGB", (100, 80)), 0)], ids=["a"], class_names=["cat", "dog"], transform=steps
    )

    def tagged(who, **icons):
        actions = [("add", icon, None, point, 1) for icon, point in icons.items()]
        return Byproduct("a", CocoAB(7, 80, 100, actionHistories=actions), annotator=who)

    feedback = Feedback.of(
        [
            tagged("ada", cat=(0.2, 0.2), dog=(0.2, 0.2)),
            tagged("bob", dog=(0.8, 0.3), cat=(0.05, 0.2)),  # the cat's point is cropped away
            tagged("cyd", fork=(0.5, 0.5)),
        ]
    )
    found = click_quality(feedback, data, boxes=boxes)
    # the crop keeps columns 10 to 90: the boxes keep 30 of its 80 columns, and half of its rows
    assert found.by_class == {"cat": (1, 0.1875, 1), "dog": (0.5, 0.1875, 2)}
    assert found.by_annotator["bob"].inside == 1
    assert found.agreement == pytest.approx(2 / 8)


def test_hit_rate_by_hand():
    looked = [(0.1, 0.1)] * 3 + [(0.9, 0.9)]
    rate = hit_rate([(0.1, 0.12), (0.9, 0.9), (0.5, 0.5), (0.1, 0.9)], looked, area=0.05)
    assert rate == (0.5, pytest.approx(0.05, abs=1e-3), 4)
    with pytest.raises(ValueError, match="0 points"):
        hit_rate([], looked)


def test_simulated_clicks_are_inside_as_often_as_peoples(digits):
    from xfeedback_widgets.simulate import Annotator

    annotator = Annotator(digits)
    records = annotator.clicks(digits.ids)
    assert [r.image_id for r in records] == list(digits.ids)
    found = click_quality(Feedback.of(records), digits)
    assert found.overall.inside == pytest.approx(0.829, abs=0.08)
    assert found.overall.chance < 0.5
    assert annotator.clicks(digits.ids[5:7]) == records[5:7]
    assert annotator.clicks(digits.ids, seed=1) != records
    inside = click_quality(Feedback.of(annotator.clicks(digits.ids, inside=1)), digits)
    assert inside.overall.inside == 1
    with pytest.raises(ValueError, match=r"inside.*1\.5"):
        annotator.clicks(digits.ids, inside=1.5)


def test_peoples_clicks_hit_what_others_looked_at(shared_data, tmp_path):
    """BubbleView's clicks, replayed through the journal, against the eyes of other people."""
    folder = shared_data / "bubbleview"
    eyes = {}
    for record in import_bubbleview(folder / "osie-eye-official.mat", keep="path"):
        eyes.setdefault(record.imageID, []).append(record.mouseTracking[:, :2])
    clicked = import_bubbleview(folder / "osie30x30.mat")
    one_each = list({record.imageID: record for record in clicked}.values())
    with Journal(tmp_path / "feedback.sqlite") as journal:
        for record in one_each:
            journal.append(Byproduct(record.imageID, record, annotator=record.worker_id))
    with Journal(tmp_path / "feedback.sqlite") as journal:
        replayed = [record.trace for record in journal.records()]
        assert replayed == one_each
        assert len(journal.feedback().points) == 51
    rates = [
        hit_rate([c[:2] for c in r.selectedRecord], np.concatenate(eyes[r.imageID]))
        for r in replayed
    ]
    assert 0.45 < np.mean([rate.inside for rate in rates]) < 0.85
    assert rates[0].chance == pytest.approx(0.2, abs=1e-3)
