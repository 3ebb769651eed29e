"""A Bayesian session in a real browser: convert, reject ten maps, train, look again, reload, roll back."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

# A plain network that people may already have: it has learned to read grey squares in the corners.
SETUP = """
import tempfile, torch
import xfeedback_widgets as xf
torch.manual_seed(0)
torch.set_num_threads(1)
data = xf.data.decoy_digits("train", masks="decoys")
data = data.subset(torch.arange(300))
valid = xf.data.decoy_digits("valid", masks="decoys")
model = xf.bayesian.to_deterministic(xf.bayesian.lenet())
plain = xf.corrections.PlainFineTuning()
xf.fine_tune(model, data, xf.feedback.Feedback(), plain, epochs=1, steps_per_epoch=150, lr=2e-3)
"""
OPEN = """
xf.bayesian.convert(model, rho=-4.0)
session = xf.Session(
    model, data, tempfile.mkdtemp(dir="."),
    xf.corrections.BayesianFeedback(weight=3e-3, kl_weight=0.01, sigma_floor=0.01),
    valid, annotator="me", epochs=2, steps_per_epoch=30, lr=2e-3,
)
widget = xf.ReviewWidget(session, order="mutual_information")
widget
"""
# Of the images of which a map lies on the decoys, the one of which it does most.
WORST = """data.ids[int(xf.metrics.localization.overlap_each(session.explain(data.ids[:60]).maps,
    torch.stack([~data.mask(i) for i in range(60)])).nan_to_num().argmax())]"""
REJECTED = (
    """[[o.share, o.before] for o in widget._painter.overlaps[1] if "rejected" in o.what][0]"""
)


def shares(lab) -> tuple[str, str]:
    """Return the numbers beside the two bars, once they are there."""
    lab.wait_text("are predicted right", timeout=60_000)
    text = lab.page.locator(".xf-single .xf-facts").inner_text()
    found = [
        re.search(rf"\({term}\)\s+([<>]? ?\d+ %)", text) for term in ("aleatoric", "epistemic")
    ]
    assert all(found), text
    return found[0].group(1), found[1].group(1)


def reject(lab, first: str, count: int) -> None:
    """Reject the map of an image, and of those that are most like it."""
    lab.root.get_by_label("Order").select_option("Most like what was rejected")
    lab.wait_until("widget._controls.ordering['order'] == 'rejected_overlap' and widget.wait()")
    go_to(lab, first)
    lab.focus()
    for done in range(1, count + 1):
        lab.press("r")
        lab.wait_until(f"len(session.feedback) == {done} and widget.wait()", timeout=60)
    go_to(lab, first)
    lab.wait_text("on the region that was rejected", timeout=60_000)


def reload(lab) -> None:
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    lab.page.reload()
    lab.wait_painted(timeout=60_000)


def go_to(lab, image_id: str) -> None:
    lab.wait_until(f"widget.go_to({image_id!r}) or (widget.wait() and widget.wait())", timeout=60)
    lab.wait_text(f"Image {image_id}", ".xf-single")


def test_convert_reject_ten_maps_train_and_look_again(scene):
    lab = scene([SETUP, OPEN])
    lab.start(timeout=120_000)  # the network is trained first
    lab.wait_until("widget.wait()", timeout=60)
    # what is on screen stays when the order takes more than a moment
    most = lab.evaluate("data.ids[int(session.worth_asking()[0].argmax())]")
    assert most in lab.evaluate("[widget.current, *widget._desk.upcoming(1)]")
    go_to(lab, most)
    before = shares(lab)
    lab.shot("bayesian-opened")
    weights = lab.root.get_by_label("Weights")
    for value, title in (
        ("20 draws: mean map", "Mean of 20"),
        ("20 draws: spread", "Spread of 20"),
    ):
        weights.select_option(value)
        lab.wait_text(title, timeout=60_000)
        lab.wait_until("widget.wait()")
        lab.page.wait_for_timeout(200)
        lab.shot(f"bayesian-{title.split()[0].lower()}")
    weights.select_option("their means")

    worst = lab.evaluate(WORST)
    reject(lab, worst, 10)
    lab.shot("bayesian-rejected")
    lab.focus()
    lab.press("t")
    lab.wait_until("session.version == 2 and not session.progress.active", timeout=120)
    lab.wait_until("widget.wait() and widget.wait()")
    lab.wait_text("version 2", ".xf-single", timeout=60_000)
    lab.wait_text("when it was judged", timeout=60_000)
    now, judged = lab.evaluate(REJECTED)
    assert now < judged - 0.2, "attention has left what was rejected"
    shares(lab)
    lab.shot("bayesian-trained")
    go_to(lab, most)
    after = shares(lab)
    assert after != before

    reload(lab)
    assert shares(lab) == after
    lab.collapse_left()
    lab.page.set_viewport_size({"width": 480, "height": 1900})
    lab.page.wait_for_timeout(700)
    lab.shot("bayesian-narrow")
    assert lab.cut("button, select, table, li, .xf-facts, .xf-stage") == []

    for _ in range(2):
        lab.button("Older").click()
    lab.button("Roll back").click()
    lab.wait_until("session.version == 0 and widget.wait() and widget.wait()")
    lab.wait_text("original model", ".xf-single")
    assert shares(lab) == before
    assert not lab.problems
