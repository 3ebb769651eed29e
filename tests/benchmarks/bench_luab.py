"""What LUAB costs, and what clicks are good for: beside plain training and random points.

    python tests/benchmarks/bench_luab.py [step|pets|coco|bubbleview ...] [--seeds 3] [--json PATH]

``step``: a training step on ResNet-50 with a head that learns points, over a plain one, medians of rounds in
turn; forwards and FLOPs are counted. ``pets``: cats and dogs on sea and forest; the last blocks of
MobileNetV2 are trained from ImageNet's weights on cached activations of the ones before, on correlated
pictures, with a simulated click on each training picture (82.9 % of them on the pet, as people's were), as
many steps for each arm; λ and the number of steps were chosen on the validation set. "map" has no head: the
saliency map itself is drawn to the point. ``coco``: 228 photos with several labels; five folds, frozen
MobileNetV2 but for its last block, icons placed by simulation. ``bubbleview``: real people's clicks, replayed
through the records of the browsing page, and how often they are where others looked.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import statistics
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from pets_on_scenes import DATA, mobilenet_v2, pets_on_scenes, run_once
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models, transforms
from torchvision.transforms import v2

from xfeedback_widgets.corrections import Luab, PlainFineTuning, RandomFeedback
from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.data.folders import IMAGENET_MEAN, IMAGENET_STD
from xfeedback_widgets.feedback import (
    Byproduct,
    CocoAB,
    Feedback,
    ImageNetAB,
    import_bubbleview,
)
from xfeedback_widgets.metrics import click_quality, evaluate, hit_rate
from xfeedback_widgets.simulate import Annotator
from xfeedback_widgets.training import fine_tune
from xfeedback_widgets.widgets.browse.tracer import BrowseTrace, apply, rows_of

BARS = {"step_ratio": 1.05, "forwards": 1}
INSIDE = 0.829
ON_OBJECT = 0.923  # of icons, in the paper
CORRELATION = 0.98
CUT = 14  # MobileNetV2's blocks before this one stay as they are
PETS = {"weight": 10.0, "epochs": 15, "lr": 3e-4, "batch_size": 64}
COCO = {"weight": 10.0, "epochs": 12, "lr": 3e-4, "batch_size": 32}
MAP_WEIGHT = 0.1  # as Luab's documentation has it, not tuned
FOLDS = 5


# -- the cost of a step ----------------------------------------------------------------------------


def step(arguments: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    model = models.resnet50(num_classes=10)
    size = arguments.batch_size
    images = torch.randn(size, 3, 224, 224)
    data = ImageSet(
        [(image, i % 10) for i, image in enumerate(images)], ids=list(map(str, range(size)))
    )
    rng = random.Random(0)
    said = Feedback.of(
        Byproduct(
            image_id,
            ImageNetAB(
                image_id, 224, 224, selected=True, selectedRecord=[(rng.random(), rng.random(), 1)]
            ),
        )
        for image_id in data.ids
    )
    batch = data.batch(range(size))
    correction = Luab(weight=10)
    correction.prepare(model, data, said)
    plain = PlainFineTuning()
    plain.prepare(model, data, said)
    losses = {"plain": plain, "luab": correction}
    optimizers = {
        name: torch.optim.Adam([*model.parameters(), *each.parameters()], lr=1e-7)
        for name, each in losses.items()
    }
    model.train()

    def timed(name: str) -> float:
        start = time.perf_counter()
        optimizers[name].zero_grad(set_to_none=True)
        losses[name].loss(model, batch).total.backward()
        optimizers[name].step()
        return time.perf_counter() - start

    counts: list[int] = []
    handle = model.register_forward_hook(lambda *_: counts.append(1))
    correction.loss(model, batch)
    handle.remove()
    flops = {}
    for name, each in losses.items():
        with FlopCounterMode(display=False) as counter:
            each.loss(model, batch).total.backward()
        flops[name] = counter.get_total_flops()
    times: dict[str, list[float]] = {name: [] for name in losses}
    for turn in range(arguments.rounds + 1):
        for name in losses if turn % 2 else reversed(losses):  # who comes first takes turns
            spent = timed(name)
            if turn:  # the first only warms up
                times[name].append(spent)
    ratio = statistics.median(a / b for a, b in zip(times["luab"], times["plain"], strict=True))
    found = {
        "step_ratio": ratio,
        "forwards": len(counts),
        "flops_ratio": flops["luab"] / flops["plain"],
        "plain_seconds": statistics.median(times["plain"]),
    }
    print(
        f"ResNet-50, batch {size}: LUAB step ÷ plain step {ratio:.3f} (bar ≤ {BARS['step_ratio']}), "
        f"{len(counts)} forward (bar {BARS['forwards']}), FLOPs ÷ {found['flops_ratio']:.6f}, plain "
        f"{found['plain_seconds']:.2f} s, {arguments.rounds} rounds"
    )
    return found


# -- pets on scenes --------------------------------------------------------------------------------


def _tail(network: models.MobileNetV2, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = nn.Linear(network.last_channel, classes)
    return nn.Sequential(
        copy.deepcopy(network.features[CUT:]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier
    )


@torch.no_grad()
def _cached(network: models.MobileNetV2, data: ImageSet) -> torch.Tensor:
    return torch.cat([network.features[:CUT](batch.images) for batch in data.batches(32)])


def _arms(weight: float, seed: int, *, maps: bool) -> dict[str, object]:
    arms = {
        "plain": PlainFineTuning(),
        "random points": RandomFeedback(Luab(weight=weight), seed=seed),
        "LUAB": Luab(weight=weight),
    }
    if maps:  # which explain one label
        drawn = Luab(weight=MAP_WEIGHT, head="map")
        arms |= {"random, map": RandomFeedback(drawn, seed=seed), "LUAB, map": drawn}
    return arms


def pets(arguments: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    network = mobilenet_v2(arguments.root)
    settings = {name: value for name, value in PETS.items() if name != "weight"}
    if not arguments.still:  # activations may be cropped and flipped nearly as their pictures
        crop = v2.RandomResizedCrop((10, 10), scale=(0.5, 1), ratio=(1, 1))
        settings["augment"] = v2.Compose([crop, v2.RandomHorizontalFlip()])
    runs = []
    for seed in range(arguments.seeds):
        sets = {}
        for split in ("train", arguments.split):
            data = pets_on_scenes(arguments.root, split, correlation=CORRELATION, seed=seed)
            sets[split] = run_once(network.features[:CUT], data)
        train, measured = sets["train"], sets[arguments.split]
        said = Feedback.of(Annotator(train).clicks(train.ids, inside=INSIDE, seed=seed))
        inside = click_quality(said, train).overall
        run = {}
        for name, correction in _arms(PETS["weight"], seed, maps=True).items():
            model = _tail(network, 2, seed)
            history = fine_tune(
                model, train, said, correction, seed=seed, answered_share=0.0, **settings
            )
            run[name] = evaluate(model, measured, saliency="gradcam")
            run[name]["train_accuracy"] = history.epochs[-1].metrics["train_accuracy"]
        runs.append(run)
        print(f"seed {seed}: {inside.inside:.3f} of {inside.clicks} clicks on the pet", flush=True)
    how = "as they are" if arguments.still else "cropped and flipped"
    print(f"pets on scenes, correlation {CORRELATION}, {PETS}, {how}, {arguments.split}")
    _table(
        runs,
        {
            "worst group": "worst_group_accuracy",
            "attention in object": "energy_pointing_game",
            "accuracy": "accuracy",
            "trained on": "train_accuracy",
            "empty maps": "empty_maps",
        },
    )
    print(
        "bar, worst group and attention in object above plain training and all random points, in the mean:"
    )
    controls = ("plain", "random points", "random, map")
    for arm in ("LUAB", "LUAB, map"):
        above = all(
            statistics.mean(run[arm][key] for run in runs)
            > max(statistics.mean(run[control][key] for run in runs) for control in controls)
            for key in ("worst_group_accuracy", "energy_pointing_game")
        )
        print(f"  {'met   ' if above else 'MISSED'} {arm}")
    return runs


def _table(runs: list[dict[str, dict[str, float]]], columns: dict[str, str]) -> None:
    width = 7 * len(runs) + 9
    print(f"{'':14}" + "".join(f"{title:>{max(width, 20)}}" for title in columns))
    for arm in runs[0]:
        cells = []
        for key in columns.values():
            values = [run[arm][key] for run in runs]
            text = (
                " ".join(f"{value:.3f}" for value in values) + f" | {statistics.mean(values):.3f}"
            )
            cells.append(f"{text:>{max(width, 20)}}")
        print(f"{arm:14}" + "".join(cells))


# -- COCO with several labels ----------------------------------------------------------------------


def _coco(
    root: Path,
) -> tuple[torch.Tensor, list[str], list[str], torch.Tensor, list[dict[int, list]]]:
    """Return pictures ``[N, 3, 160, 160]``, ids, classes, labels, and the boxes of each class."""
    folder = root / "coco_subset"
    content = json.loads((folder / "instances.json").read_text())
    counts: dict[int, set[int]] = {}
    for one in content["annotations"]:
        counts.setdefault(one["category_id"], set()).add(one["image_id"])
    kept = [c for c in content["categories"] if len(counts.get(c["id"], ())) >= 10]
    column = {c["id"]: number for number, c in enumerate(kept)}
    archives = {
        name: zipfile.ZipFile(folder / name) for name in {i["zip"] for i in content["images"]}
    }
    normalize = transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    see = transforms.Compose([transforms.Resize((160, 160)), transforms.ToTensor(), normalize])
    pictures, ids = [], []
    labels = torch.zeros(len(content["images"]), len(kept), dtype=torch.bool)
    boxes: list[dict[int, list]] = [{} for _ in content["images"]]
    rows = {image["id"]: row for row, image in enumerate(content["images"])}
    for image in content["images"]:
        data = archives[image["zip"]].read(image["file_name"])
        pictures.append(see(Image.open(io.BytesIO(data)).convert("RGB")))
        ids.append(image["file_name"])
    for one in content["annotations"]:
        if one["category_id"] in column:
            row, image = rows[one["image_id"]], content["images"][rows[one["image_id"]]]
            labels[row, column[one["category_id"]]] = True
            x, y, width, height = one["bbox"]
            box = (
                x / image["width"],
                y / image["height"],
                width / image["width"],
                height / image["height"],
            )
            boxes[row].setdefault(column[one["category_id"]], []).append(box)
    return torch.stack(pictures), ids, [c["name"] for c in kept], labels, boxes


def _placed(ids, names, boxes, seed: int) -> Feedback:
    """Put an icon of each class on its largest object, or anywhere, as often as people did."""
    rng = random.Random(seed)
    records = []
    for image_id, of_image in zip(ids, boxes, strict=True):
        actions = []
        for column, found in of_image.items():
            x, y, width, height = max(found, key=lambda box: box[2] * box[3])
            point = (x + rng.random() * width, y + rng.random() * height)
            if rng.random() >= ON_OBJECT:
                point = (rng.random(), rng.random())
            point = tuple(min(max(at, 0.0), 1.0) for at in point)
            actions.append(("add", names[column], None, point, len(actions)))
        trace = CocoAB(image_id, 160, 160, actionHistories=actions)
        records.append(Byproduct(image_id, trace, annotator="simulated"))
    return Feedback.of(records)


def coco(arguments: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    network = mobilenet_v2(arguments.root)
    pictures, ids, names, labels, boxes = _coco(arguments.root)
    with torch.no_grad():
        inputs = torch.cat([network.features[:CUT](part) for part in pictures.split(32)])
    data = ImageSet([(image, None) for image in inputs], ids=ids, class_names=names, labels=labels)
    settings = {name: value for name, value in COCO.items() if name != "weight"}
    runs = []
    for seed in range(arguments.seeds):
        said = _placed(ids, names, boxes, seed)
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        scores: dict[str, list[float]] = {}
        for fold in order.chunk(FOLDS):
            rest = order[~torch.isin(order, fold)]
            for name, correction in _arms(COCO["weight"], seed, maps=False).items():
                model = _tail(network, len(names), seed)
                fine_tune(
                    model,
                    data.subset(rest),
                    said,
                    correction,
                    seed=seed,
                    answered_share=0.0,
                    **settings,
                )
                found = evaluate(model, data.subset(fold))
                scores.setdefault(name, []).append(found["mean_average_precision"])
        runs.append({name: {"map": statistics.mean(each)} for name, each in scores.items()})
        print(f"seed {seed} done", flush=True)
    print(
        f"COCO, {len(data)} photographs, {len(names)} classes with 10 or more, {FOLDS} folds, {COCO}"
    )
    _table(runs, {"mean average precision": "map"})
    return runs


# -- real clicks -----------------------------------------------------------------------------------


def _replayed(record: ImageNetAB) -> ImageNetAB:
    size = (record.originalImageHeight, record.originalImageWidth)
    trace = BrowseTrace(record.imageID, size, record.worker_id or "unknown")
    apply([trace], rows_of(record))
    return trace.record()


def bubbleview(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    folder = arguments.root / "bubbleview"
    found = {}
    for name, clicks, truth in (
        ("OSIE, eyes", "osie30x30", "osie-eye-official"),
        ("SALICON, mouse", "salicon30x30", "salicon_gt"),
    ):
        looked: dict[str, list[np.ndarray]] = {}
        for record in import_bubbleview(folder / f"{truth}.mat", keep="path"):
            looked.setdefault(record.imageID, []).append(record.mouseTracking[:, :2])
        of_image: dict[str, list[tuple[float, float]]] = {}
        final: dict[str, list[tuple[float, float]]] = {}
        # as if these people had sat before a BrowseWidget: what its page would have sent, and its records
        series = [_replayed(record) for record in import_bubbleview(folder / f"{clicks}.mat")]
        for record in series:
            places = [click[:2] for click in record.selectedRecord]
            of_image.setdefault(record.imageID, []).extend(places)
            final.setdefault(record.imageID, []).append(record.final_click)
        rates = [hit_rate(each, np.concatenate(looked[i])) for i, each in of_image.items()]
        last = [hit_rate(each, np.concatenate(looked[i])) for i, each in final.items()]
        found[name] = {
            "clicks": sum(rate.clicks for rate in rates),
            "hit_rate": statistics.mean(rate.inside for rate in rates),
            "final_hit_rate": statistics.mean(rate.inside for rate in last),
            "chance": statistics.mean(rate.chance for rate in rates),
        }
        row = found[name]
        print(
            f"BubbleView, {name}: {len(series)} people's series on {len(rates)} photographs, "
            f"{row['clicks']} clicks; {row['hit_rate']:.3f} of them, and {row['final_hit_rate']:.3f} of the "
            f"final ones, on the fifth that others looked at most (chance {row['chance']:.3f})"
        )
    return found


PARTS = {"step": step, "pets": pets, "coco": coco, "bubbleview": bubbleview}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--still", action="store_true", help="pets: without augmentation")
    parser.add_argument("--weight", type=float, help="pets: another λ")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    PETS["weight"] = arguments.weight or PETS["weight"]
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    arguments.root = DATA
    results = {}
    for name in arguments.parts or PARTS:
        if name != "step" and not arguments.root.is_dir():
            print(f"{name}: no development data at {arguments.root} (set XFEEDBACK_DATA)")
            continue
        start = time.monotonic()
        results[name] = PARTS[name](arguments)
        print(f"{name}: {time.monotonic() - start:.0f} s\n", flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
