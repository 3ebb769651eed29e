from __future__ import annotations

from pathlib import Path

import pytest

from xfeedback_widgets.widgets import curves, text


def test_escape_everything_that_html_could_read():
    assert text.escape("<b>\"&'") == "&lt;b&gt;&quot;&amp;&#x27;"
    assert text.escape("🐱") == "🐱"


def test_shorten_keeps_both_ends():
    assert text.shorten("short") == "short"
    assert text.shorten("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.914, "91 %"), (1.0, "100 %"), (0.9999, "> 99 %"), (0.0001, "< 1 %"), (0.0, "0 %")],
)
def test_percent_invents_no_certainty(value, shown):
    assert text.percent(value) == shown


def test_signed_numbers_always_have_their_sign():
    assert [text.signed(v) for v in (0.314, -0.031)] == ["+0.31", "−0.03"]
    assert [text.signed_percent(v) for v in (0.0312, -0.5)] == ["+3.1 %", "−50.0 %"]


def test_durations():
    assert [text.duration(s) for s in (7.6, 125, 4200)] == ["8 s", "2 min 5 s", "1 h 10 min"]


def test_errors_are_escaped_and_the_traceback_is_folded_away():
    with pytest.raises(OSError, match="fire") as caught:
        Path("/disk <on> fire").read_text()
    html = text.error_html("Could not read.", caught.value)
    assert "disk &lt;on&gt; fire" in html.partition("<details>")[0]
    assert "Traceback" in html.partition("<details>")[2]
    assert "<on>" not in html
    assert "ValueError: bad" in text.error_html("Failed.", "Traceback\nValueError: bad")


def test_curves_show_what_is_finite_and_say_it_in_words():
    html = curves.figure("Loss <x>", {"total": [(1, 2.0), (2, float("nan")), (3, 1.0)], "none": []})
    assert "Loss &lt;x&gt;" in html
    assert "total now 1" in html
    assert "nan" not in html
    assert "none" not in html.replace('fill="none"', "")
    assert curves.figure("Empty", {"a": [(1, float("inf"))]}) == ""


def test_long_curves_stay_short():
    html = curves.figure("Loss", {"total": [(i, i % 7) for i in range(50_000)]})
    assert len(html) < 6_000
