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
from xfeedback_widgets.data import ImageSet, decoy_digits, textured_digits
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
    threshold
        Share of a map's mass on the relevant pixels from which the simulated annotator accepts it.
    """

    model: nn.Module
    train: ImageSet
    valid: ImageSet
    test: ImageSet
    correction: Correction = field(default_factory=CrayonAttention)
    settings: dict[str, Any] = field(default_factory=dict)
    threshold: float = 0.5


def small_cnn(
    channels: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64, 64),
    kernels: Sequence[int] = (3, 3, 3, 1),
    strides: Sequence[int] = (1, 2, 2, 1),
) -> nn.Module:
    """Return convolutions with BatchNorm and ReLU, global average pooling and one linear layer.

    The defaults keep the receptive field of a cell at nine pixels, so that its map tells what it saw.

    Parameters
    ----------
    channels, classes
        Of the images, and of the output.
    widths, kernels, strides
        One of each per convolution.
    """
    layers: list[nn.Module] = []
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *head)


def decoy_problem(seed: int = 0, *, corners: int = 4) -> Problem:
    """Digits with decoys in all four corners, and a small CNN that reads the decoys.

    Parameters
    ----------
    seed
        Of the decoys, the model's weights and its training.
    corners
        As in :func:`~xfeedback_widgets.data.decoy_digits`; 0 gives the ceiling, a model that never saw a
        decoy and meets none.
    """
    train = decoy_digits("train", corners=corners, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_cnn(1, train.num_classes)
    learn(model, train, epochs=40, seed=seed)
    return Problem(
        model=model,
        train=train,
        valid=decoy_digits("valid", corners=corners, seed=seed),
        # measured against the decoys, so that the overlap is that of the published protocol
        test=decoy_digits("test", corners=corners, seed=seed, masks="decoys"),
        correction=CrayonAttention(alpha=0.2, beta=0.2),
        settings={"epochs": 10, "steps_per_epoch": 60, "batch_size": 64, "lr": 5e-4},
    )


def textured_problem(seed: int = 0, *, correlation: float | None = None) -> Problem:
    """Digits on photographs, and a small CNN that reads the texture; needs the ``textures`` extra.

    Parameters
    ----------
    seed
        Of the pictures, the model's weights and its training.
    correlation
        Of class and texture in training, as in :func:`~xfeedback_widgets.data.textured_digits`;
        1/3 gives the ceiling, a model that had no texture to read.
    """
    train = textured_digits("train", correlation=correlation, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_cnn(
            1,
            train.num_classes,
            widths=(16, 32, 32, 64),
            kernels=(3, 3, 3, 3),
            strides=(2, 2, 1, 1),
        )
    learn(model, train, epochs=24, seed=seed)
    return Problem(
        model=model,
        train=train,
        valid=textured_digits("valid", seed=seed),
        test=textured_digits("test", seed=seed),
        correction=CrayonAttention(alpha=0.04, beta=0.04),
        settings={"epochs": 10, "steps_per_epoch": 60, "batch_size": 64, "lr": 5e-4},
        threshold=0.28,  # strokes and their margin cover 21 % of a picture
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
        Passes over them, two thirds of these at learning rate 2e-3.
    seed
        Of the batches.
    """
    for share, lr in ((2 / 3, 2e-3), (1 / 3, 2e-4)):
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
            annotator="simulated", seed=seed, **problem.settings,
        )  # fmt: skip
        widget = ReviewWidget(session, order="random", seed=seed)
        given = press(widget, Annotator(problem.train, threshold=problem.threshold), answers)
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
        fine_tune(models[name], problem.train, feedback, control, seed=seed, **problem.settings)
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
        "<h2>What the prediction rests on: before, after</h2>"
        f"<div class=maps>{_figures(problem, original)}</div></html>"
    )


def _figures(problem: Problem, original: nn.Module) -> str:
    positions = list(range(_PAGE_IMAGES))
    batch = problem.test.batch(positions)
    explained = [
        create(problem.correction.saliency, model).logits_and_explain(batch.images)
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
    blended: NDArray[np.uint8] = (
        (large * (1 - alpha) + painted[..., :3] * alpha).round().astype("uint8")
    )
    return blended


def _data_url(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(colors.encode_png(pixels)).decode()
