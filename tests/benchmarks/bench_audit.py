"""What an audit costs, whether it finds planted shortcuts, and what it says of real photographs.

    python tests/benchmarks/bench_audit.py [speed] [merge] [shortcuts] [photographs] [--json PATH] …

``speed``: audited images per second over plain inference, and over the structure of the published code
(one image at a time, two forwards, a backward through the whole model), interleaved batch by batch.
``merge``: a million rows from eight shards, and the memory it takes. ``shortcuts``: 50 classes of coloured
real digits, 10 of which have a patch outside the box that gives them away; does crs find them, does
accuracy? ``photographs``: 10,000 photographs with boxes (Tiny-ImageNet; needs the development data), two
models and two saliency methods.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms

import xfeedback_widgets as xf
from xfeedback_widgets.data import Annotation, Box, Boxes, ImageSet
from xfeedback_widgets.data.folders import IMAGENET_MEAN, IMAGENET_STD

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import planted_shortcuts  # noqa: E402 - a neighbour, found when this runs as a script

DATA = Path(os.environ.get("XFEEDBACK_DATA", HERE.parents[2] / "shared" / "data"))


# -- speed ---------------------------------------------------------------------------------------------


def published(model, layer, image, label, box):
    """Score one image as the published code does: predict, explain, go back through the whole model."""
    with torch.no_grad():
        model(image).argmax(1)
    kept = {}

    def keep(_module, _inputs, output):
        kept["activations"] = output
        output.register_hook(lambda gradient: kept.update(gradients=gradient))

    handle = layer.register_forward_hook(keep)
    logits = model(image)
    model.zero_grad()
    logits[0, label].backward()
    handle.remove()
    a, g = kept["activations"].detach(), kept["gradients"]
    alpha = g**2 / (2 * g**2 + (a * g**3).sum((2, 3), keepdim=True) + 1e-7)
    weights = (alpha * g.relu()).sum((2, 3), keepdim=True)
    saliency = F.interpolate(
        (weights * a).sum(1, keepdim=True).relu(), image.shape[2:], mode="bilinear"
    )[0, 0]
    inside = torch.zeros_like(saliency)
    inside[int(box.ymin) : int(box.ymax), int(box.xmin) : int(box.xmax)] = 1
    return float((saliency * inside).sum() / saliency.sum())


class Race:
    """Times of an audit, plain inference and the published structure, taking turns at every batch."""

    def __init__(self, name, batches, batch_size):
        self.batch_size = batch_size
        self.model = torchvision.models.get_model(name, weights=None).eval()
        self.layer = xf.saliency.GradCAMPlusPlus(self.model).target_layer.module
        count = batches * batch_size
        self.box = Box(40, 60, 180, 200)
        self.data = ImageSet(
            list(zip(torch.randn(count, 3, 224, 224), range(count), strict=True)),
            ids=[str(i) for i in range(count)], class_names=[str(i) for i in range(1000)],
        )  # fmt: skip
        self.boxes = Boxes({str(i): Annotation((self.box,), (224, 224)) for i in range(count)})
        self.times = {"audit": [], "plain": [], "same_layout": [], "published": []}

    def plain(self, start, layout=torch.contiguous_format):
        batch = self.data.batch(range(start, start + self.batch_size))
        with torch.no_grad():
            self.model(batch.images.contiguous(memory_format=layout)).softmax(1).max(1)

    def same_layout(self, start):
        """Plain inference with channels last, as the audit lays images out on a CPU."""
        self.plain(start, torch.channels_last)

    def published(self, start):
        for i in range(start, start + 2):  # two are enough: their time does not depend on the batch
            published(self.model, self.layer, self.data[i][0][None], i, self.box)

    def beside(self, progress):
        """Time the audit's batch that just ended, then the two others on the same images."""
        self.times["audit"].append(time.perf_counter() - self.begun)
        runs = [(key, getattr(self, key)) for key in ("plain", "same_layout", "published")]
        random.shuffle(runs)
        for key, run in runs:
            start = time.perf_counter()
            run(progress.done - self.batch_size)
            self.times[key].append(time.perf_counter() - start)
        self.begun = time.perf_counter()

    def run(self):
        self.plain(0)
        self.published(0)
        self.begun = time.perf_counter()
        xf.audit(
            self.model,
            self.data,
            boxes=self.boxes,
            batch_size=self.batch_size,
            progress=self.beside,
        )
        # the first batch also pays for what is done once: finding the layer, hashing the weights
        fixed = self.times["audit"][0] - statistics.median(self.times["audit"][1:])
        audit, plain, same, old = (self.times[key][1:] for key in self.times)
        per_image = [seconds / self.batch_size for seconds in audit]
        return {
            "batch": self.batch_size,
            "plain_images_per_s": self.batch_size / statistics.median(plain),
            "audit_over_plain": statistics.median(p / a for p, a in zip(plain, audit, strict=True)),
            "audit_over_same_layout": statistics.median(
                p / a for p, a in zip(same, audit, strict=True)
            ),
            "published_images_per_s": 2 / statistics.median(old),
            "audit_over_published": statistics.median(
                seconds / 2 / ours for seconds, ours in zip(old, per_image, strict=True)
            ),
            "fixed_s": fixed,
        }


def speed(options):
    print("speed: bars: audit/plain ≥ 0.90, audit/published ≥ 4")
    columns = (
        "model",
        "batch",
        "plain im/s",
        "audit/plain",
        "audit/plain channels last",
        "published im/s",
    )
    print(" | ".join((*columns, "audit/published", "once s")))
    rows = []
    for name in ("resnet50", "mobilenet_v2"):
        row = {"model": name, **Race(name, options.batches, options.batch_size).run()}
        rows.append(row)
        figures = [f"{value:.2f}" for value in list(row.values())[2:]]
        print(" | ".join((name, str(row["batch"]), *figures)), flush=True)
    return rows


# -- merge ---------------------------------------------------------------------------------------------


def merge(options):
    print("merge: bars: exact, peak < 1,024 MB (of the whole process, torch included)")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "merge_shards.py"), folder, str(options.rows)]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    row = json.loads(found)
    seconds = f"read and compared {row['load_s']:.1f} s, merged {row['merge_s']:.1f} s"
    print(
        f"{row['rows']:,} rows, {row['shards']} shards: exact {row['exact']}, {seconds}, ranked "
        f"{row['ranking_s']:.1f} s, peak {row['peak_mb']:.0f} MB ({row['before_mb']:.0f} before any row)"
    )
    return [row]


# -- shortcuts -----------------------------------------------------------------------------------------


def shortcuts(options):
    print("shortcuts: bars: AUROC by crs ≥ 0.95, by accuracy alone ≤ 0.6")
    print(
        "columns end in AUROC of low crs and of low accuracy; 0.0 of the latter: planted classes are the best"
    )
    rows = []
    for seed in range(options.seeds):
        for row in planted_shortcuts.trial(seed, options.epochs):
            if not rows:
                print(" | ".join(row))
            rows.append(row)
            print(
                " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()),
                flush=True,
            )
    return rows


# -- photographs ---------------------------------------------------------------------------------------


class _Zipped:
    """Pictures in a zip file and their labels."""

    def __init__(self, path, files, labels, classes):
        self.path, self.files, self.targets, self.classes = path, files, labels, classes
        self.zip = zipfile.ZipFile(path)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return Image.open(io.BytesIO(self.zip.read(self.files[index]))).convert(
            "RGB"
        ), self.targets[index]


def tiny_imagenet(size, per_class=None):
    """10,000 photographs of 200 classes with a box each; returns (data, boxes, outputs)."""
    folder = DATA / "tiny_imagenet_val_boxes"
    with (folder / "classes.csv").open() as lines:
        classes = list(csv.DictReader(lines))
    with (folder / "boxes.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    number = {each["wnid"]: i for i, each in enumerate(classes)}
    if per_class is not None:
        seen = dict.fromkeys(number, 0)
        kept = []
        for row in rows:
            seen[row["wnid"]] += 1
            if seen[row["wnid"]] <= per_class:
                kept.append(row)
        rows = kept
    names = [each["words"].split(",")[0] for each in classes]
    names = [
        f"{n} ({c['wnid']})" if names.count(n) > 1 else n
        for n, c in zip(names, classes, strict=True)
    ]
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    files = [row["file"] for row in rows]
    dataset = _Zipped(folder / "images.zip", files, [number[row["wnid"]] for row in rows], names)
    data = ImageSet(dataset, ids=files, transform=transform)
    renamed = {each["wnid"]: name for each, name in zip(classes, names, strict=True)}
    boxes = xf.data.table_boxes(folder / "boxes.csv", size=(64, 64), inclusive=True, names=renamed)
    return data, boxes, [int(each["imagenet_idx"]) for each in classes]


def photo_model(name):
    model = torchvision.models.get_model(name, weights=None).eval()
    path = DATA / name / f"{name}_imagenet.pth"
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


#: Audits in the order they run, and the pairs whose rankings are compared.
AUDITS = (
    ("mobilenet_v2", "gradcam++"),
    ("squeezenet1_1", "gradcam++"),
    ("squeezenet1_1", "smooth_gradcam++"),
    ("mobilenet_v2", "smooth_gradcam++"),
)
PAIRS = ((0, 1), (1, 2), (0, 3))


def audited(name, method, problem, options):
    """Audit the photographs with one model and method, and print a line about it."""
    data, boxes, outputs = problem
    model = photo_model(name)
    begun = time.perf_counter()
    report = xf.audit(
        model, data, boxes=boxes, outputs=outputs, batch_size=25,
        saliency=xf.saliency.SmoothGradCAMPlusPlus(model, n=options.copies) if "smooth" in method else method,
        directory=options.directory and options.directory / f"{name}-{method}-{options.size}-{len(data)}",
    )  # fmt: skip
    minutes = (time.perf_counter() - begun) / 60
    found = report.summary()
    shares = [f"{found[key]:.3f}" for key in ("accuracy", "accuracy_top5", "crs", "expected")]
    low = [str(int((report.class_table["crs"] < bound).sum())) for bound in (0.2, 0.3, 0.4)]
    line = (name, method, f"{minutes:.1f}", *shares, "/".join(low), f"{found['empty_maps']:.0f}")
    print(" | ".join((*line, ", ".join(report.ranking[:5]))), flush=True)
    if options.directory:
        worst = report.plot_worst(model, data, boxes=boxes)
        report.save(options.directory / f"{name}-{method}.html", figures=[worst])
    return report


def photographs(options):
    if not DATA.is_dir():
        print(f"photographs: skipped, no development data at {DATA}")
        return []
    problem = tiny_imagenet(options.size, options.per_class)
    print(
        f"photographs: {len(problem[0]):,} of Tiny-ImageNet at {options.size} px, {problem[1].source}"
    )
    print(
        "model | method | minutes | top-1 | top-5 | mean crs | if even | < .2/.3/.4 | empty | lowest five"
    )
    reports, rows = [], []
    for name, method in AUDITS[: options.audits]:
        reports.append(audited(name, method, problem, options))
    print("between | and | by | lowest | shared | by chance | Fisher p | Spearman")
    for one, two in PAIRS:
        if max(one, two) >= len(reports):
            continue
        for by in ("crs", "lift"):
            table = xf.audit.agreement(reports[one], reports[two], by=by)
            for place in range(table.height):
                row = {name: column[place].item() for name, column in table.items()}
                rows.append({"one": AUDITS[one], "two": AUDITS[two], "by": by, **row})
                between = (*map(" ".join, (AUDITS[one], AUDITS[two])), by, str(row["lowest"]))
                figures = (f"{row['expected']:.1f}", f"{row['p']:.1e}", f"{row['spearman']:.3f}")
                print(" | ".join((*between, str(row["shared"]), *figures)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--batches", type=int, default=12, help="batches that speed times")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--size", type=int, default=160, help="side of the photographs fed to the models"
    )
    parser.add_argument(
        "--per-class", type=int, help="photographs of each class; default: all fifty"
    )
    parser.add_argument(
        "--audits", type=int, default=4, help="how many of the four audits of photographs"
    )
    parser.add_argument("--copies", type=int, default=4, help="noisy copies of Smooth Grad-CAM++")
    parser.add_argument("--directory", type=Path, help="keep the audits of photographs here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of training on shortcuts")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    found = {part: PARTS[part](options) for part in options.parts}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


PARTS = {"speed": speed, "merge": merge, "shortcuts": shortcuts, "photographs": photographs}

if __name__ == "__main__":
    main()
