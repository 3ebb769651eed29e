"""Checks of the widgets' options, and closing a whole tree of widgets."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.widgets import colors
from xfeedback_widgets.widgets.queue import BAYESIAN, ORDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def tree(root: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Yield a widget and all that it contains, parents first."""
    yield root
    for child in getattr(root, "children", ()):
        yield from tree(child)


def close_with_models(widget: ipywidgets.Widget) -> None:
    """Close a widget and the layout and style models that ipywidgets made for it."""
    for name in ("layout", "style"):
        model = getattr(widget, name, None)
        if isinstance(model, ipywidgets.Widget):
            model.close()
    ipywidgets.Widget.close(widget)


def refuse_unknown(function: Callable[..., Any], unknown: dict[str, Any]) -> None:
    """Raise for keyword arguments that a constructor does not know, with the nearest that it does.

    Raises
    ------
    TypeError
    """
    if not unknown:
        return
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    name = next(iter(unknown))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
    maker = function.__qualname__.partition(".")[0]
    raise TypeError(f"{maker}() got an unexpected keyword argument {name!r}: {hint}")


def class_indices(
    classes: Sequence[str | int] | None, names: Sequence[str]
) -> tuple[int, ...] | None:
    """Return classes given by name or index as indices; None stays None.

    Raises
    ------
    ValueError
        For a class that does not exist, or none at all; the message names it and the nearest one.
    """
    if classes is None:
        return None
    if isinstance(classes, (str, int)):
        classes = [classes]
    found = []
    for wanted in classes:
        if isinstance(wanted, str):
            if wanted not in names:
                near = difflib.get_close_matches(wanted, names, n=1)
                hint = (
                    f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}"
                )
                raise ValueError(f"no class {wanted!r}: {hint}")
            found.append(list(names).index(wanted))
        elif 0 <= int(wanted) < len(names):
            found.append(int(wanted))
        else:
            raise ValueError(f"no class {wanted}: there are {len(names)}, numbered from 0")
    if not found:
        raise ValueError("classes is empty: name at least one class, or leave it out for all")
    return tuple(found)


def check_choice(name: str, value: Any, offered: Sequence[Any]) -> None:
    """Raise for an option that is none of those offered; the message lists them.

    Raises
    ------
    ValueError
    """
    if value not in offered:
        listed = ", ".join(repr(choice) for choice in offered[:12])
        more = ", …" if len(offered) > 12 else ""
        raise ValueError(f"unknown {name} {value!r}: choose one of {listed}{more}")


def check_choices(
    *,
    order: str,
    method: str,
    methods: Sequence[str],
    target: str | int,
    class_count: int,
    colormap: str,
    opacity: float,
    bayesian: bool = False,
) -> None:
    """Raise for an option that does not exist; the message lists those that do.

    Raises
    ------
    ValueError
    """
    choices: dict[str, tuple[Any, Sequence[Any]]] = {
        "order": (order, tuple(ORDERS)),
        "method": (method, methods),
        "target": (target, ("label", "predicted", *range(class_count))),
        "colormap": (colormap, colors.COLORMAPS),
    }
    for name, (value, offered) in choices.items():
        check_choice(name, value, offered)
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    if order in BAYESIAN and not bayesian:
        raise ValueError(
            f"order {order!r} needs a Bayesian model: xf.bayesian.convert(model), before the session is "
            "opened, makes it one"
        )
