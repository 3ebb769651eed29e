"""Do drawings correct a model that has learned a shortcut, and is it the drawings that do it?

    python tests/benchmarks/bench_masks_efficacy.py [--seeds 5] [--masks 50] [--split test]

Textured digits (:func:`xfeedback_widgets.demo.textured_problem`), a small CNN, all trained. For each seed (of
pictures, weights, batches and the choice of images) the objects of some training images, drawn at random,
are marked as relevant and the rest as irrelevant, as somebody would who finds each of these maps
unreasonable. Every arm then fine-tunes a copy of the same converged model for the same number of steps with
the same settings: plain fine-tuning; GRADIA with the drawings dealt out to other images, and with random
blobs of the same area; GRADIA as published and as it works best interactively; RES-G; the energy of
attention outside. "Gap recovered" is the way from the base model to one without the shortcut, the ceiling.

Attention is measured on the same images as accuracy: overlap of the map with the background (eq. 17 of
arXiv 2105.02653), IoU of the object and the map above half its maximum, and the reasonability matrix, a map
being reasonable when four tenths of it are on the object. All settings were chosen on the validation split
(``--split valid``); the published form, RES-G and the energy were not tuned. Exit status 1 where a bar is
missed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xfeedback_widgets import demo, metrics
from xfeedback_widgets.corrections import (
    Energy,
    Gradia,
    PlainFineTuning,
    RandomFeedback,
    ResG,
)
from xfeedback_widgets.feedback import Feedback, ReasonabilityMatrix, RegionMask, Verdict
from xfeedback_widgets.saliency import create, upsample
from xfeedback_widgets.training import fine_tune

if TYPE_CHECKING:
    from torch import nn

    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import ImageSet

METRIC = "worst_group_accuracy"
SALIENCY = "centred_gradcam"
REASONABLE = 0.4
BASE, CEILING = "base model", "ceiling: never met the shortcut"
PLAIN, SHUFFLED, RANDOM = "plain fine-tuning", "GRADIA, shuffled masks", "GRADIA, random masks"
PAPER, INTERACTIVE = "GRADIA, the paper's form", "GRADIA, interactive form"
RES, ENERGY = "RES-G", "energy outside"
CONTROLS = (PLAIN, SHUFFLED, RANDOM)
CORRECTIONS = (PAPER, INTERACTIVE, RES, ENERGY)


def draw(data: ImageSet, count: int, seed: int) -> Feedback:
    """Call the maps of `count` random images unreasonable, and mark object and background on each."""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    said: list[Verdict | RegionMask] = []
    for index in chosen.tolist():
        marks = data.mask(index).to(torch.int8) * 2 - 1
        said += [Verdict(data.ids[index], "reject"), RegionMask(data.ids[index], marks.numpy())]
    return Feedback.of(said)


def look(model: nn.Module, data: ImageSet) -> dict[str, float]:
    """Measure accuracy and attention, the cells of the reasonability matrix included."""
    measured = metrics.evaluate(model, data, saliency=SALIENCY)
    method = create(SALIENCY, model)
    cells: dict[str, str] = {}
    overlaps: list[float] = []
    for batch in data.batches(64):
        logits, maps = method.logits_and_explain(batch.images, batch.labels)
        right = (logits.argmax(1) == batch.labels).tolist()
        masks = torch.stack([data.mask(index) for index in batch.indices.tolist()])
        shown = upsample(maps, (masks.shape[1], masks.shape[2]))
        hot = shown > shown.amax((1, 2), keepdim=True) / 2
        union = (hot | masks).sum((1, 2))
        overlaps += ((hot & masks).sum((1, 2)) / union.clamp(min=1)).tolist()
        on_object = (shown * masks).sum((1, 2)) / shown.sum((1, 2))
        for index, correct, share in zip(
            batch.indices.tolist(), right, on_object.tolist(), strict=True
        ):
            reasonable = share >= REASONABLE  # an empty map is NaN: not reasonable
            cells[data.ids[index]] = ("R" if reasonable else "U") + ("A" if correct else "IA")
    shares = ReasonabilityMatrix(cells).shares
    kept = {name: measured[name] for name in (METRIC, "accuracy", "attribution_overlap")}
    return kept | {"iou": statistics.fmean(overlaps)} | shares


def run_seed(seed: int, count: int, split: str) -> dict[str, dict[str, float]]:
    problem = demo.textured_problem(seed)
    ceiling = demo.textured_problem(seed, correlation=1 / 3)
    drawn = draw(problem.train, count, seed)
    gradia = Gradia(attention=3, misses=0)

    def tune(correction: Correction) -> dict[str, float]:
        model = copy.deepcopy(problem.model)
        settings = problem.settings | {"seed": seed}
        fine_tune(model, problem.train, drawn, correction, **settings)
        return look(model, getattr(problem, split))

    return {
        BASE: look(problem.model, getattr(problem, split)),
        CEILING: look(ceiling.model, getattr(ceiling, split)),
        PLAIN: tune(PlainFineTuning()),
        SHUFFLED: tune(RandomFeedback(gradia, how="masks", seed=seed)),
        RANDOM: tune(RandomFeedback(gradia, seed=seed)),
        PAPER: tune(Gradia.published()),
        INTERACTIVE: tune(gradia),
        RES: tune(ResG()),
        ENERGY: tune(Energy()),
    }


def report(seeds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    def mean(arm: str, name: str) -> float:
        return statistics.fmean(seed[arm][name] for seed in seeds)

    gap = mean(CEILING, METRIC) - mean(BASE, METRIC)
    recovered = {arm: (mean(arm, METRIC) - mean(BASE, METRIC)) / gap for arm in seeds[0]}
    best = max(CONTROLS, key=recovered.__getitem__)
    print(f"\nTextured digits, mean ± standard deviation of {len(seeds)} seeds")
    print(f"{'':34}{'worst group':>15}{'gap':>7}{'lead':>7}{'overlap':>9}{'IoU':>6}"
          f"{'RA':>7}{'UA':>5}{'RIA':>5}{'UIA':>5}")  # fmt: skip
    for arm in seeds[0]:
        values = [seed[arm][METRIC] for seed in seeds]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        line = f"{arm:34}{mean(arm, METRIC):>7.3f} ± {spread:.3f}"
        line += f"{'':7}" if arm in (BASE, CEILING) else f"{recovered[arm]:>7.0%}"
        lead = recovered[arm] - recovered[best]
        line += f"{lead:>+7.0%}" if arm in CORRECTIONS else f"{'':7}"
        line += f"{mean(arm, 'attribution_overlap'):>9.3f}{mean(arm, 'iou'):>6.2f}  "
        print(line + "".join(f"{mean(arm, cell):>5.0%}" for cell in ("RA", "UA", "RIA", "UIA")))
    fall = 1 - mean(INTERACTIVE, "attribution_overlap") / mean(BASE, "attribution_overlap")
    print(f"The best control is: {best}. Overlap with the background falls by {fall:.0%}.")
    bars = {
        "gap to the ceiling ≥ 15 %": gap >= 0.15,
        "plain fine-tuning moves < 3 %": abs(mean(PLAIN, METRIC) - mean(BASE, METRIC)) < 0.03,
        "GRADIA recovers ≥ 75 % of the gap": recovered[INTERACTIVE] >= 0.75,
        "GRADIA leads by ≥ 25 points": recovered[INTERACTIVE] - recovered[best] >= 0.25,
    }
    for bar, met in bars.items():
        print(f"  {'met   ' if met else 'MISSED'} {bar}")
    return {"seeds": seeds, "bars": bars}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--masks", type=int, default=50)
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # these models are too small for more, and the figures repeat exactly
    seeds, start = [], time.monotonic()
    for seed in range(arguments.seeds):
        seeds.append(run_seed(seed, arguments.masks, arguments.split))
        figures = ", ".join(f"{row[METRIC]:.3f}" for row in seeds[-1].values())
        print(f"seed {seed} ({time.monotonic() - start:.0f} s): {figures}", flush=True)
    result = report(seeds)
    print(f"  {arguments.masks} images drawn on, {arguments.split} split, {Gradia()!r}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    return 0 if all(result["bars"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
