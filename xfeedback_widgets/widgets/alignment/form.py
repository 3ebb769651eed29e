"""The long form of a judgement, as GRADIA's study asked it: two questions and a rating.

Whether the map contains the necessary detail, whether it contains unnecessary detail, and its quality
from 1 to 5. What is not answered stays open; the answer itself, reasonable or not, is given by the
buttons that everybody has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from xfeedback_widgets.widgets.board import classed, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.feedback import Verdict

QUESTIONS: dict[str, tuple[str, dict[str, tuple[str, bool | int]]]] = {
    "necessary": ("Contains necessary detail?", {"yes": ("Yes", True), "no": ("No", False)}),
    "unnecessary": ("Contains unnecessary detail?", {"yes": ("Yes", True), "no": ("No", False)}),
    "quality": ("Quality, 1 worst to 5 best", {str(n): (str(n), n) for n in range(1, 6)}),
}


class FormView(ipywidgets.VBox):
    """The questions with their answers so far.

    Parameters
    ----------
    button : callable
        ``button(action, text, tooltip)`` makes the button of an action, as ``"necessary_yes"``.

    Attributes
    ----------
    on : bool
        Whether the form is asked.
    answers : dict of question to bool, int or None
        For the current image; as fields of a :class:`~.feedback.Verdict`.
    """

    def __init__(self, button: Callable[..., ipywidgets.Button]) -> None:
        self.on = False
        self.answers: dict[str, bool | int | None] = {}
        self._buttons: dict[tuple[str, Any], ipywidgets.Button] = {}
        self._texts: dict[tuple[str, Any], str] = {}
        questions = []
        for name, (question, choices) in QUESTIONS.items():
            made = []
            for choice, (text, value) in choices.items():
                tooltip = f"{question.rstrip('?')}: {text.lower()}; press again to leave it open"
                one = button(f"{name}_{choice}", text, tooltip)
                one.description = one.description.removesuffix(f" ({text})")  # "4", not "4 (4)"
                made.append(classed(one, f"xf-form-{name}-{value}".lower()))
                self._buttons[name, value] = made[-1]
                self._texts[name, value] = made[-1].description
            label = classed(ipywidgets.HTML(question), "xf-question")
            questions.append(row([label, *made]))
        super().__init__(questions)
        self.add_class("xf-form")
        self.clear()

    def clear(self) -> None:
        """Leave every question open."""
        self.answers = dict.fromkeys(QUESTIONS)

    def load(self, verdict: Verdict) -> None:
        """Take the answers of an earlier judgement."""
        self.answers = {name: getattr(verdict, name) for name in QUESTIONS}

    def press(self, question: str, value: bool | int) -> None:
        """Answer a question, or leave it open if that was its answer."""
        self.answers[question] = None if self.answers[question] is value else value

    def table(self) -> dict[str, Callable[[], None]]:
        """Return what the buttons do, by action."""
        return {
            f"{name}_{choice}": lambda name=name, value=value: self.press(name, value)  # type: ignore[misc]
            for name, (_, choices) in QUESTIONS.items()
            for choice, (_, value) in choices.items()
        }

    def names(self) -> dict[str, str]:
        """Return what screen readers call the buttons, by CSS selector: their texts lack the question."""
        return {
            f".xf-form-{name}-{value}".lower(): made.tooltip.partition(";")[0]
            + (", chosen" if self.answers[name] is value else "")
            for (name, value), made in self._buttons.items()
        }

    def paint(self, *, shown: bool) -> None:
        """Show the answers (for the UI pump)."""
        self.layout.display = "flex" if shown else "none"
        for (name, value), made in self._buttons.items():
            on = self.answers[name] is value
            made.description = f"✓ {self._texts[name, value]}" if on else self._texts[name, value]
            (made.add_class if on else made.remove_class)("xf-on")


def words(verdict: Verdict) -> str:
    """Return what the form said, as plain text; empty when it was not asked."""
    parts = []
    for name, what in (("necessary", "necessary detail"), ("unnecessary", "unnecessary detail")):
        value = getattr(verdict, name)
        if value is not None:
            parts.append(
                f"{'has' if value else 'lacks' if name == 'necessary' else 'has no'} {what}"
            )
    if verdict.quality is not None:
        parts.append(f"quality {verdict.quality} of 5")
    return ", ".join(parts)
