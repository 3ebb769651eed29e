"""Do two audits distrust the same classes: of two models, or of two saliency methods.

Statistics of two finished reports; running audits is in ``run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xfeedback_widgets.audit.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from xfeedback_widgets.audit.report import AuditReport


def agreement(
    one: AuditReport,
    two: AuditReport,
    *,
    lowest: Sequence[int] = (20, 100),
    by: Literal["crs", "lift"] = "crs",
) -> Table:
    """Compare which classes two audits rank lowest, as the paper does for two models.

    Parameters
    ----------
    one, two
        Audits with class names in common; only classes with a crs in both count.
    lowest
        How many of the lowest classes to compare; each must be smaller than the number of classes.
    by
        ``"crs"``, as in the paper, or ``"lift"``, crs over what even maps would give. Large objects raise
        the crs of every model, so rankings by crs agree in part because both know the size of the boxes;
        rankings by lift do not.

    Returns
    -------
    Table
        A row for each of `lowest`: ``lowest``, ``classes`` (how many there are), ``shared`` (how many are
        among the lowest of both), ``expected`` (how many would be by chance), ``p`` (Fisher's exact test,
        one-sided: as many or more by chance), and ``spearman``, ``spearman_p`` of all classes.

    Raises
    ------
    ValueError
        Fewer than three classes in common, `lowest` out of range, or an unknown `by`.
    """
    from scipy import stats

    if by not in ("crs", "lift"):
        raise ValueError(f"by is {by!r}; rank by 'crs' or 'lift'")
    scored = [dict(zip(r.class_table["class"], r.class_table[by], strict=True)) for r in (one, two)]
    names = [
        name
        for name in scored[0]
        if name in scored[1] and not np.isnan([c[name] for c in scored]).any()
    ]
    count = len(names)
    if count < 3:
        raise ValueError(
            f"the audits have {count} classes with a crs in common; at least 3 are needed"
        )
    if not all(0 < k < count for k in lowest):
        raise ValueError(f"lowest is {tuple(lowest)}; expected numbers from 1 to {count - 1}")
    scores = np.array([[c[name] for name in names] for c in scored])
    ranks = scores.argsort(1, kind="stable").argsort(1)
    shared = [int(((ranks[0] < k) & (ranks[1] < k)).sum()) for k in lowest]
    p = [
        stats.fisher_exact(
            [[both, k - both], [k - both, count - 2 * k + both]], alternative="greater"
        ).pvalue
        for k, both in zip(lowest, shared, strict=True)
    ]
    spearman = stats.spearmanr(scores[0], scores[1])
    rows = len(shared)
    return Table(
        {
            "lowest": np.array(lowest),
            "classes": np.full(rows, count),
            "shared": np.array(shared),
            "expected": np.square(lowest) / count,
            "p": np.array(p),
            "spearman": np.full(rows, spearman.statistic),
            "spearman_p": np.full(rows, spearman.pvalue),
        },
        title="Agreement on the least robust classes",
    )
