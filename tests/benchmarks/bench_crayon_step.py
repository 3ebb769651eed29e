"""What a CRAYON-Attention training step costs, beside a plain step and the published structure.

    python tests/benchmarks/bench_crayon_step.py [--json PATH]

All three run in turn, in one process, on the same batch of the same ResNet-50; the ratios are medians
over the rounds. "Published structure" is a step built as the authors' code builds it: one forward for the
cross-entropy, a second one for Grad-CAM with ``autograd.grad(create_graph=True)``. Forwards and FLOPs are
counted, not timed, and both CRAYON losses must agree to 1e-5 (in eval mode: two forwards in train mode
see other BatchNorm statistics, which is one of the published form's defects).
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

from xfeedback_widgets.corrections import CrayonAttention
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.feedback import Feedback, Verdict

BARS = {"step_ratio": 1.10, "speedup": 1.8, "forwards": 1, "loss_difference": 1e-5}


class PublishedStep:
    """Cross-entropy and penalties from two forwards, maps through a second differentiation."""

    def __init__(self, model: nn.Module, frozen: torch.Tensor, answers: list[str]) -> None:
        self.model, self.frozen = model, frozen
        self.yes = torch.tensor([a == "accept" for a in answers])
        self.no = torch.tensor([a == "reject" for a in answers])

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(self.model(images), labels, reduction="sum")
        seen: list[torch.Tensor] = []
        handle = self.model.layer4.register_forward_hook(lambda _m, _i, out: seen.append(out))
        logits = self.model(images)
        handle.remove()
        score = logits.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, seen[0], create_graph=True)
        maps = (gradient.mean((2, 3), keepdim=True) * seen[0]).sum(1).relu()
        maps = maps / maps.amax((1, 2), keepdim=True)
        outside = 1 - self.frozen
        yes = (maps * outside).sum((1, 2)) / outside.sum((1, 2))
        no = (maps * self.frozen).sum((1, 2)) / self.frozen.sum((1, 2))
        return (
            loss
            + yes[self.yes].sum() * 10 / self.yes.sum()
            + no[self.no].sum() * 10 / self.no.sum()
        )


def measure(name: str, make, batch_size: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = make(num_classes=10)
    with torch.no_grad():  # positive evidence, so that no map is empty and 0/0 cannot enter
        model.fc.weight.uniform_(0.0, 0.1)
    images = torch.randn(batch_size, 3, 224, 224)
    data = ImageSet(
        [(image, i % 10) for i, image in enumerate(images)], ids=list(map(str, range(batch_size)))
    )
    answers = ["accept", "reject"] * (batch_size // 2)
    feedback = Feedback.of(Verdict(str(i), a) for i, a in enumerate(answers))
    batch = data.batch(range(batch_size))

    correction = CrayonAttention.published(alpha=10, beta=10)
    model.eval()
    correction.prepare(model, data, feedback)
    published = PublishedStep(model, correction._frozen_at((7, 7)), answers)
    ours_loss = correction.loss(model, batch).total.item()
    published_loss = published(batch.images, batch.labels).item()

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    losses = {
        "plain": lambda: F.cross_entropy(model(batch.images), batch.labels, reduction="sum"),
        "crayon": lambda: correction.loss(model, batch).total,
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
    ratio = [c / p for c, p in zip(times["crayon"], times["plain"], strict=True)]
    speedup = [p / c for p, c in zip(times["published"], times["crayon"], strict=True)]
    return {
        "model": name,
        "forwards": len(counts),
        "loss_difference": abs(ours_loss - published_loss) / abs(published_loss),
        "step_ratio": statistics.median(ratio),
        "speedup": statistics.median(speedup),
        "flops_ratio": flops["crayon"] / flops["plain"],
        "published_flops_ratio": flops["published"] / flops["plain"],
        "plain_seconds": statistics.median(times["plain"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    rows = [
        measure("ResNet-18", resnet18, arguments.batch_size, arguments.rounds),
        measure("ResNet-50", resnet50, arguments.batch_size, arguments.rounds),
    ]
    heads = ("forwards", "÷ plain step", "FLOPs ÷", "published ÷ ours", "loss differs")
    print(f"{'':10} {heads[0]:>8} {heads[1]:>13} {heads[2]:>8} {heads[3]:>17} {heads[4]:>13}")
    for row in rows:
        print(
            f"{row['model']:10} {row['forwards']:>8} {row['step_ratio']:>13.3f} {row['flops_ratio']:>8.4f} "
            f"{row['speedup']:>17.2f} {row['loss_difference']:>13.1e}"
        )
    print(
        f"bars (ResNet-50): forwards {BARS['forwards']}, ÷ plain ≤ {BARS['step_ratio']}, "
        f"published ÷ ours ≥ {BARS['speedup']}, loss differs ≤ {BARS['loss_difference']}"
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
