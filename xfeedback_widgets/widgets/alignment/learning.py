"""What a training would use of what people said, where that contradicts itself, and how it changed.

Words and numbers about the session's feedback, for the painter; nothing here touches a widget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfeedback_widgets.corrections import Gradia
from xfeedback_widgets.feedback import Feedback, Verdict
from xfeedback_widgets.feedback.reasonability import ReasonabilityMatrix
from xfeedback_widgets.widgets.stepper import describe
from xfeedback_widgets.widgets.text import escape, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xfeedback_widgets.feedback.reasonability import Cell
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.alignment.desk import AlignmentDesk
    from xfeedback_widgets.widgets.drawing import Shares

_MUCH = 0.25  # of a reasonable map marked irrelevant: that is no reasonable map
_MOST = 0.9  # of an unreasonable map marked relevant: that is no unreasonable map


def contradiction(answer: str | None, shares: Shares) -> str:
    """Return where a judgement and a mask contradict each other, as plain text; empty if they do not.

    Parameters
    ----------
    answer : str or None
        The merged verdict.
    shares : Shares
        How much of the judged map the mask covers.
    """
    if answer == "accept" and shares.irrelevant >= _MUCH:
        return f"It was called reasonable, but {percent(shares.irrelevant)} of this map is marked irrelevant."
    if answer == "reject" and shares.relevant >= _MOST and shares.irrelevant < _MUCH:
        return f"It was called unreasonable, but {percent(shares.relevant)} of this map is marked relevant."
    return ""


def use(session: Session, feedback: Feedback, image_id: str, cell: Cell | None) -> str:
    """Return which of judgement and mask the next training uses, as HTML; empty when nothing was said.

    `cell` is where the image lies in the matrix now.
    """
    verdict, mask = feedback.verdicts.get(image_id), feedback.masks.get(image_id)
    judged = verdict is not None and verdict.answer != "unsure"
    drawn = mask is not None and not mask.empty
    if not (judged or drawn):
        return ""
    correction = session.correction
    used = correction.uses(feedback, image_id).split(" and ")
    said = {"verdict": ("judgement", judged), "mask": ("mask", drawn)}
    taken = [text for name, (text, there) in said.items() if there and name in used]
    left = [text for name, (text, there) in said.items() if there and name not in used]
    name = escape(getattr(correction, "name", type(correction).__name__))
    if not taken:
        return f"Training with {name} will use <strong>neither judgements nor masks</strong> of this image."
    but = f", not the {left[0]}" if left else ""
    weighed = ""
    if isinstance(correction, Gradia) and cell is not None:
        label, drawing = correction.weights[cell]
        marks = f" and its mask × {drawing:g}" if drawn else ""
        weighed = f" As {cell}, its label counts × {label:g}{marks}."
    return f"Training with {name} will use the <strong>{' and the '.join(taken)}</strong>{but}.{weighed}"


def matrices(
    session: Session, desk: AlignmentDesk
) -> tuple[ReasonabilityMatrix | None, ReasonabilityMatrix]:
    """Return the reasonability matrix as images were first judged, and as it is now.

    Now: what the model predicts now, where that is known, and the latest judgement of each image. First:
    the first judgement, with what the model predicted then; None while all are of the live weights.
    """
    feedback = session.feedback
    now = ReasonabilityMatrix.of(feedback, desk.labels, desk.predicted)
    if all(verdict.version == session.version for verdict in _verdicts(feedback)):
        return None, now
    return ReasonabilityMatrix.of(_first(feedback), desk.labels), now


def _verdicts(feedback: Feedback) -> Iterator[Verdict]:
    return (record for record in feedback.records if isinstance(record, Verdict))


def _first(feedback: Feedback) -> Feedback:
    """What was said of each image when it was judged for the first time, under whichever weights."""
    versions: dict[str, int | None] = {}
    given = _verdicts(feedback)
    return Feedback.of(v for v in given if versions.setdefault(v.image_id, v.version) == v.version)


def caption(desk: AlignmentDesk, version: int) -> str:
    """Return what has to be known to read the matrix, as HTML."""
    parts = []
    if desk.outdated:
        count = len(desk.outdated)
        kept = "it keeps its judgement" if count == 1 else "they keep their judgements"
        parts.append(f"{count} not judged again since the weights changed: {kept}")
    if desk.scored is None:
        parts.append("right or wrong as when it was judged; the predictions are on their way")
    elif desk.scored != version:
        parts.append(
            f"right or wrong by the {describe(desk.scored)}; the predictions now come after the training"
        )
    return f'<small class="xf-muted">{"; ".join(parts).capitalize()}.</small>' if parts else ""
