"""What the widgets say of a Bayesian model: how sure it is, and how much of its attention is irrelevant."""

from __future__ import annotations

import html
import re
import threading

import numpy as np
import pytest
import torch

from xfeedback_widgets import bayesian
from xfeedback_widgets.bayesian import Experience
from xfeedback_widgets.corrections import BayesianFeedback
from xfeedback_widgets.feedback import RegionMask
from xfeedback_widgets.metrics.localization import overlap_each
from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import AlignmentWidget, ReviewWidget
from xfeedback_widgets.widgets.doubt import uncertainty_html
from xfeedback_widgets.widgets.explainer import CURRENT, DOUBT, Explainer, Uncertainty, View
from xfeedback_widgets.widgets.text import percent


@pytest.fixture
def doubting(digits, make_model, tmp_path):
    model = bayesian.convert(make_model(), rho=-2.0)
    with Session(
        model, digits, tmp_path / "b", BayesianFeedback(weight=1e-3), validation=digits,
        annotator="me", epochs=1, steps_per_epoch=2, lr=1e-2, seed=0,
    ) as session:  # fmt: skip
        yield session


@pytest.fixture
def opened(doubting, make_widget):
    return lambda kind=ReviewWidget, **options: make_widget(
        kind, doubting, **{"order": "dataset", **options}
    )


def facts(widget) -> str:
    """Return what stands beside the picture, without markup."""
    assert widget.wait()
    controls = widget._controls
    shown = controls.facts if isinstance(widget, AlignmentWidget) else controls.single.facts
    return html.unescape(re.sub(" +", " ", re.sub("<.*?>", " ", shown.value)))


@pytest.mark.parametrize("kind", [ReviewWidget, AlignmentWidget])
def test_uncertainty_stands_beside_the_prediction(opened, doubting, kind):
    text = facts(opened(kind))
    doubt = doubting.explain(["digit-0"], samples=20).doubt
    epistemic = float(doubt.mutual_information[0]) / np.log(3)
    aleatoric = float(doubt.entropy[0]) / np.log(3) - epistemic
    assert re.search(rf"\(aleatoric\) +{percent(aleatoric)}", text)
    assert re.search(rf"\(epistemic\) +{percent(epistemic)}", text)
    right, of = doubting.experience()[0].like(float(doubt.entropy[0]))
    assert f"of the {of} validation images most like this one in uncertainty, {right} are" in text
    assert aleatoric > 0 < epistemic


def test_words_are_calibrated():
    def words(entropy, information, right):
        known = Experience(torch.linspace(0, 1, 100), torch.linspace(0, 0.5, 100), right)
        return uncertainty_html(Uncertainty(entropy, information, 0.1, 20), 10, known, "images")

    half = torch.arange(100) < 50
    assert "Sure:" in words(0.1, 0.01, half)
    assert "20 are predicted right" in words(0.1, 0.01, half)
    assert "Very unsure:" in words(0.9, 0.01, half), "sure of itself or not, it was wrong there"
    assert "Sure:" in words(0.9, 0.01, torch.ones(100, dtype=torch.bool))
    assert "<strong>low</strong>" in words(0.1, 0.01, half)
    assert "<strong>very high</strong>" in words(0.1, 0.49, half)
    few = Experience(torch.rand(20), torch.rand(20), torch.ones(20, dtype=torch.bool))
    assert "Too few images" in uncertainty_html(Uncertainty(0, 0, 0, 20), 10, few, "images")
    assert "being counted" in uncertainty_html(Uncertainty(0, 0, 0, 20), 10, None, "images")


def test_deterministic_models_show_nothing_of_it(review, session, monkeypatch):
    asked = []
    real = session.explain
    monkeypatch.setattr(session, "explain", lambda *a, **o: asked.append(o) or real(*a, **o))
    widget = review()
    widget.buttons["reject"].click()
    text = facts(widget)
    assert not any(word in text for word in ("Uncertainty", "draws", "Overlap"))
    assert widget._controls.weights_field is None
    assert not {"most_uncertain", "mutual_information"} & {
        name for _, name in widget._controls.order_field.options
    }
    assert asked
    assert not any(options.get("samples") for options in asked)
    with pytest.raises(ValueError, match=r"'most_uncertain' needs .* xf\.bayesian\.convert"):
        review(order="most_uncertain")


@pytest.mark.parametrize(
    ("order", "by"), [("most_uncertain", "entropy"), ("mutual_information", "mutual_information")]
)
def test_the_most_uncertain_comes_first(opened, doubting, order, by):
    widget = opened(order=order)
    worth, _ = doubting.worth_asking(by)
    assert widget.current == doubting.data.ids[int(worth.argmax())]
    widget.buttons["reject"].click()
    assert widget.current == doubting.data.ids[int(worth.argsort(descending=True)[1])]


def test_what_resembles_the_rejected_comes_next_after_each_answer(opened, doubting):
    widget = opened(order="rejected_overlap")
    corner = np.zeros((8, 8), np.int8)
    corner[:4, :4] = -1
    widget.buttons["skip"].click()
    doubting.record(RegionMask("digit-60", corner))
    assert widget.wait()
    worth, _ = doubting.worth_asking("overlap")
    best = [doubting.data.ids[i] for i in worth.argsort(descending=True, stable=True).tolist()]
    here = widget.current
    expected = [i for i in best if i not in {"digit-0", here}]
    assert widget._desk.upcoming(3) == expected[:3]


@pytest.mark.parametrize("weights", ["mean", "spread"])
def test_draws_are_views_of_their_own(opened, doubting, weights):
    widget = opened()
    means = widget.explained.saliency
    widget._controls.weights_field.value = weights
    text = facts(widget)
    item, shown = widget.explained, doubting.explain(["digit-0"], samples=20)
    expected = shown.maps[0] if weights == "mean" else shown.doubt.spread[0]
    assert np.allclose(item.saliency, (expected / expected.max()).numpy(), atol=1e-6)
    assert not np.allclose(item.saliency, means)
    largest = percent(float(shown.doubt.spread[0].max()))
    assert {
        "mean": "Mean of 20 draws of Grad-CAM",
        "spread": f"Spread of 20 draws of Grad-CAM (up to {largest})",
    }[weights] in text
    assert "(epistemic)" in text
    widget.buttons["reject"].click()
    judged = doubting.feedback.verdicts["digit-0"].map
    assert np.allclose(judged, shown.maps[0].numpy(), atol=1e-3), "a spread is no attention"
    widget.buttons["grid"].click()
    widget.buttons["compare"].click()
    assert widget.wait()
    assert "Computing" not in widget._controls.compare._facts["before"].value


def test_overlap_is_live_where_something_was_rejected_or_drawn(opened, doubting):
    widget = opened()
    item = widget.explained
    known = ~doubting.data.mask(0)
    share = float(overlap_each(torch.from_numpy(item.saliency)[None], known[None])[0])
    assert f"{percent(share)} on what the mask of this image leaves out" in facts(widget)
    widget.buttons["reject"].click()
    widget.buttons["back"].click()
    hot = torch.from_numpy(item.judged.astype(np.float32)) > 0.5
    share = float(overlap_each(torch.from_numpy(item.saliency)[None], hot[None])[0])
    assert f"{percent(share)} on the region that was rejected " in facts(widget)
    mask = np.zeros((8, 8), np.int8)
    mask[:, :3] = -1
    doubting.record(RegionMask("digit-0", mask))
    share = float(item.saliency[:, :3].sum() / item.saliency.sum())
    assert f"{percent(share)} on what was drawn as irrelevant" in facts(widget)
    doubting.undo()
    assert "drawn as irrelevant" not in facts(widget)


def test_training_refreshes_uncertainty_overlap_and_words(opened, doubting):
    widget = opened()
    widget.buttons["reject"].click()
    widget.buttons["back"].click()
    before = facts(widget)
    widget.buttons["train"].click()
    doubting.wait(60)
    after = facts(widget)
    assert (doubting.version, widget.explained.view.version) == (1, 1)
    doubt = doubting.explain(["digit-0"], samples=20).doubt
    epistemic = float(doubt.mutual_information[0]) / np.log(3)
    assert re.search(rf"\(epistemic\) +{percent(epistemic)}", after)
    assert "are predicted right" in after
    assert widget._painter.experience[1] == 1
    assert re.search(r"on the region that was rejected \(\d+ %", after)
    assert before != after
    widget.buttons["rollback"].click()
    assert widget.wait()
    assert doubting.version == 0
    assert widget.wait(), "what was published asks for new scores"
    assert widget._painter.experience[1] == 0


def test_draws_make_way_for_what_is_looked_at_now(doubting):
    explainer, order = Explainer(doubting, pytest.fail), []
    view = View("gradcam", "label", 0)
    drawn = View("gradcam", "label", 0, "mean")
    begun, done = threading.Event(), threading.Event()
    real = doubting.explain

    def slow(ids, *, samples, stop, **options):
        if samples:
            order.append("draws")
            begun.set()
            while not stop() and len(order) < 2:
                pass
        else:
            order.append("map")
        return real(ids, samples=samples, stop=stop, **options)

    doubting.explain = slow
    explainer.request("doubt", ["digit-0"], drawn, done.set, priority=DOUBT)
    assert begun.wait(10)
    explainer.request("current", ["digit-1"], view, lambda: None, priority=CURRENT)
    assert done.wait(20)
    assert order == ["draws", "map", "draws"]
    assert explainer.ready("digit-0", drawn).uncertainty.samples == 20
    assert explainer.ready("digit-0", View("gradcam", "label", 0, "spread")) is not None
    explainer.close()
