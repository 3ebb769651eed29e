"""Do answers about units correct a model, alone and together with answers about maps?

    python tests/benchmarks/bench_units_efficacy.py [textures] [pets] [--seeds N] [--split test]

Worst-group accuracy of CRAYON-Attention, CRAYON-Pruning and both, beside their controls, on two problems:

- textured digits (:func:`xfeedback_widgets.demo.textured_problem`), a small CNN of 64 units, all trained;
- pets on scenes, cats at sea and dogs in the forest: MobileNetV2 with ImageNet weights, 1,280 units, of
  which the last convolution and the linear layer are trained, the rest is run once. Needs the development
  data (``XFEEDBACK_DATA``).

A simulated annotator answers about the maps of 200 training images, and about every unit: a unit is relevant
where enough of its activation lies on the object's mask. "In a session" the same number of answers and of
steps are spread out, as people do: what is asked next is asked about the model as it is by then, maps
before units. Controls: plain fine-tuning, the same batches
without answers; random answers about the same maps and units; refitting the last layer without pruning;
pruning as many units drawn at random. DFR is a reference that is told the group of every validation image.
Then the paper's curve: worst-group accuracy of pruning against the number of units asked about, in three
orders. All settings were chosen on the validation split (``--split valid``). Exit status 1 where a bar is
missed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pets_on_scenes import DATA, mobilenet_v2, pets_on_scenes, run_once
from torch import nn

from xfeedback_widgets import demo, metrics, units
from xfeedback_widgets.corrections import (
    Crayon,
    CrayonAttention,
    CrayonPruning,
    DeepFeatureReweighting,
    PlainFineTuning,
    RandomFeedback,
)
from xfeedback_widgets.feedback import Feedback, UnitVerdict, Verdict
from xfeedback_widgets.saliency import create, normalize
from xfeedback_widgets.session import judged_map
from xfeedback_widgets.simulate import Annotator
from xfeedback_widgets.training import fine_tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import ImageSet

METRIC = "worst_group_accuracy"
BASE, CEILING, DFR = "base model", "ceiling: never met the shortcut", "DFR, told the groups"
PLAIN, RANDOM = "plain fine-tuning", "random answers, both"
REFIT, RANDOM_UNITS = "refit alone, no unit pruned", "the same number of random units"
ATTENTION, PRUNING, BOTH = "CRAYON-Attention", "CRAYON-Pruning", "CRAYON-Attention+Pruning"
ATTENTION_SESSION, BOTH_SESSION = (
    "CRAYON-Attention, in a session",
    "Attention+Pruning, in a session",
)
RANDOM_SESSION = "random answers, in a session"
CONTROLS = (PLAIN, RANDOM, RANDOM_SESSION, REFIT, RANDOM_UNITS)
CRAYON = (ATTENTION, ATTENTION_SESSION, PRUNING, BOTH, BOTH_SESSION)
ORDERS = ("influence", "suspicion", "random")
CORRELATION, SIZE = 0.98, 160


@dataclass
class Problem:
    """One seed of a problem, ready for every arm."""

    base: nn.Module
    ceiling: nn.Module
    train: ImageSet
    valid: ImageSet
    measured: ImageSet
    ceiling_measured: ImageSet
    attention: CrayonAttention
    pruning: CrayonPruning
    settings: dict[str, Any]
    map_threshold: float
    unit_threshold: float
    session: tuple[Correction, ...]
    asked: tuple[int, ...] = field(default=())


def textures(seed: int, split: str) -> Problem:
    problem = demo.textured_problem(seed)
    ceiling = demo.textured_problem(seed, correlation=1 / 3)
    return Problem(
        base=problem.model,
        ceiling=ceiling.model,
        train=problem.train,
        valid=problem.valid,
        measured=getattr(problem, split),
        ceiling_measured=getattr(ceiling, split),
        attention=problem.correction,
        pruning=CrayonPruning(),
        settings=problem.settings,
        map_threshold=problem.threshold,
        unit_threshold=0.36,
        session=(*[problem.correction] * 3, Crayon(attention=problem.correction)),
        asked=(4, 8, 16, 24, 32, 48, 64),
    )


def pets(seed: int, split: str) -> Problem:
    network = mobilenet_v2(DATA)
    trunk = network.features[:18].eval()
    wanted = {
        "train": ("train", CORRELATION),
        "balanced": ("train", 0.5),
        "valid": ("valid", CORRELATION),
        "test": ("test", CORRELATION),
    }
    sets = {
        name: run_once(trunk, pets_on_scenes(DATA, of, correlation=c, size=SIZE, seed=seed))
        for name, (of, c) in wanted.items()
    }
    tail = nn.Sequential(
        network.features[18],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(network.last_channel, 2),
    )
    nn.init.zeros_(tail[3].weight)
    nn.init.zeros_(tail[3].bias)
    heads = {}
    for name in ("train", "balanced"):  # converged: the minimum of a convex problem
        heads[name] = copy.deepcopy(tail.eval())
        fine_tune(heads[name], sets[name], Feedback(), CrayonPruning())
    attention = CrayonAttention(alpha=PETS["alpha"], beta=PETS["alpha"])
    stronger = CrayonAttention(alpha=PETS["session_alpha"], beta=PETS["session_alpha"])
    pruning = CrayonPruning(l2=PETS["l2"])
    return Problem(
        base=heads["train"],
        ceiling=heads["balanced"],
        train=sets["train"],
        valid=sets["valid"],
        measured=sets[split],
        ceiling_measured=sets[split],
        attention=attention,
        pruning=pruning,
        settings={
            "epochs": 5,
            "steps_per_epoch": 40,
            "batch_size": 32,
            "lr": PETS["lr"],
            "weight_decay": 1e-4,
        },
        map_threshold=PETS["map_threshold"],
        unit_threshold=PETS["unit_threshold"],
        session=(stronger, pruning),
        asked=(20, 40, 80, 160, 320, 640, 960, 1280),
    )


PETS = {
    "alpha": 0.02,
    "session_alpha": 0.1,
    "lr": 1e-4,
    "l2": 1.0,
    "map_threshold": 0.2,
    "unit_threshold": 0.262,
}
PROBLEMS = {"textures": textures, "pets": pets}


def asked_images(problem: Problem, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(problem.train), generator=generator)[:count]


def judge_maps(problem: Problem, model: nn.Module, asked: torch.Tensor) -> list[Verdict]:
    batch = problem.train.batch(asked)
    method = create(problem.attention.saliency, model)
    _, maps = method.logits_and_explain(batch.images, batch.labels)
    annotator = Annotator(problem.train, threshold=problem.map_threshold)
    said = []
    for position, label, saliency in zip(
        batch.indices.tolist(), batch.labels.tolist(), normalize(maps), strict=True
    ):
        image_id = problem.train.ids[position]
        answer = annotator.judge(image_id, saliency)
        said.append(Verdict(image_id, answer, target=label, map=judged_map(saliency)))
    return said


def judge_units(outside: torch.Tensor, threshold: float) -> list[UnitVerdict]:
    """What ``Annotator.answer_units`` says of each unit."""
    return [
        UnitVerdict(unit, "accept" if not 1 - share < threshold else "reject")
        for unit, share in enumerate(outside.tolist())
    ]


def in_session(problem: Problem, plan: Sequence[Correction], count: int, seed: int) -> nn.Module:
    """Train by one correction after the other, each on what is said about the model it starts from.

    Every round asks for what its correction learns from: the next maps, or all units anew.
    """
    model = copy.deepcopy(problem.base)
    judging = [correction for correction in plan if "verdicts" in correction.learns_from]
    shares = iter(asked_images(problem, count, seed).tensor_split(len(judging)))
    steps = problem.settings["epochs"] * problem.settings["steps_per_epoch"] // len(judging)
    maps: list[Any] = []
    said: list[Any] = []
    for number, correction in enumerate(plan):
        if "verdicts" in correction.learns_from:
            maps += judge_maps(problem, model, next(shares))
        if "units" in correction.learns_from:
            said = judge_units(units.suspicion(model, problem.train), problem.unit_threshold)
        changes = {"epochs": 1, "steps_per_epoch": steps, "seed": seed + number}
        feedback = Feedback.of([*maps, *said])
        fine_tune(model, problem.train, feedback, correction, **problem.settings | changes)
    return model


def run_seed(
    problem: Problem, seed: int, count: int
) -> tuple[dict[str, float], dict[str, list[float]], dict[str, Any]]:
    maps = judge_maps(problem, problem.base, asked_images(problem, count, seed))
    outside = units.suspicion(problem.base, problem.train)
    said = judge_units(outside, problem.unit_threshold)
    attention, pruning = problem.attention, problem.pruning
    both = Crayon(attention=attention, pruning=pruning)

    def tune(correction: Correction, records: list[Any]) -> float:
        model = copy.deepcopy(problem.base)
        settings = problem.settings | {"seed": seed}
        fine_tune(model, problem.train, Feedback.of(records), correction, **settings)
        return measure(model)

    def measure(model: nn.Module) -> float:
        return metrics.evaluate(model, problem.measured)[METRIC]

    def converse(plan: Sequence[Correction]) -> float:
        return measure(in_session(problem, plan, count, seed))

    rows = {
        BASE: measure(problem.base),
        CEILING: metrics.evaluate(problem.ceiling, problem.ceiling_measured)[METRIC],
        PLAIN: tune(PlainFineTuning(), []),
        RANDOM: tune(RandomFeedback(both, seed=seed), [*maps, *said]),
        RANDOM_SESSION: converse([RandomFeedback(c, seed=seed) for c in problem.session]),
        REFIT: tune(pruning, []),
        RANDOM_UNITS: tune(RandomFeedback(pruning, how="shuffled", seed=seed), said),
        DFR: tune(DeepFeatureReweighting(problem.valid), []),
        ATTENTION: tune(attention, maps),
        ATTENTION_SESSION: converse([attention] * 4),
        PRUNING: tune(pruning, said),
        BOTH: tune(both, [*maps, *said]),
        BOTH_SESSION: converse(problem.session),
    }
    survey = units.survey(problem.base, problem.train)
    weight, _ = units.parameters_of(units.find_head(problem.base, problem.train).classifier)
    curves = {}
    for by in ORDERS:
        ranked = units.order(survey, weight, by, outside=outside, seed=seed)
        asked = [
            [member for unit in ranked[:n] for member in survey.twins[unit]] for n in problem.asked
        ]
        curves[by] = [tune(pruning, [said[unit] for unit in some]) for some in asked]
    facts = {
        "maps accepted": sum(v.answer == "accept" for v in maps) / len(maps),
        "units rejected": sum(v.answer == "reject" for v in said),
        "units": len(said),
    }
    return rows, curves, facts


def report(
    name: str,
    seeds: list[tuple[dict[str, float], dict[str, list[float]], dict[str, Any]]],
    asked: tuple[int, ...],
) -> dict[str, Any]:
    rows = {arm: [seed[0][arm] for seed in seeds] for arm in seeds[0][0]}
    mean = {arm: statistics.fmean(values) for arm, values in rows.items()}
    gap = mean[CEILING] - mean[BASE]
    recovered = {arm: (value - mean[BASE]) / gap for arm, value in mean.items()}
    best = max(CONTROLS, key=recovered.__getitem__)
    print(f"\n{name}: worst-group accuracy, mean ± standard deviation of {len(seeds)} seeds")
    print(f"{'':34}{'metric':>16}{'gap recovered':>15}{'lead':>8}")
    for arm, values in rows.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        line = f"{arm:34}{mean[arm]:>8.3f} ± {spread:.3f}"
        if arm not in (BASE, CEILING):
            line += f"{recovered[arm]:>15.0%}"
        if arm in CRAYON:
            line += f"{recovered[arm] - recovered[best]:>+8.0%}"
        print(line)
    facts = [seed[2] for seed in seeds]
    print(
        f"Answers: {statistics.fmean(f['maps accepted'] for f in facts):.0%} of maps accepted, "
        f"{statistics.fmean(f['units rejected'] for f in facts):.0f} of {facts[0]['units']} units rejected. "
        f"The best control is: {best}."
    )
    print(f"{'units asked about':20}" + "".join(f"{n:>8}" for n in asked))
    curves = {
        by: [statistics.fmean(values) for values in zip(*(s[1][by] for s in seeds), strict=True)]
        for by in ORDERS
    }
    for by, values in curves.items():
        print(f"{by:20}" + "".join(f"{value:>8.3f}" for value in values))
    needed = {
        by: answers_for(asked, values, mean[BASE], curves["random"])
        for by, values in curves.items()
    }
    shown = ", ".join(f"{by} {n:.0f}" if n else f"{by}: never" for by, n in needed.items())
    print(f"answers for half of what all answers gain: {shown}")
    bars = {
        "gap to the ceiling ≥ 15 %": gap >= 0.15,
        "plain fine-tuning moves < 3 %": abs(mean[PLAIN] - mean[BASE]) < 0.03,
        "A+P ≥ each alone": mean[BOTH_SESSION]
        >= max(mean[ATTENTION], mean[ATTENTION_SESSION], mean[PRUNING]),
        "influence needs ≤ 1/3 of the answers of random": bool(
            needed["influence"] and needed["random"] and needed["influence"] <= needed["random"] / 3
        ),
    }
    if name == "textures":
        bars["A+P recovers ≥ 75 % of the gap"] = recovered[BOTH_SESSION] >= 0.75
        bars["A+P leads by ≥ 25 points"] = recovered[BOTH_SESSION] - recovered[best] >= 0.25
    for bar, met in bars.items():
        print(f"  {'met   ' if met else 'MISSED'} {bar}")
    return {"rows": rows, "curves": curves, "asked": asked, "bars": bars}


def answers_for(
    asked: tuple[int, ...], values: list[float], base: float, reference: list[float]
) -> float | None:
    """How many answers until half of what all answers gain is there, interpolated."""
    wanted = base + (reference[-1] - base) / 2
    before, reached = 0, base
    for n, value in zip(asked, values, strict=True):
        if value >= wanted:
            share = (wanted - reached) / (value - reached) if value > reached else 1.0
            return before + share * (n - before)
        before, reached = n, value
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, help="default: 5 for textures, 3 for pets")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in arguments.problems or PROBLEMS:
        seeds, start = [], time.monotonic()
        for seed in range(arguments.seeds or (5 if name == "textures" else 3)):
            try:
                problem = PROBLEMS[name](seed, arguments.split)
            except FileNotFoundError as error:
                print(f"{name} is left out, no development data: {error} (set XFEEDBACK_DATA)")
                break
            seeds.append(run_seed(problem, seed, arguments.answers))
            figures = ", ".join(f"{value:.3f}" for value in seeds[-1][0].values())
            print(f"{name}, seed {seed} ({time.monotonic() - start:.0f} s): {figures}", flush=True)
        if seeds:
            results[name] = report(name, seeds, problem.asked)
            print(f"  {arguments.answers} maps judged, {arguments.split} split")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0 if all(met for r in results.values() for met in r["bars"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
