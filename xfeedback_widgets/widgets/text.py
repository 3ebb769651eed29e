"""Text for the screen: everything that comes from data is escaped here before it becomes HTML.

Class names, file names and annotators are other people's strings; they may hold ``<b>``, quotes or
emoji, and must be shown as they are.
"""

from __future__ import annotations

import html
import traceback


def escape(value: object) -> str:
    """Return `value` as text that is safe inside HTML elements and attributes."""
    return html.escape(str(value), quote=True)


def shorten(value: object, length: int = 40) -> str:
    """Return `value` as plain text of at most `length` characters, the middle replaced by an ellipsis."""
    text = str(value)
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def counted(count: int, noun: str) -> str:
    """Return a number of things as text: "1 image", "3 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def percent(value: float) -> str:
    """Return a probability as text: ``0.914`` is "91 %"; no certainty is invented by rounding."""
    if 0.995 <= value < 1.0:
        return "> 99 %"
    if 0.0 < value < 0.005:
        return "< 1 %"
    return f"{100 * value:.0f} %"


def signed(value: float) -> str:
    """Return a number as text that always has its sign: ``-0.031`` is "−0.03"."""
    return f"{value:+.2f}".replace("-", "−")


def signed_percent(value: float) -> str:
    """Return a signed share as text: ``-0.0312`` is "−3.1 %"."""
    return f"{100 * value:+.1f} %".replace("-", "−")


def duration(seconds: float) -> str:
    """Return a time span for people: "8 s", "2 min 5 s", "1 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def method_title(name: str) -> str:
    """Return a saliency method's name for people: "centred_gradcam" is "Centred Grad-CAM"."""
    title = name.replace("gradcam", "Grad-CAM").replace("_", " ")
    return title[:1].upper() + title[1:]


def error_html(message: str, error: BaseException | str | None = None) -> str:
    """Return an error as HTML: one readable line, the traceback behind a disclosure.

    Parameters
    ----------
    message : str
        What was being done, as plain text.
    error : exception or str or None
        The exception, or a traceback that was already formatted.
    """
    if error is None:
        return f'<div class="xf-error"><strong>{escape(message)}</strong></div>'
    if isinstance(error, str):
        lines = error.strip().splitlines()
        summary, details = lines[-1] if lines else "", error
    else:
        summary = f"{type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return (
        f'<div class="xf-error"><strong>{escape(message)}</strong> {escape(summary)}'
        f"<details><summary>Details</summary><pre>{escape(details)}</pre></details></div>"
    )
