"""Bayesian feedback beyond the paper's networks: a residual network and a vision transformer.

    python tests/benchmarks/bench_bayesian_networks.py [NETWORK …] [--seeds 3] [--json PATH]

Both have learned to read the grey squares in the corners of scikit-learn's digits, are made Bayesian where
they are, and are told in 60 images, drawn by lot, that the squares are irrelevant. Beside the paper's density
and the scale-free one stand plain fine-tuning for the same steps, random masks, and counter-examples, for
which marked squares are exchanged and laid over digits of other classes. Accuracy, Grad-CAM's overlap with
the squares and calibration are those of the test digits, whose squares have the grey of a random class, by
the weights after the last step. In the transformer the convolution that is observed cuts the
patches: what is irrelevant gives no token. It has no rectifier, which the scale-free density asks for; its
row says what it is worth there. Weights are those of the LeNet; nothing was chosen for these networks.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from xfeedback_widgets import bayesian, metrics
from xfeedback_widgets.corrections import (
    BayesianFeedback,
    CounterExamples,
    PlainFineTuning,
    RandomFeedback,
)
from xfeedback_widgets.data import decoy_digits
from xfeedback_widgets.feedback import Feedback, RegionMask
from xfeedback_widgets.training import fine_tune

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.corrections import Correction

ANNOTATED = 60
COLD = 0.01  # weight of the divergence from the prior: with a thousand images it says more than they do
BASE = {"epochs": 1, "steps_per_epoch": 600, "batch_size": 64, "lr": 2e-3}
TUNE = {"epochs": 3, "steps_per_epoch": 60, "batch_size": 64, "lr": 2e-3}
PLAIN = PlainFineTuning(kl_weight=COLD)
PAPER = BayesianFeedback(weight=3e-3, kl_weight=COLD, sigma_floor=0.01)
SCALE_FREE = BayesianFeedback(weight=0.3, scale_free=True, kl_weight=COLD)
COUNTER = CounterExamples(PLAIN, plant=0.5)


class Residual(nn.Module):
    """Two 3 × 3 convolutions around which the input goes, too."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(images)).relu()
        return (self.norm2(self.conv2(hidden)) + self.shortcut(images)).relu()


def residual_network() -> nn.Module:
    return nn.Sequential(
        Residual(1, 16, 2), Residual(16, 32, 2), Residual(32, 32, 1), nn.Flatten(), nn.Linear(32 * 49, 10)
    )  # fmt: skip


def vision_transformer() -> nn.Module:
    network = VisionTransformer(28, 4, 3, 4, 64, 128, num_classes=10)
    network.conv_proj = nn.Conv2d(1, 64, 4, 4)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual network": residual_network,
    "vision transformer": vision_transformer,
}


def run_seed(make: Callable[[], nn.Module], seed: int) -> dict[str, dict[str, float]]:
    train, test = (decoy_digits(split, masks="decoys", seed=seed) for split in ("train", "test"))
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:ANNOTATED]
    masks = Feedback.of(
        RegionMask(train.ids[i], np.where(train.mask(i).numpy(), 0, -1)) for i in chosen.tolist()
    )
    torch.manual_seed(seed)
    base = make()
    fine_tune(base, train, Feedback(), PlainFineTuning(), seed=seed, freeze_batchnorm=False, **BASE)
    bayesian.convert(base.eval(), rho=-4.0)
    arms: dict[str, Correction | None] = {
        "converted": None,
        "plain fine-tuning": PLAIN,
        "random masks": RandomFeedback(PAPER, seed=seed),
        "the paper's density": PAPER,
        "random masks, scale-free": RandomFeedback(SCALE_FREE, seed=seed),
        "scale-free density": SCALE_FREE,
        "random counter-examples": RandomFeedback(COUNTER, seed=seed),
        "counter-examples": COUNTER,
    }
    rows = {}
    for arm, correction in arms.items():
        model = copy.deepcopy(base)
        if correction is not None:
            fine_tune(model, train, masks, correction, seed=seed, **TUNE)
        found = metrics.evaluate(model, test, saliency="gradcam")
        rows[arm] = {name: found[name] for name in ("accuracy", "attribution_overlap", "ece")}
    return rows


def report(name: str, seeds: list[dict[str, dict[str, float]]]) -> None:
    columns = ("accuracy", "attribution_overlap", "ece")
    print(f"\n{name}, {ANNOTATED} masks, mean ± standard deviation of {len(seeds)} seeds")
    print(f"{'':26}{'accuracy':>16}{'overlap':>16}{'ECE':>16}")
    for arm in seeds[0]:
        cells = ""
        for column in columns:
            values = [seed[arm][column] for seed in seeds]
            # NaN, where all maps of a seed are empty, stays NaN
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            cells += f"{np.mean(values):>8.3f} ± {spread:.3f}"
        print(f"{arm:26}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the figures repeat exactly, and so small a network gains little
    results = {}
    for name in arguments.networks or NETWORKS:
        start, seeds, make = time.monotonic(), [], NETWORKS[name]
        for seed in range(arguments.seeds):
            seeds.append(run_seed(make, seed))
            said = ", ".join(f"{arm} {row['accuracy']:.3f}" for arm, row in seeds[-1].items())
            print(f"{name}, seed {seed} ({time.monotonic() - start:.0f} s): {said}", flush=True)
        results[name] = seeds
        report(name, seeds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
