"""Masks as PNG files, one for each image: a folder of them, or a zip.

A mask is written with a palette: pixel 0 is unset, 1 relevant (+1, blue), 2 irrelevant (-1, vermilion),
so that every picture viewer shows it and every tool that reads label images reads it. The file's name is
the image id, percent-encoded: no id can name a file outside the folder, and every id comes back. Nothing
of a zip is ever written to disk.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image

from xfeedback_widgets.feedback.exchange import ExchangeError, write_whole

from .entries import MAX_BYTES, Ids, Known, pixel_size, refusing, region_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from xfeedback_widgets.feedback.records import RegionMask
    from xfeedback_widgets.feedback.votes import Feedback

VALUES: Mapping[int, int] = MappingProxyType({0: 0, 1: 1, 2: -1, 255: 1})
"""What pixels mean unless it is said otherwise: ours, and the 0 and 255 of black-and-white masks."""

_PALETTE = (0, 0, 0, 0, 114, 178, 213, 94, 0)  # told apart by colour-blind people, too
_PIXELS = np.array([0, 1, 2], np.uint8)  # by mask value: -1 takes the last one
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)|\.")
_MAX_NAME = 255  # bytes, on all common file systems
_MAX_FILES = 10**6
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error),
    *(zipfile.BadZipFile, RuntimeError, Image.DecompressionBombError),  # encrypted: RuntimeError
)


def export_png(feedback: Feedback, path: str | os.PathLike[str]) -> int:
    """Write the latest mask of each image as a PNG file.

    Parameters
    ----------
    feedback
        The answers; only their masks are written.
    path
        A folder, which must be empty or absent, or a file that ends in ``.zip``, which is replaced. It is
        there whole or not at all.

    Returns
    -------
    int
        Number of masks written.

    Raises
    ------
    ExchangeError
        When an id is too long for a file's name, or the folder holds something.
    """
    path = Path(path)
    names = {file_name(image_id): mask for image_id, mask in feedback.masks.items()}
    files = ((name, _encode(record.mask)) for name, record in names.items())
    if path.suffix.lower() == ".zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:  # stored: PNG is compressed
            for name, content in files:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, content)
        write_whole(path, out.getvalue())
    else:
        _write_folder(path, files)
    return len(names)


def file_name(image_id: str) -> str:
    """Give the file that holds an image's mask.

    Parameters
    ----------
    image_id
        Any id.

    Returns
    -------
    str
        A name that every file system takes; different ids have different names.

    Raises
    ------
    ExchangeError
        When the name would be too long.

    Examples
    --------
    >>> file_name("cats/../7.jpg")
    'cats%2F..%2F7.jpg.png'
    """
    name = quote(image_id, safe="", errors="surrogatepass")
    if _RESERVED.match(name):  # device names of Windows, hidden files
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) + 4 > _MAX_NAME:
        raise ExchangeError(
            f"image id {image_id!r} is too long for a file's name; use export_records(…, '….jsonl')"
        )
    return f"{name}.png"


def _write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ExchangeError(f"{path} is not an empty folder; choose another, or a .zip")
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.mkdir(parents=True)
    try:
        for name, content in files:
            if (scratch / name).exists():  # upper and lower case are one on some file systems
                raise ExchangeError(f"{name!r} is another file's name here; export to a .zip")
            (scratch / name).write_bytes(content)
        if path.exists():
            path.rmdir()
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _encode(mask: npt.NDArray[np.int8]) -> bytes:
    image = Image.fromarray(_PIXELS[mask])
    image.putpalette(_PALETTE)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def import_png(
    path: str | os.PathLike[str],
    *,
    ids: Ids | None = None,
    values: Mapping[int, int] | None = None,
    annotator: str | None = None,
) -> list[RegionMask]:
    """Read masks from PNG files.

    Parameters
    ----------
    path
        A folder, or a zip of such files (in whatever folders). Files with other endings, and hidden
        ones, are passed over.
    ids
        Known image ids, of which each name must mean one (``cat.png`` may be the mask of
        ``photos/cat.jpg``); a mapping also gives the (height, width) of each picture, which the mask
        must have. None: the names, decoded, are the ids.
    values
        What pixels mean: pixel → -1, 0 or +1. None: :data:`VALUES`.
    annotator
        Whom to name in the records.

    Returns
    -------
    list of RegionMask
        By name.

    Raises
    ------
    ExchangeError
        At the first file that is not a mask, naming it: a name that leaves the folder, an unknown or
        repeated image, another format, colours, a pixel without meaning, another size than the
        picture's, more than can be held.
    """
    path = Path(path)
    known, values = Known(ids), VALUES if values is None else values
    masks: dict[str, RegionMask] = {}
    for name, content in _files(path):
        where = f"{path}, entry {name!r}"
        image_id = known.find(_readings(name, where), where)
        if image_id in masks:
            raise ExchangeError(f"{where}: there are two masks of image {image_id!r}")
        mask = _decode(content, values, where)
        known.check_size(image_id, mask.shape, where)
        masks[image_id] = region_mask(image_id, mask, annotator, where)
    if not masks:
        raise ExchangeError(f"{path}: there is no PNG file in it")
    return list(masks.values())


def _readings(name: str, where: str) -> list[str]:
    stem = PurePosixPath(name).name[:-4]
    with refusing(f"{where}: the name is not percent-encoded UTF-8", UnicodeDecodeError):
        return [unquote(stem, errors="surrogatepass"), stem]


def _is_mask(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return name.lower().endswith(".png") and not hidden


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.is_dir():
        yield from _zipped(path)
        return
    for file in sorted(path.iterdir()):
        if _is_mask(file.name) and file.is_file():
            if file.stat().st_size > MAX_BYTES:
                raise ExchangeError(f"{path}, entry {file.name!r}: larger than {MAX_BYTES} bytes")
            yield file.name, file.read_bytes()


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file, refusing(f"{path}: not a sound zip", *_UNREADABLE):
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
        if len(entries) > _MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise ExchangeError(f"{path}: unpacks to more than {MAX_BYTES} bytes")
        for entry in entries:
            _check_name(entry, f"{path}, entry {entry.filename!r}")
        for entry in entries:
            if _is_mask(entry.filename):
                yield entry.filename, _unzip(archive, entry, f"{path}, entry {entry.filename!r}")


def _check_name(entry: zipfile.ZipInfo, where: str) -> None:
    parts = re.split(r"[/\\]", entry.orig_filename)
    if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in entry.orig_filename:
        raise ExchangeError(f"{where}: the name leads out of the zip")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ExchangeError(f"{where}: it is a link")


def _unzip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    with refusing(f"{where}: cannot be unpacked", *_UNREADABLE), archive.open(entry) as file:
        content = file.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise ExchangeError(f"{where}: it is not as long as the zip says")
    return content


def _decode(content: bytes, values: Mapping[int, int], where: str) -> npt.NDArray[np.int8]:
    with refusing(f"{where}: not a readable PNG", *_UNREADABLE):
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        pixel_size(image.height, image.width, where)
        if image.mode not in ("P", "L", "1"):
            raise ExchangeError(
                f"{where}: the picture has mode {image.mode}; save it with a palette or as greys"
            )
        image.verify()  # reading the pixels alone would pass over the checksums
        pixels = np.asarray(Image.open(io.BytesIO(content), formats=["PNG"])).astype(np.uint8)
    mask = np.zeros(pixels.shape, np.int8)
    for pixel in np.unique(pixels).tolist():
        if pixel not in values:
            raise ExchangeError(
                f"{where}: pixel {pixel} is none of {sorted(values)}; pass values={{{pixel}: …}}"
            )
        mask[pixels == pixel] = values[pixel]
    return mask
