"""Images with stable names: :class:`ImageSet`, and loaders that build one from what lies on disk.

:mod:`~xfeedback_widgets.data.imageset` wraps any dataset of (image, label);
:mod:`~xfeedback_widgets.data.folders` reads folders and the papers' datasets;
:mod:`~xfeedback_widgets.data.digits` makes problems with a planted shortcut of real digits. Nothing here
knows about models or feedback.
"""

from xfeedback_widgets.data.digits import decoy_digits, decoy_mnist, textured_digits
from xfeedback_widgets.data.folders import (
    celeba,
    image_folder,
    imagenet9,
    imagenet_transform,
    waterbirds,
)
from xfeedback_widgets.data.imageset import (
    Batch,
    ImageSet,
    UnknownImageError,
    UnreadableImageError,
)

__all__ = [
    "Batch",
    "ImageSet",
    "UnknownImageError",
    "UnreadableImageError",
    "celeba",
    "decoy_digits",
    "decoy_mnist",
    "image_folder",
    "imagenet9",
    "imagenet_transform",
    "textured_digits",
    "waterbirds",
]
