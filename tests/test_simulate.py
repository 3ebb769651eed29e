"""The simulated annotator judges what a person would see, and draws what the ground truth says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import xfeedback_widgets as xf
from xfeedback_widgets.corrections import PlainFineTuning


@pytest.fixture
def session(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, PlainFineTuning(), annotator="me") as session:
        yield session


def test_unreasonable_maps_are_adjusted(session, digits):
    ids = digits.ids[:30]
    drawn = xf.simulate.Annotator(digits, threshold=0.5).draw(session, ids, batch_size=8)
    verdicts = session.feedback.verdicts
    assert list(verdicts) == list(ids)
    assert {v.answer for v in verdicts.values()} == {"accept", "reject"}  # else nothing is shown
    assert set(drawn) == {i for i, v in verdicts.items() if v.answer != "accept"}
    shown = session.explain(ids)
    predicted = dict(zip(ids, shown.probabilities.argmax(1).tolist(), strict=True))
    assert {i: v.predicted for i, v in verdicts.items()} == predicted
    for image_id, mask in session.feedback.masks.items():
        truth = digits.mask(digits.index(image_id)).numpy()
        assert np.array_equal(mask.mask, np.where(truth, 1, -1))
        assert (mask.target, mask.method, mask.version) == (
            int(digits.labels[digits.index(image_id)]), "gradcam", 0,
        )  # fmt: skip


def test_all_can_be_adjusted_and_only_what_is_relevant_marked(session, digits):
    ids = digits.ids[:10]
    annotator = xf.simulate.Annotator(digits)
    drawn = annotator.draw(session, ids, adjust="all", irrelevant=False)
    assert list(drawn) == list(session.feedback.masks) == list(ids)
    assert set(np.unique(drawn[ids[0]].mask)) == {0, 1}


def test_an_image_without_ground_truth_is_judged_unsure_and_not_drawn_on(tmp_path, make_model):
    masks = [torch.ones(8, 8, dtype=torch.bool), None]
    pairs = [(torch.rand(1, 8, 8), i) for i in range(2)]
    data = xf.data.ImageSet(pairs, ids=["a", "b"], masks=masks, class_names=["x", "y", "z"])
    with xf.Session(make_model(), data, tmp_path, PlainFineTuning()) as session:
        drawn = xf.simulate.Annotator(data).draw(session, ["a", "b"], adjust="all")
        assert list(drawn) == ["a"]
        assert session.feedback.verdicts["b"].answer == "unsure"
