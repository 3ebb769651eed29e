"""Units in a session: collected once, answered, pruned, published, rolled back, exported, reloaded."""

from __future__ import annotations

import time

import pytest
import torch

import xfeedback_widgets as xf
from xfeedback_widgets import units
from xfeedback_widgets.corrections import Crayon, CrayonPruning
from xfeedback_widgets.feedback import UnitVerdict, export_crayon_units, import_crayon_units

FAST = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16}


@pytest.fixture
def session(tmp_path, make_model, digits):
    with xf.Session(
        make_model(), digits, tmp_path / "run", CrayonPruning(), digits, annotator="me", **FAST
    ) as session:
        yield session


def _pruned(model):
    weight = units.find_head(model).classifier.weight
    return (weight.detach() == 0).all(0).nonzero()[:, 0].tolist()


def test_pruned_units_survive_publication_rollback_and_reload(
    session, make_model, digits, tmp_path
):
    for unit in (2, 5):
        session.record(UnitVerdict(unit, "reject"))
    session.train()
    assert session.wait(60).state == "done"
    assert session.progress.message == "done: 1 of 1 epochs published"
    assert _pruned(session.model) == [2, 5]
    assert "CrayonPruning" in session.versions[-1].correction
    session.rollback(0)
    assert _pruned(session.model) == []
    session.rollback(1)
    session.close()
    fresh = make_model()
    with xf.Session(fresh, digits, tmp_path / "run", CrayonPruning()) as again:
        assert again.version == 1
        assert _pruned(fresh) == [2, 5]
        again.undo()  # another annotator's answers are not taken back
        assert len(again.feedback.units) == 2


def test_unpruning_is_as_easy_as_pruning(session):
    session.record(UnitVerdict(3, "reject"))
    session.train()
    session.wait(60)
    assert _pruned(session.model) == [3]
    assert session.undo() == session.redo()
    session.undo()
    session.train()
    session.wait(60)
    assert _pruned(session.model) == []


def test_attention_and_pruning_together(session, digits):
    session.correction = Crayon()
    xf.simulate.Annotator(digits).answer(session, digits.ids[:20])
    session.record(UnitVerdict(7, "reject"))
    session.train()
    assert session.wait(60).state == "done"
    assert _pruned(session.model) == [7]


def test_maps_that_pruning_empties_do_not_stop_a_run(tmp_path, make_model, digits):
    """The guard looks for attention that vanishes in training, not for evidence that was taken away."""
    model = make_model()
    with (
        torch.no_grad()
    ):  # all evidence is in units 0 to 2, one for each class; the others speak against
        model[8].weight.fill_(-1.0)
        model[8].weight[:, :3] = torch.eye(3) * 50
    with xf.Session(
        model, digits, tmp_path / "run", CrayonPruning.published(lr=1e-6), digits, **FAST,
        guard=xf.Guard(max_accuracy_drop=1.0),
    ) as session:  # fmt: skip
        before = xf.metrics.evaluate(model, digits, saliency="gradcam")["empty_maps"]
        for unit in (0, 1, 2):
            session.record(UnitVerdict(unit, "reject"))
        for correction in (session.correction, Crayon(pruning=session.correction)):
            session.correction = correction
            session.train(lr=1e-6)
            assert session.wait(60).message == "done: 1 of 1 epochs published"
            after = xf.metrics.evaluate(model, digits, saliency="gradcam")["empty_maps"]
            assert after - before > session.guard.max_empty_maps
            session.rollback(0)


def test_the_survey_is_made_once_per_trunk_and_found_again(
    session, make_model, digits, tmp_path, monkeypatch
):
    seen = []
    first = session.units(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (120, 120)
    session.record(UnitVerdict(0, "reject"))
    session.train()
    session.wait(60)
    assert session.version == 1
    assert session.units() is first  # the trunk is the same
    session.close()

    def no_pass(*_args, **_kwargs):
        raise AssertionError

    monkeypatch.setattr(units, "survey", no_pass)
    with xf.Session(make_model(), digits, tmp_path / "run", CrayonPruning()) as again:
        assert torch.equal(again.units().peaks, first.peaks)
        started = time.monotonic()
        again.train()  # the features came with the survey
        assert again.wait(60).state == "done"
        assert time.monotonic() - started < 30


def test_another_trunk_is_surveyed_anew(session, digits):
    first = session.units()
    session.correction = xf.corrections.PlainFineTuning()
    session.train(lr=1e-3)
    assert session.wait(60).message == "done: 1 of 1 epochs published"
    second = session.units()
    assert second.fingerprint != first.fingerprint


def test_the_survey_can_be_stopped_and_started_again(session):
    with pytest.raises(units.SurveyStoppedError):
        session.units(stop=lambda: True)
    assert session.units().units == 12


def test_the_preview_follows_the_live_head(session):
    preview = session.unit_preview()
    right = preview.now["accuracy"]
    metrics = xf.metrics.evaluate(session.model, session.data)
    assert right == pytest.approx(metrics["accuracy"])
    assert preview.measure([1, 2])["accuracy"] > right  # an untrained layer, refitted


def test_a_simulated_annotator_answers_units_from_masks(session, digits):
    outside = session.suspicion()
    answers = xf.simulate.Annotator(digits).answer_units(session, threshold=0.5)
    assert answers == {
        u: "accept" if 1 - float(o) >= 0.5 else "reject" for u, o in enumerate(outside)
    }
    assert set(session.feedback.units) == set(range(12))


def test_crayons_own_answers_are_imported_and_learned(shared_data, tmp_path):
    said = import_crayon_units(shared_data / "crayon_feedback/annotation/waterbirds_neuron.json")
    assert len(said) == 2048
    assert sum(v.answer == "reject" for v in said) == 1034  # METHODS: units the paper pruned
    keep = xf.corrections.crayon_pruning.kept_units(xf.feedback.Feedback.of(said), 2048)
    assert int((~keep).sum()) == 1034
    export_crayon_units(xf.feedback.Feedback.of(said), tmp_path / "units.json")
    assert import_crayon_units(tmp_path / "units.json") == said


def test_answers_about_units_the_model_does_not_have_fail_the_run_and_nothing_else(session):
    session.record(UnitVerdict(99, "reject"))
    session.train()
    progress = session.wait(60)
    assert progress.state == "failed"
    assert "unit 99, but the model has 12 units" in progress.error
    session.undo()
    session.train()
    assert session.wait(60).state == "done"
