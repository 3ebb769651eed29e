"""Bayesian feedback: what a step costs, and Decoy MNIST with 189 annotated images as in the paper.

    python tests/benchmarks/bench_bayesian.py [step] [decoys] [--seeds 5] [--data DIR] [--json PATH]

``step``: a training step with masks on half of the batch, beside a step of the same Bayesian LeNet without
any, in turn in one process; medians of the ratios.

``decoys``: the protocol of Bekkemoen & Langseth (arXiv 2105.02653). 54,000 MNIST digits with a grey square
of the class in all four corners; on the 10,000 test digits the grey is that of a random class. A Bayesian
LeNet (batch 256, Adam, 1e-3) is trained for an epoch without feedback, then 16 epochs of 211 batches with the
decoys marked irrelevant in 189 random images, which fill half of each batch. Beside it stand the model after
the first epoch, plain fine-tuning on the same batches, masks of as many pixels in random places, and the
paper's density with the weight and the floor that served it best.

No model is selected: the weights measured are those after the last step. The form of the density, weight,
learning rate, its cosine and the number of epochs were chosen for seeds 100 and 101 on the 6,000 validation
digits *with the decoys of their classes*: accuracy there, less the share of predictions that change when the
decoys of another such image are put in, which needs masks but no labels. Nothing was chosen on test digits or
on labels of digits with random decoys. Seed 0 is left out by default, as an earlier form had been seen to
reach 94.3 % on its test digits.

Overlap (eq. 17) is measured on test digits, of the true class, Occlusion with windows of 3 × 3; calibration
and out-of-distribution detection (against 28-pixel crops of textures) with 20 draws of the weights.
The command exits with status 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xfeedback_widgets import bayesian, metrics
from xfeedback_widgets.corrections import BayesianFeedback, PlainFineTuning, RandomFeedback
from xfeedback_widgets.data import ImageSet, decoy_mnist
from xfeedback_widgets.feedback import Feedback, RegionMask
from xfeedback_widgets.training import fine_tune

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from torch import nn

    from xfeedback_widgets.corrections import Correction

ROOT = Path(__file__).resolve().parents[2]

ANNOTATED = 189
WARM = {"epochs": 1, "batch_size": 256, "lr": 1e-3, "answered_share": 0.0}
TUNE = {
    "epochs": 16,
    "steps_per_epoch": 211,
    "batch_size": 256,
    "lr": 2e-3,
    "lr_schedule": "cosine",
    "answered_share": 0.5,
}
FEEDBACK = BayesianFeedback(weight=0.2, scale_free=True)
OF_THE_PAPER = BayesianFeedback(weight=3e-3, sigma_floor=0.01)

BASE, PLAIN, RANDOM, PAPER, TOLD = (
    "one epoch, no feedback", "plain fine-tuning", "random masks",
    "the paper's density", "scale-free density",
)  # fmt: skip
OVERLAPS = {"saliency": 0.031, "deeplift": 0.019, "gradcam": 0.025, "occlusion": 0.050}
ACCURACY = 0.970
STEP = {"without gradient mask": 1.15, "scale-free density": 1.15, "with gradient mask": 1.4}


def step_ratios(rounds: int) -> dict[str, Any]:
    """Time the steps in turn; return the ratios to a step without feedback, bars included."""
    torch.manual_seed(0)
    model = bayesian.lenet()
    images = torch.rand(256, 1, 28, 28)
    data = ImageSet([(image, i % 10) for i, image in enumerate(images)], ids=map(str, range(256)))
    decoys = np.zeros((28, 28), np.int8)
    for rows in (slice(4), slice(-4, None)):
        decoys[rows, :4] = decoys[rows, -4:] = -1
    masks = Feedback.of(RegionMask(str(i), decoys) for i in range(128, 256))
    corrections: dict[str, Correction] = {
        "plain": PlainFineTuning(),
        "without gradient mask": BayesianFeedback(weight=1e-4, gradient_mask=False),
        "scale-free density": BayesianFeedback(weight=0.1, scale_free=True),
        "with gradient mask": BayesianFeedback(weight=1e-4),
    }
    for correction in corrections.values():
        correction.prepare(model, data, masks)
    batch, optimizer = data.batch(range(256)), torch.optim.Adam(model.parameters(), 1e-4)
    model.train()
    times: dict[str, list[float]] = {name: [] for name in corrections}
    for _ in range(rounds):
        for name, correction in corrections.items():
            start = time.perf_counter()
            optimizer.zero_grad()
            correction.loss(model, batch).total.backward()
            optimizer.step()
            times[name].append(time.perf_counter() - start)
    plain = times.pop("plain")
    ratios = {
        name: statistics.median(a / b for a, b in zip(spent, plain, strict=True))
        for name, spent in times.items()
    }
    print(f"Bayesian LeNet, 256 digits, half with masks; a plain step: {min(plain) * 1e3:.0f} ms")
    bars = {}
    for name, ratio in ratios.items():
        bars[name] = ratio <= STEP[name]
        print(f"  {_met(bars[name])} {name}: {ratio:.2f} of a plain step, at most {STEP[name]}")
    return {"ratios": ratios, "bars": bars}


def textures(count: int) -> torch.Tensor:
    """Return crops ``[count, 1, 28, 28]`` of photographed grass, gravel and brick."""
    from skimage import data

    generator = torch.Generator().manual_seed(0)
    photographs = [
        torch.tensor(getattr(data, n)()).float() / 255 for n in ("grass", "gravel", "brick")
    ]
    corners = torch.randint(0, 512 - 28, (count, 2), generator=generator).tolist()
    return torch.stack(
        [photographs[i % 3][None, y : y + 28, x : x + 28] for i, (y, x) in enumerate(corners)]
    )


def first(data: ImageSet, count: int) -> ImageSet:
    """Return the first images of a set."""
    some = torch.utils.data.Subset(data, range(count))
    masks = [data.mask(i) for i in range(count)]
    return ImageSet(some, ids=data.ids[:count], labels=data.labels[:count], masks=masks)


def overlaps(model: nn.Module, data: ImageSet) -> dict[str, float]:
    """Attribution overlap by method: the slow ones on fewer images."""
    few = first(data, 500)
    return {
        method: metrics.evaluate(
            model, few if method in ("deeplift", "occlusion") else data, saliency=method
        )["attribution_overlap"]
        for method in OVERLAPS
    }


def beliefs(model: nn.Module, data: ImageSet) -> dict[str, float]:
    """Calibration on the first 2,000 images, and how well mutual information knows textures apart."""
    batch = data.batch(range(2000))
    known = bayesian.predict(model, batch.images)
    strange = bayesian.predict(model, textures(2000))
    return {
        "ece": metrics.expected_calibration_error(known.probabilities, batch.labels),
        "nll": metrics.negative_log_likelihood(known.probabilities, batch.labels),
        "brier": metrics.brier_score(known.probabilities, batch.labels),
        "auroc": metrics.out_of_distribution_auroc(
            known.mutual_information, strange.mutual_information
        ),
    }


def marked(data: ImageSet, seed: int) -> Feedback:
    """Mark the decoys of `ANNOTATED` random images as irrelevant."""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:ANNOTATED]
    return Feedback.of(
        RegionMask(data.ids[i], np.where(data.mask(i).numpy(), 0, -1)) for i in chosen.tolist()
    )


def train_base(root: Path, seed: int) -> dict[str, torch.Tensor]:
    """Train an epoch without feedback; return the weights."""
    torch.set_num_threads(1)  # the figures repeat exactly, and a LeNet gains little from more
    torch.manual_seed(seed)
    model, train = bayesian.lenet(), decoy_mnist(root, "train", masks="decoys", seed=seed)
    fine_tune(model, train, Feedback(), PlainFineTuning(), seed=seed, **WARM)
    return model.state_dict()


def run_arm(root: Path, seed: int, arm: str, weights: dict[str, torch.Tensor]) -> dict[str, float]:
    """Train an arm from these weights and measure it on the test digits."""
    torch.set_num_threads(1)
    train = decoy_mnist(root, "train", masks="decoys", seed=seed)
    test = decoy_mnist(root, "test", masks="decoys", seed=seed)
    model = bayesian.lenet().eval()
    model.load_state_dict(weights)
    corrections: dict[str, Correction | None] = {
        BASE: None,
        PLAIN: PlainFineTuning(),
        RANDOM: RandomFeedback(FEEDBACK, seed=seed),
        PAPER: OF_THE_PAPER,
        TOLD: FEEDBACK,
    }
    start, correction = time.monotonic(), corrections[arm]
    if correction is not None:
        fine_tune(model, train, marked(train, seed), correction, seed=seed + 1, **TUNE)
    seconds = time.monotonic() - start
    row = {"accuracy": metrics.evaluate(model, test, batch_size=1000)["accuracy"]}
    return row | overlaps(model, test) | beliefs(model, test) | {"seconds": seconds}


def run_seed(pool: Executor, root: Path, seed: int, arms: list[str]) -> dict[str, dict[str, float]]:
    """Train every arm once, from the same weights, as many at a time as the pool has processes."""
    start = time.monotonic()
    weights = pool.submit(train_base, root, seed).result()
    begun = [pool.submit(run_arm, root, seed, arm, weights) for arm in arms]
    rows = {arm: one.result() for arm, one in zip(arms, begun, strict=True)}
    for arm, row in rows.items():
        print(f"  seed {seed}, {arm} ({row['seconds']:.0f} s): {row['accuracy']:.2%}")
    print(f"  seed {seed}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    return rows


def report(seeds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Print the table and return it with the bars."""
    columns = ("accuracy", *OVERLAPS, "ece", "nll", "brier", "auroc")
    mean = {
        arm: {c: statistics.fmean(seed[arm][c] for seed in seeds) for c in columns}
        for arm in seeds[0]
    }
    heads = (
        "accuracy",
        "Saliency",
        "DeepLIFT",
        "Grad-CAM",
        "Occlusion",
        "ECE",
        "NLL",
        "Brier",
        "AUROC",
    )
    print(f"\nDecoy MNIST, {ANNOTATED} masks, mean of {len(seeds)} seeds; overlap by method")
    print(" " * 24 + "".join(f"{head:>10}" for head in heads))
    for arm, row in mean.items():
        print(
            f"{arm:24}{row['accuracy']:>10.2%}" + "".join(f"{row[c]:>10.3f}" for c in columns[1:])
        )
    print(f"settings: {FEEDBACK!r}, {TUNE}")
    told = mean[TOLD]
    bars = {f"accuracy ≥ {ACCURACY:.1%}": told["accuracy"] >= ACCURACY}
    bars |= {f"{m} overlap ≤ {bar}": told[m] <= bar for m, bar in OVERLAPS.items()}
    for bar, met in bars.items():
        print(f"  {_met(met)} {bar}")
    return {"seeds": seeds, "mean": mean, "bars": bars}


def _met(met: bool) -> str:
    return "met   " if met else "MISSED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="step, decoys; default: both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="of the steps that are timed")
    parser.add_argument("--processes", type=int, default=2, help="arms trained at a time")
    parser.add_argument(
        "--brief", action="store_true", help="only the rows without and with feedback"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("XFEEDBACK_DATA", ROOT.parent / "shared" / "data")) / "mnist",
        help="folder with MNIST's four files, compressed",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    parts = arguments.parts or ["step", "decoys"]
    if unknown := set(parts) - {"step", "decoys"}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: step, decoys")
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if "step" in parts:
        results["step"] = step_ratios(arguments.rounds)
    if "decoys" in parts:
        arms = [BASE, TOLD] if arguments.brief else [BASE, PLAIN, RANDOM, PAPER, TOLD]
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        with tempfile.TemporaryDirectory() as unpacked:
            raw = Path(unpacked) / "MNIST" / "raw"
            raw.mkdir(parents=True)
            for packed in arguments.data.glob("*-ubyte.gz"):
                (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
            spawned = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(arguments.processes, spawned) as pool:
                rows = [run_seed(pool, Path(unpacked), seed, arms) for seed in seeds]
        results["decoys"] = report(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0 if all(met for part in results.values() for met in part["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
