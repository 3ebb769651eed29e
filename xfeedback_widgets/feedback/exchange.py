"""Feedback in files that other tools read: JSON Lines, CSV, parquet, and CRAYON's published lists.

JSON Lines holds everything without loss; CSV and parquet hold the same fields as a table, for
spreadsheets and pandas; CRAYON's lists hold one word per training image, in order and without ids.
Every reader checks the whole file before it returns anything, so nothing is ever half imported,
and names the line at fault. Putting records into a journal is the caller's business.

CSV and formulas: spreadsheets run cells that start with ``=``, ``+``, ``-``, ``@`` and a few others,
and image ids come from file names that anybody may have chosen. Text that starts so is written with
a leading apostrophe (as is text that starts with an apostrophe), and read back without it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .byproducts import hashed_id
from .records import FORMAT, Byproduct, Record, UnitVerdict, Verdict, from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .votes import Feedback

COLUMNS = (
    *("kind", "image_id", "unit", "answer", "target", "method", "version", "annotator", "time"),
    *("duration", "content_hash", "predicted", "necessary", "unnecessary", "quality"),
    *("map", "mask", "strokes", "trace", "pointer"),
)
"""Columns of the tables; arrays, strokes and traces are a cell of JSON, as in :meth:`Verdict.to_dict`."""

MAX_LINE = 64 * 2**20
"""Longest line of JSON Lines, and cell of CSV, that is read, in bytes."""

_WHOLE = ("unit", "target", "version", "predicted", "quality")
_SECONDS = ("time", "duration")
_FLAGS = ("necessary", "unnecessary")
_ARRAYS = ("map", "mask", "strokes", "trace", "pointer")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠'")
_WORDS = {"accept": "yes", "unsure": "maybe", "reject": "no"}
_ANSWERS = {word: answer for answer, word in _WORDS.items()}
_CSV_GUARD = threading.Lock()  # the csv module's size limit is global


class ExchangeError(ValueError):
    """A file, or data for a file, is not what its format asks for."""


# -- tables and JSON Lines -----------------------------------------------------------------------


def export_records(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write records to a file whose ending names the format.

    Parameters
    ----------
    records
        Records, oldest first (``journal.records()`` or ``feedback.records``).
    path
        Ends in ``.jsonl``, ``.csv`` or ``.parquet``. An existing file is replaced in one step.

    Returns
    -------
    int
        Number of records written.

    Raises
    ------
    ExchangeError
        For another ending, or text that the format cannot hold.
    ImportError
        For parquet without pyarrow, naming the extra to install.
    """
    chosen, path = list(records), Path(path)
    write_whole(path, _WRITERS[_ending(path)](chosen))
    return len(chosen)


def import_records(path: str | os.PathLike[str]) -> list[Record]:
    """Read what :func:`export_records` wrote, or a table made by hand.

    Parameters
    ----------
    path
        Ends in ``.jsonl``, ``.csv`` or ``.parquet``. A table needs only the columns it uses; one
        without ``kind`` holds verdicts.

    Returns
    -------
    list of Record
        In the order of the file.

    Raises
    ------
    ExchangeError
        At the first line that is not a record, naming it. A record that repeats an earlier one
        down to its time is refused too: the file was joined to itself.
    ImportError
        For parquet without pyarrow, naming the extra to install.
    """
    path = Path(path)
    records: list[Record] = []
    seen: dict[Record, int] = {}
    # read to the end first: an error below must not leave a file, or the csv module's lock, held
    for number, data in list(_READERS[_ending(path)](path)):
        try:
            record = from_dict(data)
        except (TypeError, ValueError) as error:
            raise ExchangeError(f"{path}, line {number}: {error}") from error
        if record.time is not None:
            first = seen.setdefault(record, number)
            if first != number:
                raise ExchangeError(f"{path}, line {number}: repeats line {first}; remove one")
        records.append(record)
    return records


def anonymous(records: Iterable[Record], *, salt: str | None = None) -> list[Record]:
    """Give the same records without the names of who made them, for an export.

    Parameters
    ----------
    records
        What people said and did.
    salt
        Of the hash (:func:`~.byproducts.hashed_id`): the same salt gives the same names in several
        exports. None: a new one that nobody gets to know.

    Returns
    -------
    list of Record
        Annotators hashed, those inside byproducts too; unknown fields of byproducts left out.
    """
    salt = secrets.token_hex() if salt is None else salt
    hidden: list[Record] = []
    for record in records:
        changes: dict[str, Any] = {}
        if record.annotator is not None:
            changes["annotator"] = hashed_id(record.annotator, salt)
        if isinstance(record, Byproduct):
            changes["trace"] = record.trace.hashed(salt)
        hidden.append(dataclasses.replace(record, **changes))
    return hidden


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise ExchangeError(
            f"{path.name}: unknown ending {ending!r}; use one of {', '.join(_WRITERS)}"
        )
    return ending


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file that is there whole or not at all; on disk when this returns."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_jsonl(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record.to_dict()).encode() + b"\n" for record in records)


def _read_jsonl(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise ExchangeError(f"{path}, line {number}: longer than {MAX_LINE} bytes")
            if line.strip():
                yield number, parse_json(line, f"{path}, line {number}")


def parse_json(data: bytes | str, where: str) -> object:
    """Return what a strict decoder makes of a text; errors start with ``where``."""
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return json_decoder().decode(text)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{where}: not JSON ({error})") from error


def json_decoder() -> json.JSONDecoder:
    """Return a decoder of what the standard calls JSON: no NaN, and no field twice."""
    return json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is given twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _cells(record: Record) -> dict[str, Any]:
    cells = record.to_dict()
    for name in _ARRAYS:
        if name in cells:
            cells[name] = json.dumps(cells[name])
    for name, value in cells.items():
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise ExchangeError(
                f"{name} {value!r} holds characters that tables cannot; export to .jsonl instead"
            )
    return cells


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_cells(cells: dict[str, Any], where: str) -> dict[str, Any]:
    """Give a row of a table the form that ``from_dict`` reads; empty cells are absent fields."""
    data = {name: value for name, value in cells.items() if value is not None}
    for name in _ARRAYS:
        if name in data:
            data[name] = parse_json(data[name], f"{where}, column {name}")
    return {"kind": "verdict", **data, "format": FORMAT}


def _check_columns(names: Sequence[Any], path: Path) -> None:
    odd = [name for name in names if name not in COLUMNS]
    if odd or len(set(names)) != len(names) or not {"image_id", "unit"} & set(names):
        raise ExchangeError(
            f"{path}, line 1: columns {list(names)[:20]} do not fit; each may appear once, "
            f"image_id or unit must be there, and the others are of {', '.join(COLUMNS)}"
        )


def _write_csv(records: list[Record]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for record in records:
        cells = _cells(record)
        for name, value in cells.items():
            if isinstance(value, str):
                cells[name] = guarded(value)
            elif name in _FLAGS:
                cells[name] = json.dumps(value)
        writer.writerow(cells)
    return out.getvalue().encode()


def guarded(text: str) -> str:
    """Return text as a cell of CSV that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def _read_csv(path: Path) -> Iterator[tuple[int, object]]:
    with _CSV_GUARD, path.open(encoding="utf-8-sig", newline="") as file:
        limit = csv.field_size_limit(MAX_LINE)
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            _check_columns(names, path)
            for row in reader:
                if row:
                    where = f"{path}, line {reader.line_num}"
                    if len(row) != len(names):
                        raise ExchangeError(f"{where}: {len(row)} cells under {len(names)} columns")
                    cells = {n: _csv_cell(n, c, where) for n, c in zip(names, row, strict=True)}
                    yield reader.line_num, _from_cells(cells, where)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ExchangeError(f"{path}, line {reader.line_num + 1}: {error}") from error
        finally:
            csv.field_size_limit(limit)


def _csv_cell(name: str, cell: str, where: str) -> object:
    if cell == "":
        return None
    kind: Callable[[str], object] | None = None
    kind = int if name in _WHOLE else float if name in _SECONDS else None
    if name in _FLAGS:
        if cell.lower() not in ("true", "false"):
            raise ExchangeError(f"{where}, column {name}: {cell!r} is neither true nor false")
        return cell.lower() == "true"
    if kind is None:
        return cell.removeprefix("'")
    try:
        return kind(cell)
    except ValueError as error:
        raise ExchangeError(f"{where}, column {name}: {cell!r} is not a number") from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as arrow  # noqa: ICN001
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "parquet files need pyarrow: pip install 'xfeedback-widgets[parquet]', or use .csv"
        ) from error
    return arrow, parquet


def _write_parquet(records: list[Record]) -> bytes:
    arrow, parquet = _arrow()
    types = dict.fromkeys(COLUMNS, arrow.string())
    types |= dict.fromkeys(_WHOLE, arrow.int64()) | dict.fromkeys(_SECONDS, arrow.float64())
    types |= dict.fromkeys(_FLAGS, arrow.bool_())
    rows = [{name: cells.get(name) for name in COLUMNS} for cells in map(_cells, records)]
    out = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows, schema=arrow.schema(types.items())), out)
    return out.getvalue()


def _read_parquet(path: Path) -> Iterator[tuple[int, object]]:
    arrow, parquet = _arrow()
    try:
        table = parquet.ParquetFile(path).read()
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ExchangeError(f"{path}: not a readable parquet file ({error})") from error
    _check_columns(table.column_names, path)
    for number, cells in enumerate(table.to_pylist(), 1):
        for name in _ARRAYS:
            if not isinstance(cells.get(name), (str, type(None))):
                raise ExchangeError(f"{path}, line {number}, column {name}: not text")
        yield number, _from_cells(cells, f"{path}, line {number}")


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}


# -- CRAYON's lists ------------------------------------------------------------------------------


def import_crayon(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    *,
    asked: str | os.PathLike[str] | None = None,
    annotator: str | None = None,
) -> list[Verdict]:
    """Read CRAYON's answers about images: a JSON list of "yes", "maybe", "no".

    Parameters
    ----------
    path
        A file like ``waterbirds_gradcam.json``.
    ids
        Image ids in the order of the training set (``data.ids``); the file has none.
    asked
        A file like ``background_annotated.json``, a list of 1.0 and 0.0: only flagged images get a
        verdict. Without it every image does.
    annotator
        Whom to name in the records.

    Returns
    -------
    list of Verdict
        In the order of ``ids``.

    Raises
    ------
    ExchangeError
        When the lengths differ (naming both), a word is unknown (naming its index), or the file is
        not such a list.
    """
    words = _list(Path(path), set(_ANSWERS), "image", ids=ids)
    flags = [1.0] * len(ids)
    if asked is not None:
        flags = _list(Path(asked), {0.0, 1.0}, "image", ids=ids)
        for index, (word, flag) in enumerate(zip(words, flags, strict=True)):
            if not flag and word != "maybe":
                raise ExchangeError(f"{path}: index {index} was not asked, yet answers {word!r}")
    return [
        Verdict(image_id, _ANSWERS[word], annotator=annotator)  # type: ignore[arg-type]
        for image_id, word, flag in zip(ids, words, flags, strict=True)
        if flag
    ]


def export_crayon(
    feedback: Feedback,
    ids: Sequence[str],
    path: str | os.PathLike[str],
    *,
    asked: str | os.PathLike[str] | None = None,
) -> None:
    """Write merged verdicts as CRAYON's list of "yes", "maybe", "no".

    Parameters
    ----------
    feedback
        The answers; several votes about an image are merged.
    ids
        Image ids in the order of the training set. Images without a verdict become "maybe".
    path
        The file to write.
    asked
        Also write which images have a verdict, as a list of 1.0 and 0.0.

    Raises
    ------
    ExchangeError
        When there are verdicts about images that are not among ``ids``.
    """
    _check_ids(ids)
    if foreign := sorted(set(feedback.verdicts) - set(ids)):
        raise ExchangeError(
            f"{len(foreign)} verdicts are about images that are not in ids, the first being "
            f"{foreign[0]!r}; pass the ids of the data that was answered"
        )
    answers = [feedback.verdicts.get(image_id) for image_id in ids]
    words = [_WORDS[verdict.answer] if verdict else "maybe" for verdict in answers]
    write_whole(Path(path), json.dumps(words).encode())
    if asked is not None:
        write_whole(
            Path(asked), json.dumps([float(verdict is not None) for verdict in answers]).encode()
        )


def import_crayon_units(
    path: str | os.PathLike[str], *, units: int = 2048, annotator: str | None = None
) -> list[UnitVerdict]:
    """Read CRAYON's answers about units: a JSON list of booleans, true meaning relevant.

    Parameters
    ----------
    path
        A file like ``waterbirds_neuron.json``.
    units
        Channels of the model's penultimate feature map (2,048 for ResNet-50).
    annotator
        Whom to name in the records.

    Returns
    -------
    list of UnitVerdict
        One for each unit.

    Raises
    ------
    ExchangeError
        When the lengths differ (naming both) or the file is not such a list.
    """
    flags = _list(Path(path), {True, False}, "unit", ids=range(units))
    return [
        UnitVerdict(unit, "accept" if relevant else "reject", annotator=annotator)
        for unit, relevant in enumerate(flags)
    ]


def export_crayon_units(
    feedback: Feedback, path: str | os.PathLike[str], *, units: int = 2048
) -> None:
    """Write merged unit verdicts as CRAYON's list of booleans; units nobody judged are relevant.

    Parameters
    ----------
    feedback
        The answers.
    path
        The file to write.
    units
        Channels of the model's penultimate feature map.

    Raises
    ------
    ExchangeError
        When there are verdicts about units beyond ``units``.
    """
    if feedback.units and max(feedback.units) >= units:
        raise ExchangeError(f"a verdict is about unit {max(feedback.units)}, units is {units}")
    rejected = {unit for unit, verdict in feedback.units.items() if verdict.answer == "reject"}
    write_whole(Path(path), json.dumps([unit not in rejected for unit in range(units)]).encode())


def _list(path: Path, allowed: set[Any], what: str, *, ids: Sequence[Any]) -> list[Any]:
    _check_ids(ids)
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, list):
        raise ExchangeError(f"{path}: a JSON list is expected, got {type(found).__name__}")
    if len(found) != len(ids):
        raise ExchangeError(
            f"{path} holds {len(found)} answers, the data has {len(ids)} {what}s; "
            "pass the data, in the order, that was answered"
        )
    kind = type(next(iter(allowed)))
    for index, value in enumerate(found):
        if type(value) is not kind or value not in allowed:
            raise ExchangeError(f"{path}: {value!r} at index {index} is none of {sorted(allowed)}")
    return found


def _check_ids(ids: Sequence[Any]) -> None:
    if len(set(ids)) != len(ids):
        raise ExchangeError(f"ids are not unique: {len(ids)} ids, {len(set(ids))} different")
