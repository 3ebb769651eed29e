"""Fifty classes of real digits, ten of which are given away by a patch outside the box.

A class is a digit in a colour. Every picture holds a digit somewhere on clutter, and a patch of noise-like
blocks somewhere outside the digit's box. In the ten planted classes it is the class's own patch, in all
training pictures; in all others it is one of ten further patches, drawn at random, that says nothing. So
all pictures look alike, every class can be told from its digit and colour alone, and nothing but the use of
the patch is planted. A shortcut that always holds makes its classes the most accurate of all, and low
accuracy could not be more misleading; where it holds for a part of the audited pictures only, accuracy says
nothing in either direction. Both are measured. Used by ``bench_audit.py``.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import xfeedback_widgets as xf
from xfeedback_widgets.data import Annotation, Box, Boxes, ImageSet
from xfeedback_widgets.demo import learn, small_cnn

COLOURS = torch.tensor(
    [[1.0, 0.2, 0.2], [0.2, 1.0, 0.2], [0.3, 0.4, 1.0], [1.0, 1.0, 0.1], [1.0, 1.0, 1.0]]
)
CANVAS, DIGIT, PATCH = 40, 18, 8
PLANTED = 10
HELD = (1.0, 0.9, 0.85, 0.7)  # share of the audited pictures of planted classes that have the patch
CLASSES = 10 * len(COLOURS)
NAMES = [
    f"{digit} in {c}" for digit in range(10) for c in ("red", "green", "blue", "yellow", "white")
]


def pictures(train, planted, seed, share=1.0):
    """Return (ImageSet, Boxes); `share` of the pictures of the classes `planted` have their own patch."""
    generator = np.random.default_rng([seed, int(train)])
    digits, values = load_digits(return_X_y=True)
    order = np.random.default_rng(1234).permutation(len(digits))
    chosen = order[:1000] if train else order[1000:]
    patches = torch.from_numpy(
        np.random.default_rng([seed, 99]).random((2 * PLANTED, 3, 4, 4), dtype=np.float32)
    ).repeat_interleave(PATCH // 4, 2).repeat_interleave(PATCH // 4, 3)  # fmt: skip
    items, annotations, ids = [], {}, []
    for number in chosen.tolist():
        ink = F.interpolate(
            torch.tensor(digits[number] / 16, dtype=torch.float32).reshape(1, 1, 8, 8),
            DIGIT,
            mode="bilinear",
        )[0]
        for colour in range(len(COLOURS)):
            label = int(values[number]) * len(COLOURS) + colour
            canvas = (
                torch.from_numpy(generator.random((3, CANVAS // 4, CANVAS // 4), dtype=np.float32))
                * 0.35
            )
            canvas = canvas.repeat_interleave(4, 1).repeat_interleave(4, 2)
            y, x = generator.integers(0, CANVAS - DIGIT + 1, 2).tolist()
            view = canvas[:, y : y + DIGIT, x : x + DIGIT]
            view.copy_(view * (1 - ink) + COLOURS[colour][:, None, None] * ink)
            while True:  # a place that does not touch the box
                top, left = generator.integers(0, CANVAS - PATCH + 1, 2).tolist()
                if top + PATCH <= y or top >= y + DIGIT or left + PATCH <= x or left >= x + DIGIT:
                    break
            telling = label in planted and generator.random() < share
            which = planted.index(label) if telling else PLANTED + int(generator.integers(PLANTED))
            canvas[:, top : top + PATCH, left : left + PATCH] = patches[which]
            ids.append(f"{number}-{colour}")
            items.append((canvas, label))
            annotations[ids[-1]] = Annotation((Box(x, y, x + DIGIT, y + DIGIT),), (CANVAS, CANVAS))
    return ImageSet(items, ids=ids, class_names=NAMES), Boxes(
        annotations, source="where digits were put"
    )


def trial(seed, epochs):
    """Train on planted shortcuts, audit held-out pictures, and see what tells planted classes apart."""
    generator = np.random.default_rng(seed)
    planted = sorted(generator.choice(CLASSES, PLANTED, replace=False).tolist())
    train, _ = pictures(True, planted, seed)
    torch.manual_seed(seed)
    model = small_cnn(
        3, CLASSES, widths=(24, 32, 64, 64), kernels=(3, 3, 3, 1), strides=(2, 2, 1, 1)
    )
    learn(model, train, epochs=epochs, seed=seed)
    return [_row(model, planted, seed, held) for held in HELD]


def _row(model, planted, seed, held):
    test, boxes = pictures(False, planted, seed, held)
    report = xf.audit(model, test, boxes=boxes, batch_size=64)
    table = report.class_table
    is_planted = np.isin(table["label"], planted)
    found = report.summary()
    return {
        "seed": seed,
        "held": held,
        "accuracy_planted": float(table["accuracy"][is_planted].mean()),
        "accuracy_clean": float(table["accuracy"][~is_planted].mean()),
        "crs_planted": float(table["crs"][is_planted].mean()),
        "crs_clean": float(table["crs"][~is_planted].mean()),
        "expected": found["expected"],
        "empty_maps": int(found["empty_maps"]),
        "lowest_ten_planted": int(is_planted[:PLANTED].sum()),
        "auroc_crs": float(roc_auc_score(is_planted, -table["crs"])),
        "auroc_accuracy": float(roc_auc_score(is_planted, -table["accuracy"])),
    }
