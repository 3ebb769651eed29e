"""Reports: intervals, comparison, files that come back the same, pages and figures that stay text."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import xfeedback_widgets as xf
from xfeedback_widgets.audit import AuditReport, Table
from xfeedback_widgets.audit.report import resampled
from xfeedback_widgets.audit.rows import EMPTY, ROW, SCORED

HOSTILE = "<script>alert(1)</script> $x_1$ \"'&"


def report_of(
    rs, labels, *, names=("a", "b"), ranks=None, data="d", outputs=None, status=None
) -> AuditReport:
    rows = np.zeros(len(rs), ROW)
    rows["index"], rows["rs"], rows["label"], rows["area"] = np.arange(len(rs)), rs, labels, 0.25
    rows["rank"] = 0 if ranks is None else ranks
    rows["confidence"] = rows["probability"] = 0.5
    rows["elsewhere"] = np.nan
    if status is not None:
        rows["status"] = status
    facts = {
        "model": "Net",
        "images": len(rs),
        "class_names": list(names),
        "outputs": outputs,
        "data": data,
    }
    facts |= {"saliency": "gradcam++", "regions": "boxes"}
    return AuditReport(rows, [f"={i}" for i in range(len(rs))], facts)


@pytest.fixture(scope="module")
def report() -> AuditReport:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    rs = generator.beta(2, 2, 200).astype(np.float32) * (1 + labels) / 3
    status = np.where(np.arange(200) % 50 == 3, EMPTY, SCORED)
    rs[status == EMPTY] = np.nan
    return report_of(
        rs, labels, names=(HOSTILE, "b", "c"), ranks=generator.integers(0, 9, 200), status=status
    )


def test_intervals_are_those_of_a_bootstrap_and_seeded():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).beta(2, 5, 80)
    reference = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=2
    ).confidence_interval
    found = report_of(values, [0] * 80).class_table
    assert found["low"][0] == pytest.approx(reference.low, abs=0.006)
    assert found["high"][0] == pytest.approx(reference.high, abs=0.006)
    again = report_of(values, [0] * 80).class_table
    assert (found["low"][0], found["high"][0]) == (again["low"][0], again["high"][0])
    assert not np.array_equal(resampled(values, 0), resampled(values, 1))


def test_tables_without_and_with_pandas(report):
    table = report.class_table
    assert table["crs"].tolist() == sorted(table["crs"].tolist())
    assert table["empty_maps"].sum() == 4
    assert report.ranking[0] == HOSTILE
    frame = report.classes
    assert list(frame.columns) == list(table)
    lowest = report.images.query("`class` == 'b'").sort_values("rs")["image_id"]
    assert lowest.tolist()[:3] == report.worst("b", 3)
    assert report.images.groupby("status").size().to_dict() == {"empty map": 4, "scored": 196}
    wrong = report.worst("c", 5, correct=False)
    assert len(wrong) == 5
    assert not report.images.set_index("image_id").loc[wrong]["correct"].any()
    with pytest.raises(ValueError, match="no class 'z'"):
        report.worst("z")
    code = (
        "import sys; sys.modules['pandas'] = None; import numpy as np, xfeedback_widgets.audit as a\n"
        "t = a.Table({'x': np.arange(3)}); assert t['x'].sum() == 3 and t.height == 3\n"
        "try: t.frame()\nexcept ImportError as e: print(e)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "pip install 'xfeedback-widgets[frames]'" in said


def test_summary_counts_what_it_is_made_of(report):
    found = report.summary()
    assert (found["images"], found["empty_maps"]) == (200, 4)
    assert found["crs"] == pytest.approx(report.classes["crs"].mean())
    assert found["accuracy"] == pytest.approx(report.images["correct"].mean())


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_files_come_back_the_same(report, tmp_path, ending):
    path = tmp_path / f"audit.{ending}"
    report.save(path)
    back = AuditReport.load(path)
    assert back.rows.tobytes() == report.rows.tobytes()
    assert (list(back.ids), back.facts) == (list(report.ids), report.facts)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"audit\.{ending} is no report"):
        AuditReport.load(path)
    if ending == "json":
        for broken in (
            {},
            [],
            {"ids": [], "rows": {}, "facts": {}},
            {"ids": ["a"], "facts": 3, "rows": 4},
        ):
            path.write_text(json.dumps(broken))
            with pytest.raises(ValueError, match=r"audit\.json is no report"):
                AuditReport.load(path)


def test_csv_is_a_table_no_spreadsheet_runs(report, tmp_path):
    report.save(tmp_path / "images.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "images.csv").read_text())))
    assert len(rows) == 200
    assert rows[5]["image_id"] == "'=5"
    assert float(rows[5]["rs"]) == pytest.approx(report.rows["rs"][5])
    assert rows[3]["rs"] == ""
    with pytest.raises(ValueError, match=r"unknown ending '\.txt'"):
        report.save(tmp_path / "report.txt")


def test_html_is_escaped_and_self_contained(report, tmp_path):
    report.save(tmp_path / "audit.html", figures=[report.plot_scatter()])
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    for text in (page, report._repr_html_(), report.image_table._repr_html_()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    assert "http" not in page
    assert "… 180 more rows" in report.image_table._repr_html_()
    assert "class" in repr(report.class_table)


def test_figures_draw_names_as_they_are(report, digits, make_model):
    ranking, scatter = report.plot_ranking(2), report.plot_scatter()
    labels = ranking.axes[0].get_yticklabels()
    assert [label.get_text()[:8] for label in labels] == ["<script>", "b"]
    assert not any(label.get_parse_math() for label in labels)
    assert len(scatter.axes[0].collections[0].get_offsets()) == 3
    model = make_model()
    audited = xf.audit(model, digits)
    figure = audited.plot_worst(model, digits, count=3)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == audited.ranking[:3]
    assert all("rs 0." in axes.get_title() for axes in figure.axes)
    for each in (ranking, scatter, figure):
        each.savefig(io.BytesIO())
    torch.manual_seed(0)


def test_comparison_is_paired_on_the_same_images():
    generator = np.random.default_rng(3)
    base = generator.beta(2, 2, 60).astype(np.float32)
    labels = [0] * 30 + [1] * 30
    before, after = (
        report_of(base * 0.5, labels),
        report_of(base * 0.5 + 0.1 * np.array(labels), labels),
    )
    table = before.compare(after)
    assert table["class"].tolist() == ["a", "b"]
    assert table["difference"].tolist() == pytest.approx([0.0, 0.1], abs=1e-6)
    assert table["high"][1] - table["low"][1] < 1e-6  # every image rose by the same
    other = before.compare(report_of(after.rows["rs"], labels, data="others"))
    assert other["high"][1] - other["low"][1] > 0.05
    assert other["difference"].tolist() == pytest.approx([0.0, 0.1], abs=1e-6)
    with pytest.raises(ValueError, match="different classes"):
        before.compare(report_of([0.1], [0], names=("x", "y")))
    empty = report_of([np.nan] * 2, [0, 1], status=[EMPTY] * 2)
    assert before.compare(empty).height == 0


def test_the_package_is_its_function():
    import xfeedback_widgets.audit as package

    assert package is xf.audit
    assert callable(xf.audit)
    assert isinstance(Table({}), Table)
