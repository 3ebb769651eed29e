"""What to look at next, once an audit has ranked the classes: the paper's follow-up experiments.

`cover` hides the object, or everything else, and watches the softmax; `same_map` finds wrong answers whose
map is that of the right class; `ambiguous` and `natural_adversarials` read candidates off a report. All
return a `Table` of images. The audit itself is in ``run.py``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from xfeedback_widgets.audit.regions import Regions
from xfeedback_widgets.audit.rows import SCORED
from xfeedback_widgets.audit.tables import Table
from xfeedback_widgets.saliency import base, create, is_empty

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from xfeedback_widgets.audit.regions import BoxSource, MaskSource
    from xfeedback_widgets.audit.report import AuditReport
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.saliency import SaliencyMethod

Fill = Literal["noise", "blur", "mean"]
FILLS: tuple[Fill, ...] = ("noise", "blur", "mean")
_BLURRED = 8  # cells a side that an image is blurred to, and pixels a side that a cell has at least


def cover(
    model: nn.Module,
    data: ImageSet,
    ids: Iterable[str],
    *,
    boxes: BoxSource | None = None,
    masks: MaskSource | None = None,
    fills: Sequence[Fill] = FILLS,
    outputs: Sequence[int] | None = None,
    batch_size: int = 32,
) -> Table:
    """Cover the object, and then all but the object, and compare the softmax of the label.

    A model that is right because of the object loses it with the object, and keeps it without the
    surroundings; one that is right for another reason does the opposite.

    Parameters
    ----------
    model, data, boxes, masks, outputs
        Those of the audit.
    ids
        Which images, such as ``report.worst("basketball")``. Those without a box in view are left out.
    fills
        What to cover with: ``"noise"`` (Gaussian, of the image's own mean and deviation in every channel,
        the same for the same image), ``"blur"`` (the image reduced to 8×8 cells or fewer, and back),
        ``"mean"`` (of the image's every channel).
    batch_size
        Images per forward.

    Returns
    -------
    Table
        A row per image and fill: ``image_id, class, fill``; ``before``, softmax of the label;
        ``without_object`` and ``object_only``, the same with the object and with all else covered;
        ``right_before, right_without_object, right_object_only``.

    Raises
    ------
    ValueError
        An unknown fill, or what an audit refuses.
    """
    unknown = set(fills) - set(FILLS)
    if unknown:
        raise ValueError(f"unknown fill {sorted(unknown)}; known: {', '.join(FILLS)}")
    found: list[tuple[Any, ...]] = []
    for batch, inside in _with_regions(
        data, ids, Regions(data, boxes=boxes, masks=masks), batch_size
    ):
        targets = _targets(batch, outputs)
        names = [data.ids[index] for index in batch.indices.tolist()]
        before = _answers(model, batch.images, targets)
        for fill in fills:
            covers = _covers(batch.images, fill, names)
            without = _answers(model, torch.where(inside, covers, batch.images), targets)
            alone = _answers(model, torch.where(inside, batch.images, covers), targets)
            answers = (before, without, alone)
            for i, (name, label) in enumerate(zip(names, batch.labels.tolist(), strict=True)):
                said = (float(softmax[i]) for softmax, _ in answers)
                right = (bool(hits[i]) for _, hits in answers)
                found.append((name, data.class_names[label], fill, *said, *right))
    names = ["image_id", "class", "fill", "before", "without_object", "object_only"]
    names += ["right_before", "right_without_object", "right_object_only"]
    return _table(names, found, "Covered images", texts=3)


def same_map(
    model: nn.Module,
    data: ImageSet,
    report: AuditReport,
    *,
    saliency: str | SaliencyMethod | type[SaliencyMethod] = "gradcam++",
    at_least: float = 0.9,
    count: int = 100,
    batch_size: int = 32,
) -> Table:
    """Find wrong answers whose map is that of the right class: the same was seen, and named otherwise.

    Such images speak of labels that overlap, rather than of attention that is wrong.

    Parameters
    ----------
    model, data, saliency
        Those of the audit.
    report
        The audit.
    at_least
        Cosine of the two maps from which they count as the same, in [0, 1].
    count
        How many wrong answers to look at, the most confident first.
    batch_size
        Images per forward; there are two.

    Returns
    -------
    Table
        ``image_id, class, prediction, similarity, confidence, rs``, the most similar first.
    """
    method = create(saliency, model)
    wrong = np.flatnonzero((report.rows["rank"] > 0) & (report.rows["status"] == SCORED))
    wrong = wrong[np.argsort(-report.rows["confidence"][wrong], kind="stable")][:count]
    where = {report.ids[position]: position for position in wrong.tolist()}
    found: list[tuple[Any, ...]] = []
    table = report.image_table.rows(wrong)
    predictions = dict(zip(table["image_id"], table["prediction"], strict=True))
    for batch in _batches(data, where, batch_size):
        names = [data.ids[index] for index in batch.indices.tolist()]
        rows = report.rows[[where[name] for name in names]]
        first = method.explain(batch.images, _targets(batch, report.facts["outputs"])).flatten(1)
        second = method.explain(batch.images, rows["prediction"].tolist()).flatten(1)
        similar = functional.cosine_similarity(first, second).cpu()
        empty = is_empty(second[:, None]).cpu()
        for i, (name, row) in enumerate(zip(names, rows, strict=True)):
            if similar[i] >= at_least and not empty[i]:
                classes = (data.class_names[row["label"]], predictions[name])
                found.append((name, *classes, float(similar[i]), row["confidence"], row["rs"]))
    found.sort(key=lambda each: (-each[3], each[0]))
    columns = ["image_id", "class", "prediction", "similarity", "confidence", "rs"]
    return _table(columns, found, "Same map, other class", texts=3)


def ambiguous(
    report: AuditReport, *, large: float = 0.9, small: float = 0.005, elsewhere: float = 0.5
) -> Table:
    """List images whose box cannot tell whether attention is right.

    Parameters
    ----------
    report
        The audit.
    large, small
        Share of the picture above which, or below which, a box says nothing: every map scores high, or
        one cell of the map is larger than the object.
    elsewhere
        Share of the map on other classes' objects from which these are to be blamed, not the background.

    Returns
    -------
    Table
        ``image_id, class, prediction, reason, rs, expected, elsewhere``, in the order of the set. The
        reason is ``"box fills the picture"``, ``"box is tiny"``, ``"prediction is in the picture"`` (a
        wrong answer that names another object there) or ``"map on another object"``.
    """
    rows = report.rows
    scored = rows["status"] == SCORED
    reasons = np.select(
        [
            scored & (rows["area"] > large),
            scored & (rows["area"] < small),
            rows["rival"].astype(bool),
            scored & (rows["elsewhere"] >= elsewhere),
        ],
        np.array(
            [
                "box fills the picture",
                "box is tiny",
                "prediction is in the picture",
                "map on another object",
            ],
            dtype=object,
        ).tolist(),
        default="",
    )
    chosen = np.flatnonzero(reasons != "")
    table = report.image_table.rows(chosen)
    columns = {name: table[name] for name in ("image_id", "class", "prediction")}
    columns["reason"] = reasons[chosen].astype(object)
    columns |= {name: table[name] for name in ("rs", "expected", "elsewhere")}
    return Table(columns, title="Boxes that cannot tell")


def natural_adversarials(
    report: AuditReport,
    *,
    classes: Sequence[str] | None = None,
    lowest: int = 20,
    confidence: float = 0.7,
) -> Table:
    """List candidates for natural adversarial images of the classes that rely on their context.

    Parameters
    ----------
    report
        The audit.
    classes
        Names of the classes to look at; default: the `lowest` of the ranking.
    lowest
        How many of the ranking.
    confidence
        Softmax from which a wrong answer is confident.

    Returns
    -------
    Table
        ``image_id, class, prediction, kind, confidence, rs``, the most confident first. The kind is
        ``"object absent"``: another class's image that is taken for one of these, so its context may be
        there without the object; or ``"context absent"``: an image of one of these that is taken for
        something else although more of its map lies on the object than in its class on average.

    Raises
    ------
    ValueError
        An unknown class.
    """
    names = list(report.ranking[:lowest] if classes is None else classes)
    unknown = set(names) - set(report.class_names)
    if unknown:
        raise ValueError(f"no class {min(unknown)!r}; see report.class_names")
    rows, table = report.rows, report.class_table
    crs = np.full(len(report.class_names), np.nan)
    crs[table["label"]] = table["crs"]
    labels = [report.class_names.index(name) for name in names]
    outputs = report.facts["outputs"]
    taken_for = labels if outputs is None else [outputs[label] for label in labels]
    sure = (rows["rank"] > 0) & (rows["confidence"] >= confidence)
    own = np.isin(rows["label"], labels)
    absent = sure & ~own & np.isin(rows["prediction"], taken_for)
    alone = sure & own & (rows["status"] == SCORED) & (rows["rs"] > crs[rows["label"]])
    chosen = np.flatnonzero(absent | alone)
    chosen = chosen[np.argsort(-rows["confidence"][chosen], kind="stable")]
    images = report.image_table.rows(chosen)
    columns = {name: images[name] for name in ("image_id", "class", "prediction")}
    columns["kind"] = np.where(absent[chosen], "object absent", "context absent").astype(object)
    columns |= {name: images[name] for name in ("confidence", "rs")}
    return Table(columns, title="Candidates for natural adversarial images")


def _table(
    names: Sequence[str], found: Sequence[tuple[Any, ...]], title: str, *, texts: int
) -> Table:
    """Make columns of rows; the first `texts` are text."""
    columns: list[Any] = list(zip(*found, strict=True)) or [()] * len(names)
    made = {
        name: np.array(column, dtype=object if place < texts else None)
        for place, (name, column) in enumerate(zip(names, columns, strict=True))
    }
    return Table(made, title=title)


def _batches(data: ImageSet, ids: Iterable[str], batch_size: int) -> Iterator[Batch]:
    indices = [data.index(image_id) for image_id in ids]
    for start in range(0, len(indices), batch_size):
        batch = data.batch(indices[start : start + batch_size])
        if len(batch):
            yield batch


def _with_regions(
    data: ImageSet, ids: Iterable[str], regions: Regions, batch_size: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches of images that have a region, with the regions, bool ``[N, 1, H, W]``."""
    for batch in _batches(data, ids, batch_size):
        size = (batch.images.shape[2], batch.images.shape[3])
        pairs = zip(batch.indices.tolist(), batch.labels.tolist(), strict=True)
        found = [regions.at(index, label, size).inside for index, label in pairs]
        kept = [place for place, inside in enumerate(found) if inside is not None]
        if kept:
            masks = torch.stack([inside for inside in found if inside is not None])
            yield data.batch(batch.indices[kept]), masks[:, None]


def _targets(batch: Batch, outputs: Sequence[int] | None) -> Tensor:
    return batch.labels if outputs is None else torch.tensor(outputs)[batch.labels]


def _answers(
    model: nn.Module, images: Tensor, targets: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the softmax of the targets, and which of them are predicted."""
    with torch.no_grad(), base.evaluating(model):
        logits = base.logits_of(model(base.prepared(images, model))).float().cpu()
    return logits.softmax(1).gather(1, targets[:, None])[:, 0].numpy(), (
        logits.argmax(1) == targets
    ).numpy()


def _covers(images: Tensor, fill: Fill, names: Sequence[str]) -> Tensor:
    """Return what each image is covered with, ``[N, C, H, W]``."""
    if fill == "blur":
        cells = [max(1, min(_BLURRED, side // _BLURRED)) for side in images.shape[2:]]
        coarse = functional.adaptive_avg_pool2d(images, (cells[0], cells[1]))
        return functional.interpolate(coarse, images.shape[2:], mode="bilinear")
    mean = images.mean((2, 3), keepdim=True)
    if fill == "mean":
        return mean.expand_as(images)
    seeds = [zlib.crc32(name.encode()) for name in names]
    noise = torch.stack([
        torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ])  # fmt: skip
    return mean + noise * images.std((2, 3), keepdim=True)
