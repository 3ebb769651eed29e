"""A Bayesian model in a session: what it doubts, what that has meant, which image to ask about next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import xfeedback_widgets as xf
from xfeedback_widgets import bayesian
from xfeedback_widgets.corrections import BayesianFeedback

FAST = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16}


@pytest.fixture
def make_session(tmp_path, make_model, digits):
    made = []

    def make(folder="run", *, convert=True, **options):
        model = bayesian.convert(make_model(), rho=-2.0) if convert else make_model()
        correction = BayesianFeedback(weight=1e-3) if convert else None
        made.append(
            xf.Session(
                model, digits, tmp_path / folder, correction, annotator="me", **FAST | options
            )
        )
        return made[-1]

    yield make
    for session in made:
        session.close()


def test_draws_of_a_session_are_those_of_the_model(make_session, digits):
    session = make_session()
    ids = digits.ids[:3]
    shown = session.explain(ids, samples=4)
    batch = digits.batch(range(3))
    found = bayesian.beliefs(session.model, batch.images, batch.labels, samples=4)
    assert torch.equal(shown.probabilities, found.prediction.probabilities)
    assert torch.equal(shown.doubt.entropy, found.prediction.entropy)
    assert torch.equal(shown.doubt.mutual_information, found.prediction.mutual_information)
    assert torch.equal(shown.doubt.spread, found.maps.std)
    assert shown.maps.amax((1, 2)).tolist() == [1, 1, 1]
    assert (shown.doubt.samples, shown.version, shown.targets.tolist()) == (
        4,
        0,
        batch.labels.tolist(),
    )
    assert session.explain(ids).doubt is None
    assert session.explain(ids, target=2, samples=1).targets.tolist() == [2, 2, 2]
    assert session.explain(ids, target="predicted", samples=1).targets.tolist() == (
        session.explain(ids, target="predicted").targets.tolist()
    )
    with pytest.raises(bayesian.DrawsStoppedError):
        session.explain(ids, samples=4, stop=lambda: True)


def test_versions_are_trained_drawn_rolled_back_and_reopened(make_session, digits):
    session = make_session()
    ids = digits.ids[:12]
    before = session.explain(ids, samples=3)
    for image_id in ids[:10]:
        map_ = np.eye(8, dtype=np.float16)
        session.record(xf.Verdict(image_id, "reject", target=0, map=map_))
    session.train(lr=1e-2)
    assert session.wait(60).state == "done"
    assert "BayesianFeedback" in session.versions[-1].correction
    after = session.explain(ids, samples=3)
    assert (before.version, after.version) == (0, 1)
    assert not torch.equal(before.doubt.entropy, after.doubt.entropy)
    old = session.explain(ids, samples=3, version=0)
    assert (old.version, session.version) == (0, 1)
    assert torch.equal(old.doubt.entropy, before.doubt.entropy)
    widths = session.model[0].weight_rho.detach().clone()
    assert not torch.equal(widths, torch.full_like(widths, -2.0)), "deviations are trained, too"
    session.rollback(0)
    assert torch.equal(session.model[0].weight_rho, torch.full_like(widths, -2.0))
    session.rollback(1)
    session.close()
    again = make_session()
    assert again.version == 1
    assert torch.equal(again.model[0].weight_rho, widths)
    assert torch.equal(again.explain(ids, samples=3).doubt.entropy, after.doubt.entropy)


def test_a_directory_of_a_deterministic_model_is_refused_by_its_converted_twin(make_session):
    make_session(convert=False).close()
    with pytest.raises(ValueError, match="weight_rho is missing"):
        make_session()


def test_what_is_worth_asking_is_computed_once_per_version(make_session, digits, monkeypatch):
    session = make_session()
    found = bayesian.predict(session.model, digits.batch(range(len(digits))).images, samples=3)
    options = {"samples": 3, "batch_size": 50}
    information, version = session.worth_asking(**options)
    torch.testing.assert_close(information, found.mutual_information)
    assert version == 0
    monkeypatch.setattr(bayesian, "predict", pytest.fail)
    entropy, _ = session.worth_asking("entropy", **options)
    torch.testing.assert_close(entropy, found.entropy)


def test_overlap_with_what_was_rejected_follows_each_answer(make_session, digits):
    session = make_session(convert=False)
    assert not session.bayesian
    assert not session.worth_asking("overlap")[0].any(), "nothing was rejected yet"
    corner = np.zeros((8, 8), np.float16)
    corner[:3, :3] = 1
    session.record(xf.Verdict("digit-0", "reject", target=0, map=corner))
    session.record(xf.Verdict("digit-1", "accept", target=0, map=1 - corner))
    worth, _ = session.worth_asking("overlap")
    maps = session.explain(list(digits.ids)).maps
    expected = maps[:, :3, :3].sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-9)
    torch.testing.assert_close(worth, expected)
    mask = np.zeros((8, 8), np.int8)
    mask[5:, 5:] = -1
    session.record(xf.RegionMask("digit-2", mask))
    both = maps[:, 5:, 5:].sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-9)
    torch.testing.assert_close(session.worth_asking("overlap")[0], (expected + both) / 2)
    with pytest.raises(ValueError, match="overlap"):
        session.worth_asking("luck")
    with pytest.raises(ValueError, match=r"xf\.bayesian\.convert"):
        session.worth_asking("entropy")


def test_stopping_leaves_what_is_not_known_open(make_session):
    session = make_session()
    rounds = []
    worth, _ = session.worth_asking(batch_size=50, stop=lambda: rounds.append(1) or len(rounds) > 1)
    assert worth[:50].isfinite().all()
    assert worth[50:].isnan().all()
    for by in bayesian.ASKING:
        none, _ = session.worth_asking(by, batch_size=7, samples=3, stop=lambda: True)
        assert none.shape == worth.shape
    assert session.worth_asking(batch_size=50)[0].isfinite().all()
    assert len(session.experience(stop=lambda: True)[0]) == 0


def test_experience_is_measured_on_the_validation_set(make_session, digits):
    chosen = digits.subset(torch.arange(60))
    session = make_session("valid", validation=chosen)
    known, version = session.experience(samples=3)
    assert (len(known), version) == (60, 0)
    found = bayesian.predict(session.model, chosen.batch(range(60)).images, samples=3)
    assert int(known.right.sum()) == int((found.probabilities.argmax(1) == chosen.labels).sum())
    torch.testing.assert_close(known.entropy.sort().values, found.entropy.sort().values)
    assert session.experience(samples=3)[0] is known
    assert len(make_session("train").experience(samples=1)[0]) == len(digits)
