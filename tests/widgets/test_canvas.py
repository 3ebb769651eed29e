"""frame(): what ipycanvas sends, seen at the point where it leaves Python."""

from __future__ import annotations

import json
import threading

import ipycanvas
import pytest

from xfeedback_widgets.widgets import canvas as module
from xfeedback_widgets.widgets.canvas import PRIVATE_NAMES, frame, manager, sentinel


@pytest.fixture
def sent(monkeypatch):
    """The batches that left, each a list of commands by name."""
    batches = []
    names = ipycanvas.canvas._CMD_LIST

    def send(metadata, buffers):
        commands = json.loads(bytes(buffers[0]))
        commands = commands if isinstance(commands[0], list) else [commands]
        batches.append([(names[c[0]], c[1] if len(c) > 1 else []) for c in commands])

    monkeypatch.setattr(manager(), "send", send)
    return batches


def reference(canvas) -> str:
    return f"IPY_MODEL_{canvas.model_id}"


def test_the_private_names_still_exist():
    missing = [name for name in PRIVATE_NAMES if not hasattr(manager(), name)]
    assert not missing, "ipycanvas has changed inside: see widgets/canvas.py"


def test_a_frame_names_its_canvas_first_and_ends_on_the_sentinel(sent):
    canvas = ipycanvas.Canvas()
    with frame():
        canvas.fill_rect(0, 0, 1, 1)
        canvas.fill_rect(1, 1, 1, 1)
    (batch,) = sent
    switches = [arguments[0] for name, arguments in batch if name == "switchCanvas"]
    assert batch[0] == ("switchCanvas", [reference(canvas)])
    assert switches == [reference(canvas), reference(sentinel())]
    assert [name for name, _ in batch].count("fillRect") == 2


def test_every_frame_can_be_the_first_that_a_page_sees(sent):
    canvas = ipycanvas.Canvas()
    for _ in range(2):
        with frame():
            canvas.clear()
    assert [batch[0][0] for batch in sent] == ["switchCanvas"] * 2
    canvas.clear()  # and so can whatever is drawn without a frame
    assert sent[2][0] == ("switchCanvas", [reference(canvas)])


def test_an_exception_drops_the_frame_and_leaves_all_canvases_working(sent):
    canvas = ipycanvas.Canvas()

    @frame()
    def fail():
        canvas.save()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sent == []
    assert manager()._caching is False
    canvas.clear()
    assert [name for name, _ in sent[-1]] == ["clear"]


def test_inner_frames_join_the_outer_one(sent):
    canvas = ipycanvas.Canvas()
    with frame():
        with frame():
            canvas.clear()
        assert sent == []
        canvas.clear()
    assert len(sent) == 1


def test_an_empty_frame_sends_nothing(sent):
    with frame():
        pass
    assert sent == []


def test_a_users_hold_canvas_keeps_its_order_and_its_caching(sent):
    users, ours = ipycanvas.Canvas(), ipycanvas.Canvas()
    with ipycanvas.hold_canvas():
        users.fill_rect(0, 0, 1, 1)
        with frame():
            ours.clear()
        users.stroke_rect(0, 0, 1, 1)
        assert len(sent) == 2
    targets = [[a[0] for n, a in batch if n == "switchCanvas"] for batch in sent]
    assert targets[0] == [reference(users)]
    assert targets[1] == [reference(ours), reference(sentinel())]
    assert targets[2] == [reference(users)]


def test_threads_never_paint_on_each_others_canvas(sent):
    canvases = [ipycanvas.Canvas() for _ in range(4)]

    def draw(number):
        for _ in range(50):
            with frame():
                for _ in range(5):
                    canvases[number].fill_rect(number, 0, 1, 1)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 200
    for batch in sent:
        target = None
        for name, arguments in batch:
            if name == "switchCanvas":
                target = arguments[0]
            elif name == "fillRect":
                assert target == reference(canvases[arguments[0]])


def test_a_closed_sentinel_is_replaced():
    first = sentinel()
    first.close()
    assert sentinel() is not first
    assert module.sentinel().comm is not None
