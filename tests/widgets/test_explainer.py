from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from xfeedback_widgets.feedback import Verdict
from xfeedback_widgets.widgets import explainer as module
from xfeedback_widgets.widgets.explainer import CURRENT, PREFETCH, Explainer, View


@pytest.fixture
def explainer(session):
    made = Explainer(session, pytest.fail)
    yield made
    made.close()


@pytest.fixture
def view(session):
    return View(session.saliency, "label", session.version)


def fetch(explainer, ids, view, priority=CURRENT):
    done = threading.Event()
    explainer.request("test", ids, view, done.set, priority=priority)
    assert done.wait(20)


def test_maps_are_the_sessions(explainer, session, view):
    ids = session.data.ids[:6]
    fetch(explainer, ids, view)
    expected = session.explain(ids)
    for row, image_id in enumerate(ids):
        item = explainer.ready(image_id, view)
        assert np.allclose(item.saliency, expected.maps[row].numpy())
        assert item.predicted == int(expected.probabilities[row].argmax())
        assert item.view.version == session.version
        assert explainer.picture_ready(image_id).small.shape == (8, 8, 3)


def test_only_what_is_fetched_ahead_gives_way_to_a_press(explainer, session, view, monkeypatch):
    pressed = [20.0]
    monkeypatch.setattr(type(session.precedence), "left", property(lambda _: pressed[0]))
    ahead, ids = threading.Event(), session.data.ids
    explainer.request("ahead", ids[2:4], view, ahead.set, priority=PREFETCH)
    time.sleep(0.05)
    fetch(explainer, ids[:2], view)  # although what is fetched ahead has begun to wait
    assert not ahead.is_set()
    assert explainer.ready(ids[2], view) is None
    pressed[0] = 0.0
    fetch(explainer, ids[:1], View("saliency", "label", session.version))
    assert ahead.wait(20)


def test_what_is_there_is_not_computed_again(explainer, session, view, monkeypatch):
    ids = session.data.ids[:3]
    fetch(explainer, ids, view)
    monkeypatch.setattr(session, "explain", pytest.fail)
    fetch(explainer, ids, view)


def test_a_map_of_other_weights_is_dropped(explainer, session, view, make_model):
    image_id = session.data.ids[0]
    real = session.explain

    def publish_meanwhile(*arguments, **options):
        result = real(*arguments, **options)
        return type(result)(**{**result.__dict__, "version": result.version + 1})

    session.explain = publish_meanwhile
    fetch(explainer, [image_id], view)
    assert explainer.ready(image_id, view) is None


def test_older_versions_can_be_asked_for(explainer, session, view):
    for image_id in session.data.ids[:8]:
        session.record(Verdict(image_id, "reject"))
    session.train()
    session.wait(60)
    assert session.version == 1
    image_id = session.data.ids[0]
    fetch(explainer, [image_id], view)
    now = View(view.method, view.target, 1)
    fetch(explainer, [image_id], now)
    before, after = (explainer.ready(image_id, v).probabilities for v in (view, now))
    assert not np.array_equal(before, after)


def test_urgent_requests_pass_between_the_batches_of_long_ones(explainer, session, view):
    order, real = [], session.explain

    def watched(ids, **options):
        order.append(tuple(ids))
        return real(ids, **options)

    session.explain = watched
    ids = session.data.ids
    finished = threading.Event()
    explainer.request("prefetch", ids[:40], view, finished.set, priority=PREFETCH)
    fetch(explainer, [ids[60]], view)
    assert not finished.is_set()
    assert finished.wait(20)
    assert order.index((ids[60],)) < len(order) - 1


def test_one_bad_image_does_not_hurt_its_batch(explainer, session, view, monkeypatch):
    ids = session.data.ids[:4]
    real = session.data.picture

    def picture(position):
        if position == 2:
            raise OSError("disk on fire")
        return real(position)

    monkeypatch.setattr(session.data, "picture", picture)
    fetch(explainer, ids, view)
    assert isinstance(explainer.failure(ids[2]), OSError)
    assert [explainer.ready(i, view) is not None for i in ids] == [True, True, False, True]
    monkeypatch.undo()
    fetch(explainer, ids, view)
    assert explainer.failure(ids[2]) is None


def test_memory_is_bounded(explainer, session, view, monkeypatch):
    monkeypatch.setattr(module, "KEPT_MAPS", 5)
    monkeypatch.setattr(module, "KEPT_PICTURES", 3)
    fetch(explainer, session.data.ids[:12], view)
    assert len(explainer._maps) == 5
    assert len(explainer._pictures) == 3
