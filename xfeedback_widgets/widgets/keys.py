"""Which key does what: the defaults, how a user's choice is read, and how a key is written on a button.

A key is named as the browser names it, in lower case: ``"a"``, ``"shift+a"``, ``"arrowleft"``,
``"pagedown"``, ``"space"``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

DEFAULTS = {
    "accept": "a",
    "reject": "r",
    "unsure": "u",
    "skip": "s",
    "back": "b",
    "undo": "z",
    "redo": "y",
    "peek": "space",
    "one": "1",
    "grid": "g",
    "compare": "c",
    "contour": "h",
    "accept_rest": "shift+a",
    "open": "enter",
    "next_page": "pagedown",
    "previous_page": "pageup",
    "before_older": ",",
    "before_newer": ".",
    "after_older": "j",
    "after_newer": "k",
    "train": "t",
    "pause": "p",
    "stop": "x",
    "target_older": "o",
    "target_newer": "n",
    "rollback": "shift+v",
}
# Units are answered with the same keys as maps, but "r" is left out: it stands for rejecting there, and
# looks like "relevant" here.
UNIT_DEFAULTS = {
    **{
        action: key
        for action, key in DEFAULTS.items()
        if action
        not in {
            "compare", "contour", "accept_rest",
            "before_older", "before_newer", "after_older", "after_newer",
        }
    },
    "reject": "i",
    "collect": "c",
}  # fmt: skip
# Movement keys are part of how lists and grids work everywhere and are not configurable.
MOVES = {"arrowleft": (-1, 0), "arrowright": (1, 0), "arrowup": (0, -1), "arrowdown": (0, 1)}
REPEATING = (*MOVES, "pagedown", "pageup")

_SYMBOLS = {
    "space": "Space",
    "enter": "Enter",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "escape": "Esc",
    "delete": "Del",
    "arrowleft": "←",
    "arrowright": "→",
    "arrowup": "↑",
    "arrowdown": "↓",
}


def choose(
    keys: Mapping[str, str | None] | bool | None, defaults: Mapping[str, str] = DEFAULTS
) -> dict[str, str]:
    """Return the key of every action.

    Parameters
    ----------
    keys : mapping of str to str or None, bool, optional
        Changes to `defaults`; an action mapped to None has no key. False: no keys at all.
    defaults : mapping of action to key
        All actions there are.

    Returns
    -------
    dict of action to key name

    Raises
    ------
    ValueError
        For an action that does not exist, or one key for two actions.
    """
    if keys is False:
        return {}
    chosen: dict[str, str | None] = dict(defaults)
    if isinstance(keys, Mapping):
        for action, key in keys.items():
            if action not in defaults:
                near = difflib.get_close_matches(action, defaults, n=1)
                hint = (
                    f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(defaults)}"
                )
                raise ValueError(f"no action {action!r} to give a key to: {hint}")
            chosen[action] = None if key is None else _name(key)
    taken: dict[str, str] = {}
    for action, key in chosen.items():
        if key is None:
            continue
        if key in taken or key in MOVES or key == "tab":
            other = taken.get(key, "moving the focus or the selection")
            raise ValueError(f"key {key!r} for {action!r} already means {other!r}")
        taken[key] = action
    return {action: key for action, key in chosen.items() if key is not None}


def caption(key: str) -> str:
    """Return how a key is written on a button: ``"shift+a"`` is "Shift+A"."""
    if key.startswith("shift+"):
        return f"Shift+{caption(key.removeprefix('shift+')).upper()}"
    return _SYMBOLS.get(key, key)


def _name(key: str) -> str:
    return "space" if key == " " else key.lower()
