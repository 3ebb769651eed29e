from __future__ import annotations

import contextvars
import threading
import time

import pytest

from xfeedback_widgets.widgets.keyed import KeyedThread
from xfeedback_widgets.widgets.pump import BURST_FRAMES, FRAMES_AT_ONCE, UNASKED, USUAL, WORDS, Pump


@pytest.fixture
def pump():
    errors, quiet = [], []
    made = Pump(errors.append, lambda: quiet.append(time.monotonic()))
    made.errors, made.quiet = errors, quiet
    yield made
    made.close()


def test_the_newest_post_wins_and_frames_are_few(pump):
    shown = []
    started = time.monotonic()
    for number in range(4000):
        pump.post("progress", lambda number=number: shown.append(number))
        if number % 400 == 0:
            time.sleep(0.02)
    assert pump.flush()
    seconds = time.monotonic() - started
    assert shown[-1] == 3999
    assert shown == sorted(shown)
    assert pump.frames <= 20 * seconds + FRAMES_AT_ONCE


def test_a_press_is_answered_at_once_while_the_trainer_floods(pump):
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            pump.post("progress", lambda: None, priority=USUAL)
            time.sleep(0.001)

    flooding = threading.Thread(target=flood)
    flooding.start()
    time.sleep(0.5)
    waited = []
    for _ in range(8):
        posted = time.monotonic()
        pump.post(
            "press", lambda posted=posted: waited.append(time.monotonic() - posted), priority=WORDS
        )
        time.sleep(0.2)
    stop.set()
    flooding.join()
    assert sorted(waited)[4] < 0.02


def test_what_nobody_waits_for_makes_few_frames_and_delays_nothing(pump):
    started = time.monotonic()
    waited = []
    for number in range(150):
        pump.post("trainer", lambda: None, priority=UNASKED)
        time.sleep(0.01)
        if number == 120:
            alone = pump.frames, time.monotonic() - started
            posted = time.monotonic()
            pump.post("map", lambda at=posted: waited.append(time.monotonic() - at), priority=USUAL)
    pump.flush()
    frames, seconds = alone
    assert 2 <= frames <= 2 * seconds + 1
    assert waited[0] < 0.1


def test_what_nobody_waits_for_makes_no_frame_while_a_press_is_answered():
    until, painted = time.monotonic() + 0.3, {}
    pump = Pump(pytest.fail, lambda: None, lambda: until - time.monotonic())
    try:
        pump.post("words", lambda: painted.setdefault("words", time.monotonic()), priority=WORDS)
        assert pump.flush()
        pump.post("news", lambda: painted.setdefault("news", time.monotonic()), priority=UNASKED)
        assert pump.flush()
    finally:
        pump.close()
    assert painted["words"] < until <= painted["news"]


def test_keys_are_independent_and_share_a_frame(pump):
    shown = []
    pump.post("warm", lambda: None)
    pump.flush()
    for key in "abc":
        pump.post(key, lambda key=key: shown.append((key, pump.frames)))
    pump.flush()
    assert [key for key, _ in shown] == ["a", "b", "c"]
    assert len({frame for _, frame in shown}) == 1


def test_an_error_is_reported_and_the_pump_goes_on(pump):
    shown = []
    pump.post("bad", lambda: 1 / 0)
    pump.post("good", lambda: shown.append(1))
    pump.flush()
    assert shown == [1]
    assert isinstance(pump.errors[0], ZeroDivisionError)


def test_state_is_sent_again_once_after_a_burst_only(pump):
    pump.post("one", lambda: None)
    time.sleep(0.7)
    assert pump.quiet == []
    for _ in range(BURST_FRAMES + 2):
        pump.post("burst", lambda: None, priority=USUAL)
        pump.flush()
    time.sleep(1.4)
    assert len(pump.quiet) == 1


def test_functions_run_in_the_context_of_the_maker():
    cell = contextvars.ContextVar("cell")
    cell.set("the cell that made it")
    seen = []
    thread = KeyedThread("test", pytest.fail)
    cell.set("another")
    thread.post("look", lambda: seen.append(cell.get()))
    assert thread.flush()
    thread.close()
    assert seen == ["the cell that made it"]


def test_urgent_posts_overtake():
    ran, gate = [], threading.Event()
    thread = KeyedThread("test", pytest.fail)
    thread.post("gate", gate.wait)
    time.sleep(0.05)
    thread.post("later", lambda: ran.append("later"), priority=3)
    thread.post("sooner", lambda: ran.append("sooner"), priority=1)
    gate.set()
    assert thread.flush()
    thread.close()
    assert ran == ["sooner", "later"]


def test_close_stops_and_drops_what_waits(pump):
    pump.close()
    pump.post("late", lambda: pytest.fail("ran after close"))
    assert not pump.alive
    assert pump.flush(0.1)


def test_waiting_for_oneself_is_refused(pump):
    pump.post("self", pump.flush)
    pump.flush()
    assert isinstance(pump.errors[0], RuntimeError)
