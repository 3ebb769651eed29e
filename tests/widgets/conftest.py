"""A real session on real digits, and the widget on top of it, without a kernel."""

from __future__ import annotations

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
def review(session):
    """Make review widgets; each is closed after the test."""
    widgets = []

    def make(**options) -> ReviewWidget:
        widgets.append(ReviewWidget(session, **options))
        assert widgets[-1].wait()
        return widgets[-1]

    yield make
    for widget in widgets:
        widget.close()


@pytest.fixture
def press():
    """Press a button and wait until everything it caused is on screen."""

    def press_button(widget: ReviewWidget, *actions: str) -> None:
        for action in actions:
            widget.buttons[action].click()
            assert widget.wait()

    return press_button
