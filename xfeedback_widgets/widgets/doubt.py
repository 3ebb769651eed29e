"""How sure a Bayesian model is, and how much of its attention is irrelevant, as HTML beside the prediction.

Bars tell how large an uncertainty is, words what predictions with such an uncertainty have turned out to be:
they are calibrated on images with known labels, and say on how many. :func:`overlaps` measures, on whatever
thread it is called; the rest only writes. No widget here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from xfeedback_widgets.metrics.localization import overlap_each
from xfeedback_widgets.saliency import threshold
from xfeedback_widgets.widgets.text import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from xfeedback_widgets.bayesian import Experience
    from xfeedback_widgets.session import Session
    from xfeedback_widgets.widgets.explainer import Explained, Uncertainty

# Smallest share of similar images predicted right, smallest share of images that are in less doubt.
_SURE = ((0.99, "Sure"), (0.9, "Rather sure"), (0.7, "Unsure"), (0.0, "Very unsure"))
_DOUBT = ((0.95, "very high"), (0.8, "high"), (0.2, "ordinary"), (0.0, "low"))


class Overlap(NamedTuple):
    """Share of a map on something irrelevant: what that is, how much it is, how much it was."""

    what: str
    share: float
    before: float | None


def overlaps(session: Session, item: Explained) -> list[Overlap]:
    """Measure attribution overlap (eq. 17 of arXiv 2105.02653) of one image's map, wherever it is known.

    Parameters
    ----------
    session : Session
    item : Explained
        The map on screen.

    Returns
    -------
    list of Overlap
        On what was drawn, on the hot region of a map that was rejected, and on what the image's own mask
        leaves out; none of an empty map. What it was: of the map that was judged, under earlier weights.
    """
    feedback, image_id = session.feedback, item.image_id
    verdict, drawn = feedback.verdicts.get(image_id), feedback.masks.get(image_id)
    spread = item.view.weights == "spread"  # is no attention
    now = _tensor(item.judged if spread else item.saliency)
    then = None if verdict is None or verdict.map is None else _tensor(verdict.map)
    regions: list[tuple[str, Tensor]] = []
    if drawn is not None and not drawn.empty:
        marks = torch.tensor(drawn.mask)
        irrelevant = bool((marks < 0).any())
        what = (
            "what was drawn as irrelevant" if irrelevant else "all but what was drawn as relevant"
        )
        regions.append((what, marks < 0 if irrelevant else marks <= 0))
    if verdict is not None and verdict.answer == "reject" and then is not None:
        hot = threshold(then, getattr(session.correction, "hot", 0.5))
        regions += [("the region that was rejected", hot)] if bool(hot.any()) else []
    known = session.data.mask(session.data.index(image_id))
    if known is not None:
        regions.append(("what the mask of this image leaves out", ~known))
    found = []
    for what, region in regions:
        share = _share(now, region)
        if not math.isnan(share):
            judged_now = verdict is not None and verdict.version == item.view.version
            before = math.nan if then is None or judged_now else _share(then, region)
            found.append(Overlap(what, share, None if math.isnan(before) else before))
    return found


def overlap_html(found: list[Overlap]) -> str:
    """Say how much of the attention is irrelevant; empty where that is not known."""
    if not found:
        return ""
    rows = "".join(
        f"<li><strong>{percent(o.share)}</strong> on {o.what}"
        + ("" if o.before is None else f" ({percent(o.before)} when it was judged)")
        + "</li>"
        for o in found
    )
    title = "Attribution overlap (equation 17): the share of this map on what is irrelevant"
    heading = f'<p class="xf-doubt" title="{title}">Overlap, the share of the attention</p>'
    return f'{heading}<ul class="xf-overlaps">{rows}</ul>'


def uncertainty_html(
    uncertainty: Uncertainty, classes: int, experience: Experience | None, on: str
) -> str:
    """Say how sure a model is, in bars and in calibrated words.

    Parameters
    ----------
    uncertainty : Uncertainty
    classes : int
        Of the model: a uniform prediction has the entropy ``log classes``.
    experience : Experience or None
        None: it is not known yet what such an uncertainty has meant.
    on : str
        What it was measured on, as plain words: "validation images".
    """
    most = max(math.log(classes), 1e-9)
    parts = (
        ("In the image", "aleatoric", uncertainty.aleatoric, "more training would not remove it"),
        (
            "In the model",
            "epistemic",
            uncertainty.mutual_information,
            "more training could remove it",
        ),
    )
    rows = ""
    for name, term, nats, hint in parts:
        share = min(1.0, nats / most)
        bar = f'<span class="xf-bar" style="width:{100 * share:.1f}%"></span>'
        title = f"{term}: {nats:.3f} of {most:.3f} nats; {hint}"
        rows += (
            f'<tr title="{title}"><td class="xf-muted" style="width:34%">{name} ({term})</td>'
            f'<td>{bar}</td><td class="xf-number">{percent(share)}</td></tr>'
        )
    return (
        f'<p class="xf-doubt">Uncertainty over {uncertainty.samples} draws of the weights</p>'
        f'<table aria-label="Uncertainty">{rows}</table>{_words(uncertainty, experience, on)}'
    )


def _words(uncertainty: Uncertainty, experience: Experience | None, on: str) -> str:
    if experience is None:
        return '<p class="xf-muted">What such uncertainty has meant is being counted …</p>'
    record = experience.like(uncertainty.entropy)
    if record is None:
        return f'<p class="xf-muted">Too few {on} to say what such uncertainty means.</p>'
    sure = _word(_SURE, record.right / record.of)
    rank = experience.rank(uncertainty.mutual_information)
    return (
        f"<p><strong>{sure}:</strong> of the {record.of} {on} most like this one in uncertainty, "
        f"{record.right} are predicted right. The model's own doubt (epistemic) is "
        f"<strong>{_word(_DOUBT, rank)}</strong>: larger than for {round(rank * len(experience))} of "
        f"{len(experience)}.</p>"
    )


def _word(table: tuple[tuple[float, str], ...], value: float) -> str:
    return next(word for least, word in table if value >= least)


def _share(map_: Tensor, region: Tensor) -> float:
    return float(overlap_each(map_[None], region[None])[0])


def _tensor(map_: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(map_, dtype=np.float32))
