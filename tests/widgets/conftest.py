"""A real session on real digits, and the widget on top of it, without a kernel."""

from __future__ import annotations

import functools

import pytest

from xfeedback_widgets.session import Session
from xfeedback_widgets.widgets import ReviewWidget


@pytest.fixture
def session(digits, make_model, tmp_path):
    with Session(
        make_model(), digits, tmp_path / "s", validation=digits, annotator="me", epochs=1, seed=0
    ) as made:
        yield made


@pytest.fixture
def make_widget():
    """Make widgets of a class and wait until all is on screen; each is closed after the test."""
    widgets = []

    def make(kind, *arguments, **options):
        widgets.append(kind(*arguments, **options))
        assert widgets[-1].wait()
        return widgets[-1]

    yield make
    for widget in widgets:
        widget.close()


@pytest.fixture
def review(session, make_widget):
    return functools.partial(make_widget, ReviewWidget, session)


@pytest.fixture
def press():
    """Press buttons and wait until everything each caused is on screen."""

    def press_button(widget, *actions: str) -> None:
        for action in actions:
            widget.buttons[action].click()
            assert widget.wait()

    return press_button


@pytest.fixture
def key():
    """Press keys and wait until everything each caused is on screen."""

    def press_key(widget, *names: str) -> None:
        for name in names:
            message = {"kind": "key", "key": name, "time": 0.0}
            widget.bridge._handle_custom_msg(message, [])
            assert widget.wait()

    return press_key


@pytest.fixture
def pick():
    """Click what has a name on the page, and wait until everything it caused is on screen."""

    def click(widget, name: str, count: int = 1) -> None:
        message = {"kind": "pick", "name": name, "count": count, "time": 0.0}
        widget.bridge._handle_custom_msg(message, [])
        assert widget.wait()

    return click
