"""Boxes drawn around objects: readers of VOC XML, COCO JSON and tables.

A reader turns what lies on disk into :class:`Boxes`, which finds the boxes of an image by its id and knows
whose class each one is. It checks everything before it returns anything, and names the file at fault;
annotations come from strangers, so XML with a document type (entities, the billion laughs) is refused.
Pushing boxes through an image's transform is in :mod:`xfeedback_widgets.data.views`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

__all__ = [
    "Annotation",
    "Box",
    "Boxes",
    "coco_boxes",
    "read_boxes",
    "table_boxes",
    "voc_boxes",
]

_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", ".xml"}
)
_MOST_XML = 2**20  # bytes; an annotation of VOC or ImageNet has a few thousand
_OVERHANG = 2.0  # pixels by which a box may stick out of its picture: rounding, and counting from 1
_FILE = ("file", "image", "image_id", "filename", "file_name", "path", "id")
_CLASS = ("class", "class_name", "name", "wnid", "label", "category")
_EDGES = (
    ("xmin", "x1", "left"),
    ("ymin", "y1", "top"),
    ("xmax", "x2", "right"),
    ("ymax", "y2", "bottom"),
)


class Box(NamedTuple):
    """A rectangle in pixels of the source picture; the box of its first pixel alone is 0, 0, 1, 1."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    name: str | None = None
    """Name of the object's class; None: whatever the image's label is."""


class Annotation(NamedTuple):
    """What one image's annotation says."""

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None
    """(height, width) of the picture the boxes were drawn on, where it is known."""


class Boxes(Mapping[str, Annotation]):
    """Annotations by the file name of their image.

    Parameters
    ----------
    annotations
        By file name or image id; folders count with forward slashes.
    source
        In words, for reports: ``"VOC XML"``.
    names
        Renames classes: name in the annotations to name in the image set (``{"n02084071": "dog"}``).

    Raises
    ------
    ValueError
        A box that is not finite, has no area, or lies outside its picture: the image is named. Two
        annotations of one image.

    Examples
    --------
    >>> boxes = Boxes({"cat/001.jpg": Annotation((Box(2, 2, 6, 8, "cat"),), size=(10, 10))})
    >>> boxes.find("cat/001.jpg").boxes[0].name
    'cat'
    """

    def __init__(
        self,
        annotations: Mapping[str, Annotation],
        *,
        source: str = "boxes",
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self._by_key: dict[str, Annotation] = {}
        self._by_name: dict[str, str | None] = {}
        for image, annotation in annotations.items():
            checked = _checked(annotation, f"{source}, image {image!r}")
            if names is not None:
                checked = _renamed(checked, names)
            key = _key(image)
            if key in self._by_key:
                raise ValueError(f"{source}: two annotations of image {key!r}; remove one")
            self._by_key[key] = checked
            name = PurePosixPath(key).name
            self._by_name[name] = None if name in self._by_name else key

    def __getitem__(self, image: str) -> Annotation:
        return self._by_key[_key(image)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def __repr__(self) -> str:
        return f"Boxes({len(self)} images, {self.source})"

    @property
    def class_names(self) -> frozenset[str]:
        """Every class that any box names."""
        return frozenset(
            box.name
            for found in self._by_key.values()
            for box in found.boxes
            if box.name is not None
        )

    def find(self, image_id: str) -> Annotation | None:
        """Return the annotation of an image, or None.

        The whole id counts first, without its ending; else the last part of the path, since annotations
        often lie in one folder and images in one per class.

        Raises
        ------
        ValueError
            Only the last part fits, and it fits several annotations.
        """
        key = _key(image_id)
        found = self._by_key.get(key)
        name = PurePosixPath(key).name
        if found is not None or name not in self._by_name:
            return found
        other = self._by_name[name]
        if other is None:
            raise ValueError(
                f"{self.source}: several annotations are named {name!r}, and none is {key!r}; name "
                "annotations like images, folders included"
            )
        return self._by_key[other]


# -- readers -------------------------------------------------------------------------------------


def read_boxes(path: str | Path, **options: Any) -> Boxes:
    """Read boxes in the format that `path` shows: a folder or file of XML, JSON, or a table.

    Parameters
    ----------
    path
        A folder (:func:`voc_boxes`), or a file ending in ``.xml``, ``.json`` (:func:`coco_boxes`) or
        ``.csv``, ``.tsv`` (:func:`table_boxes`).
    options
        Keyword arguments of that reader.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing there, an unknown ending, or what the reader refuses.
    """
    path = _existing(path)
    if path.is_dir() or path.suffix.lower() == ".xml":
        return voc_boxes(path, **options)
    if path.suffix.lower() == ".json":
        return coco_boxes(path, **options)
    if path.suffix.lower() in (".csv", ".tsv"):
        return table_boxes(path, **options)
    raise ValueError(
        f"{path}: boxes are read from a folder of XML, or from .xml, .json, .csv or .tsv"
    )


def voc_boxes(path: str | Path, *, names: Mapping[str, str] | None = None) -> Boxes:
    """Read VOC XML: one file per image, in the layout of Pascal VOC or of ImageNet.

    Parameters
    ----------
    path
        Folder with ``.xml`` files at any depth, or one file. An image is found by its annotation's
        path within the folder, or by its name alone; the ``filename`` inside is often a placeholder.
    names
        As in :class:`Boxes`.

    Returns
    -------
    Boxes
        All objects with their classes; the boxes of their ``part`` are left out. Pascal's pixels are
        counted from 1, ImageNet's from 0: the ``database`` inside tells which.

    Raises
    ------
    FileNotFoundError
        Nothing there, or no ``.xml`` file in it.
    ValueError
        Not such XML, a document type, numbers that make no box: the file is named.
    """
    path = _existing(path)
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    top = path if path.is_dir() else path.parent
    if not files:
        raise FileNotFoundError(f"no .xml file below {path}")
    found = {file.relative_to(top).as_posix(): _voc_file(file) for file in files}
    return Boxes(found, source="VOC XML", names=names)


def coco_boxes(path: str | Path, *, names: Mapping[str, str] | None = None) -> Boxes:
    """Read COCO's JSON of instances; crowds count as objects.

    Parameters
    ----------
    path
        The file with ``images``, ``annotations`` (``bbox`` is x, y, width, height) and ``categories``.
    names
        As in :class:`Boxes`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such JSON, an unknown image or category, numbers that make no box: file and entry are named.
    """
    path = _existing(path)
    try:
        content = json.loads(path.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        categories = {each["id"]: str(each["name"]) for each in content["categories"]}
        boxes: dict[Any, list[Box]] = {image: [] for image in images}
        for number, each in enumerate(content["annotations"]):
            if each["image_id"] not in images or each["category_id"] not in categories:
                raise ValueError(  # noqa: TRY301 - named below like the rest
                    f"annotation {number} is of image {each['image_id']!r} and category "
                    f"{each['category_id']!r}, which the file does not list"
                )
            x, y, width, height = map(float, each["bbox"])
            boxes[each["image_id"]].append(
                Box(x, y, x + width, y + height, categories[each["category_id"]])
            )
        found = {
            str(image["file_name"]): Annotation(
                tuple(boxes[key]), (int(image["height"]), int(image["width"]))
            )
            for key, image in images.items()
        }
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
        raise ValueError(f"{path} is no COCO file of instances: {_said(error)}") from error
    if len(found) < len(images):
        raise ValueError(f"{path}: two images have the same file_name")
    return Boxes(found, source=f"COCO JSON {path.name}", names=names)


def table_boxes(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    inclusive: bool = False,
    names: Mapping[str, str] | None = None,
) -> Boxes:
    """Read a table with a row per box.

    Parameters
    ----------
    path
        CSV, or TSV by its ending, with a heading: a column for the image (``file``, ``image_id``, …), the
        four edges (``xmin, ymin, xmax, ymax``, or ``x1, y1, x2, y2``), and where there are such the class
        (``class``, ``name``, ``wnid``, …) and the picture's ``width`` and ``height``. Others are ignored.
    size
        (height, width) of every picture, for a table without those columns.
    inclusive
        Whether ``xmax`` and ``ymax`` are the last pixels inside, not the first outside.
    names
        As in :class:`Boxes`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A missing column, or a row whose numbers make no box: the line is named.
    """
    path = _existing(path)
    boxes: dict[str, list[Box]] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = list(reader.fieldnames or ())
        file, *edges = (_column(header, known, path) for known in (_FILE, *_EDGES))
        named = next((name for name in _CLASS if name in header and name != file), None)
        sized = {"height", "width"} <= set(header)
        try:
            for row in reader:
                left, top, right, bottom = (float(row[edge]) for edge in edges)
                extent = (int(row["height"]), int(row["width"])) if sized else size
                if sizes.setdefault(row[file], extent) != extent:
                    raise ValueError(  # noqa: TRY301 - named below like the rest
                        f"{row[file]!r} has another size above"
                    )
                box = Box(
                    left, top, right + inclusive, bottom + inclusive, row[named] if named else None
                )
                _checked(Annotation((box,), extent), repr(row[file]))
                boxes.setdefault(row[file], []).append(box)
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {_said(error)}") from error
    if not boxes:
        raise ValueError(f"{path} has no row")
    found = {image: Annotation(tuple(each), sizes[image]) for image, each in boxes.items()}
    return Boxes(found, source=f"table {path.name}", names=names)


def _voc_file(path: Path) -> Annotation:
    from xml.etree import ElementTree as ET

    class Builder(ET.TreeBuilder):
        def doctype(self, *_: Any) -> None:  # called before any entity is declared
            raise ValueError("it has a document type, which annotations do not need")

    try:
        if path.stat().st_size > _MOST_XML:
            raise ValueError(f"it is larger than {_MOST_XML:,} bytes")  # noqa: TRY301 - named below
        parser = ET.XMLParser(target=Builder())  # noqa: S314 - likewise
        parser.feed(path.read_bytes())
        root = parser.close()
        # Pascal counts pixels from 1, and its last pixel is inside
        first = 1 if "VOC" in (root.findtext("source/database") or "") else 0
        size = root.find("size")
        extent = None if size is None else (_whole(size, "height"), _whole(size, "width"))
        annotation = Annotation(
            tuple(_voc_object(each, first) for each in root.findall("object")), extent
        )
        return _checked(annotation, "it")
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no VOC annotation: {_said(error)}") from error


def _voc_object(node: Any, first: int) -> Box:
    edges = node.find("bndbox")
    if edges is None:
        raise ValueError(f"object {node.findtext('name')!r} has no bndbox")
    values = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        text = edges.findtext(name)
        if text is None:
            raise ValueError(f"a bndbox has no {name}")
        values.append(float(text))
    xmin, ymin, xmax, ymax = values
    return Box(
        xmin - first, ymin - first, xmax, ymax, (node.findtext("name") or "").strip() or None
    )


def _whole(node: Any, name: str) -> int:
    value = int(node.findtext(name) or 0)
    if value < 1:
        raise ValueError(f"its {name} is {value}")
    return value


def _checked(annotation: Annotation, where: str) -> Annotation:
    """Return the annotation with its boxes cut to the picture; refuse boxes that are none."""
    height, width = annotation.size or (math.inf, math.inf)
    kept = []
    for box in annotation.boxes:
        edges = box[:4]
        if not all(map(math.isfinite, edges)) or box.xmax <= box.xmin or box.ymax <= box.ymin:
            raise ValueError(
                f"{where} has a box {edges} without area; expected xmin < xmax, ymin < ymax"
            )
        over = max(-box.xmin, -box.ymin, box.xmax - width, box.ymax - height)
        if over > _OVERHANG:
            raise ValueError(
                f"{where} has a box {edges} outside its picture, {width}×{height} pixels (width×height); "
                "was the picture resized since?"
            )
        cut = Box(
            max(box.xmin, 0),
            max(box.ymin, 0),
            min(box.xmax, width),
            min(box.ymax, height),
            box.name,
        )
        if cut.xmax > cut.xmin and cut.ymax > cut.ymin:
            kept.append(cut)
    return Annotation(tuple(kept), annotation.size)


def _renamed(annotation: Annotation, names: Mapping[str, str]) -> Annotation:
    boxes = tuple(
        box if box.name is None else box._replace(name=names.get(box.name, box.name))
        for box in annotation.boxes
    )
    return annotation._replace(boxes=boxes)


def _key(image: str) -> str:
    path = PurePosixPath(PureWindowsPath(image).as_posix())
    return (path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path).as_posix()


def _column(header: Sequence[str], known: Iterable[str], path: Path) -> str:
    found = next((name for name in known if name in header), None)
    if found is None:
        raise ValueError(
            f"{path} has no column {' or '.join(known)}; it has {', '.join(header) or 'none'}"
        )
    return found


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no boxes at {path}")
    return path


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
