"""The same widget in Notebook 7 and in Voila: it comes up, and an answer arrives."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_notebook_7(scene, start_server, setup_cell, open_cell):
    notebook = scene([setup_cell, open_cell], server=start_server("notebook"))
    notebook.start()
    notebook.wait_until("widget.wait()")
    notebook.focus()
    notebook.press("r")
    notebook.wait_until("len(session.feedback) == 1")
    notebook.wait_text("Saved:")
    notebook.shot("notebook-7")


def test_voila(scene, start_server, setup_cell, open_cell):
    server = start_server("voila")
    app = scene([setup_cell, open_cell], server=server)
    app.page.goto(f"{server.url}/{server.tree}/{app.name}.ipynb", timeout=60_000)
    app.wait_painted(timeout=60_000)
    app.button("Reject (r)").click()
    app.wait_text("Saved:")
    app.wait_text("1 of 240")
    app.shot("voila")
    # the answer is on disk, not only on screen
    from xfeedback_widgets.feedback import Journal

    (path,) = server.work.glob("*/feedback.sqlite")
    journal = Journal(path)
    assert len(journal.records()) == 1
    journal.close()
