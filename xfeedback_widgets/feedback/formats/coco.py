"""Masks as COCO annotations: run lengths (RLE) out, run lengths, polygons and boxes in.

The relevant and the irrelevant part of a mask are one annotation each, of two categories. How outlines
and run lengths become pixels is :mod:`.shapes`' business; this module knows the file around them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.feedback.exchange import ExchangeError, write_whole

from . import shapes
from .entries import SIGNS, Ids, Known, meaning, pixel_size, read_json, refusing, region_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy.typing as npt

    from xfeedback_widgets.feedback.records import RegionMask
    from xfeedback_widgets.feedback.votes import Feedback

_NUMBERS = {name: number for number, name in enumerate(SIGNS, 1)}


def export_coco(feedback: Feedback, path: str | os.PathLike[str]) -> int:
    """Write the latest mask of each image as COCO annotations.

    Parameters
    ----------
    feedback
        The answers; only their masks are written. One without anything drawn leaves only its image's
        entry, which says nothing to readers.
    path
        A JSON file: ``images`` (``file_name`` is the image id), ``categories`` "relevant" and
        "irrelevant", and ``annotations`` with compressed RLE. An existing file is replaced in one step.

    Returns
    -------
    int
        Number of images written.

    Raises
    ------
    ImportError
        Without pycocotools, naming the extra to install.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image_id, record) in enumerate(feedback.masks.items(), 1):
        mask = record.mask
        height, width = mask.shape
        images.append({"id": number, "file_name": image_id, "height": height, "width": width})
        for name, value in SIGNS.items():
            if (area := mask == value).any():
                annotation = {"image_id": number, "category_id": _NUMBERS[name], **_encode(area)}
                annotations.append({"id": len(annotations) + 1, **annotation})
    categories = [{"id": number, "name": name} for name, number in _NUMBERS.items()]
    data = {"images": images, "annotations": annotations, "categories": categories}
    write_whole(Path(path), json.dumps(data).encode())
    return len(images)


def _encode(area: npt.NDArray[np.bool_]) -> dict[str, Any]:
    coco = shapes.coco_masks()
    runs = coco.encode(np.asfortranarray(area, np.uint8))
    return {
        "segmentation": {"size": list(area.shape), "counts": runs["counts"].decode("ascii")},
        "area": int(coco.area(runs)),
        "bbox": coco.toBbox(runs).tolist(),
        "iscrowd": 0,
    }


def import_coco(
    path: str | os.PathLike[str],
    *,
    ids: Ids | None = None,
    categories: Mapping[str, int] | None = None,
    annotator: str | None = None,
) -> list[RegionMask]:
    """Read masks from a COCO instance file, ours or any other.

    Parameters
    ----------
    path
        A JSON file with ``images``, ``annotations`` and ``categories``.
    ids
        Known image ids, of which each annotated image's ``file_name`` must mean one (a path's last
        part is enough); a mapping also gives the (height, width) of each picture, which the image's
        entry must have. None: the file names are the ids.
    categories
        What the categories stand for: name → -1, 0 or +1; annotations of others are left out. None:
        they must be "relevant" and "irrelevant".
    annotator
        Whom to name in the records.

    Returns
    -------
    list of RegionMask
        One for each annotated image, in the order of ``images``; where annotations overlap, the later
        one counts. Polygons, and boxes of annotations without a segmentation, become pixels by the
        rule of :mod:`.shapes`.

    Raises
    ------
    ExchangeError
        At the first entry that is not right, naming it.
    ImportError
        For polygons without pycocotools, naming the extra to install.
    """
    path = Path(path)
    tables = _tables(read_json(path), path)
    signs = {
        key: meaning(entry.get("name"), categories, SIGNS, where, "categories")
        for key, (where, entry) in tables["categories"].items()
    }
    drawn: dict[Any, list[tuple[str, dict[str, Any], int]]] = {}
    for where, entry in tables["annotations"].values():
        for name, table in (("image_id", "images"), ("category_id", "categories")):
            if not _is_key(entry.get(name)) or entry[name] not in tables[table]:
                raise ExchangeError(f"{where}: {name} {entry.get(name)!r} is not in {table}")
        sign = signs[entry["category_id"]]
        if sign is not None:
            drawn.setdefault(entry["image_id"], []).append((where, entry, sign))
    known = Known(ids)
    found: dict[str, RegionMask] = {}
    for key, (where, image) in tables["images"].items():
        if key not in drawn:
            continue
        file_name = image.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise ExchangeError(f"{where}: file_name {file_name!r} is no name")
        image_id = known.find([file_name], where)
        if image_id in found:
            raise ExchangeError(f"{where}: image {image_id!r} is listed twice")
        size = pixel_size(image.get("height"), image.get("width"), where)
        known.check_size(image_id, size, where)
        found[image_id] = region_mask(image_id, _paint(drawn[key], size), annotator, where)
    return list(found.values())


def _tables(data: Any, path: Path) -> dict[str, dict[Any, tuple[str, dict[str, Any]]]]:
    """Give images, annotations and categories by their ids, each with the words that name it."""
    if not isinstance(data, dict):
        raise ExchangeError(f"{path}: a JSON object is expected, got {type(data).__name__}")
    tables: dict[str, dict[Any, tuple[str, dict[str, Any]]]] = {}
    for table in ("images", "annotations", "categories"):
        entries = data.get(table)
        if not isinstance(entries, list):
            raise ExchangeError(f"{path}: it has no list of {table}")
        found = tables[table] = {}
        for number, entry in enumerate(entries, 1):
            where = f"{path}, entry {number} of {table}"
            if not isinstance(entry, dict) or not _is_key(entry.get("id")):
                raise ExchangeError(f"{where}: an object with an id is expected")
            if entry["id"] in found:
                raise ExchangeError(f"{where}: id {entry['id']!r} is given twice")
            found[entry["id"]] = (where, entry)
    return tables


def _is_key(value: object) -> bool:
    return type(value) in (int, str)


def _paint(
    entries: list[tuple[str, dict[str, Any], int]], size: tuple[int, int]
) -> npt.NDArray[np.int16]:
    mask = np.zeros(size, np.int16)  # what a category stands for is checked with the record
    for where, entry, sign in entries:
        with refusing(where, ValueError, TypeError):
            mask[_area(entry, size)] = sign
    return mask


def _area(entry: dict[str, Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(size):
            raise ValueError(
                f"the RLE's size {segmentation.get('size')!r} is not the image's {list(size)}"
            )
        return shapes.runs(segmentation.get("counts"), size)
    if isinstance(segmentation, list) and segmentation:
        area = np.zeros(size, bool)
        for outline in segmentation:
            if not isinstance(outline, list) or len(outline) % 2:
                raise ValueError("a polygon must be a list of x, y, x, y, …")
            area |= shapes.polygon(list(zip(outline[::2], outline[1::2], strict=True)), size)
        return area
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("it has neither a segmentation nor a bbox of x, y, width and height")
    return shapes.rectangle(box[:2], box[2:], size)
