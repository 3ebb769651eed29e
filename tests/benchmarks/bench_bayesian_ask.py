"""Which image to ask about next: the open question of Bekkemoen & Langseth, on decoy digits.

    python tests/benchmarks/bench_bayesian_ask.py [--seeds 5] [--answers 5 20 60] [--json PATH]

A LeNet has learned to read the grey squares in the corners of scikit-learn's digits, and is made Bayesian.
Then it is asked about images in three rounds, and trained on the answers so far after each, as in a session.
The answer about an image says what is irrelevant in it: the squares. One row per way of choosing:

``random``                images drawn by lot
``overlap``               most attention where something was irrelevant in images answered before; the first
                          round, when there are none, is random
``entropy``               most uncertain, aleatoric and epistemic
``mutual information``    most doubt of the model alone

and, with images drawn by lot: ``relevant marks``, where the answer also says what is relevant, the digit, and
`BayesianFeedback` uses it (``relevant=1``); ``random masks``, blobs as large as the squares anywhere; and
``plain fine-tuning``, the same steps without answers. Accuracy and Grad-CAM's overlap with the squares are
those of the test digits, whose squares have the grey of a random class, after each round and by the weights
after its last step. Weight, floor and learning rate come from trials with seed 0 that had looked at its test
digits, so seed 0 is not clean and the seeds begin with 1. Less than a minute of one core per seed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xfeedback_widgets import bayesian, metrics
from xfeedback_widgets.corrections import BayesianFeedback, PlainFineTuning, RandomFeedback
from xfeedback_widgets.data import decoy_digits
from xfeedback_widgets.feedback import Feedback, RegionMask
from xfeedback_widgets.training import fine_tune

if TYPE_CHECKING:
    from torch import nn

    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import ImageSet

COLD = 0.01  # weight of the divergence from the prior: with a thousand images it says more than they do
BASE = {"epochs": 1, "steps_per_epoch": 600, "batch_size": 64, "lr": 2e-3}
ROUND = {"epochs": 1, "steps_per_epoch": 60, "batch_size": 64, "lr": 2e-3}
FEEDBACK = BayesianFeedback(weight=3e-3, kl_weight=COLD, sigma_floor=0.01)
RELEVANT = BayesianFeedback(weight=3e-3, kl_weight=COLD, sigma_floor=0.01, relevant=1.0)
PLAIN = PlainFineTuning(kl_weight=COLD)

CHOOSING = {
    "random": None,
    "overlap": "overlap",
    "entropy": "entropy",
    "mutual information": "mutual_information",
}
ARMS = (*CHOOSING, "relevant marks", "random masks", "plain fine-tuning")


def trained(train: ImageSet, seed: int) -> nn.Module:
    """Train a plain LeNet on the decoys, convert it, and let its deviations settle."""
    torch.manual_seed(seed)
    model = bayesian.to_deterministic(bayesian.lenet())
    fine_tune(model, train, Feedback(), PlainFineTuning(), seed=seed, **BASE)
    bayesian.convert(model, rho=-4.0)
    fine_tune(model, train, Feedback(), PLAIN, seed=seed, **{**BASE, "steps_per_epoch": 100})
    return model


def choose(
    arm: str, model: nn.Module, train: ImageSet, known: list[int], count: int, seed: int
) -> list[int]:
    """Return positions of images that are not known yet, the most worth asking about."""
    worth = torch.rand(len(train), generator=torch.Generator().manual_seed(seed))
    by = CHOOSING.get(arm)
    if by is not None and (known or by != "overlap"):
        batch = train.batch(range(len(train)))
        regions = [~train.mask(i) for i in known]
        asked = {"regions": regions, "targets": batch.labels} if by == "overlap" else {}
        worth = bayesian.worth_asking(model, batch.images, by=by, seed=seed, **asked)
    worth[known] = -1
    return worth.argsort(descending=True, stable=True)[:count].tolist()


def answer(arm: str, train: ImageSet, digits: ImageSet, position: int) -> RegionMask:
    """Mark the squares as irrelevant and, where that is asked for, the digit as relevant."""
    mask = np.where(train.mask(position).numpy(), 0, -1).astype(np.int8)
    if arm == "relevant marks":
        mask[digits.mask(position).numpy()] = 1
    return RegionMask(train.ids[position], mask)


def measure(model: nn.Module, test: ImageSet) -> dict[str, float]:
    found = metrics.evaluate(model, test, saliency="gradcam")
    return {"accuracy": found["accuracy"], "overlap": found["attribution_overlap"]}


def correction_of(arm: str, seed: int) -> Correction:
    if arm == "random masks":
        return RandomFeedback(FEEDBACK, seed=seed)
    return {"relevant marks": RELEVANT, "plain fine-tuning": PLAIN}.get(arm, FEEDBACK)


def run_seed(seed: int, answers: list[int], arms: list[str]) -> dict[str, list[dict[str, float]]]:
    """Ask and train in rounds, every arm from the same weights; figures before and after each round."""
    start = time.process_time()
    train, test = (decoy_digits(split, masks="decoys", seed=seed) for split in ("train", "test"))
    digits = decoy_digits("train", masks="digit", seed=seed)
    base = trained(train, seed)
    before = measure(base, test)
    rows: dict[str, list[dict[str, float]]] = {}
    for arm in arms:
        model, known, rows[arm] = copy.deepcopy(base), [], [before]
        correction = correction_of(arm, seed)
        for number, total in enumerate(answers):
            known += choose(arm, model, train, known, total - len(known), seed + 1000 * number)
            feedback = Feedback.of(answer(arm, train, digits, i) for i in known)
            fine_tune(model, train, feedback, correction, seed=seed + number, **ROUND)
            rows[arm].append(measure(model, test))
        said = " → ".join(f"{row['accuracy']:.1%}" for row in rows[arm])
        print(f"  seed {seed}, {arm:20} {said}", flush=True)
    print(f"  seed {seed}: {time.process_time() - start:.0f} s of one core", flush=True)
    return rows


def report(seeds: list[dict[str, list[dict[str, float]]]], answers: list[int]) -> dict[str, Any]:
    """Print mean and standard deviation over seeds, after each round, and return the means."""
    heads = "".join(f"{f'{count} answers':>18}" for count in (0, *answers))
    mean: dict[str, Any] = {}
    for name in ("accuracy", "overlap"):
        print(
            f"\n{name} on test digits, mean of {len(seeds)} seeds ± standard deviation\n{'':20}{heads}"
        )
        for arm in seeds[0]:
            columns = [[seed[arm][r][name] for seed in seeds] for r in range(len(answers) + 1)]
            spread = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in columns]
            means = [statistics.fmean(c) for c in columns]
            mean.setdefault(arm, {})[name] = means
            cells = "".join(f"{m:>10.3f} ± {s:.3f}" for m, s in zip(means, spread, strict=True))
            print(f"{arm:20}{cells}")
    print(f"settings: {FEEDBACK!r}, {ROUND}")
    return {"answers": [0, *answers], "seeds": seeds, "mean": mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument(
        "--answers", type=int, nargs="+", default=[5, 20, 60], help="in all, after each round"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.answers != sorted(set(arguments.answers)) or arguments.answers[0] < 1:
        parser.error("--answers must grow from round to round, from 1 upwards")
    torch.set_num_threads(1)  # the figures repeat exactly, and a LeNet gains little from more
    first = arguments.first_seed
    seeds = [
        run_seed(seed, arguments.answers, arguments.arms)
        for seed in range(first, first + arguments.seeds)
    ]
    results = report(seeds, arguments.answers)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
