"""What looking at units and pruning them costs, beside what it is compared with, in one run.

    python tests/benchmarks/bench_units.py [--json PATH] [--images 256] [--rounds 5]

Four figures, each a ratio within this run:

- the survey (top patches of all 2,048 units of a ResNet-50, one pass) ÷ plain inference over the same images,
  and what it keeps for a set and for one twice as large;
- refitting the last layer without half of the 2,048 units on 5,000 cached features, by the paper's ten epochs
  of SGD and by L-BFGS, beside what ten epochs through the backbone would take (one batch is timed), and
  beside the masked model trained directly on the same features, without the solver;
- a step of Attention+Pruning ÷ a plain step;
- the live preview, refit included.

Weights and images are random: they do not change costs. The optimum is compared on features that can be
learned.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50

from xfeedback_widgets import units
from xfeedback_widgets.corrections import Crayon, CrayonAttention, CrayonPruning
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, UnitVerdict, Verdict
from xfeedback_widgets.units import Features

UNITS, IMAGES, CLASSES, EPOCHS, BATCH = 2048, 5000, 10, 10, 128
BARS = {
    "survey ÷ inference": 1.15,
    "kept, twice the set ÷ the set": 1.0,
    "SGD, 10 epochs, s": 2.0,
    "L-BFGS, s": 2.0,
    "backbone ÷ SGD": 100,
    "accuracy differs, points": 0.1,
    "A+P step ÷ plain step": 1.10,
    "preview, ms (p95)": 100,
}
AT_LEAST = {"backbone ÷ SGD"}


def pictures(count: int) -> ImageSet:
    images = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return ImageSet([(image, n % CLASSES) for n, image in enumerate(images)])


def survey_cost(model: nn.Module, count: int, rounds: int) -> dict[str, float]:
    data = pictures(count)

    def plain() -> None:
        with torch.no_grad():
            for batch in data.batches(32):
                model(batch.images)

    def survey() -> None:
        units.survey(model, data, batch_size=32, sample=16)

    ratios = []
    for number in range(rounds + 1):
        seconds = {}
        for run in (plain, survey) if number % 2 else (survey, plain):
            start = time.perf_counter()
            run()
            seconds[run] = time.perf_counter() - start
        if number:  # the first round warms up
            ratios.append(seconds[survey] / seconds[plain])
    sizes = [
        sum(t.numel() * t.element_size() for t in vars(found).values() if torch.is_tensor(t))
        for found in (units.survey(model, pictures(n), batch_size=16, sample=16) for n in (16, 32))
    ]
    return {
        "survey ÷ inference": statistics.median(ratios),
        "kept, MB": sizes[0] / 1e6,
        "kept, twice the set ÷ the set": sizes[1] / sizes[0],
    }


def learnable() -> Features:
    """Features as a trained ResNet-50's: non-negative, half of them informative."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    centres = torch.randn(CLASSES, UNITS, generator=generator) * 0.02
    pooled = (0.45 + centres[labels] + 0.4 * torch.randn(IMAGES, UNITS, generator=generator)).relu()
    return Features(pooled, labels, torch.arange(IMAGES))


class OnFeatures(nn.Module):
    """A model whose trunk has been run already: ReLU stands for the feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ReLU()
        self.fc = nn.Linear(UNITS, CLASSES)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.fc(self.trunk(maps).mean((2, 3)))


def pruning_cost(backbone: nn.Module, rounds: int) -> dict[str, float]:
    features = learnable()
    data = ImageSet(
        [
            (row[:, None, None].expand(-1, 2, 2), int(label))
            for row, label in zip(features.pooled, features.labels, strict=True)
        ]
    )
    model = OnFeatures().eval()
    head = units.find_head(model, data)
    units.remember(data, units.fingerprint(model, head), features)
    feedback = Feedback.of(UnitVerdict(unit, "reject") for unit in range(0, UNITS, 2))
    arms = {
        "SGD, 10 epochs, s": CrayonPruning.published(epochs=EPOCHS, batch_size=BATCH),
        "L-BFGS, s": CrayonPruning(),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    fitted = {}
    for _ in range(rounds):
        for name, correction in arms.items():
            fitted[name] = copy.deepcopy(model)
            start = time.perf_counter()
            correction.prepare(fitted[name], data, feedback)
            for _ in correction.solve(fitted[name]):
                pass
            times[name].append(time.perf_counter() - start)
    result = {name: statistics.median(values) for name, values in times.items()}

    # the published structure: the backbone runs in every step, masked, and the head alone is trained
    images = torch.randn(16, 3, 224, 224)
    backbone.fc.weight.requires_grad_()
    steps = []
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.no_grad():
            pooled = units.find_head(backbone).read(backbone, images)[1]
        F.cross_entropy(backbone.fc(pooled), torch.zeros(16, dtype=torch.long)).backward()
        steps.append(time.perf_counter() - start)
    through_backbone = statistics.median(steps) / 16 * IMAGES * EPOCHS
    result["backbone ÷ SGD"] = through_backbone / result["SGD, 10 epochs, s"]
    result["backbone ÷ L-BFGS"] = through_backbone / result["L-BFGS, s"]

    # the same objective on the masked model, descended to its end by another optimiser
    keep = torch.ones(UNITS)
    keep[::2] = 0
    scale = features.pooled.var(0, correction=0).mean().sqrt()
    direct = nn.Linear(UNITS, CLASSES)
    optimizer = torch.optim.Adam(direct.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    inputs = (features.pooled - features.pooled.mean(0)) / scale * keep
    for _ in range(1000):
        loss = F.cross_entropy(direct(inputs), features.labels)
        loss = loss + CrayonPruning().l2 / 2 * (direct.weight * keep).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        theirs = (direct(inputs).argmax(1) == features.labels).float().mean()
        logits = F.linear(features.pooled, *units.parameters_of(fitted["L-BFGS, s"].fc))
        ours = (logits.argmax(1) == features.labels).float().mean()
    result["accuracy"] = float(ours)
    result["accuracy differs, points"] = 100 * abs(float(ours - theirs))
    return result


def step_cost(model: nn.Module, rounds: int) -> dict[str, float]:
    data = pictures(8)
    said = [Verdict(i, "reject" if n % 2 else "accept") for n, i in enumerate(data.ids)]
    feedback = Feedback.of([*said, *(UnitVerdict(u, "reject") for u in range(0, UNITS, 2))])
    correction = Crayon(attention=CrayonAttention())
    model = copy.deepcopy(model).eval()
    correction.prepare(model, data, feedback)
    for _ in correction.solve(model):
        pass
    batch = data.batch(range(8))
    forwards: list[int] = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    correction.loss(model, batch).total.backward()
    handle.remove()
    losses = {
        "plain": lambda: F.cross_entropy(model(batch.images), batch.labels),
        "both": lambda: correction.loss(model, batch).total,
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    ratios = []
    for number in range(rounds + 1):
        seconds = {}
        for name in losses if number % 2 else reversed(losses):
            start = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            losses[name]().backward()
            optimizer.step()
            seconds[name] = time.perf_counter() - start
        if number:
            ratios.append(seconds["both"] / seconds["plain"])
    correction.finish()
    return {"A+P step ÷ plain step": statistics.median(ratios), "A+P forwards": len(forwards)}


def preview_cost(presses: int = 40) -> dict[str, float]:
    features = learnable()
    data = ImageSet(
        [(torch.zeros(1, 1, 1), int(label)) for label in features.labels],
        groups=torch.arange(IMAGES) % 4,
    )
    layer = nn.Linear(UNITS, CLASSES)
    preview = units.Preview(features, features, data, *units.parameters_of(layer), l2=1e-2)
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(0)).tolist()
    times = []
    for pressed in range(1, presses + 1):
        start = time.perf_counter()
        shown = preview.measure(order[: 10 * pressed])
        times.append(1000 * (time.perf_counter() - start))
    keep = torch.ones(UNITS, dtype=torch.bool)
    keep[order[: 10 * presses]] = False
    full = units.LinearProblem(features.pooled, features.labels, CLASSES, l2=1e-2).solve(keep)
    logits = F.linear(features.pooled, full.weight, full.bias)
    converged = float((logits.argmax(1) == features.labels).float().mean())
    times = sorted(times[2:])
    return {
        "preview, ms (p50)": statistics.median(times),
        "preview, ms (p95)": times[round(0.95 * (len(times) - 1))],
        "preview's accuracy − the full refit's, points": 100 * (shown["accuracy"] - converged),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = resnet50(num_classes=CLASSES).eval()
    figures = preview_cost()
    figures |= pruning_cost(model, arguments.rounds)
    figures |= step_cost(model, arguments.rounds)
    figures |= survey_cost(model, arguments.images, arguments.rounds)
    missed = False
    for name, value in figures.items():
        bar = BARS.get(name)
        mark = ""
        if bar is not None:
            met = value >= bar if name in AT_LEAST else value <= bar
            missed |= not met
            mark = f"{'≥' if name in AT_LEAST else '≤'} {bar:g}{'' if met else '  MISSED'}"
        print(f"{name:48}{value:>12.3f}   {mark}", flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1))
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
