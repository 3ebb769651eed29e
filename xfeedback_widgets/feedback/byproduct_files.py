"""Files of annotation byproducts: ImageNet-AB as JSON and as the released XML, COCO-AB, BubbleView's clicks.

JSON is read and written one record at a time, so that the 400 MB of COCO-AB need no more memory than its
longest entry; entries are checked as they come, and one that cannot be right is refused by its number.
XML from strangers may have no document type (entities, the billion laughs). Whoever exports gets workers'
names hashed. What the records mean is :mod:`.byproducts`' business.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
from datetime import datetime, timezone
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from PIL import Image

from .byproducts import CocoAB, ImageNetAB
from .exchange import ExchangeError, json_decoder, write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from xml.etree import ElementTree as ET

MAX_ENTRY = 16 * 2**20
"""Longest record that is read, in characters; one of a long page has some ten thousand."""

_CHUNK = 2**20
_SPACE = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(r"[+-]?\d+")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_Kind = TypeVar("_Kind", ImageNetAB, CocoAB)
_Record = TypeVar("_Record", bound=ImageNetAB | CocoAB)


# -- JSON ----------------------------------------------------------------------------------------


def import_imagenet_ab(
    path: str | os.PathLike[str],
    *,
    on_progress: Callable[[int, int], object] | None = None,
    on_refused: Callable[[str, str], object] | None = None,
) -> Iterator[ImageNetAB]:
    """Read ImageNet-AB: the browsing tool's JSON, or the released XML.

    Parameters
    ----------
    path
        A JSON file (a list of records, or records one after the other), an ``.xml`` file, or a folder of
        XML files at any depth.
    on_progress
        Called now and then with how much was read and how much there is, in bytes of a JSON file or
        in XML files.
    on_refused
        Called with the place of an entry that cannot be right and the reason; reading goes on. Without
        it such an entry is an error.

    Yields
    ------
    ImageNetAB
        In the order of the file; of a folder, by name. An XML file holds one for each worker.

    Raises
    ------
    ExchangeError
        The file is not JSON or not XML (the place is named), or an entry is refused and nobody is told.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".xml":
        yield from _checked(ImageNetAB, _xml_entries(path, on_progress), on_refused)
    else:
        yield from _checked(ImageNetAB, _json_entries(path, on_progress), on_refused)


def import_coco_ab(
    path: str | os.PathLike[str],
    *,
    on_progress: Callable[[int, int], object] | None = None,
    on_refused: Callable[[str, str], object] | None = None,
) -> Iterator[CocoAB]:
    """Read COCO-AB's JSON: a list of records, or records one after the other.

    Parameters
    ----------
    path, on_progress, on_refused
        As for :func:`import_imagenet_ab`.

    Yields
    ------
    CocoAB
        In the order of the file.

    Raises
    ------
    ExchangeError
        As for :func:`import_imagenet_ab`.
    """
    yield from _checked(CocoAB, _json_entries(Path(path), on_progress), on_refused)


def export_ab(
    records: Iterable[ImageNetAB | CocoAB],
    path: str | os.PathLike[str],
    *,
    workers: Literal["hash", "keep"] = "hash",
    salt: str | None = None,
) -> int:
    """Write records as a JSON list, one to a line, in the published form.

    Parameters
    ----------
    records
        Of one kind; taken one at a time.
    path
        An existing file is replaced in one step, once all is written.
    workers
        ``"hash"``: ``worker_id`` is hashed, and fields that the format does not know, and that might
        tell who somebody is, are left out. ``"keep"``: everything stays, and reading the file gives
        equal records.
    salt
        Of the hash; the same salt gives the same names in several files. None: a new one that nobody
        gets to know.

    Returns
    -------
    int
        Number of records written.

    Raises
    ------
    ExchangeError
        The records are of two kinds.
    """
    count, kinds = 0, set()

    def lines() -> Iterator[bytes]:
        nonlocal count
        for record in _named(records, workers, salt):
            kinds.add(type(record))
            if len(kinds) > 1:
                raise ExchangeError(f"{path}: ImageNet-AB and COCO-AB do not go into one file")
            text = json.dumps(record.to_dict())
            yield (",\n" if count else "[\n").encode() + text.encode()
            count += 1
        yield b"\n]\n" if count else b"[]\n"

    write_whole(Path(path), lines())
    return count


def _named(
    records: Iterable[_Record], workers: Literal["hash", "keep"], salt: str | None
) -> Iterator[_Record]:
    if workers not in ("hash", "keep"):
        raise ValueError(f"workers must be 'hash' or 'keep', got {workers!r}")
    salt = secrets.token_hex() if salt is None else salt
    for record in records:
        yield record.hashed(salt) if workers == "hash" else record


def _checked(
    kind: type[_Kind],
    entries: Iterator[tuple[str, object]],
    on_refused: Callable[[str, str], object] | None,
) -> Iterator[_Kind]:
    for where, data in entries:
        try:
            record: _Kind = kind.from_dict(data)
        except (TypeError, ValueError) as error:
            if on_refused is None:
                raise ExchangeError(f"{where}: {error}") from error
            on_refused(where, str(error))
            continue
        yield record


def _json_entries(
    path: Path, on_progress: Callable[[int, int], object] | None
) -> Iterator[tuple[str, object]]:
    """Yield each object of a list, or of a sequence of objects, with its number from 1."""
    reader = _Reader(path, on_progress)
    with path.open("rb") as reader.file:
        listed = reader.skip("[")
        number = 0
        while (start := reader.peek()) and start != "]":
            number += 1
            where = f"{path}, entry {number}"
            if start != "{":
                raise ExchangeError(f"{where}: a record must be a JSON object, found {start!r}")
            yield where, reader.value(where)
            if not listed or reader.skip(","):
                if listed and reader.peek() in ("]", ""):
                    raise ExchangeError(f"{path}: the list breaks off after entry {number}")
            elif reader.peek() != "]":
                raise ExchangeError(f"{path}: no comma or end of the list after entry {number}")
        if listed and not reader.skip("]"):
            raise ExchangeError(f"{path}: the list breaks off after entry {number}")
        if rest := reader.peek():
            raise ExchangeError(
                f"{path}: {rest!r} follows entry {number}, where the list has ended"
            )


class _Reader:
    """JSON values from a file of any size, a chunk at a time."""

    def __init__(self, path: Path, on_progress: Callable[[int, int], object] | None) -> None:
        self.file: Any = None
        self._path, self._on_progress = path, on_progress
        self._size = path.stat().st_size
        self._text, self._at, self._ended = "", 0, False
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = json_decoder()

    def peek(self) -> str:
        """Return the next character that is no space; empty at the end of the file."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None  # noqa: S101  # it matches nothing as well
            self._at = found.end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self, mark: str) -> bool:
        """Pass over a mark, if it is next."""
        if self.peek() != mark:
            return False
        self._at += 1
        return True

    def value(self, where: str) -> object:
        """Return the value that starts here."""
        while True:
            try:
                found, self._at = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:  # noqa: PERF203 — tried again with more
                # a value that is cut and one that is wrong look alike until there is no more to read
                too_long = len(self._text) - self._at > MAX_ENTRY
                if isinstance(error, RecursionError) or too_long or not self._more():
                    what = f"longer than {MAX_ENTRY} characters, or " if too_long else ""
                    raise ExchangeError(f"{where}: {what}not JSON ({error})") from error
            else:
                return found

    def _more(self) -> bool:
        if self._ended:
            return False
        # at least as much again, so that a long entry is not tried over and over
        data = self.file.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not data
        try:
            self._text = self._text[self._at :] + self._decode(data, self._ended)
        except UnicodeDecodeError as error:
            raise ExchangeError(f"{self._path}: not UTF-8 ({error.reason})") from error
        self._at = 0
        if self._on_progress is not None:
            self._on_progress(self.file.tell(), self._size)
        return not self._ended


# -- the released XML ----------------------------------------------------------------------------


def export_imagenet_xml(
    records: Iterable[ImageNetAB],
    folder: str | os.PathLike[str],
    *,
    workers: Literal["hash", "keep"] = "hash",
    salt: str | None = None,
) -> int:
    """Write one XML file for each picture, as ImageNet-AB is released: a ``metadata`` for each worker.

    Parameters
    ----------
    records
        All are held until the last has come, since several may be about one picture.
    folder
        Files are named by ``imageID``, in folders below this one.
    workers, salt
        As for :func:`export_ab`.

    Returns
    -------
    int
        Number of files written.

    Raises
    ------
    ExchangeError
        An ``imageID`` that leads out of the folder, or text that XML cannot hold.
    """
    by_image: dict[str, list[ImageNetAB]] = {}
    for record in _named(records, workers, salt):
        by_image.setdefault(record.imageID, []).append(record)
    for image, of_image in by_image.items():
        name = PurePosixPath(image)
        if (
            name.is_absolute()
            or ".." in name.parts
            or "\\" in image
            or ":" in image
            or not name.name
        ):
            raise ExchangeError(f"imageID {image!r} cannot be the name of a file below {folder}")
        path = Path(folder) / name.with_name(f"{name.name}.xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _xml_bytes(name, of_image))
    return len(by_image)


def _xml_bytes(name: PurePosixPath, records: list[ImageNetAB]) -> bytes:
    from xml.etree import ElementTree as ET

    root = ET.Element("annotation")
    _add(root, "folder", name.parent.name)
    _add(root, "filename", name.name)
    size = {"width": records[0].originalImageWidth, "height": records[0].originalImageHeight}
    _add(root, "size", size)
    for record in records:
        _add(root, "metadata", record.to_dict())
    ET.indent(root)
    text: bytes = ET.tostring(root, "utf-8")
    return text


def _add(parent: ET.Element, tag: str, value: Any) -> None:
    from xml.etree import ElementTree as ET

    if isinstance(value, list):
        for each in value:
            _add(parent, tag, each)
        return
    node = ET.SubElement(parent, tag)
    if isinstance(value, dict):
        for name, each in value.items():
            _add(node, name, each)
        return
    text = str(value)
    if _NO_XML.search(text) or text != text.strip():
        raise ExchangeError(f"{tag} {text!r} holds characters that XML cannot keep; export JSON")
    node.text = text


def _xml_entries(
    path: Path, on_progress: Callable[[int, int], object] | None
) -> Iterator[tuple[str, object]]:
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"no .xml file below {path}")
    for number, file in enumerate(files, 1):
        root = _xml_root(file)
        for entry, node in enumerate(root.findall("metadata"), 1):
            yield f"{file}, metadata {entry}", _xml_record(root, node, file)
        if on_progress is not None:
            on_progress(number, len(files))


def _xml_root(path: Path) -> ET.Element:
    from xml.etree import ElementTree as ET

    class Builder(ET.TreeBuilder):
        def doctype(self, *_: Any) -> None:  # called before any entity is declared
            raise ValueError("it has a document type, which annotations do not need")

    try:
        if path.stat().st_size > MAX_ENTRY:
            raise ValueError(f"it is larger than {MAX_ENTRY} bytes")  # noqa: TRY301 - named below
        parser = ET.XMLParser(target=Builder())  # noqa: S314 - likewise
        parser.feed(path.read_bytes())
        return parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ExchangeError(f"{path} cannot be read as XML: {error}") from error


def _xml_record(root: ET.Element, node: ET.Element, file: Path) -> dict[str, Any]:
    data: dict[str, Any] = {"hoveredRecord": [], "mouseTracking": [], "selectedRecord": []}
    for child in node:
        value = _xml_value(child)
        if isinstance(data.get(child.tag), list):
            data[child.tag].append(value)
        elif value != "None":
            data[child.tag] = value
    # a path of the release may have places without a time, and a record no name of its own
    data["mouseTracking"] = [
        place for place in data["mouseTracking"] if set(place) >= {"x", "y", "time"}
    ]
    folder = (root.findtext("folder") or "").strip()
    name = (root.findtext("filename") or file.stem).strip()
    data.setdefault("imageID", f"{folder}/{name}" if folder else name)
    for field, tag in (("originalImageHeight", "height"), ("originalImageWidth", "width")):
        if field not in data and root.find(f"size/{tag}") is not None:
            data[field] = _xml_value(root.find(f"size/{tag}"), field)
    return data


def _xml_value(node: Any, field: str = "") -> Any:
    if len(node):
        return {child.tag: _xml_value(child) for child in node}
    text = (node.text or "").strip()
    if (field or node.tag) in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    if _WHOLE.fullmatch(text) and len(text) < 20:
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


_TEXTS = ("imageID", "worker_id", "action")


# -- BubbleView ----------------------------------------------------------------------------------


def import_bubbleview(
    path: str | os.PathLike[str],
    *,
    keep: Literal["clicks", "path"] = "clicks",
    images: str | os.PathLike[str] | None = None,
) -> list[ImageNetAB]:
    """Read a file of the BubbleView study (Kim et al. 2017): where people clicked on photographs.

    Parameters
    ----------
    path
        A ``.mat`` file with the array ``bubble``.
    keep
        ``"clicks"``: each place is a click, in ``selectedRecord``. ``"path"``: each is a place of the
        pointer or of the eye, in ``mouseTracking``.
    images
        Folder that the file's ``impath`` is relative to; None: that of the file. Sizes are read there.

    Returns
    -------
    list of ImageNetAB
        For each picture, named by its file name, and each participant. Participants are numbered within
        their picture, since the file does not say who they are. Times are what the file says: full
        seconds, or durations, which are added up.

    Raises
    ------
    ExchangeError
        The file is not such a file, or a picture is missing; the entry is named.
    ImportError
        Without SciPy.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    from scipy.io import loadmat

    try:
        entries = np.atleast_1d(
            loadmat(path, struct_as_record=False, squeeze_me=True, variable_names=["bubble"])[
                "bubble"
            ]
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # SciPy raises whatever a damaged file leads it to
        raise ExchangeError(f"{path} is no file of BubbleView: {error!r}") from error
    records = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        try:
            with Image.open(folder / str(entry.impath)) as picture:
                width, height = picture.size
            for person, one in enumerate(np.atleast_1d(entry.userdata), 1):
                where = f"{path}, entry {number}, participant {person}"
                places = np.asarray(one.fixations.enc, np.float64).reshape(-1, 2) / (width, height)
                times = _times(np.atleast_1d(one.fixations.enc_time).tolist())
                rows = np.column_stack([places, times]).tolist()
                kept: dict[str, Any] = {"mouseTracking": rows} if keep == "path" else {}
                if keep == "clicks" and rows:
                    kept = {"selected": True, "selectedCount": len(rows)}
                    kept["selectedRecord"] = [tuple(row) for row in rows]
                records.append(
                    ImageNetAB(str(entry.filename), height, width, worker_id=str(person), **kept)
                )
        except (AttributeError, TypeError, ValueError, OSError) as error:
            raise ExchangeError(f"{where}: {error}") from error
    return records


def _times(words: list[Any]) -> list[float]:
    """Turn dates, or durations in ms, into ms that do not fall."""
    texts = [str(word).replace("/", "-") for word in words]
    if all("-" not in text for text in texts):
        return list(accumulate(float(text) for text in texts))
    return [
        datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp() * 1000
        for text in texts
    ]
