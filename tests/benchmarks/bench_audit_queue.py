"""What is asked first: does the queue "low robustness score" save answers?

    python tests/benchmarks/bench_audit_queue.py [drawings] [verdicts] [--seeds 5] [--split test]

Textured digits (:func:`xfeedback_widgets.demo.textured_problem`). For each seed the converged model is
audited on its own training images (``xf.audit``, Grad-CAM++, masks of the strokes), which orders the
queue; the other arms are the same scores with the classes in turn, since the lowest scores may be those
of one class, and a random order of the same images. The first images of each queue are answered from
masks and a copy of the model is fine-tuned on those answers, for the same number of steps with the same
settings whatever their number: the curve is worst-group accuracy against answers given. ``drawings``:
object and background are marked on each image, the correction is GRADIA. ``verdicts``: each map is
accepted or rejected, the correction is CRAYON-Attention. "Answers needed" is where a curve, interpolated,
first reaches a share of what the random queue gains with all answers; a queue that never does says so.
The control takes the same steps with answers drawn by lot on the images of the robustness queue.
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

import xfeedback_widgets as xf
from xfeedback_widgets import demo, metrics
from xfeedback_widgets.corrections import Gradia, RandomFeedback
from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict
from xfeedback_widgets.saliency import create, normalize
from xfeedback_widgets.session import judged_map
from xfeedback_widgets.simulate import Annotator
from xfeedback_widgets.training import fine_tune
from xfeedback_widgets.widgets.queue import arrange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xfeedback_widgets.demo import Problem

METRIC = "worst_group_accuracy"
ORDERS = ("robustness", "in turn", "random")
CONTROL = "random answers"
ASKED = {"drawings": (3, 6, 12, 24), "verdicts": (25, 50, 100, 200)}
SHARES = (0.25, 0.5, 0.75)


def drawings(problem: Problem, chosen: Sequence[int]) -> Feedback:
    """Mark object and background on some images, whose maps are found unreasonable."""
    said: list[Verdict | RegionMask] = []
    for index in chosen:
        marks = problem.train.mask(index).to(torch.int8) * 2 - 1
        image_id = problem.train.ids[index]
        said += [Verdict(image_id, "reject"), RegionMask(image_id, marks.numpy())]
    return Feedback.of(said)


def verdicts(problem: Problem, chosen: Sequence[int]) -> Feedback:
    """Accept or reject the present maps of some images by how much of each lies on the strokes."""
    annotator = Annotator(problem.train, threshold=problem.threshold)
    method = create(problem.correction.saliency, problem.model)
    batch = problem.train.batch(list(chosen))
    _, maps = method.logits_and_explain(batch.images, batch.labels)
    found = zip(batch.indices.tolist(), batch.labels.tolist(), normalize(maps), strict=True)
    return Feedback.of(
        Verdict(
            problem.train.ids[index],
            annotator.judge(problem.train.ids[index], saliency),
            target=label,
            map=judged_map(saliency),
        )
        for index, label, saliency in found
    )


def in_turn(queue: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Take the first of each class, then the second of each, and so on."""
    taken: dict[int, int] = {}
    turns = []
    for place, index in enumerate(queue):
        turns.append((taken.setdefault(labels[index], 0), place, index))
        taken[labels[index]] += 1
    return [index for _, _, index in sorted(turns)]


def run_seed(
    problem: Problem, kind: str, seed: int, asked: Sequence[int], split: str
) -> dict[str, Any]:
    report = xf.audit(problem.model, problem.train)
    scores = report.scores(problem.train.ids)
    labels = problem.train.labels.numpy()
    lowest = arrange("robustness", labels, robustness=scores)
    queues = {
        "robustness": lowest,
        "in turn": in_turn(lowest, labels.tolist()),
        "random": arrange("random", labels, seed=seed),
    }
    answer = {"drawings": drawings, "verdicts": verdicts}[kind]
    correction = Gradia() if kind == "drawings" else problem.correction

    def measure(model: torch.nn.Module) -> float:
        return metrics.evaluate(model, getattr(problem, split))[METRIC]

    def tune(feedback: Feedback, learning: Any) -> float:
        model = copy.deepcopy(problem.model)
        settings = problem.settings | {"seed": seed, "audited": 0}
        fine_tune(model, problem.train, feedback, learning, **settings)
        return measure(model)

    everything = {order: answer(problem, queue[: asked[-1]]) for order, queue in queues.items()}
    curves = {
        order: [tune(answer(problem, queue[:count]), correction) for count in asked]
        for order, queue in queues.items()
    }
    background = (labels != problem.train.groups.numpy() % 3)[queues["robustness"]]
    accepted = {
        order: statistics.fmean(v.answer == "accept" for v in given.verdicts.values())
        for order, given in everything.items()
    }
    return {
        "base": measure(problem.model),
        "curves": curves,
        "control": tune(everything["robustness"], RandomFeedback(correction, seed=seed)),
        "accepted": accepted,
        "off_texture": [float(background[: asked[-1]].mean()), float(background.mean())],
        "classes": {
            order: (
                torch.tensor(labels[queue[: asked[-1]]]).bincount(minlength=3) / asked[-1]
            ).tolist()
            for order, queue in queues.items()
        },
    }


def answers_for(
    asked: Sequence[int], values: Sequence[float], base: float, wanted: float
) -> float | None:
    """Return after how many answers a curve reaches `wanted`, interpolated; None: never."""
    before, reached = 0, base
    for count, value in zip(asked, values, strict=True):
        if value >= wanted:
            share = (wanted - reached) / (value - reached) if value > reached else 1.0
            return before + share * (count - before)
        before, reached = count, value
    return None


def report(kind: str, seeds: list[dict[str, Any]], asked: Sequence[int]) -> dict[str, Any]:
    """Print the curves of one kind of answer, and how many answers each order needs."""

    def mean(values: Sequence[Sequence[float]]) -> list[float]:
        return [statistics.fmean(column) for column in zip(*values, strict=True)]

    base = statistics.fmean(seed["base"] for seed in seeds)
    curves = {order: mean([seed["curves"][order] for seed in seeds]) for order in ORDERS}
    control = statistics.fmean(seed["control"] for seed in seeds)
    print(
        f"\n{kind}: worst-group accuracy, mean of {len(seeds)} seeds (± standard deviation); base {base:.3f}"
    )
    print(f"{'answers':12}" + "".join(f"{count:>15}" for count in asked))
    for order, values in curves.items():
        spreads = [
            statistics.stdev(column) if len(seeds) > 1 else 0.0
            for column in zip(*(seed["curves"][order] for seed in seeds), strict=True)
        ]
        cells = (f"{v:.3f} ± {s:.3f}" for v, s in zip(values, spreads, strict=True))
        print(f"{order:12}" + "".join(f"{cell:>15}" for cell in cells))
    print(f"{CONTROL}, {asked[-1]} of them: {control:.3f}")
    needed: dict[str, dict[str, float | None]] = {}
    for share in SHARES:
        wanted = base + share * (curves["random"][-1] - base)
        found = {order: answers_for(asked, curves[order], base, wanted) for order in ORDERS}
        needed[f"{share:.0%}"] = found
        said = ", ".join(
            f"{order} {count:.0f}" if count is not None else f"{order}: never"
            for order, count in found.items()
        )
        print(f"answers needed for {share:.0%} of the random queue's gain ({wanted:.3f}): {said}")
    first, all_ = mean([seed["off_texture"] for seed in seeds])
    print(
        f"  off the texture of their class: {first:.0%} of the robustness queue, {all_:.0%} of all images"
    )
    for order in ORDERS:
        shares = mean([seed["classes"][order] for seed in seeds])
        said = ", ".join(f"{share:.0%}" for share in shares)
        accepted = statistics.fmean(seed["accepted"][order] for seed in seeds)
        print(
            f"  {order}: of the first {asked[-1]}, {said} are of the three classes, and {accepted:.0%} of "
            "the maps accepted"
        )
    return {
        "base": base,
        "curves": curves,
        "asked": asked,
        "control": control,
        "needed": needed,
        "seeds": seeds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(ASKED))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="ask at most this many answers")
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(ASKED):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are: {', '.join(ASKED)}")
    torch.set_num_threads(1)  # these models are too small for more, and the figures repeat exactly
    kinds = arguments.kinds or list(ASKED)
    asked = {k: [n for n in ASKED[k] if n <= (arguments.most or n)] for k in kinds}
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    start = time.monotonic()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        problem = demo.textured_problem(seed)
        for kind in kinds:
            row = run_seed(problem, kind, seed, asked[kind], arguments.split)
            found[kind].append(row)
            said = "; ".join(
                f"{order} " + " ".join(f"{value:.3f}" for value in row["curves"][order])
                for order in ORDERS
            )
            print(f"{kind}, seed {seed} ({time.monotonic() - start:.0f} s): {said}", flush=True)
    results = {kind: report(kind, found[kind], asked[kind]) for kind in kinds}
    print(f"  {arguments.split} split, settings: demo.textured_problem, {Gradia()!r}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
