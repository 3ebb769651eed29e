"""Run an audit: batch by batch, one forward each, in constant memory, on one process or several.

What a row holds is in ``rows.py``, where the objects are in ``regions.py``, how rows survive a kill in
``shards.py``, what is made of them in ``report.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xfeedback_widgets.audit import rows as row
from xfeedback_widgets.audit.regions import Regions
from xfeedback_widgets.audit.report import AuditReport
from xfeedback_widgets.audit.shards import ShardFile, part_of, read_shards
from xfeedback_widgets.saliency import base, create
from xfeedback_widgets.saliency.gradcam import LayerMethod
from xfeedback_widgets.units import fingerprint

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from xfeedback_widgets.audit.regions import BoxSource, MaskSource
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.saliency import SaliencyMethod

_FORMAT = 1


class Progress(NamedTuple):
    """How far an audit, or its shard, is."""

    done: int
    """Images, those of an earlier process included."""
    total: int
    seconds: float
    """Since this process started."""
    left: float
    """Seconds it will take at the present rate."""


def audit(
    model: nn.Module,
    data: ImageSet,
    *,
    boxes: BoxSource | None = None,
    masks: MaskSource | None = None,
    saliency: str | SaliencyMethod | type[SaliencyMethod] = "gradcam++",
    outputs: Sequence[int] | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    directory: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], object] | bool | None = None,
    stop: Callable[[], bool] | None = None,
    shard: tuple[int, int] | None = None,
) -> AuditReport:
    """Say of every class how often it is right, and how much of its attention lies on the object.

    For every image :math:`rs = Σ bbox·φ / Σ φ`, φ being the map of the ground-truth class upsampled
    bilinearly to the image; for every class crs, the mean of rs ("robustness score of a class",
    ECML-PKDD workshop 2021). A class with a high accuracy and a low crs is right for the wrong reasons.

    Parameters
    ----------
    model
        Classifier giving logits ``[N, C]``; left as it was found.
    data
        The images and their labels.
    boxes
        Where the objects are: :class:`~xfeedback_widgets.data.Boxes`, a path to VOC XML, COCO JSON or a
        table of boxes, or a detector (callable of the picture, uint8 ``[H, W, 3]``, that returns boxes).
        Boxes of the image's class count; those of others do not.
    masks
        Instead of boxes: callable of the position, sequence or mapping of ids, giving masks in the model's
        field of view, such as :func:`~xfeedback_widgets.data.mask_folder`; or ``session.feedback``, where
        people drew what is relevant. With neither, ``data``'s own.
    saliency
        Method, class or name; the paper uses ``"gradcam++"`` and ``"smooth_gradcam++"``.
    outputs
        The model's output of every class of `data`, where that is not the class's own number.
    batch_size
        Images per forward. Part of the result: another size may round otherwise.
    device
        Where to run; the model is brought back afterwards. Default: where the model is.
    directory
        Where rows are kept. An audit that was killed or stopped goes on there, with the same result bit
        for bit. Without one, rows stay in memory.
    progress
        Called with a `Progress` after every batch; True prints a line on standard error.
    stop
        Asked before every batch; True ends the audit with what there is (``report.complete`` is False).
    shard
        (number, count): do only this part, whole batches of it. ``AuditReport.merge`` and, for a common
        directory, ``AuditReport.load`` put the parts together to what one process would have found.

    Returns
    -------
    AuditReport
        Of this shard's images.

    Raises
    ------
    ValueError
        What cannot be audited: no boxes and no masks, boxes drawn on a picture of another size, a label
        that is no output of the model, a directory of another audit. The message says what to do.
    NoSpatialLayerError
        The model has no layer to look at.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if outputs is not None and len(outputs) != data.num_classes:
        raise ValueError(
            f"outputs has {len(outputs)} entries for {data.num_classes} classes; give the model's output of "
            "each class, in order"
        )
    regions = Regions(data, boxes=boxes, masks=masks)
    method = create(saliency, model)
    report_to = _print if progress is True else progress or None
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_moved(model, device))
        layout = _layout(method, data)
        facts = _facts(method, data, regions, outputs, batch_size)
        facts["channels_last"] = layout == torch.channels_last
        part = part_of(facts, shard or (0, 1))
        sink = (
            _Memory() if directory is None else ShardFile(Path(directory), facts, shard or (0, 1))
        )
        stack.enter_context(sink)
        begun = sink.done
        try:
            for first in range(part.start + begun, part.stop, batch_size):
                if stop is not None and stop():
                    break
                indices = range(first, min(first + batch_size, part.stop))
                found = _rows(method, data, regions, indices, outputs, layout)
                sink.append(found, [data.ids[index] for index in indices])
                if report_to is not None:
                    seconds = time.monotonic() - start
                    left = seconds / (sink.done - begun) * (len(part) - sink.done)
                    report_to(Progress(sink.done, len(part), seconds, left))
        finally:
            sink.save()
    if isinstance(sink, _Memory):
        return AuditReport(sink.rows(), sink.ids, facts)
    return AuditReport(*read_shards(Path(directory or "."), shard or (0, 1)))


def mean_score(model: nn.Module, data: ImageSet, *, batch_size: int = 32) -> float:
    """Return the mean of crs over the classes, by Grad-CAM++ and the set's masks; cheap, for curves.

    Parameters
    ----------
    model
        Classifier giving logits ``[N, C]``, where it is and as it is.
    data
        Images with masks and one label each.
    batch_size
        Images per forward.

    Returns
    -------
    float
        In [0, 1], what ``audit(…).summary()["crs"]`` says; NaN where no image has both mask and map.

    Raises
    ------
    ValueError
        The set has no masks.
    NoSpatialLayerError
        The model has no layer to look at.
    """
    regions, method = Regions(data), create("gradcam++", model)
    layout = _layout(method, data)
    starts = range(0, len(data), batch_size)
    batches = (range(start, min(start + batch_size, len(data))) for start in starts)
    found = np.concatenate([_rows(method, data, regions, b, None, layout) for b in batches])
    scored = found[found["status"] == row.SCORED]
    sums = np.bincount(scored["label"], scored["rs"].astype(np.float64))
    counts = np.bincount(scored["label"])
    return float((sums[counts > 0] / counts[counts > 0]).mean()) if len(scored) else float("nan")


class _Memory:
    """Rows that stay in memory, behind the same calls as `ShardFile`."""

    def __init__(self) -> None:
        self.done = 0
        self.ids: list[str] = []
        self._batches: list[NDArray[np.void]] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def append(self, rows: NDArray[np.void], ids: Sequence[str]) -> None:
        self._batches.append(rows)
        self.ids += ids
        self.done += len(rows)

    def save(self) -> None:
        pass

    def rows(self) -> NDArray[np.void]:
        return np.concatenate(self._batches) if self._batches else np.empty(0, row.ROW)


def _rows(
    method: SaliencyMethod,
    data: ImageSet,
    regions: Regions,
    indices: range,
    outputs: Sequence[int] | None,
    layout: torch.memory_format,
) -> NDArray[np.void]:
    """Compute the rows of some images, in their order."""
    batch = data.batch(indices)
    lost = sorted(set(indices) - set(batch.indices.tolist()))
    parts = [row.unreadable(lost, data.labels)] if lost else []
    if len(batch):
        parts.append(_readable(method, regions, batch, outputs, layout))
    found = np.concatenate(parts)
    return found[np.argsort(found["index"], kind="stable")]


def _readable(
    method: SaliencyMethod,
    regions: Regions,
    batch: Batch,
    outputs: Sequence[int] | None,
    layout: torch.memory_format,
) -> NDArray[np.void]:
    targets = batch.labels if outputs is None else torch.tensor(outputs)[batch.labels]
    logits, maps, finite = _explained(
        method, batch.images.contiguous(memory_format=layout), targets
    )
    size = (batch.images.shape[2], batch.images.shape[3])
    pairs = zip(batch.indices.tolist(), batch.labels.tolist(), strict=True)
    return row.score(
        logits,
        maps,
        finite,
        labels=batch.labels,
        targets=targets,
        indices=batch.indices,
        regions=[regions.at(index, label, size) for index, label in pairs],
        outputs=outputs,
    )


def _explained(
    method: SaliencyMethod, images: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, maps and which of them are finite; one bad image does not spoil its batch."""
    try:
        logits, maps = method.logits_and_explain(images, targets)
        return logits, maps, logits.isfinite().all(dim=1)
    except FloatingPointError:
        if len(images) > 1:
            halves = [images.tensor_split(2), targets.tensor_split(2)]
            return _joined(*(_explained(method, *half) for half in zip(*halves, strict=True)))
    with torch.no_grad(), base.evaluating(method.model):
        logits = base.logits_of(method.model(base.prepared(images, method.model)))
    return logits, logits.new_zeros(1, 1, 1, dtype=torch.float32), torch.zeros(1, dtype=torch.bool)


def _layout(method: SaliencyMethod, data: ImageSet) -> torch.memory_format:
    """Return how to lay images out: channels last makes convolutions on a CPU 1.5 times as fast.

    A model that flattens its activations by ``view`` refuses that layout; two images tell.
    """
    weight = next(method.model.parameters(), None)
    if weight is None or weight.device.type != "cpu" or not isinstance(method, LayerMethod):
        return torch.contiguous_format
    images = next(data.batches(1)).images.repeat(2, 1, 1, 1)
    images = images.contiguous(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), base.evaluating(method.model):
            method.model(base.prepared(images, method.model))
    except RuntimeError:  # whatever else is wrong with the model will be said by the audit itself
        return torch.contiguous_format
    return torch.channels_last


def _joined(
    one: tuple[Tensor, Tensor, Tensor], two: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Put two halves together; an image without a finite map has zeros of no size of their own."""
    size = max(one[1].shape[1:], two[1].shape[1:])
    maps = [m if m.shape[1:] == size else m.new_zeros(len(m), *size) for m in (one[1], two[1])]
    return torch.cat([one[0], two[0]]), torch.cat(maps), torch.cat([one[2], two[2]])


def _facts(
    method: SaliencyMethod,
    data: ImageSet,
    regions: Regions,
    outputs: Sequence[int] | None,
    batch_size: int,
) -> dict[str, Any]:
    """Say what is audited, in JSON: two audits with the same facts have the same rows."""
    digest = hashlib.sha256()
    for image_id, label in zip(data.ids, data.labels.tolist(), strict=True):
        digest.update(f"{image_id}\0{label}\n".encode())
    options = {
        name: value
        for name, value in vars(method).items()
        if isinstance(value, (int, float, str)) and not name.startswith("_")
    }
    layer = getattr(getattr(method, "_target", None), "name", None)
    return {
        "format": _FORMAT,
        "model": type(method.model).__name__,
        "weights": fingerprint(method.model),
        "images": len(data),
        "data": digest.hexdigest()[:16],
        "class_names": list(data.class_names),
        "outputs": None if outputs is None else [int(output) for output in outputs],
        "saliency": method.name,
        "options": options if layer is None else {**options, "layer": layer},
        "regions": regions.source,
        "boxes": regions.digest,
        "batch_size": batch_size,
    }


@contextlib.contextmanager
def _moved(model: nn.Module, device: str | torch.device | None) -> Iterator[None]:
    """Have the model on a device for a while."""
    home = next((parameter.device for parameter in model.parameters()), None)
    if device is None or home is None:
        yield
        return
    try:
        model.to(device)
        yield
    finally:
        model.to(home)


def _print(progress: Progress) -> None:
    end = "\n" if progress.done == progress.total else ""
    line = f"\r{progress.done:,} of {progress.total:,} images, {progress.left:.0f} s left "
    print(line, end=end, file=sys.stderr, flush=True)  # noqa: T201 - what progress=True asks for
