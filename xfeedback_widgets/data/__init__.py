"""Images with stable names: :class:`ImageSet`, and loaders that build one from what lies on disk.

:mod:`~xfeedback_widgets.data.imageset` wraps any dataset of (image, label);
:mod:`~xfeedback_widgets.data.folders` reads folders and the papers' datasets;
:mod:`~xfeedback_widgets.data.boxes` reads boxes, :mod:`~xfeedback_widgets.data.views` pushes them to the
model's field of view;
:mod:`~xfeedback_widgets.data.digits` makes problems with a planted shortcut of real digits. Nothing here
knows about models or feedback.
"""

from xfeedback_widgets.data.boxes import (
    Annotation,
    Box,
    Boxes,
    coco_boxes,
    read_boxes,
    table_boxes,
    voc_boxes,
)
from xfeedback_widgets.data.digits import decoy_digits, decoy_mnist, textured_digits
from xfeedback_widgets.data.folders import (
    celeba,
    image_folder,
    imagenet9,
    imagenet_transform,
    mask_folder,
    waterbirds,
)
from xfeedback_widgets.data.imageset import (
    Batch,
    ImageSet,
    UnknownImageError,
    UnreadableImageError,
)

__all__ = [
    "Annotation",
    "Batch",
    "Box",
    "Boxes",
    "ImageSet",
    "UnknownImageError",
    "UnreadableImageError",
    "celeba",
    "coco_boxes",
    "decoy_digits",
    "decoy_mnist",
    "image_folder",
    "imagenet9",
    "imagenet_transform",
    "mask_folder",
    "read_boxes",
    "table_boxes",
    "textured_digits",
    "voc_boxes",
    "waterbirds",
]
