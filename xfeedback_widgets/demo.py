"""Demonstration problems, and the whole loop on one of them: what ``xfeedback demo`` runs.

A :class:`Problem` is a model that has learned a shortcut, the images it learned it from, and the settings
with which feedback corrects it; the quick start and the benchmarks use the same ones. :func:`run` is the
loop without a person: a simulated annotator presses the real widget's buttons, and the result is printed
beside its controls and drawn on one page. The images themselves come from ``data``.
"""

from __future__ import annotations

import base64
import copy
import html
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from xfeedback_widgets import metrics
from xfeedback_widgets.corrections import CrayonAttention, PlainFineTuning, RandomFeedback
from xfeedback_widgets.data import ImageSet, decoy_digits
from xfeedback_widgets.feedback import Feedback
from xfeedback_widgets.saliency import create
from xfeedback_widgets.session import Session
from xfeedback_widgets.simulate import Annotator
from xfeedback_widgets.training import fine_tune
from xfeedback_widgets.widgets import ReviewWidget, colors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from xfeedback_widgets.corrections import Correction

_PAGE_IMAGES = 12


@dataclass(frozen=True)
class Problem:
    """A model that is right for the wrong reasons, and everything needed to correct it.

    Parameters
    ----------
    model
        Trained to convergence on ``train``, shortcut included.
    train, valid, test
        ``train`` carries the shortcut; in ``valid`` and ``test`` it is decorrelated from the label.
    correction
        The correction, with its settings for this problem.
    settings
        Training settings for it.
    """

    model: nn.Module
    train: ImageSet
    valid: ImageSet
    test: ImageSet
    correction: Correction = field(default_factory=CrayonAttention)
    settings: dict[str, Any] = field(default_factory=dict)


def small_cnn(
    channels: int, classes: int, *, widths: Sequence[int], strides: Sequence[int]
) -> nn.Module:
    """Return 3×3 convolutions with ReLU, global average pooling and one linear layer.

    Parameters
    ----------
    channels, classes
        Of the images, and of the output.
    widths, strides
        One of each per convolution.
    """
    layers: list[nn.Module] = []
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.ReLU()]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def decoy_problem(seed: int = 0) -> Problem:
    """Digits with decoys in all four corners, and a small CNN that reads the decoys.

    Parameters
    ----------
    seed
        Of the decoys, the model's weights and its training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_cnn(1, 10, widths=(16, 32, 64, 64), strides=(1, 2, 2, 1))
    train = decoy_digits("train", seed=seed)
    learn(model, train, epochs=40, seed=seed)
    return Problem(
        model=model,
        train=train,
        valid=decoy_digits("valid", seed=seed),
        test=decoy_digits("test", seed=seed),
        correction=CrayonAttention(alpha=0.2, beta=0.2),
        settings={"epochs": 5, "steps_per_epoch": 60, "batch_size": 64, "lr": 5e-4},
    )


def learn(model: nn.Module, data: ImageSet, *, epochs: int, seed: int = 0) -> None:
    """Train from scratch on labels alone, in place: at first fast, then a tenth as fast.

    Parameters
    ----------
    model
        What is trained.
    data
        Its images.
    epochs
        Passes over them, three quarters of these at learning rate 2e-3.
    seed
        Of the batches.
    """
    for share, lr in ((0.75, 2e-3), (0.25, 2e-4)):
        fine_tune(
            model, data, Feedback(), PlainFineTuning(),
            epochs=max(1, round(epochs * share)), lr=lr, weight_decay=1e-4, batch_size=64,
            freeze_batchnorm=False, seed=seed,
        )  # fmt: skip


def session_arguments() -> dict[str, Any]:
    """Return the decoy problem as arguments of ``Session``, as ``xfeedback train --problem`` wants them."""
    problem = decoy_problem()
    return {
        "model": problem.model,
        "data": problem.train,
        "validation": problem.valid,
        "correction": problem.correction,
        **problem.settings,
    }


def run(output: Path, *, answers: int = 150, seed: int = 0) -> None:
    """Run the loop on the decoy problem, print the table and write the page.

    Parameters
    ----------
    output
        HTML file to write.
    answers
        How many maps the simulated annotator judges.
    seed
        Of everything.
    """
    clock = _Clock()
    print("Digits whose corners give the class away; at test time the corners lie.")
    problem = decoy_problem(seed)
    original = copy.deepcopy(problem.model)
    print(f"  a small CNN has learned the shortcut ({clock.lap():.0f} s)")

    with tempfile.TemporaryDirectory() as directory:
        session = Session(
            problem.model, problem.train, directory, problem.correction, problem.valid,
            annotator="simulated", **problem.settings,
        )  # fmt: skip
        widget = ReviewWidget(session, order="random", seed=seed)
        given = press(widget, Annotator(problem.train), answers)
        counts = session.feedback.counts()
        said = ", ".join(f"{number} {answer}" for answer, number in counts.items())
        print(
            f"  {given} answers given by pressing the widget's buttons: {said} ({clock.lap():.0f} s)"
        )
        widget.buttons["train"].click()
        progress = session.wait()
        if progress.state != "done":
            raise RuntimeError(f"training {progress.state}: {progress.error}\n{progress.traceback}")
        print(f"  the model has corrected itself: {progress.message} ({clock.lap():.0f} s)")
        feedback = session.feedback
        widget.close()
        session.close()

    models = {"before": original, "CRAYON-Attention": problem.model}
    for name, control in (
        ("control: plain fine-tuning", PlainFineTuning()),
        ("control: random answers", RandomFeedback(problem.correction, seed=seed)),
    ):
        models[name] = copy.deepcopy(original)
        fine_tune(models[name], problem.train, feedback, control, **problem.settings)
    print(f"  the controls are trained ({clock.lap():.0f} s)")

    rows = {name: measure(model, problem) for name, model in models.items()}
    print()
    print(table(rows))
    print()
    print(f"{given} answers, {clock.total():.0f} seconds in all.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(_page(problem, original, rows, given), encoding="utf-8")
    print(f"Maps before and after: {output}")
    print("Do it by hand: make lab   (or: jupyter lab notebooks/01_quickstart.ipynb)")


def press(widget: ReviewWidget, annotator: Annotator, answers: int) -> int:
    """Answer by pressing the widget's buttons, looking only at what it shows.

    Returns
    -------
    int
        How many answers were given; fewer than asked for where the images run out.
    """
    for given in range(answers):
        if not widget.wait(60):
            raise TimeoutError(f"the widget showed no map within a minute: {widget.status}")
        shown = widget.explained
        if shown is None:
            return given
        answer = annotator.judge(shown.image_id, torch.from_numpy(shown.saliency))
        widget.buttons[answer].click()
    return answers


def measure(model: nn.Module, problem: Problem) -> dict[str, float]:
    """Return every metric on the decorrelated test set, maps included."""
    return metrics.evaluate(model, problem.test, saliency=problem.correction.saliency)


_COLUMNS = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "worst group",
    "attribution_overlap": "overlap with decoys",
}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the result and its controls as lines of text."""
    lines = [f"{'decorrelated test set':28}" + "".join(f"{h:>21}" for h in _COLUMNS.values())]
    for name, row in rows.items():
        lines.append(f"{name:28}" + "".join(f"{row[key]:>21.3f}" for key in _COLUMNS))
    return "\n".join(lines)


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        lap, self._last = now - self._last, now
        return lap

    def total(self) -> float:
        return time.monotonic() - self._start


# ---------------------------------------------------------------------- the page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1f2328; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0 2rem; }
td, th { padding: .3rem 1rem .3rem 0; text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; }
th { border-bottom: 1px solid #8c959f; }
tr.result td { font-weight: 600; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figure div { display: flex; gap: .4rem; }
img { width: 8.6rem; height: 8.6rem; image-rendering: pixelated; border-radius: 3px; }
figcaption { color: #57606a; font-size: 13px; }
"""


def _page(
    problem: Problem, original: nn.Module, rows: dict[str, dict[str, float]], given: int
) -> str:
    head = "".join(f"<th>{title}</th>" for title in _COLUMNS.values())
    body = "".join(
        f"<tr{' class=result' if name == 'CRAYON-Attention' else ''}><td>{html.escape(name)}</td>"
        + "".join(f"<td>{row[key]:.3f}</td>" for key in _COLUMNS)
        + "</tr>"
        for name, row in rows.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>Before and after {given} answers</title><style>{_STYLE}</style>"
        f"<h1>Before and after {given} answers</h1>"
        "<p>A small network learned to read grey squares in the corners instead of the digit. A simulated "
        "annotator judged its saliency maps; the network was then fine-tuned with CRAYON-Attention. "
        "Measured on digits whose corners lie.</p>"
        f"<table><tr><th></th>{head}</tr>{body}</table>"
        "<h2>Where it looks: before, after</h2>"
        f"<div class=maps>{_figures(problem, original)}</div></html>"
    )


def _figures(problem: Problem, original: nn.Module) -> str:
    positions = list(range(_PAGE_IMAGES))
    batch = problem.test.batch(positions)
    explained = [
        create(problem.correction.saliency, model).logits_and_explain(batch.images, batch.labels)
        for model in (original, problem.model)
    ]
    names = problem.test.class_names
    figures = []
    for row, position in enumerate(positions):
        picture = problem.test.picture(position)
        images = "".join(
            f'<img alt="saliency map {when}" src="{_data_url(_overlay(picture, maps[row].numpy()))}">'
            for when, (_, maps) in zip(("before", "after"), explained, strict=True)
        )
        seen = " → ".join(names[int(logits[row].argmax())] for logits, _ in explained)
        caption = f"{names[int(batch.labels[row])]}, seen as {seen}"
        figures.append(
            f"<figure><div>{images}</div><figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return "".join(figures)


def _overlay(picture: NDArray[np.uint8], saliency: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The map over the picture, enlarged enough to be smooth."""
    height, width = (8 * side for side in picture.shape[:2])
    large = picture.repeat(8, 0).repeat(8, 1)
    peak = saliency.max()
    painted = colors.colorize(
        colors.resize(saliency / peak if peak > 0 else saliency, height, width)
    )
    alpha = painted[..., 3:] / 255 * 0.65
    return (large * (1 - alpha) + painted[..., :3] * alpha).round().astype("uint8")


def _data_url(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(colors.encode_png(pixels)).decode()
