from __future__ import annotations

import pytest

from xfeedback_widgets.widgets.keys import DEFAULTS, caption, choose


def test_defaults_are_all_different():
    assert len(set(DEFAULTS.values())) == len(DEFAULTS)
    assert choose(None) == DEFAULTS == choose(keys=True)


def test_change_take_away_and_switch_off():
    chosen = choose({"accept": "Q", "train": None, "peek": " "})
    assert chosen["accept"] == "q"
    assert "train" not in chosen
    assert chosen["peek"] == "space"
    assert choose(keys=False) == {}


def test_unknown_action_gets_a_hint():
    with pytest.raises(ValueError, match="did you mean 'reject'"):
        choose({"rejct": "q"})


@pytest.mark.parametrize("key", ["r", "arrowleft", "tab"])
def test_a_key_cannot_mean_two_things(key):
    with pytest.raises(ValueError, match=f"'{key}'"):
        choose({"accept": key})


def test_captions():
    assert [caption(k) for k in ("a", "shift+a", "space", "pagedown", "arrowup")] == [
        "a",
        "Shift+A",
        "Space",
        "PgDn",
        "↑",
    ]
