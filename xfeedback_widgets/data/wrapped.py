"""What can be learned about a wrapped dataset without decoding a single image.

Labels, paths and class names of torchvision's datasets, ``TensorDataset``, plain lists, and ``Subset``
of any of them. Every function answers None where the dataset does not tell; reading the images is left
to :mod:`xfeedback_widgets.data.imageset`.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from torch.utils.data import Subset, TensorDataset


def base(dataset: Any) -> Any:
    """Return the dataset under any number of ``Subset``."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def known_labels(dataset: Any) -> list[Any] | None:
    """Return the label of every image, target transform applied; None where only reading tells."""
    if isinstance(dataset, Subset):
        inner = known_labels(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    if isinstance(dataset, TensorDataset):
        return _listed(dataset.tensors[1]) if len(dataset.tensors) > 1 else None
    if isinstance(dataset, (list, tuple)):
        pairs = all(isinstance(item, (tuple, list)) and len(item) >= 2 for item in dataset)
        return [item[1] for item in dataset] if pairs else None
    for name in ("targets", "labels", "_labels"):
        labels = _listed(getattr(dataset, name, None))
        if labels is not None and len(labels) == len(dataset):
            break
    else:
        samples = _samples(dataset)
        if samples is None:
            return None
        labels = [sample[1] for sample in samples]
    change = getattr(dataset, "target_transform", None)
    return labels if change is None else [change(label) for label in labels]


def known_paths(dataset: Any) -> list[str] | None:
    """Return every image's path relative to the dataset's root, with forward slashes, or None."""
    if isinstance(dataset, Subset):
        inner = known_paths(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    samples = _samples(dataset)
    if samples is None or not all(isinstance(sample[0], (str, PurePath)) for sample in samples):
        return None
    root = getattr(dataset, "root", None)
    return [relative_path(sample[0], root) for sample in samples]


def known_file(dataset: Any, position: int) -> str | PurePath | None:
    """Return the file of one image, or None."""
    while isinstance(dataset, Subset):
        dataset, position = dataset.dataset, dataset.indices[position]
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, (list, tuple)) or len(samples) != len(dataset):
        return None
    file = samples[position][0]
    return file if isinstance(file, (str, PurePath)) else None


def known_classes(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names of a dataset that has them (``classes``), or None."""
    classes = getattr(base(dataset), "classes", None)
    return tuple(str(name) for name in classes) if isinstance(classes, (list, tuple)) else None


def relative_path(path: str | PurePath, root: str | PurePath | None) -> str:
    r"""Return `path` relative to `root` with forward slashes; whole where it lies elsewhere.

    Bytes of a file name that are no text are written ``\xff``, so that every id can be stored.
    """
    inside = Path(path if root is None else os.path.relpath(path, root))
    if inside.parts[:1] == (os.pardir,):
        inside = Path(path)
    return os.fsencode(inside.as_posix()).decode("utf-8", "backslashreplace")


def _samples(dataset: Any) -> list[Any] | None:
    """Return torchvision's list of (path, label), under either of its names."""
    for name in ("samples", "imgs"):
        samples = getattr(dataset, name, None)
        if (
            isinstance(samples, (list, tuple))
            and len(samples) == len(dataset)
            and all(isinstance(sample, (tuple, list)) and len(sample) >= 2 for sample in samples)
        ):
            return list(samples)
    return None


def _listed(labels: Any) -> list[Any] | None:
    """Return labels kept as a tensor, array, list or tuple as a list."""
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    return list(labels) if isinstance(labels, (list, tuple)) else None
