"""Where the object of each image is: boxes, masks, drawings, or a detector, at the size the model is fed.

Reading boxes and pushing them through a transform is in :mod:`xfeedback_widgets.data`; here they are
matched with the classes of an image set. Which of the sources an audit used is part of its report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xfeedback_widgets.audit.rows import Region
from xfeedback_widgets.data import Annotation, Box, Boxes, read_boxes
from xfeedback_widgets.data.pictures import to_mask
from xfeedback_widgets.data.views import drawn_on, push
from xfeedback_widgets.feedback import Feedback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import RegionMask

BoxSource = Boxes | str | Path | Callable[["NDArray[np.uint8]"], Any]
MaskSource = Callable[[int], Any] | Mapping[str, Any] | Sequence[Any] | Tensor | Feedback


class Regions:
    """The region of every image of a set.

    Parameters
    ----------
    data
        The images.
    boxes
        `Boxes`, a path that :func:`~xfeedback_widgets.data.read_boxes` reads, or a detector: a callable
        that is given the picture (uint8 ``[H, W, 3]``, in the model's field of view) and returns
        :class:`~xfeedback_widgets.data.Box` objects or an array ``[n, 4]`` of xmin, ymin, xmax, ymax.
    masks
        Callable of the position, sequence, tensor ``[N, H, W]``, or mapping of ids, giving a mask in the
        model's field of view or None; or the ``Feedback`` of people who drew: what they marked as
        relevant. With neither boxes nor masks, the set's own masks are taken.

    Attributes
    ----------
    source : str
        Where regions come from, in words.
    digest : str
        Names the content of boxes and drawings; empty where it is not known beforehand.

    Raises
    ------
    ValueError
        Both were given, or neither and the set has no masks; no class name of the boxes is one of the
        set; a wrong number of masks; nothing drawn.
    """

    def __init__(
        self, data: ImageSet, *, boxes: BoxSource | None = None, masks: MaskSource | None = None
    ) -> None:
        if boxes is not None and masks is not None:
            raise ValueError("boxes and masks were both given; pass one of them")
        self._data = data
        self.digest = ""
        if boxes is None and masks is None:
            boxes = data.boxes
        if isinstance(boxes, (str, Path)):
            boxes = read_boxes(boxes)
        if isinstance(boxes, Boxes):
            self._at: Callable[[int, int, tuple[int, int]], Region] = self._boxed
            self._mask: Callable[[int], Any]
            self._boxes, self.source = boxes, boxes.source
            self.digest = _digest(boxes)
            _check_names(boxes, data)
        elif boxes is not None:
            self._at, self._detector = self._detected, boxes
            self.source = f"detector {getattr(boxes, '__qualname__', type(boxes).__qualname__)}"
        elif isinstance(masks, Feedback):
            drawn = {i: record for i, record in masks.masks.items() if i in data}
            self._at, self._mask = self._masked, _drawings(data, drawn)
            self.digest, count = _digest_of_drawings(drawn)
            self.source = f"drawn by people on {count:,} image{'' if count == 1 else 's'}"
        else:
            self._at = self._masked
            self._mask, self.source = _masks(data, masks)
        self._labels = {name: label for label, name in enumerate(data.class_names)}

    def at(self, index: int, label: int, size: tuple[int, int]) -> Region:
        """Return the region of an image.

        Parameters
        ----------
        index, label
            Position in the set, and class.
        size
            (height, width) of the tensor fed to the model.

        Raises
        ------
        ValueError
            Boxes drawn on a picture of another size, or of unknown size; a detector's result that is no
            box. The image is named.
        """
        return self._at(index, label, size)

    def _boxed(self, index: int, label: int, size: tuple[int, int]) -> Region:
        image_id = self._data.ids[index]
        annotation = self._boxes.find(image_id)
        if annotation is None:
            return Region(None)
        source = drawn_on(image_id, annotation, self._data.source_size(index), self._boxes.source)
        return self._region(annotation.boxes, label, source, self._data.preprocessing, size)

    def _detected(self, index: int, label: int, size: tuple[int, int]) -> Region:
        from torchvision.transforms import Resize

        picture = self._data.picture(index)
        found = self._detector(picture)
        extent = (picture.shape[0], picture.shape[1])
        image_id = self._data.ids[index]
        try:
            listed = tuple(each if isinstance(each, Box) else _box(each) for each in found)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"image {image_id!r}: the detector returned {type(found).__name__}; expected "
                f"Box objects, or an array [n, 4] of xmin, ymin, xmax, ymax ({error})"
            ) from error
        checked = Boxes({image_id: Annotation(listed, extent)}, source=self.source)[image_id]
        return self._region(checked.boxes, label, extent, [Resize(list(size))], size)

    def _masked(self, index: int, _label: int, size: tuple[int, int]) -> Region:
        mask = self._mask(index)
        if mask is None:
            return Region(None)
        flags = to_mask(mask)
        if flags.shape != size:
            resized = torch.nn.functional.interpolate(
                flags[None, None].float(), size, mode="nearest-exact"
            )
            flags = resized[0, 0] > 0
        return Region(flags if flags.any() else None)

    def _region(
        self,
        found: Sequence[Box],
        label: int,
        source: tuple[int, int],
        steps: Sequence[Callable[[Any], Any]],
        size: tuple[int, int],
    ) -> Region:
        name = self._data.class_names[label]
        own = [box for box in found if box.name is None or box.name == name]
        others = [box for box in found if box.name is not None and box.name != name]
        inside = push(own, source, steps, size)
        beside = push(others, source, steps, size) & ~inside if others else None
        rivals = {self._labels.get(box.name or "", -1) for box in others} - {-1}
        return Region(
            inside if own and inside.any() else None,
            beside if beside is not None and beside.any() else None,
            aware=True,
            rivals=frozenset(rivals),
        )


def _box(edges: Any) -> Box:
    left, top, right, bottom = (float(edge) for edge in edges)
    return Box(left, top, right, bottom)


def _masks(
    data: ImageSet, masks: Callable[[int], Any] | Mapping[str, Any] | Sequence[Any] | Tensor | None
) -> tuple[Callable[[int], Any], str]:
    if masks is None:
        if not data.has_masks:
            raise ValueError(
                "nothing says where the objects are: pass boxes= (xf.data.read_boxes, or a detector) or "
                "masks= (or the feedback of people who drew them), or an ImageSet with masks"
            )
        return data.mask, "masks of the image set"
    if callable(masks):
        return masks, "masks"
    if isinstance(masks, Mapping):
        by_id = masks
        return lambda index: by_id.get(data.ids[index]), "masks"
    if len(masks) != len(data):
        raise ValueError(
            f"masks has {len(masks)} entries for {len(data)} images; give one per image"
        )
    return masks.__getitem__, "masks"


def _drawings(data: ImageSet, drawn: Mapping[str, RegionMask]) -> Callable[[int], Any]:
    def relevant(index: int) -> Any:
        record = drawn.get(data.ids[index])
        return None if record is None else record.mask > 0

    return relevant


def _digest_of_drawings(drawn: Mapping[str, RegionMask]) -> tuple[str, int]:
    """Return a name of what is drawn, and on how many images something is marked as relevant."""
    digest, count = hashlib.sha256(), 0
    for image_id, record in drawn.items():
        relevant = record.mask > 0
        if relevant.any():
            count += 1
            digest.update(f"{image_id}\0{relevant.shape}\n".encode() + relevant.tobytes())
    if not count:
        raise ValueError(
            "nothing is drawn as relevant: draw where the objects are (AlignmentWidget, its rectangle and "
            "brush), or pass boxes= or masks="
        )
    return digest.hexdigest()[:16], count


def _check_names(found: Boxes, data: ImageSet) -> None:
    named = found.class_names
    if named and not named & set(data.class_names):
        raise ValueError(
            f"no class named in {found.source} ({', '.join(sorted(named)[:3])} …) is a class of the images "
            f"({', '.join(data.class_names[:3])} …): pass names={{name in the boxes: class name}} to the "
            "reader of boxes"
        )


def _digest(found: Boxes) -> str:
    digest = hashlib.sha256()
    for key, annotation in found.items():
        digest.update(repr((key, annotation)).encode())
    return digest.hexdigest()[:16]
