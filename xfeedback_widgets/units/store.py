"""A survey on disk, so that a reopened session shows its units at once.

One safetensors file per trunk and image set. It is a cache: a file that cannot be read, or that belongs
to other images, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xfeedback_widgets.units.features import Features
from xfeedback_widgets.units.survey import UnitSurvey

if TYPE_CHECKING:
    from pathlib import Path

    from xfeedback_widgets.data import ImageSet

_FORMAT = 1
_TENSORS = ("peaks", "images", "cells", "maps", "fires", "class_means", "std")
_SAMPLE = ("pooled", "labels", "indices")


def name_of_survey(fingerprint: str, data: ImageSet, patches: int) -> str:
    """Return the file name of a survey: of these weights, these images in this order, so many patches."""
    digest = hashlib.sha256(json.dumps([list(data.ids), data.labels.tolist()]).encode())
    return f"{fingerprint}-{digest.hexdigest()[:16]}-{patches}.safetensors"


def save(found: UnitSurvey, path: Path) -> None:
    """Write a survey; the file appears whole or not at all.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(found, name).contiguous() for name in _TENSORS}
    tensors |= {f"sample.{name}": getattr(found.sample, name).contiguous() for name in _SAMPLE}
    facts = {
        "format": _FORMAT,
        "grid": found.grid,
        "extent": found.extent,
        "images_seen": found.images_seen,
        "fingerprint": found.fingerprint,
    }
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, scratch, {"survey": json.dumps(facts)})
        scratch.replace(path)
    except SafetensorError as error:  # what a full disk is called there
        raise OSError(f"{path} cannot be written ({error})") from error
    finally:
        scratch.unlink(missing_ok=True)


def load(path: Path) -> UnitSurvey | None:
    """Read a survey; None where there is none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["survey"])
            if facts["format"] != _FORMAT:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return UnitSurvey(
            **{name: tensors[name] for name in _TENSORS},
            grid=tuple(facts["grid"]),
            extent=tuple(facts["extent"]),
            images_seen=facts["images_seen"],
            sample=Features(**{name: tensors[f"sample.{name}"] for name in _SAMPLE}),
            fingerprint=facts["fingerprint"],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
