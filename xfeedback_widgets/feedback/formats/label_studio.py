"""Masks and answers as Label Studio tasks: brushes, rectangles, polygons and choices.

Brushes are stored in run lengths of single bits (the ``rle-pack`` format): a header of 32 bits for the
number of values, 5 for the width of a value less one, four times 4 for the widths of the four kinds of
length less one; then, again and again, 1 bit whether one value is repeated, 2 bits for the kind of length,
the length less one, and the value or values. The values are the channels of a picture in RGBA, row after
row; what counts is where A is not 0. Rectangles and polygons are in percent of the picture.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from xfeedback_widgets.feedback.exchange import ExchangeError, write_whole
from xfeedback_widgets.feedback.records import Answer, RegionMask, Verdict

from . import shapes
from .entries import SIGNS, Ids, Known, meaning, pixel_size, read_json, refusing, region_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from xfeedback_widgets.feedback.votes import Feedback

LABEL_STUDIO_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="answer" toName="image" choice="single">
    <Choice value="reasonable"/><Choice value="unreasonable"/><Choice value="unsure"/>
  </Choices>
  <BrushLabels name="region" toName="image">
    <Label value="relevant" background="#0072B2"/><Label value="irrelevant" background="#D55E00"/>
  </BrushLabels>
</View>
"""
"""The labelling interface in which Label Studio shows what :func:`export_label_studio` writes."""

_ANSWERS: dict[str, Answer] = {
    "reasonable": "accept",
    "unreasonable": "reject",
    "unsure": "unsure",
}
_WORDS = {answer: word for word, answer in _ANSWERS.items()}
_PASSED_OVER = {"textarea", "rating", "number", "datetime", "taxonomy"}
_WIDTHS = (3, 4, 8, 16)  # of run lengths, in bits


def export_label_studio(feedback: Feedback, path: str | os.PathLike[str]) -> int:
    """Write merged verdicts and the latest masks as Label Studio tasks with annotations.

    Parameters
    ----------
    feedback
        The answers.
    path
        A JSON file for Label Studio's import, to be labelled further with
        :data:`LABEL_STUDIO_CONFIG`: ``data.image`` is the image id. A mask without anything drawn
        leaves no result. An existing file is replaced in one step.

    Returns
    -------
    int
        Number of tasks written.
    """
    tasks = [
        {"id": number, "data": {"image": image_id}, "annotations": [{"result": list(results)}]}
        for number, (image_id, results) in enumerate(_results_of(feedback), 1)
    ]
    write_whole(Path(path), json.dumps(tasks).encode())
    return len(tasks)


def _results_of(feedback: Feedback) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for image_id in dict.fromkeys([*feedback.verdicts, *feedback.masks]):
        results: list[dict[str, Any]] = []
        if verdict := feedback.verdicts.get(image_id):
            chosen = {"choices": [_WORDS[verdict.answer]]}
            results.append({"type": "choices", "from_name": "answer", "value": chosen})
        if record := feedback.masks.get(image_id):
            mask = record.mask
            size = {"original_height": mask.shape[0], "original_width": mask.shape[1]}
            for name, sign in SIGNS.items():
                if (area := mask == sign).any():
                    brush = {"format": "rle", "rle": _brush(area), "brushlabels": [name]}
                    made = {"type": "brushlabels", "from_name": "region", "value": brush}
                    results.append({**made, **size, "image_rotation": 0})
        named = [{"id": str(n), "to_name": "image", **r} for n, r in enumerate(results, 1)]
        yield image_id, named


def import_label_studio(
    path: str | os.PathLike[str],
    *,
    ids: Ids | None = None,
    labels: Mapping[str, int] | None = None,
    choices: Mapping[str, Answer] | None = None,
    image: str = "image",
    annotator: str | None = None,
) -> list[Verdict | RegionMask]:
    """Read the JSON that Label Studio exports.

    Parameters
    ----------
    path
        A JSON list of tasks with their annotations (the format called "JSON", not "JSON-MIN").
        Skipped annotations, predictions, and results of other questions (text, ratings, numbers, …)
        are passed over.
    ids
        Known image ids, of which each task's picture must mean one (the last part of its URL is enough,
        with or without the eight digits that an upload adds); a mapping also gives the
        (height, width) of each picture. None: what stands in the task is the id.
    labels
        What the labels of regions stand for: name → -1, 0 or +1; regions of others are left out. None:
        they must be "relevant" and "irrelevant".
    choices
        What choices stand for: word → "accept", "reject" or "unsure"; others are left out. None: they
        must be "reasonable", "unreasonable" and "unsure".
    image
        Under which name a task's ``data`` holds the picture.
    annotator
        Whom to name in the records; None: who completed the annotation, if it says so.

    Returns
    -------
    list of Verdict and RegionMask
        For each annotation at most one of either, in the order of the file. Where regions overlap, the
        later one counts; polygons and rectangles become pixels by the rule of :mod:`.shapes`.

    Raises
    ------
    ExchangeError
        At the first entry that is not right, naming it.
    ImportError
        For polygons and turned rectangles without pycocotools, naming the extra to install.
    """
    path = Path(path)
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ExchangeError(f"{path}: a JSON list of tasks is expected")
    known = Known(ids)
    seen: set[str] = set()
    records: list[Verdict | RegionMask] = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        image_id = _image(task, image, known, where)
        if image_id in seen:
            raise ExchangeError(f"{where}: image {image_id!r} has two tasks")
        seen.add(image_id)
        for name, annotation in _listed(task, "annotations", where):
            if annotation.get("was_cancelled"):
                continue
            regions = _Regions(known, image_id)
            answer = _read(annotation, regions, labels, choices, name)
            who = annotator or _who(annotation.get("completed_by"))
            with refusing(name, TypeError, ValueError):
                records += [Verdict(image_id, answer, annotator=who)] if answer else []
            if regions.mask is not None:
                records.append(region_mask(image_id, regions.mask, who, name))
    return records


def _image(task: Any, image: str, known: Known, where: str) -> str:
    data = task.get("data") if isinstance(task, dict) else None
    name = data.get(image) if isinstance(data, dict) else None
    if not isinstance(name, str) or not name:
        raise ExchangeError(f"{where}: its data has no text {image!r}; pass image=…")
    plain = unquote(name).rpartition("?d=")[2].partition("?")[0]
    uploaded = re.sub(r"^[0-9a-f]{8}-", "", re.split(r"[/\\]", plain)[-1])
    return known.find([name, plain, uploaded], where)


def _listed(entry: dict[str, Any], name: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = entry.get(name)
    if not isinstance(found, list):
        raise ExchangeError(f"{where}: it has no list {name!r}")
    for number, each in enumerate(found, 1):
        place = f"{where}, entry {number} of {name}"
        if not isinstance(each, dict):
            raise ExchangeError(f"{place}: an object is expected")
        yield place, each


def _who(completed_by: object) -> str | None:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return str(completed_by) if isinstance(completed_by, (str, int)) and completed_by else None


def _read(
    annotation: dict[str, Any],
    regions: _Regions,
    labels: Mapping[str, int] | None,
    choices: Mapping[str, Answer] | None,
    where: str,
) -> Answer | None:
    """Draw an annotation's regions, and give its answer if it has one."""
    answer: Answer | None = None
    for place, result in _listed(annotation, "result", where):
        if result.get("type") != "choices":
            regions.draw(result, labels, place)
        elif found := _answer(result, choices, place):
            if answer not in (None, found):
                raise ExchangeError(f"{place}: it says {found!r} after {answer!r}")
            answer = found
    return answer


def _answer(
    result: dict[str, Any], choices: Mapping[str, Answer] | None, where: str
) -> Answer | None:
    value = result.get("value")
    words = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(words, list) or len(words) != 1:
        raise ExchangeError(f"{where}: one choice is expected, got {words!r}")
    return meaning(words[0], choices, _ANSWERS, where, "choices")


class _Regions:
    """The regions of one annotation, drawn one over the other; ``mask`` is None while there is none."""

    def __init__(self, known: Known, image_id: str) -> None:
        self.mask: npt.NDArray[np.int16] | None = None
        self._known, self._image_id = known, image_id

    def draw(self, result: dict[str, Any], labels: Mapping[str, int] | None, where: str) -> None:
        kind, value = result.get("type"), result.get("value")
        if isinstance(kind, str) and kind in _PASSED_OVER:
            return
        shape = _SHAPES.get(kind) if isinstance(kind, str) else None
        if shape is None:
            raise ExchangeError(
                f"{where}: type {kind!r} cannot be read; use choices or {', '.join(_SHAPES)}"
            )
        words = value.get(kind) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(words, list) or len(words) != 1:
            raise ExchangeError(f"{where}: one label is expected, got {words!r}")
        sign = meaning(words[0], labels, SIGNS, where, "labels")
        if sign is None:
            return
        if result.get("image_rotation"):
            raise ExchangeError(f"{where}: the picture was turned; turn it back, then export")
        size = pixel_size(result.get("original_height"), result.get("original_width"), where)
        self._known.check_size(self._image_id, size, where)
        if self.mask is None:
            self.mask = np.zeros(
                size, np.int16
            )  # what a label stands for is checked with the record
        if self.mask.shape != size:
            raise ExchangeError(f"{where}: the picture is {size}, and was {self.mask.shape} before")
        with refusing(where, TypeError, ValueError):
            self.mask[shape(value, size)] = sign


def _rectangle(value: dict[str, Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    names = ("x", "y", "width", "height")
    x, y, width, height = (_percent(value.get(name), name, size) for name in names)
    turn = value.get("rotation", 0)
    if turn == 0:
        return shapes.rectangle((x, y), (width, height), size)
    if type(turn) not in (int, float) or not abs(turn) <= 360:
        raise ValueError(f"rotation must be in degrees, got {turn!r}")
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    points = [
        (x + right * cos - down * sin, y + right * sin + down * cos) for right, down in corners
    ]
    return shapes.polygon(points, size)


def _percent(number: Any, name: str, size: tuple[int, int]) -> float:
    if type(number) not in (int, float) or not abs(number) < 1e6:
        raise ValueError(f"{name} must be in percent of the picture, got {number!r}")
    return float(number * size[1 if name in ("x", "width") else 0] / 100)


def _polygon(value: dict[str, Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    points = value.get("points")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError("a polygon must be a list of x and y, in percent")
    return shapes.polygon(
        [(_percent(x, "x", size), _percent(y, "y", size)) for x, y in points], size
    )


# -- brushes -------------------------------------------------------------------------------------


def _brush(area: npt.NDArray[np.bool_]) -> list[int]:
    """Write an area as a brush: every run of pixels as one repeated value."""
    flat = area.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = 4 * np.diff(starts, append=flat.size)
    header = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    runs = [
        _run(min(2**16, length - done), 255 * painted)
        for length, painted in zip(lengths.tolist(), flat[starts].tolist(), strict=True)
        for done in range(0, length, 2**16)
    ]
    text = "".join(header + runs)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(length: int, value: int) -> str:
    kind, width = next((k, w) for k, w in enumerate(_WIDTHS) if length <= 2**w)
    return f"1{kind:02b}{length - 1:0{width}b}{value:08b}"


def _unbrush(value: dict[str, Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Read where a brush painted; refused unless it fills the picture exactly."""
    rle = value.get("rle")
    if value.get("format") != "rle" or not isinstance(rle, list):
        raise ValueError("a brush must have the format 'rle' and a list of bytes")
    if not all(type(byte) is int and 0 <= byte < 256 for byte in rle):
        raise ValueError("a brush's rle must hold whole numbers from 0 to 255")
    take = _reader(bytes(rle))
    total = take(32)
    if total != 4 * size[0] * size[1]:
        raise ValueError(
            f"the brush fills {total} values, {size[0]} × {size[1]} pixels have 4 each"
        )
    word = take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    painted: list[bool] = []
    counts: list[int] = []
    filled = 0
    while filled < total:
        repeated, length = take(1), take(widths[take(2)]) + 1
        filled += length
        if filled > total:
            raise ValueError("the brush runs past the end of the picture")
        for count in [length] if repeated else [1] * length:
            painted.append(take(word) > 0)
            counts.append(count)
    return np.repeat(np.array(painted, bool), counts).reshape(*size, 4)[..., 3]


def _reader(data: bytes) -> Any:
    """Give a function that takes the next ``n`` bits as a number."""
    text = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
    at = 0

    def take(bits: int) -> int:
        nonlocal at
        at += bits
        if at > len(text):
            raise ValueError("the brush breaks off")
        return int(text[at - bits : at], 2)

    return take


_SHAPES = {"brushlabels": _unbrush, "rectanglelabels": _rectangle, "polygonlabels": _polygon}
