"""A report in files: JSON and parquet that hold everything, CSV of the images, one page of HTML.

Text from data is escaped here. What a report contains is decided in ``report.py``.
"""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.audit.rows import ROW
from xfeedback_widgets.audit.shards import read_shards
from xfeedback_widgets.feedback.exchange import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from xfeedback_widgets.audit.report import AuditReport

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}caption{text-align:left;
font-weight:600;padding:.4em 0}th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}thead th{position:sticky;top:0;background:#fff}
img{max-width:100%}"""
_SHARES = {
    "accuracy": "accuracy",
    "accuracy_top5": "top-5 accuracy",
    "crs": "mean crs",
    "expected": "of even maps",
}
_TROUBLES = {
    "empty_maps": "empty maps",
    "not_finite": "not finite",
    "no_box": "without box",
    "unreadable": "unreadable",
}

Parts = tuple["NDArray[np.void]", list[str], dict[str, Any]]


def save(report: AuditReport, path: str | os.PathLike[str], figures: Sequence[Figure]) -> None:
    """Write a report in the format that the ending of `path` names; see ``AuditReport.save``."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".json":
        content = _json(report)
    elif ending == ".csv":
        content = report.image_table.to_csv()
    elif ending == ".parquet":
        content = _parquet(report)
    elif ending in (".html", ".htm"):
        content = page(report, figures).encode("utf-8", "backslashreplace")
    else:
        raise ValueError(
            f"{path.name}: unknown ending {ending!r}; use .json, .csv, .parquet or .html"
        )
    write_whole(path, content)


def load(path: str | os.PathLike[str]) -> Parts:
    """Return rows, ids and facts of a file, or of an audit's directory; see ``AuditReport.load``."""
    path = Path(path)
    if path.is_dir():
        return read_shards(path)
    if not path.exists():
        raise FileNotFoundError(f"no report at {path}")
    try:
        return _from_parquet(path) if path.suffix.lower() == ".parquet" else _from_json(path)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"{path} is no report of an audit, written as .json or .parquet, or its directory ({error})"
        ) from error


def body(report: AuditReport, limit: int | None = 20) -> str:
    """Return the report's figures and classes as HTML."""
    facts, found = report.facts, report.summary()
    said = [f"{facts['model']} · {facts['saliency']} · regions: {facts['regions']}"]
    if not report.complete:
        said.append(f"only {len(report):,} of {facts['images']:,} images so far")
    numbers = [f"{found['images']:,.0f} images"]
    numbers += [f"{name} {found[key]:.3f}" for key, name in _SHARES.items()]
    numbers += [f"{name} {found[key]:,.0f}" for key, name in _TROUBLES.items() if found[key]]
    said.append(" · ".join(numbers))
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in said)
    return f'<div class="xf-audit">{lines}{report.class_table.to_html(limit)}</div>'


def page(report: AuditReport, figures: Sequence[Figure] = ()) -> str:
    """Return one self-contained page: the figures inside it, no script, nothing to fetch."""
    drawn = [report.plot_ranking(), report.plot_scatter(), *figures]
    pictures = "".join(f'<p><img alt="" src="{_data_url(figure)}"></p>' for figure in drawn)
    title = html.escape(f"Audit of {report.facts['model']}")
    facts = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in report.facts.items()
        if name not in ("class_names", "outputs")
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{pictures}{body(report, None)}"
        f"<h2>What was audited</h2><table>{facts}</table></html>"
    )


def _data_url(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _json(report: AuditReport) -> bytes:
    columns = {}
    for name in ROW.names or ():
        values = report.rows[name].tolist()
        columns[name] = [None if v != v else v for v in values]  # noqa: PLR0124 - only NaN differs from itself
    return json.dumps({"facts": report.facts, "ids": list(report.ids), "rows": columns}).encode()


def _from_json(path: Path) -> Parts:
    content = json.loads(path.read_bytes())
    ids = [str(image_id) for image_id in content["ids"]]
    rows = np.zeros(len(ids), dtype=ROW)
    for name in ROW.names or ():
        rows[name] = [np.nan if v is None else v for v in content["rows"][name]]
    return rows, ids, _checked(content["facts"])


def _parquet(report: AuditReport) -> bytes:
    pa, pq = _arrow()
    columns = {"image_id": pa.array(list(report.ids), pa.string())}
    columns |= {name: pa.array(report.rows[name]) for name in ROW.names or ()}
    table = pa.table(columns).replace_schema_metadata({"xfeedback": json.dumps(report.facts)})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _from_parquet(path: Path) -> Parts:
    _, pq = _arrow()
    table = pq.read_table(path)
    rows = np.zeros(table.num_rows, dtype=ROW)
    for name in ROW.names or ():
        rows[name] = table[name].to_numpy()
    facts = json.loads(table.schema.metadata[b"xfeedback"])
    return rows, table["image_id"].to_pylist(), _checked(facts)


def _checked(facts: Any) -> dict[str, Any]:
    missing = {"model", "images", "class_names", "outputs", "saliency", "regions", "data"} - set(
        facts
    )
    if missing or not isinstance(facts, dict):
        raise ValueError(f"facts lacks {', '.join(sorted(missing)) or 'everything'}")
    return facts


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "parquet needs pyarrow: pip install 'xfeedback-widgets[parquet]'"
        ) from error
    return pa, pq
