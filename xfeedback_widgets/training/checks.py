"""Whether a model and a set of images fit together, found out before anything is trained on them.

One forward of one image, so that what is wrong is said where it was passed, with the image and the remedy,
rather than by a convolution on a background thread. What is wrong with single images is ``data``'s
to say.
"""

from __future__ import annotations

import torch
from torch import nn

from xfeedback_widgets.data import ImageSet
from xfeedback_widgets.saliency.base import evaluating, logits_of, prepared


def check_fits(model: nn.Module, data: ImageSet, name: str = "data") -> int:
    """Refuse a model that cannot classify the images.

    Parameters
    ----------
    model
        Any image classifier; left as it was found.
    data
        The images; the first readable one is tried.
    name
        What the caller calls them, for messages.

    Returns
    -------
    int
        How many classes the model has.

    Raises
    ------
    TypeError
        `model` is no ``nn.Module``, or `data` no ``ImageSet``.
    ValueError
        The model has no parameters, cannot take the image, gives no logits or too few of them, or no
        image can be read. The message names the image.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(data, ImageSet):
        raise TypeError(
            f"{name} must be an ImageSet, got {type(data).__name__}; wrap it: xf.data.ImageSet(dataset)"
        )
    if next(model.parameters(), None) is None:
        raise ValueError("the model has no parameters: there is nothing to fine-tune")
    batch = next((b for i in range(len(data)) if len(b := data.batch([i]))), None)
    if batch is None:
        image_id, reason = next(iter(data.skipped.items()))
        raise ValueError(
            f"none of the {len(data)} images of {name} can be read, such as {image_id!r} ({reason})"
        )
    try:
        with torch.no_grad(), evaluating(model):
            output = model(prepared(batch.images, model))
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"the model cannot take image {data.ids[int(batch.indices[0])]!r} of {name}, a tensor of "
            f"shape {list(batch.images.shape[1:])} ({str(error).splitlines()[0]}); pass transform= to "
            "ImageSet that makes the channels and the size the model expects"
        ) from error
    classes = logits_of(output).shape[1]
    labels = data.labels
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ValueError(
                f"{name} says of {labels.shape[1]} classes whether they are in an image, and the model "
                f"gives {classes} logits; give the model an output for each class"
            )
        return classes
    if int(labels.max()) >= classes:
        position = int(labels.argmax())
        raise ValueError(
            f"image {data.ids[position]!r} of {name} has label {int(labels[position])}, but the model "
            f"gives {classes} logits, for labels 0 … {classes - 1}; give the model an output for each "
            f"of the {data.num_classes} classes, or correct the labels"
        )
    return classes
