"""What is checked, and filled in, when a session is opened; nothing here knows a session."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import getpass
from typing import TYPE_CHECKING, Any

import torch

from xfeedback_widgets.training import Settings, check_fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torch import nn

    from xfeedback_widgets.data import ImageSet


def training_settings(options: dict[str, Any], own: Iterable[str]) -> Settings:
    """Return settings from what a caller does not know itself; a misspelt option of its `own` is named, too.

    Raises
    ------
    TypeError
        An unknown option.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in options:
        near = difflib.get_close_matches(name, [*own, *known], 1)
        if name not in known and near:
            raise TypeError(f"unknown option {name!r}; did you mean {near[0]!r}?")
    return Settings().but(**options)


def check_problem(model: nn.Module, data: ImageSet, validation: ImageSet | None) -> None:
    """Refuse a model that does not fit the images, or has another number of classes.

    Raises
    ------
    TypeError
        No model and ImageSet.
    ValueError
        They do not fit.
    """
    classes = check_fits(model, data)
    if classes != data.num_classes:
        raise ValueError(
            f"the model gives {classes} logits, but data names {data.num_classes} classes "
            f"({', '.join(data.class_names[:5])}, …); pass class_names= with one name for each output "
            "of the model to ImageSet, or give the model as many outputs"
        )
    if validation is not None:
        check_fits(model, validation, "validation")


@contextlib.contextmanager
def named(directory: Path) -> Iterator[None]:
    """Say which directory an error of the file system is about, and what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            error.errno,
            f"the session directory cannot be written ({error.strerror or error}); pass directory= that "
            "is a folder you may write to",
            str(directory),
        ) from error


def chosen_device(device: str | torch.device, model: nn.Module) -> torch.device:
    """Return a device; ``"auto"``: CUDA where there is one, else where the model is."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return next(model.parameters()).device


def login_name() -> str:
    """Return who works here; "me" where nobody says."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "me"
