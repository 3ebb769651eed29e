"""What a GRADIA training step costs, beside a plain step and the published structure.

    python tests/benchmarks/bench_gradia_step.py [--size 224] [--batch-size 16] [--json PATH]

All three run in turn, in one process, on the same batch of the same network, every image of which has a
mask; the ratios are medians over the rounds. "Published structure" is a step built as the authors' code
builds it: one forward for the cross-entropy, then for each image with a mask a forward of its own, and a
backward of its own whose gradient at the last block gives Grad-CAM's channel weights. Forwards and FLOPs are
counted, not timed, and both losses must agree to 1e-5 (in eval mode: in train mode BatchNorm normalises each
of the published form's single images by itself, which is one of its defects).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, resnet50

from xfeedback_widgets.corrections import Gradia
from xfeedback_widgets.corrections.gradia import WEIGHTS
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict

BARS = {
    "step_ratio": 1.10,
    "speedup": {"ResNet-50": 2.5, "ResNet-18": 5.0},
    "loss_difference": 1e-5,
}


class PublishedStep:
    """Weighted cross-entropy from one forward, and a forward and a map for each image with a mask."""

    def __init__(
        self, model: nn.Module, weights: torch.Tensor, masks: dict[int, torch.Tensor]
    ) -> None:
        self.model, self.weights, self.masks = model, weights, masks

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(self.model(images), labels, reduction="none")
        loss = (self.weights[:, 0] * each).mean()
        terms = []
        for row, human in self.masks.items():
            seen: list[torch.Tensor] = []
            handle = self.model.layer4.register_forward_hook(
                lambda _m, _i, out, seen=seen: seen.append(out)
            )
            logits = self.model(images[row : row + 1])
            handle.remove()
            # hooks get it from a backward through all of the network; this leaves .grad alone
            everything = [seen[0], *self.model.parameters()]
            gradient, *_ = torch.autograd.grad(
                logits[0, labels[row]], everything, retain_graph=True
            )
            maps = (gradient.mean((2, 3), keepdim=True).detach() * seen[0]).sum(1)[0]
            maps = (maps - maps.min()) / (maps.max() - maps.min())
            terms.append(self.weights[row, 1] * (maps - human).abs().mean())
        return loss + sum(terms) / len(terms)


def human(mask: torch.Tensor, size: int) -> torch.Tensor:
    """What people drew, at the size of the map: averaged, blurred, divided by its maximum."""
    small = F.adaptive_avg_pool2d(mask[None, None].float(), size)
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    blurred = F.conv2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), kernel[None, None])[0, 0]
    return blurred / blurred.max()


def measure(name: str, make, size: int, batch_size: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = make(num_classes=10)
    images = torch.randn(batch_size, 3, size, size)
    ids = list(map(str, range(batch_size)))
    data = ImageSet([(image, i % 10) for i, image in enumerate(images)], ids=ids)
    masks = {}
    for row in range(batch_size):
        masks[row] = torch.zeros(size, size, dtype=torch.int8)
        masks[row][size // 11 : size * (20 + row) // 45, size // 6 : size * 2 // 3] = 1
    said = [RegionMask(str(row), mask.numpy()) for row, mask in masks.items()]
    feedback = Feedback.of([*said, *(Verdict(str(row), "reject") for row in masks)])
    batch = data.batch(range(batch_size))

    model.eval()
    with torch.no_grad():
        right = model(images).argmax(1) == batch.labels
    cells = ["RA"] * batch_size
    for row in masks:
        cells[row] = "UA" if right[row] else "UIA"
    weights = torch.tensor([WEIGHTS[cell] for cell in cells])
    correction = Gradia.published()
    correction.prepare(model, data, feedback)
    published = PublishedStep(
        model, weights, {row: human(m, size // 32) for row, m in masks.items()}
    )
    ours_loss = correction.loss(model, batch).total.item()
    published_loss = published(batch.images, batch.labels).item()

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    losses = {
        "plain": lambda: F.cross_entropy(model(batch.images), batch.labels),
        "gradia": lambda: correction.loss(model, batch).total,
        "published": lambda: published(batch.images, batch.labels),
    }

    def step(kind: str) -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        losses[kind]().backward()
        optimizer.step()
        return time.perf_counter() - start

    model.train()
    counts: list[int] = []
    handle = model.register_forward_hook(lambda *_: counts.append(1))
    correction.loss(model, batch).total.backward()
    handle.remove()
    flops = {}
    for kind, loss in losses.items():
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        flops[kind] = counter.get_total_flops()
    times: dict[str, list[float]] = {kind: [] for kind in losses}
    for _ in range(rounds):
        for kind in losses:
            times[kind].append(step(kind))
    ratio = [g / p for g, p in zip(times["gradia"], times["plain"], strict=True)]
    speedup = [p / g for p, g in zip(times["published"], times["gradia"], strict=True)]
    return {
        "model": name,
        "forwards": len(counts),
        "loss_difference": abs(ours_loss - published_loss) / abs(published_loss),
        "step_ratio": statistics.median(ratio),
        "speedup": statistics.median(speedup),
        "flops_ratio": flops["gradia"] / flops["plain"],
        "published_flops_ratio": flops["published"] / flops["plain"],
        "plain_seconds": statistics.median(times["plain"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    rows = [
        measure(name, make, arguments.size, arguments.batch_size, arguments.rounds)
        for name, make in (("ResNet-18", resnet18), ("ResNet-50", resnet50))
    ]
    heads = ("forwards", "÷ plain step", "FLOPs ÷", "published ÷ ours", "loss differs")
    print(f"{'':10} {heads[0]:>8} {heads[1]:>13} {heads[2]:>8} {heads[3]:>17} {heads[4]:>13}")
    met = True
    for row in rows:
        print(
            f"{row['model']:10} {row['forwards']:>8} {row['step_ratio']:>13.3f} {row['flops_ratio']:>8.4f} "
            f"{row['speedup']:>17.2f} {row['loss_difference']:>13.1e}"
        )
        met &= row["forwards"] == 1 and row["step_ratio"] <= BARS["step_ratio"]
        met &= row["speedup"] >= BARS["speedup"][row["model"]]
        met &= row["loss_difference"] <= BARS["loss_difference"]
    speedups = ", ".join(f"{bar} ({name})" for name, bar in BARS["speedup"].items())
    print(
        f"bars: forwards 1, ÷ plain ≤ {BARS['step_ratio']}, published ÷ ours ≥ {speedups}, "
        f"loss differs ≤ {BARS['loss_difference']}; {'all met' if met else 'MISSED'}"
    )
    print(f"batches of {arguments.batch_size}, {arguments.size} pixels, a mask on every image")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
