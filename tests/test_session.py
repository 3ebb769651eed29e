"""A session: answers are durable, training is in the background, publication is in place."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

import xfeedback_widgets as xf
from xfeedback_widgets.corrections import Correction, Losses
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import ContentMismatchError
from xfeedback_widgets.session import judged_map

FAST = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16}


@pytest.fixture
def session(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path / "run", annotator="me", **FAST) as session:
        yield session


class Slow(Correction):
    """Cross-entropy whose steps take as long as the test wants."""

    name = "slow"

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds

    def loss(self, model, batch):
        time.sleep(self.seconds)
        total = nn.functional.cross_entropy(model(batch.images), batch.labels)
        return Losses(total)


class Broken(Correction):
    name = "broken"

    def loss(self, model, batch):
        raise ZeroDivisionError("nobody expects <b>this</b>")


def test_the_loop_closes(session, digits):
    parameters = [id(p) for p in session.model.parameters()]
    before = {name: t.clone() for name, t in session.model.state_dict().items()}
    answers = xf.simulate.Annotator(digits).answer(session, digits.ids[:30])
    assert set(answers.values()) <= {"accept", "reject", "unsure"}
    assert session.answers_since_training == 30
    session.train()
    assert session.wait(60).state == "done"
    assert session.version == 1
    assert session.answers_since_training == 0
    after = session.model.state_dict()
    assert [id(p) for p in session.model.parameters()] == parameters
    assert not all(torch.equal(before[name], after[name]) for name in before)
    session.rollback(0)
    assert all(torch.equal(before[name], t) for name, t in session.model.state_dict().items())
    assert session.answers_since_training == 30


def test_what_an_answer_does_not_say_is_filled_in(session, digits):
    stored = session.record(xf.Verdict("digit-3", "reject"))
    assert (stored.annotator, stored.version) == ("me", 0)
    assert stored.content_hash == digits.content_hash(3)
    assert abs(stored.time - time.time()) < 5
    assert session.feedback.verdicts["digit-3"] == stored


def test_undo_and_redo(session):
    session.record(xf.Verdict("digit-3", "reject"))
    session.record(xf.Verdict("digit-4", "accept"))
    assert session.undo().image_id == "digit-4"
    assert list(session.feedback.verdicts) == ["digit-3"]
    assert session.can_redo
    assert session.redo().image_id == "digit-4"
    assert not session.can_redo
    assert len(session.feedback) == 2


def test_unknown_and_changed_images_are_refused(session, digits):
    with pytest.raises(KeyError, match="digit-333"):
        session.record(xf.Verdict("digit-333", "accept"))
    with pytest.raises(ContentMismatchError, match=f"{'0' * 32}.*{digits.content_hash(3)}"):
        session.record(xf.Verdict("digit-3", "accept", content_hash="0" * 32))
    with pytest.raises(ValueError, match="image 'digit-3' has target 12, but there are 3 classes"):
        session.record(xf.Verdict("digit-3", "accept", target=12))
    assert len(session.feedback) == 0


def test_a_directory_that_cannot_be_written_is_named(tmp_path, make_model, digits, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot be written .*pass directory= .*file/run"):
        xf.Session(make_model(), digits, tmp_path / "file" / "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xfeedback_widgets.training.versions._write_durably", full)
    with pytest.raises(OSError, match=r"No space left on device\); pass directory="):
        xf.Session(make_model(), digits, tmp_path / "full")


def test_killed_before_the_first_pointer_or_before_a_version_was_made_current(
    tmp_path, make_model, digits
):
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        session.train()
        session.wait(30)
        assert session.version == 1
    (tmp_path / "CURRENT").rename(tmp_path / "pointer of 1")
    store = xf.training.VersionStore(tmp_path)
    store.point_to(0)  # as if killed between writing version 1 and pointing to it
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        assert session.version == 0
        assert session.damage == []
        session.train()
        session.wait(30)
        assert session.version == 2  # numbers are never used twice
    first = tmp_path / "first"
    xf.Session(make_model(), digits, first).close()
    (first / "CURRENT").unlink()  # as if killed before the very first pointer
    xf.Session(make_model(), digits, first).close()
    assert (first / "CURRENT").exists()


class Collapsing(Correction):
    """Everything becomes the first class."""

    name = "collapsing"

    def loss(self, model, batch):
        return Losses(-model(batch.images)[:, 0].sum())


def test_a_collapse_is_refused_without_a_validation_set(tmp_path, make_model, digits):
    model = make_model()
    xf.fine_tune(
        model, digits, xf.feedback.Feedback(), xf.corrections.PlainFineTuning(),
        epochs=20, lr=2e-2, batch_size=32, freeze_batchnorm=False,
    )  # fmt: skip
    for name, guard, reason in (
        ("default", None, "train_accuracy fell from"),
        ("lenient", xf.Guard(max_accuracy_drop=1), "every image is predicted as the same class"),
    ):
        with xf.Session(
            model, digits, tmp_path / name, Collapsing(), guard=guard, epochs=1, lr=0.1
        ) as session:
            session.train()
            progress = session.wait(30)
            assert progress.state == "done"
            assert reason in progress.message
            assert progress.metrics["train_top_class_share"] == 1
            assert session.version == 0


def test_diverged_weights_fail_the_run_and_are_not_published(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        session.train(optimizer=lambda p: torch.optim.SGD(p, lr=float("inf")), steps_per_epoch=1)
        progress = session.wait(30)
        assert progress.state == "failed"
        assert "the weights are no longer finite after epoch 1; lower lr" in progress.error
        assert session.version == 0
        assert all(p.isfinite().all() for p in session.model.parameters())


def test_resumes_where_it_stopped(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        session.record(xf.Verdict("digit-3", "reject"))
        session.train()
        session.wait(60)
        session.record(xf.Verdict("digit-4", "accept"))
        trained = {name: t.clone() for name, t in session.model.state_dict().items()}
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        assert session.version == 1
        assert all(torch.equal(trained[n], t) for n, t in session.model.state_dict().items())
        assert list(session.feedback.verdicts) == ["digit-3", "digit-4"]
        assert session.answers_since_training == 1
        assert session.undo().image_id == "digit-4"
        assert session.damage == []


def test_another_model_is_refused_and_untouched(tmp_path, make_model, digits):
    xf.Session(make_model(), digits, tmp_path).close()
    other = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    before = {name: t.clone() for name, t in other.state_dict().items()}
    with pytest.raises(ValueError, match="these weights belong to another model"):
        xf.Session(other, digits, tmp_path)
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())


def test_other_images_under_the_same_ids_are_refused(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path) as session:
        session.record(xf.Verdict("digit-3", "accept"))
    others = ImageSet(
        [(torch.rand(1, 8, 8), 0) for _ in range(120)],
        ids=digits.ids,
        class_names=digits.class_names,
    )
    with pytest.raises(ContentMismatchError, match="digit-3"):
        xf.Session(make_model(), others, tmp_path)


def test_opening_looks_at_some_pictures_and_training_at_all(tmp_path, make_model, digits):
    with xf.feedback.Journal(tmp_path / "feedback.sqlite") as journal:
        for index in range(240):
            journal.append(
                xf.Verdict(
                    digits.ids[index % 120],
                    "accept",
                    annotator=f"{index // 120}",
                    content_hash=digits.content_hash(index % 120),
                )
            )
    pairs = [digits[index] for index in range(120)]
    pairs[0] = (1 - pairs[0][0], pairs[0][1])
    changed = ImageSet(pairs, ids=digits.ids, class_names=digits.class_names)
    looked = []
    changed_hash = changed.content_hash
    changed.content_hash = lambda index: looked.append(index) or changed_hash(index)
    with xf.Session(make_model(), changed, tmp_path, epochs=1) as session:
        assert 0 not in looked
        assert 64 <= len(looked) < 90
        session.train()
        assert "ContentMismatchError" in session.wait(60).error
        assert "digit-0" in session.progress.error


def test_explains_any_version(session, digits):
    ids = digits.ids[:5]
    before = session.explain(ids)
    assert before.version == 0
    assert before.maps.shape == (5, 8, 8)
    assert before.method == "centred_gradcam"
    assert before.maps.max() <= 1
    torch.testing.assert_close(before.probabilities.sum(1), torch.ones(5))
    session.train(lr=1e-3)
    session.wait(60)
    now = session.explain(ids)
    assert now.version == 1
    assert not torch.equal(now.maps, before.maps)
    then = session.explain(ids, version=0)
    assert then.version == 0
    torch.testing.assert_close(then.maps, before.maps)
    torch.testing.assert_close(session.explain(ids).maps, now.maps)
    assert session.explain(ids, target=2).targets.tolist() == [2] * 5
    predicted = session.explain(ids, target="predicted")
    assert predicted.targets.tolist() == predicted.probabilities.argmax(1).tolist()


def test_predictions_are_cached_per_version(session, digits):
    probabilities, version = session.predictions()
    assert probabilities.shape == (120, 3)
    assert version == 0
    assert session.predictions()[0] is probabilities
    expected = session.explain(digits.ids[:9]).probabilities
    torch.testing.assert_close(probabilities[:9], expected)


def test_trains_by_itself_every_k_answers(tmp_path, make_model, digits):
    published = threading.Event()
    with xf.Session(make_model(), digits, tmp_path, train_every=3, **FAST) as session:
        session.subscribe(lambda event, _: published.set() if event == "published" else None)
        session.record(xf.Verdict("digit-0", "accept"))
        session.record(xf.Verdict("digit-1", "accept"))
        assert not session.progress.active
        session.record(xf.Verdict("digit-2", "accept"))
        assert published.wait(60)
        session.wait(60)
        assert session.versions[-1].answers == 3


def test_pause_resume_and_stop(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, Slow(), epochs=50) as session:
        states = []
        session.subscribe(lambda event, p: states.append(p.state) if event == "progress" else None)
        session.train()
        _until(lambda: session.progress.step >= 2)
        with pytest.raises(RuntimeError, match="already under way"):
            session.train()
        with pytest.raises(RuntimeError, match="stop it before rolling back"):
            session.rollback(0)
        session.pause()
        _until(lambda: session.progress.state == "paused")
        step = session.progress.step
        time.sleep(0.2)
        assert session.progress.step == step
        session.resume()
        _until(lambda: session.progress.step > step)
        assert session.progress.eta > 0
        session.stop()
        assert session.wait(30).state == "stopped"
        assert states[0] == "queued"
        assert {"running", "paused", "stopping"} <= set(states)


def test_trainers_share_the_interpreter_with_a_busy_cell(tmp_path, make_model, digits):
    """Threads take shorter turns from the first run's start until the last one's end."""
    before = sys.getswitchinterval()
    with (
        xf.Session(make_model(), digits, tmp_path / "one", Slow(), epochs=50) as one,
        xf.Session(make_model(), digits, tmp_path / "two", Slow(), epochs=50) as two,
    ):
        for session in (one, two):
            session.train()
            _until(lambda session=session: session.progress.step >= 1)
        assert sys.getswitchinterval() == pytest.approx(1e-3)
        one.stop()
        one.wait(30)
        assert sys.getswitchinterval() == pytest.approx(1e-3)
        two.stop()
        two.wait(30)
        _until(lambda: sys.getswitchinterval() == before)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_trainer_lets_the_persons_threads_go_first(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, Slow(), epochs=50) as session:
        session.train()
        _until(lambda: session.progress.step >= 1)
        (trainer,) = (t for t in threading.enumerate() if t.name == "xfeedback-trainer")
        here, there = (
            os.getpriority(os.PRIO_PROCESS, thread)
            for thread in (threading.get_native_id(), trainer.native_id)
        )
        assert there > here
        left = os.sched_getaffinity(0) - os.sched_getaffinity(trainer.native_id)
        assert len(left) == min(1, len(os.sched_getaffinity(0)) - 1)


def test_training_stands_still_while_a_press_is_answered(tmp_path, make_model, digits):
    held, entered = threading.Event(), threading.Event()

    def give_way():
        entered.set()
        assert held.wait(20)

    with xf.Session(make_model(), digits, tmp_path, Slow(0), epochs=2000) as session:
        session.train()
        _until(lambda: session.progress.step >= 1)
        session.precedence.give_way = give_way  # a press that lasts as long as the test wants
        assert entered.wait(20)
        step = session.progress.step
        time.sleep(0.2)
        assert session.progress.step == step
        held.set()
        _until(lambda: session.progress.step > step + 1)
        session.stop()
        assert session.wait(30).state == "stopped"


def test_an_exception_ends_the_run_and_nothing_else(tmp_path, make_model, digits):
    events = []
    with xf.Session(make_model(), digits, tmp_path, Broken(), **FAST) as session:
        session.subscribe(lambda event, payload: events.append(event))
        before = {name: t.clone() for name, t in session.model.state_dict().items()}
        session.train()
        progress = session.wait(60)
        assert progress.state == "failed"
        assert progress.error == "ZeroDivisionError: nobody expects <b>this</b>"
        assert "test_session.py" in progress.traceback
        assert events[-1] == "error"
        assert all(torch.equal(before[n], t) for n, t in session.model.state_dict().items())
        session.correction = xf.corrections.PlainFineTuning()
        session.train()
        assert session.wait(60).state == "done"


def test_the_guard_keeps_bad_weights_out(tmp_path, make_model, digits):
    guard = xf.Guard(min_accuracy=1.0)
    with xf.Session(
        make_model(), digits, tmp_path, validation=digits, guard=guard, **FAST
    ) as session:
        session.train()
        progress = session.wait(60)
        assert progress.state == "done"
        assert "epoch 1 was not published: accuracy" in progress.message
        assert session.version == 0
        assert [v.number for v in session.versions] == [0]


def test_damage_is_named_and_the_last_good_version_loaded(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        session.train()
        session.wait(60)
    weights = tmp_path / "versions" / "000001" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[200] ^= 4
    weights.write_bytes(content)
    with xf.Session(make_model(), digits, tmp_path) as session:
        assert session.version == 0
        assert "000001/weights.safetensors does not match its checksum" in session.damage[0]
        with pytest.raises(xf.training.DamagedVersionError):
            session.rollback(1)
        assert session.version == 0


def test_wait_for_answers_without_blocking(session):
    async def main():
        def answer():
            for i in range(3):
                time.sleep(0.05)
                session.record(xf.Verdict(f"digit-{i}", "accept"))

        thread = threading.Thread(target=answer)
        thread.start()
        feedback = await asyncio.wait_for(session.wait_for(3), 30)
        thread.join()
        return feedback

    assert len(asyncio.run(main())) == 3


def test_explaining_while_training_publishes(tmp_path, make_model, digits):
    """Publication happens between forwards: every map belongs to the version it names."""

    class PublishesAll(xf.Guard):
        def reasons(self, metrics, start):
            return []

    with xf.Session(
        make_model(), digits, tmp_path, Slow(0), guard=PublishesAll(),
        epochs=12, steps_per_epoch=1, lr=1e-2,
    ) as session:  # fmt: skip
        seen = {}
        session.train()
        while session.progress.active:
            shown = session.explain(digits.ids[:4])
            seen.setdefault(shown.version, []).append(shown.maps)
        assert len(session.versions) == 13
        for version, maps in seen.items():
            expected = session.explain(digits.ids[:4], version=version).maps
            for each in maps:
                torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


def test_two_annotators_share_a_directory(tmp_path, make_model, digits):
    with (
        xf.Session(make_model(), digits, tmp_path, annotator="ada") as ada,
        xf.Session(make_model(), digits, tmp_path, annotator="bo") as bo,
    ):
        ada.record(xf.Verdict("digit-0", "accept"))
        bo.record(xf.Verdict("digit-0", "reject"))
        assert len(ada.feedback.votes["digit-0"]) == 2
        assert ada.feedback.verdicts["digit-0"].answer == "unsure"
        assert bo.undo().annotator == "bo"
        assert ada.feedback.verdicts["digit-0"].answer == "accept"


def test_two_sessions_train_in_one_directory(tmp_path, make_model, digits):
    """Each keeps its own live version; numbers are shared out, and whatever is current loads."""
    with (
        xf.Session(make_model(), digits, tmp_path, keep_versions=2, **FAST | {"epochs": 4}) as one,
        xf.Session(make_model(), digits, tmp_path, keep_versions=2, **FAST | {"epochs": 4}) as two,
    ):
        published = []
        for session in (one, two):
            session.subscribe(lambda event, v: published.append(v) if event == "published" else 0)
        one.train()
        two.train()
        assert [s.wait(60).state for s in (one, two)] == ["done", "done"]
        assert sorted(v.number for v in published) == list(range(1, 9))
        assert one.damage == two.damage == []
        for session in (one, two):
            assert session.explain(digits.ids[:2]).version == session.version
    with xf.Session(make_model(), digits, tmp_path) as session:
        assert session.version in {one.version, two.version}
        assert session.damage == []


def test_a_closed_session_says_so(session):
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="this session is closed"):
        session.record(xf.Verdict("digit-0", "accept"))


def test_large_maps_are_stored_small():
    map_ = torch.zeros(200, 100)
    map_[:50] = 1
    stored = judged_map(map_)
    assert stored.shape == (32, 32)
    assert stored.dtype == np.float16
    assert stored.max() == 1
    assert stored[:8].min() == 1
    assert stored[9:].max() == 0


def test_unknown_options_are_named(tmp_path, make_model, digits):
    with pytest.raises(TypeError, match="did you mean 'epochs'"):
        xf.Session(make_model(), digits, tmp_path, epoch=3)
    with pytest.raises(TypeError, match="unknown option 'anotator'; did you mean 'annotator'"):
        xf.Session(make_model(), digits, tmp_path, anotator="me")
    with pytest.raises(ValueError, match="unknown saliency method 'grad-cam'"):
        xf.Session(make_model(), digits, tmp_path, saliency="grad-cam")


def test_a_subscriber_that_raises_harms_nobody(tmp_path, make_model, digits, caplog):
    heard = []

    def broken(event, payload):
        raise ZeroDivisionError(f"broken at {event}")

    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        session.subscribe(broken)
        session.subscribe(lambda event, payload: heard.append(event))
        assert session.record(xf.Verdict("digit-3", "reject")).image_id == "digit-3"
        session.train()
        assert session.wait(30).state == "done"
        assert session.version == 1
        session.train()  # the trainer's thread lives on
        assert session.wait(30).state == "done"
        session.undo()
    assert {"recorded", "undone", "progress", "published"} == set(heard)
    assert "a subscriber of the session failed at 'recorded'" in caplog.text
    assert "ZeroDivisionError: broken at published" in caplog.text


def test_answers_from_many_threads_start_one_run_and_are_all_kept(tmp_path, make_model, digits):
    errors = []
    with xf.Session(make_model(), digits, tmp_path, Slow(0), train_every=1, **FAST) as session:
        barrier = threading.Barrier(8)

        def answer(who: int) -> None:
            barrier.wait()
            for i in range(5):
                try:
                    session.record(xf.Verdict(f"digit-{who * 5 + i}", "reject"))
                except Exception as error:  # noqa: BLE001, PERF203 - counted
                    errors.append(error)

        threads = [threading.Thread(target=answer, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(session.feedback) == 40


def test_a_record_is_no_failure_because_a_run_cannot_start(
    tmp_path, make_model, digits, monkeypatch
):
    with xf.Session(make_model(), digits, tmp_path, train_every=1, **FAST) as session:

        def busy():
            raise RuntimeError("a training run is already under way")

        monkeypatch.setattr(session, "train", busy)
        assert session.record(xf.Verdict("digit-0", "accept")).image_id == "digit-0"


def test_answers_given_while_training_start_the_next_run(tmp_path, make_model, digits):
    runs = []
    with xf.Session(make_model(), digits, tmp_path, Slow(0.05), train_every=2, **FAST) as session:
        session.subscribe(
            lambda event, p: runs.append(p) if getattr(p, "state", "") == "queued" else None
        )
        session.record(xf.Verdict("digit-0", "accept"))
        session.record(xf.Verdict("digit-1", "accept"))
        _until(lambda: session.progress.step)
        for i in range(2, 5):
            session.record(xf.Verdict(f"digit-{i}", "reject"))
        _until(lambda: session.version == 2)
        session.wait(30)
        assert len(runs) == 2
        assert session.versions[-1].answers == 5
        session.record(xf.Verdict("digit-5", "reject"))
        assert not session.progress.active


def test_what_was_refused_or_rolled_back_is_not_trained_again_at_once(tmp_path, make_model, digits):
    guard = xf.Guard(min_accuracy=1.0)
    with xf.Session(
        make_model(), digits, tmp_path, validation=digits, guard=guard, train_every=2, **FAST
    ) as session:
        for i in range(2):
            session.record(xf.Verdict(f"digit-{i}", "accept"))
        assert session.wait(30).state == "done"
        assert session.version == 0
        assert session.answers_since_training == 2
        session.record(xf.Verdict("digit-2", "accept"))
        assert not session.progress.active
        session.guard = xf.Guard(max_accuracy_drop=1)
        session.record(xf.Verdict("digit-3", "accept"))
        session.wait(30)
        assert session.version == 1
        session.rollback(0)
        session.record(xf.Verdict("digit-4", "accept"))
        assert not session.progress.active


def test_a_backlog_is_learned_with_the_next_answer_after_reopening(tmp_path, make_model, digits):
    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        for i in range(4):
            session.record(xf.Verdict(f"digit-{i}", "accept"))
    with xf.Session(make_model(), digits, tmp_path, train_every=3, **FAST) as session:
        assert not session.progress.active
        session.record(xf.Verdict("digit-4", "accept"))
        session.wait(30)
        assert session.versions[-1].answers == 5


def test_a_full_disk_ends_the_run_and_keeps_the_last_good_version(
    tmp_path, make_model, digits, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    with xf.Session(make_model(), digits, tmp_path, **FAST) as session:
        before = {name: t.clone() for name, t in session.model.state_dict().items()}
        with monkeypatch.context() as patch:
            patch.setattr("xfeedback_widgets.training.versions._write_durably", full)
            session.train()
            progress = session.wait(30)
        assert (progress.state, session.version) == ("failed", 0)
        assert "No space left on device" in progress.error
        assert all(torch.equal(before[n], t) for n, t in session.model.state_dict().items())
        session.train()
        assert session.wait(30).state == "done"
        assert session.version == 1


def test_even_an_exit_in_the_users_code_leaves_the_trainer_alive(tmp_path, make_model, digits):
    class Exits(Slow):
        def loss(self, model, batch):
            raise SystemExit(3)

    with xf.Session(make_model(), digits, tmp_path, Exits(), **FAST) as session:
        session.train()
        assert session.wait(30).error == "SystemExit: 3"
        session.correction = Slow(0)
        session.train()
        assert session.wait(30).state == "done"


def test_a_stop_while_an_epoch_is_measured_publishes_nothing(tmp_path, make_model, digits):
    class StopsSecondTime(ImageSet):
        measured = 0

        def batches(self, batch_size):
            self.measured += 1
            if self.measured == 2:  # the first is before training
                session.stop()
            return super().batches(batch_size)

    validation = StopsSecondTime([digits[i] for i in range(20)], class_names=digits.class_names)
    with xf.Session(make_model(), digits, tmp_path, validation=validation, **FAST) as session:
        session.train()
        assert session.wait(30).state == "stopped"
        assert validation.measured == 2
        assert session.version == 0


def test_versions_that_cannot_be_explained_are_named(session, digits, tmp_path):
    session.train()
    session.wait(60)
    with pytest.raises(KeyError, match=r"no version 7; there are: 0, 1 \(the oldest are deleted"):
        session.explain(digits.ids[:2], version=7)
    (tmp_path / "run" / "versions" / "000000" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(
        xf.training.DamagedVersionError, match=r"000000/weights.safetensors does not"
    ):
        session.explain(digits.ids[:2], version=0)
    with pytest.raises(ValueError, match="image_ids is empty"):
        session.explain([])
    with pytest.raises(ValueError, match="target must be 'label', 'predicted' or a class"):
        session.explain(digits.ids[:2], target="lable")


def test_two_threads_explain_an_old_version_and_one_holds_the_lock(session, digits):
    session.train()
    session.wait(60)
    done = []

    def explain():
        done.append(session.explain(digits.ids[:2], version=0).version)

    def explain_holding():
        with session.lock:
            other.start()
            time.sleep(0.2)
            explain()

    other = threading.Thread(target=explain, daemon=True)
    holder = threading.Thread(target=explain_holding, daemon=True)
    holder.start()
    holder.join(20)
    other.join(20)
    assert done == [0, 0]


def test_waiting_for_answers_ends_when_the_session_closes(session):
    async def main():
        threading.Timer(0.1, session.close).start()
        await asyncio.wait_for(session.wait_for(3), 20)

    with pytest.raises(RuntimeError, match="this session is closed"):
        asyncio.run(main())


def test_answers_of_other_processes_are_waited_for(tmp_path, make_model, digits):
    with (
        xf.Session(make_model(), digits, tmp_path, annotator="ada") as ada,
        xf.Session(make_model(), digits, tmp_path, annotator="bo") as bo,
    ):

        async def main():
            bo.record(xf.Verdict("digit-0", "accept"))
            threading.Timer(0.1, bo.record, [xf.Verdict("digit-1", "accept")]).start()
            return await asyncio.wait_for(ada.wait_for(2), 20)

        assert len(asyncio.run(main())) == 2


def _until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
