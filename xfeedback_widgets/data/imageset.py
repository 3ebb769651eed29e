"""ImageSet: a dataset of (image, label) whose images have stable names, pictures, groups and masks.

Everything above this package reads images through :class:`ImageSet`: the trainer takes tensors, the
screen takes pictures, the journal takes ids and content hashes, the metrics take groups and masks.
Loaders for datasets on disk are in :mod:`xfeedback_widgets.data.folders`; the arithmetic of pixels is
in :mod:`xfeedback_widgets.data.pictures`; what a dataset tells by itself is in
:mod:`xfeedback_widgets.data.wrapped`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from xfeedback_widgets.data import pictures, views, wrapped
from xfeedback_widgets.data.boxes import Boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

UNKNOWN_LABEL = -1
"""Label of an image that cannot be read in a dataset whose labels only reading tells."""


class UnreadableImageError(RuntimeError):
    """An image cannot be read: a corrupt file, a tensor with NaN, an exception in the dataset.

    Attributes
    ----------
    image_id : str
        Which image.
    reason : str
        What happened, in one line.
    """

    def __init__(self, image_id: str, reason: str) -> None:
        super().__init__(image_id, reason)  # both, so that the error survives pickling
        self.image_id = image_id
        self.reason = reason

    def __str__(self) -> str:
        return f"image {self.image_id!r} cannot be read: {self.reason}"


class UnknownImageError(KeyError):
    """No image has this id; the message names the ids most like it."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, eq=False)
class Batch:
    """Images stacked for a model.

    Attributes
    ----------
    images : Tensor
        float32 ``[N, C, H, W]``.
    labels : Tensor
        int64 ``[N]``, or bool ``[N, C]`` where images have several labels.
    indices : Tensor
        int64 ``[N]``, positions in the :class:`ImageSet` the batch came from; always on the CPU.
    source : Tensor or None
        Where augmented, from where in the image each pixel came: float32 ``[N, H, W, 2]``, (x, y) in
        [-1, 1] as ``grid_sample`` counts them with ``align_corners=False``; NaN: from nowhere.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    source: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch with everything but the indices on `device`."""
        source = self.source
        return Batch(
            self.images.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.indices,
            None if source is None else source.to(device, non_blocking=non_blocking),
        )

    def split(self, size: int) -> list[Batch]:
        """Return the same images in batches of at most `size`."""
        if len(self) <= size:
            return [self]
        return [self._rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def _rows(self, rows: slice) -> Batch:
        source = None if self.source is None else self.source[rows]
        return Batch(self.images[rows], self.labels[rows], self.indices[rows], source)


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Any map-style dataset of (image, label), with stable ids, pictures, groups and masks.

    Reading is lazy and safe from several threads at once. Labels, ids and class names are taken from
    what the dataset tells without decoding images; otherwise the images are read once, when needed.

    Parameters
    ----------
    dataset
        ``len(dataset)`` and ``dataset[i] -> (image, label)`` (further entries are ignored). The image
        is a PIL image, a uint8 array ``[H, W]`` or ``[H, W, 3]``, or a tensor ``[C, H, W]``.
    ids
        One string per image, all different. Default: the path relative to the dataset's root where it
        has ``samples`` (torchvision's ``ImageFolder``), else the content hash, or ``unreadable-7`` for
        the unreadable eighth image; a repeated id gets ``#2``.
    class_names
        Default: the dataset's ``classes``, else the numbers.
    groups
        One integer ≥ 0 per image, for worst-group accuracy.
    masks
        Sequence, or callable of the position in `dataset`, giving a mask ``[H, W]`` (True = relevant)
        or None. A mask covers the same field of view as the tensor fed to the model; its size is free.
        Or :class:`~.boxes.Boxes`: those of an image's class, pushed through its resize and crop.
    labels
        One integer per image, overriding the dataset's; or, where images have several labels, an array
        ``[N, C]`` of what is there (True or 1) and what is not.
    transform
        Picture (PIL, or the dataset's tensor) to float tensor ``[C, H, W]``; not random. None: tensors
        are fed as they are, pictures become [0, 1].
    picture
        Callable of the position in `dataset` giving the PIL image or uint8 array a person is shown; it
        must cover the tensor's field of view. Default: the tensor with its normalisation undone, where
        `transform` or the dataset's own ``transform`` tells it, so that map and picture cover the same
        field; otherwise what the dataset yields, a tensor outside [0, 1] stretched for display only.
    group_names
        Names of the groups; default: the numbers.

    Raises
    ------
    ValueError
        Empty dataset, wrong lengths, repeated ids, labels without class name, a random transform.
    TypeError
        A dataset without length, or whose items are not (image, label).

    Examples
    --------
    >>> import torch
    >>> data = ImageSet([(torch.rand(3, 8, 8), 0), (torch.rand(3, 8, 8), 1)], ids=["a", "b"])
    >>> data.index("b"), data.num_classes, data.picture(1).shape
    (1, 2, (8, 8, 3))
    """

    _positions: tuple[int, ...]
    _rows: Tensor
    _known_ids: tuple[str, ...] | None
    _by_id: dict[str, int] | None

    def __init__(
        self,
        dataset: Any,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        groups: Sequence[int] | Tensor | None = None,
        masks: Sequence[Any] | Callable[[int], Any] | Tensor | Boxes | None = None,
        *,
        labels: Sequence[int] | Tensor | None = None,
        transform: Callable[[Any], Tensor] | None = None,
        picture: Callable[[int], Any] | None = None,
        group_names: Sequence[str] | None = None,
    ) -> None:
        self._store = _Store(
            dataset,
            ids=ids,
            class_names=class_names,
            groups=groups,
            masks=masks,
            labels=labels,
            transform=transform,
            picture=picture,
            group_names=group_names,
        )
        self._view(tuple(range(self._store.size)))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Return image `index` as (float32 ``[C, H, W]``, label); of several labels a bool ``[C]``.

        Raises
        ------
        UnreadableImageError
            Naming the image and the reason.
        """
        return self._store.item(self._position(index))

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._lookup()

    def __repr__(self) -> str:
        parts = [f"{len(self)} images"]
        if self._store.groups is not None:
            parts.append(f"{len(self.group_names or ())} groups")
        if self.has_masks:
            parts.append("masks")
        return f"ImageSet({', '.join(parts)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The name of every image, in order."""
        ids = self._known_ids
        if ids is None:
            everything = self._store.ids()
            ids = self._known_ids = tuple(everything[position] for position in self._positions)
        return ids

    def index(self, image_id: str) -> int:
        """Return the position of an image.

        Raises
        ------
        UnknownImageError
            Naming the id and those most like it.
        """
        lookup = self._lookup()
        try:
            return lookup[image_id]
        except KeyError:
            near = difflib.get_close_matches(str(image_id), lookup, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else "see data.ids"
            raise UnknownImageError(
                f"no image {image_id!r} among the {len(self)} of this set; {hint}"
            ) from None

    @property
    def labels(self) -> Tensor:
        """int64 ``[N]``, -1 for unreadable images of a dataset whose labels only reading tells.

        Where images have several labels: bool ``[N, C]``.
        """
        return self._store.labels()[self._rows]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of every class, as given: escape them before putting them into HTML."""
        return self._store.class_names()

    @property
    def num_classes(self) -> int:
        """How many classes there are names for."""
        return len(self.class_names)

    @property
    def groups(self) -> Tensor | None:
        """int64 ``[N]``, or None where the set has no groups."""
        groups = self._store.groups
        return None if groups is None else groups[self._rows]

    @property
    def group_names(self) -> tuple[str, ...] | None:
        """The name of every group of the whole set, or None where it has no groups."""
        return self._store.group_names

    @property
    def has_masks(self) -> bool:
        """Whether masks were given; single images may still have none."""
        return self._store.masks is not None

    @property
    def boxes(self) -> Boxes | None:
        """The boxes the masks are made of, or None."""
        masks = self._store.masks
        return masks if isinstance(masks, Boxes) else None

    @property
    def skipped(self) -> dict[str, str]:
        """The images met so far that could not be read: id to reason."""
        failed = dict(self._store.skipped)
        if not failed:
            return {}
        ids = self._store.ids()
        return {ids[p]: failed[p] for p in self._positions if p in failed}

    @property
    def preprocessing(self) -> tuple[Callable[[Any], Any], ...]:
        """What a picture goes through on its way to the model: the dataset's transform, then this set's."""
        return self._store.preprocessing

    def source_size(self, index: int) -> tuple[int, int] | None:
        """Return (height, width) of image `index` before :attr:`preprocessing`.

        Of a file only the heading is read. None where the dataset transforms images that are no files.

        Raises
        ------
        UnreadableImageError
            Naming the image and the reason.
        """
        return self._store.source_size(self._position(index))

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Return what a person is shown of image `index`, uint8 ``[H, W, 3]``.

        Raises
        ------
        UnreadableImageError
            Naming the image and the reason.
        """
        return self._store.shown(self._position(index))

    def mask(self, index: int) -> Tensor | None:
        """Return the mask of image `index`, bool ``[H, W]`` (True = relevant), or None."""
        return self._store.mask(self._position(index))

    def content_hash(self, index: int) -> str:
        """Return 32 hexadecimal digits that name what image `index` shows; the result is kept.

        BLAKE2b over the shape and bytes of the picture as the dataset yields it, before `transform`,
        so that feedback stays valid for a model with another input size.
        """
        return self._store.content_hash(self._position(index))

    def batch(self, indices: Iterable[int] | Tensor) -> Batch:
        """Read and stack images; the unreadable ones are left out and noted in :attr:`skipped`.

        Parameters
        ----------
        indices
            Positions in this set.

        Returns
        -------
        Batch
            Of the readable images; its length is 0 where none could be read.

        Raises
        ------
        ValueError
            The images differ in shape.
        """
        wanted = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        images: list[Tensor] = []
        kept: list[int] = []
        for index in wanted:
            position = self._position(index)
            try:
                image, _ = self._store.item(position)
            except UnreadableImageError as error:
                self._store.skip(position, error)
                continue
            images.append(image)
            kept.append(index % len(self))
        self._warn_skipped(first=True)
        return Batch(
            self._stack(images, kept),
            self.labels[torch.tensor(kept, dtype=torch.int64)],
            torch.tensor(kept, dtype=torch.int64),
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the whole set in order, `batch_size` images at a time, without empty batches.

        Raises
        ------
        UnreadableImageError
            Not a single image can be read: the first one is named.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        yielded = False
        for start in range(0, len(self), batch_size):
            batch = self.batch(range(start, min(start + batch_size, len(self))))
            if len(batch):
                yielded = True
                yield batch
        if not yielded:
            self[0]  # the fault of the first image is the fault of all: let it be seen
        self._warn_skipped(first=False)

    def subset(self, indices: Iterable[int] | Tensor) -> ImageSet:
        """Return a view of some images; ids, hashes and skipped images are shared with this set.

        Raises
        ------
        ValueError
            No index, or one given twice.
        """
        wanted = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        positions = tuple(self._position(index) for index in wanted)
        if not positions:
            raise ValueError("subset() was given no indices; a set needs at least one image")
        if len(set(positions)) < len(positions):
            repeated = next(i for i, p in enumerate(positions) if p in positions[:i])
            raise ValueError(
                f"subset() was given index {wanted[repeated]} twice; an image id names one image"
            )
        view = object.__new__(type(self))
        view._store = self._store
        view._view(positions)
        return view

    def _view(self, positions: tuple[int, ...]) -> None:
        """Say which images of the store this set shows."""
        self._positions = positions
        self._rows = torch.tensor(positions, dtype=torch.int64)
        self._known_ids = None
        self._by_id = None

    def _position(self, index: int) -> int:
        """Return where in the wrapped dataset image `index` lies."""
        try:
            return self._positions[index]
        except IndexError:
            raise IndexError(f"index {index} is outside this set of {len(self)} images") from None

    def _lookup(self) -> dict[str, int]:
        if self._by_id is None:
            self._by_id = {image_id: index for index, image_id in enumerate(self.ids)}
        return self._by_id

    def _stack(self, images: list[Tensor], kept: list[int]) -> Tensor:
        if not images:
            return torch.empty(0, *self._store.last_shape)
        for image, index in zip(images, kept, strict=True):
            if image.shape != images[0].shape:
                raise ValueError(
                    f"images differ in shape: {self.ids[kept[0]]!r} is {list(images[0].shape)}, "
                    f"{self.ids[index]!r} is {list(image.shape)}. Pass transform= that resizes and "
                    "crops to one size and one number of channels."
                )
        return torch.stack(images)

    def _warn_skipped(self, *, first: bool) -> None:
        """Warn at the first unreadable images, and after a whole pass if there were more."""
        warned = self._store.warned
        count = len(self._store.skipped)
        if count == warned or (first and warned):
            return
        self._store.warned = count
        image_id, reason = next(iter(self.skipped.items()), ("", ""))
        warnings.warn(
            f"{count} image(s) cannot be read and are left out so far, such as {image_id!r} "
            f"({reason}); data.skipped names them all",
            RuntimeWarning,
            stacklevel=3,
        )


class _Store:
    """The wrapped dataset and everything known about it, shared by a set and its subsets."""

    def __init__(
        self,
        dataset: Any,
        *,
        ids: Sequence[str] | None,
        class_names: Sequence[str] | None,
        groups: Sequence[int] | Tensor | None,
        masks: Sequence[Any] | Callable[[int], Any] | Tensor | Boxes | None,
        labels: Sequence[int] | Tensor | None,
        transform: Callable[[Any], Tensor] | None,
        picture: Callable[[int], Any] | None,
        group_names: Sequence[str] | None,
    ) -> None:
        self.dataset = dataset
        self.size = _size(dataset)
        self.transform = transform
        self.masks = masks
        self.skipped: dict[int, str] = {}
        self.warned = 0
        self.last_shape: tuple[int, ...] = (3, 0, 0)
        self._picture = picture
        self._hashes: dict[int, str] = {}
        self._lock, self._lock_owner = threading.RLock(), os.getpid()

        own = getattr(wrapped.base(dataset), "transform", None)
        own = own if callable(own) else None
        for step in (own, transform):
            pictures.check_deterministic(step)
        last = pictures.find_normalization(transform)
        self.preprocessing = tuple(step for step in (own, transform) if step is not None)
        self._transforms_itself = own is not None
        self._own_normalization = pictures.find_normalization(own)
        self._normalization = last or self._own_normalization
        self._needs_rgb = last is not None and len(last.mean) == 3

        if masks is not None and not callable(masks) and not isinstance(masks, Boxes):
            _check_length("masks", len(masks), self.size)
        self.groups = None if groups is None else _integers("groups", groups, self.size)
        self.group_names = _group_names(self.groups, group_names)
        self._ids = self._given_ids(ids)
        self._check_labels = labels is None
        told = wrapped.known_labels(dataset) if labels is None else labels
        self._class_names = _names("class_names", class_names) or wrapped.known_classes(dataset)
        self._labels = None
        if told is not None:
            several = labels is not None and _is_table(labels)
            self._labels = (_flags if several else _integers)("labels", told, self.size)
        if self._labels is not None:
            self._finish_classes(self._labels)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock, self._lock_owner = threading.RLock(), os.getpid()

    # -- what is known without or with one pass over the images ------------------------------------

    def ids(self) -> tuple[str, ...]:
        if self._ids is None:
            # without a lock: two threads at once do the work twice and find the same
            self._ids = _distinct(self._hash_or_number(i) for i in range(self.size))
        return self._ids

    def labels(self) -> Tensor:
        if self._labels is None:
            read = [self._label_by_reading(i) for i in range(self.size)]
            labels = _integers("labels", read, self.size, unknown=True)
            self._finish_classes(labels)
            self._labels = labels
        return self._labels

    def class_names(self) -> tuple[str, ...]:
        if self._class_names is None:
            self.labels()
        return self._class_names or ()

    def name(self, position: int) -> str:
        """Return the id for a message; the position where ids would have to be read first."""
        return self._ids[position] if self._ids is not None else f"number {position}"

    def skip(self, position: int, error: UnreadableImageError) -> None:
        self.skipped.setdefault(position, error.reason)

    # -- one image ---------------------------------------------------------------------------------

    def item(self, position: int) -> tuple[Tensor, Any]:
        labels = self.labels()
        image, label = self._fetch(position)
        known = labels[position] if labels.ndim == 2 else int(labels[position])
        if self._check_labels and isinstance(label, (int, np.integer)) and int(label) != known:
            raise ValueError(
                f"image {self.name(position)!r}: the dataset yields label {label}, its list of "
                f"labels says {known}. Pass labels= to say which holds."
            )
        tensor = self._tensor(image, position)
        self.last_shape = tuple(tensor.shape)
        return tensor, known

    def shown(self, position: int) -> NDArray[np.uint8]:
        if self._picture is not None:
            return self._source(position)
        image, _ = self._fetch(position)
        if self.transform is None and not isinstance(image, Tensor):
            return self._rgb(image, position)
        tensor = self._tensor(image, position)
        told = self._normalization is not None or pictures.is_picture(tensor)
        if told or isinstance(image, Tensor):
            return pictures.show(tensor, self._normalization)
        return self._rgb(image, position)

    def source_size(self, position: int) -> tuple[int, int] | None:
        file = wrapped.known_file(self.dataset, position)
        if file is not None:
            with self._reading(position), Image.open(file) as image:
                return image.height, image.width
        if self._transforms_itself:
            return None
        image, _ = self._fetch(position)
        if isinstance(image, Image.Image):
            return image.height, image.width
        height, width = image.shape[-2:] if isinstance(image, Tensor) else np.shape(image)[:2]
        return int(height), int(width)

    def mask(self, position: int) -> Tensor | None:
        if self.masks is None:
            return None
        if isinstance(self.masks, Boxes):
            return self._boxed(self.masks, position)
        mask = self.masks(position) if callable(self.masks) else self.masks[position]
        if mask is None:
            return None
        try:
            return pictures.to_mask(mask)
        except TypeError as error:
            raise TypeError(f"image {self.name(position)!r}: {error}") from None

    def _boxed(self, boxes: Boxes, position: int) -> Tensor | None:
        """Return where the boxes of an image's own classes are in what the model is fed."""
        annotation = boxes.find(self.name(position))
        if annotation is None:
            return None
        label, names = self.labels()[position], self.class_names()
        shown = label.nonzero()[:, 0].tolist() if label.ndim else [int(label)]
        wanted = {None, *(names[index] for index in shown if index >= 0)}
        own = [box for box in annotation.boxes if box.name in wanted]
        source = views.drawn_on(
            self.name(position), annotation, self.source_size(position), boxes.source
        )
        view = views.view_of(self.preprocessing, source)
        height, width = self.item(position)[0].shape[-2:] if view is None else view.size
        marked = views.push(own, source, self.preprocessing, (height, width))
        return marked if marked.any() else None

    def content_hash(self, position: int) -> str:
        known = self._hashes.get(position)
        if known is None:
            source = self._source(position)
            digest = hashlib.blake2b(repr(source.shape).encode(), digest_size=16)
            digest.update(source.tobytes())
            known = self._hashes[position] = digest.hexdigest()
        return known

    # -- reading -----------------------------------------------------------------------------------

    def _guard(self) -> threading.RLock:  # type: ignore[valid-type,unused-ignore]
        """Return the lock around the wrapped dataset, which need not be safe to share.

        A forked data-loader worker may inherit the lock in a locked state: each process has its own.
        """
        if self._lock_owner != os.getpid():
            self._lock, self._lock_owner = threading.RLock(), os.getpid()
        return self._lock

    def _fetch(self, position: int) -> tuple[Any, Any]:
        """Return (image, label) as the dataset yields them, the pixels of a PIL image loaded."""
        with self._reading(position), self._guard():
            item = self.dataset[position]
            if isinstance(item, (tuple, list)) and len(item) >= 2:
                image, label = item[0], item[1]
            elif not self._check_labels:  # labels were given: a dataset of bare images will do
                image, label = item, None
            else:
                _refuse_item(item)
            return _loaded(image), label

    def _tensor(self, image: Any, position: int) -> Tensor:
        """Return the tensor fed to the model."""
        with self._reading(position):
            if self.transform is not None:
                if not isinstance(image, Tensor):
                    image = pictures.to_pil(image, rgb=self._needs_rgb)
                image = self.transform(image)
            return pictures.to_tensor(image)

    def _rgb(self, image: Any, position: int) -> NDArray[np.uint8]:
        with self._reading(position):
            return pictures.to_rgb(image)

    def _source(self, position: int) -> NDArray[np.uint8]:
        """Return the picture before `transform`, which is what the content hash is taken of."""
        if self._picture is not None:
            with self._reading(position), self._guard():
                image = _loaded(self._picture(position))
        else:
            image, _ = self._fetch(position)
        if not isinstance(image, Tensor):
            return self._rgb(image, position)
        with self._reading(position):
            return pictures.show(pictures.to_tensor(image), self._own_normalization)

    @contextmanager
    def _reading(self, position: int) -> Iterator[None]:
        """Turn whatever goes wrong while reading an image into an error that names the image."""
        try:
            yield
        except (UnreadableImageError, _NotPairsError):
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise UnreadableImageError(
                self.name(position), f"{type(error).__name__}: {lines[0]}"
            ) from error

    # -- what the constructor was given ------------------------------------------------------------

    def _given_ids(self, ids: Sequence[str] | None) -> tuple[str, ...] | None:
        if ids is None:
            paths = wrapped.known_paths(self.dataset)
            return None if paths is None else _distinct(paths)
        names = tuple(str(image_id) for image_id in ids)
        _check_length("ids", len(names), self.size)
        if "" in names:
            raise ValueError(f"ids[{names.index('')}] is empty; every image needs a name")
        for position, name in enumerate(names):
            if name != name.encode("utf-8", "replace").decode():
                raise ValueError(
                    f"ids[{position}] is {name!r}, which is no Unicode text to be stored"
                )
        seen: dict[str, int] = {}
        for position, name in enumerate(names):
            first = seen.setdefault(name, position)
            if first != position:
                raise ValueError(
                    f"ids[{first}] and ids[{position}] are both {name!r}; ids must differ"
                )
        return names

    def _finish_classes(self, labels: Tensor) -> None:
        """Check labels against the class names, or name the classes by their numbers."""
        highest = labels.shape[1] - 1 if labels.ndim == 2 else int(labels.max())
        if self._class_names is None:
            self._class_names = tuple(str(number) for number in range(highest + 1))
        if labels.ndim == 2 and len(self._class_names) != labels.shape[1]:
            raise ValueError(
                f"labels say of {labels.shape[1]} classes whether they are there, but there are "
                f"{len(self._class_names)} class names; give a column to each"
            )
        if highest >= len(self._class_names):
            position = int(labels.argmax())
            raise ValueError(
                f"image {self.name(position)!r} has label {highest}, but there are names for only "
                f"{len(self._class_names)} classes (labels 0 … {len(self._class_names) - 1}): "
                f"{list(self._class_names)[:5]}. Pass class_names= with a name for every label."
            )

    def _hash_or_number(self, position: int) -> str:
        try:
            return self.content_hash(position)
        except UnreadableImageError as error:
            self.skip(position, error)
            return f"unreadable-{position}"

    def _label_by_reading(self, position: int) -> Any:
        try:
            return self._fetch(position)[1]
        except UnreadableImageError as error:
            self.skip(position, error)
            return UNKNOWN_LABEL


class _NotPairsError(TypeError):
    """The dataset is not one of (image, label); its images are not to blame."""


def _refuse_item(item: object) -> NoReturn:
    raise _NotPairsError(
        f"the dataset yields {type(item).__name__}, expected (image, label). Wrap it so that "
        "dataset[i] returns a pair, or pass labels= for a dataset of bare images."
    )


def _loaded(image: Any) -> Any:
    """Return the image with its pixels read: PIL reads them late, and not safely from two threads."""
    if isinstance(image, Image.Image):
        image.load()
    return image


def _size(dataset: Any) -> int:
    try:
        size = len(dataset)
    except TypeError:
        raise TypeError(
            f"{type(dataset).__name__} has no length; ImageSet wraps map-style datasets "
            "(len(dataset) and dataset[i])"
        ) from None
    if size == 0:
        raise ValueError("the dataset is empty; a set needs at least one image")
    return size


def _check_length(name: str, length: int, size: int) -> None:
    if length != size:
        raise ValueError(
            f"{name} has {length} entries for {size} images; give one per image, in order"
        )


def _integers(name: str, values: Any, size: int, *, unknown: bool = False) -> Tensor:
    """Return one integer ≥ 0 per image as int64 ``[N]``; -1 passes where `unknown` says so."""
    _check_length(name, len(values), size)
    try:
        numbers = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values))
        whole = numbers.to("cpu", torch.int64)
        exact = numbers.ndim == 1 and bool((whole == numbers.cpu()).all())
    except (TypeError, ValueError, RuntimeError):
        exact = False
    if not exact:
        raise ValueError(
            f"{name} must be one integer per image (as sequence or tensor of shape [{size}])"
        )
    lowest = UNKNOWN_LABEL if unknown else 0
    if bool((whole < lowest).any()):
        position = int((whole < lowest).nonzero()[0])
        raise ValueError(f"{name}[{position}] is {int(whole[position])}; {name} count from 0")
    return whole


def _is_table(values: Any) -> bool:
    try:
        return bool(np.ndim(values) == 2)
    except ValueError:  # rows of different lengths
        return False


def _flags(name: str, values: Any, size: int) -> Tensor:
    """Return what is there in each image as bool ``[N, C]``."""
    _check_length(name, len(values), size)
    numbers = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values)).cpu()
    if not numbers.shape[1] or not bool(((numbers == 0) | (numbers == 1)).all()):
        raise ValueError(
            f"{name} must be one integer per image, or a table [{size}, classes] of True and False, got "
            f"shape {list(numbers.shape)}"
        )
    return numbers.bool()


def _names(name: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"{name} is {names!r}; give a list with one name for every number")
    return tuple(str(each) for each in names)


def _group_names(groups: Tensor | None, names: Sequence[str] | None) -> tuple[str, ...] | None:
    given = _names("group_names", names)
    if groups is None:
        if given is not None:
            raise ValueError(
                "group_names were given without groups=; pass the group of every image"
            )
        return None
    highest = int(groups.max())
    if given is None:
        return tuple(str(number) for number in range(highest + 1))
    if highest >= len(given):
        raise ValueError(
            f"groups goes up to {highest}, but group_names has {len(given)} names; name every group"
        )
    return given


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, the second and later uses of one marked ``#2``, ``#3``… in order."""
    used: set[str] = set()
    counts: dict[str, int] = {}
    result = []
    for name in names:
        count = counts.get(name, 0) + 1
        candidate = name if count == 1 else f"{name}#{count}"
        while candidate in used:
            count += 1
            candidate = f"{name}#{count}"
        counts[name] = count
        used.add(candidate)
        result.append(candidate)
    return tuple(result)
