"""Agreement of two rankings, against SciPy's distribution and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

import xfeedback_widgets as xf
from xfeedback_widgets.audit import AuditReport
from xfeedback_widgets.audit.rows import ROW


def ranked(crs, names, area=0.5) -> AuditReport:
    rows = np.zeros(len(crs), ROW)
    rows["area"] = area
    rows["index"] = rows["label"] = np.arange(len(crs))
    rows["rs"] = crs
    facts = {
        "model": "Net",
        "images": len(crs),
        "class_names": list(names),
        "saliency": "s",
        "data": "d",
    }
    return AuditReport(rows, [str(i) for i in range(len(crs))], facts)


def test_agreement_by_hand():
    names = [f"c{i}" for i in range(10)]
    one = ranked(np.arange(10) / 10, names)
    # the three lowest of the second: c1, c0, c5
    two = ranked(np.array([2, 1, 5, 6, 7, 3, 8, 9, 10, 11]) / 12, names)
    table = xf.audit.agreement(one, two, lowest=[3, 9])
    assert table["shared"].tolist() == [2, 9]
    assert table["expected"].tolist() == pytest.approx([0.9, 8.1])
    assert table["p"][0] == pytest.approx(hypergeom(10, 3, 3).sf(1))
    assert table["p"][0] == pytest.approx((3 * 7 + 1) / 120)
    d = np.arange(10) - np.array([1, 0, 3, 4, 5, 2, 6, 7, 8, 9])
    assert table["spearman"][0] == pytest.approx(1 - 6 * (d**2).sum() / (10 * 99))


def test_only_classes_with_a_crs_in_both_count():
    one = ranked([0.1, np.nan, 0.3, 0.4, 0.5], "abcde")
    two = ranked([0.3, 0.2, 0.1, 0.5, 0.4], "bacde")
    assert xf.audit.agreement(one, two, lowest=[1])["classes"].tolist() == [4]
    with pytest.raises(ValueError, match="1 to 3"):
        xf.audit.agreement(one, two)
    with pytest.raises(ValueError, match="0 classes with a crs in common"):
        xf.audit.agreement(one, ranked([0.1] * 3, "xyz"), lowest=[1])


def test_rankings_by_lift_do_not_agree_for_the_size_of_boxes_alone():
    area = np.arange(1, 9) / 10
    one = ranked(area * [1.1, 1.2, 1.0, 1.15, 1.05, 1.12, 1.02, 1.08], "abcdefgh", area)
    two = ranked(area * [1.0, 1.08, 1.12, 1.02, 1.2, 1.05, 1.15, 1.1], "abcdefgh", area)
    assert xf.audit.agreement(one, two, lowest=[3])["spearman"][0] > 0.95
    assert xf.audit.agreement(one, two, lowest=[3], by="lift")["spearman"][0] < 0
    with pytest.raises(ValueError, match="by is 'area'"):
        xf.audit.agreement(one, two, lowest=[3], by="area")
