"""The result of an audit: rows, and everything that follows from them.

`AuditReport` holds one row per image (``rows.py``) and the facts of the audit; classes, ranking and figures
are computed from those when asked for, so that merging shards is joining rows and exact. Files are in
``pages.py``, pictures in ``figures.py``, agreement of two rankings in ``agreement.py``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xfeedback_widgets.audit import pages
from xfeedback_widgets.audit.rows import (
    EMPTY,
    NO_REGION,
    NOT_FINITE,
    SCORED,
    STATUS,
    UNREADABLE,
)
from xfeedback_widgets.audit.tables import Table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import nn

    from xfeedback_widgets.audit.regions import BoxSource, MaskSource
    from xfeedback_widgets.data import ImageSet

RESAMPLES = 1000
"""Draws of the bootstrap."""
_LEVEL = (2.5, 97.5)
_DRAWN_AT_ONCE = 2**20


class AuditReport:
    """What an audit found.

    Parameters
    ----------
    rows
        ``ROW [N]``, one per image.
    ids
        Their image ids.
    facts
        What was audited: model, weights, data, saliency, source of the regions, batch size.

    Raises
    ------
    ValueError
        Rows and ids differ in number, or an image has two rows.
    """

    def __init__(self, rows: NDArray[np.void], ids: Sequence[str], facts: dict[str, Any]) -> None:
        if len(rows) != len(ids):
            raise ValueError(f"{len(rows)} rows have {len(ids)} image ids; one each")
        if (np.diff(rows["index"]) <= 0).any():
            order = np.argsort(rows["index"], kind="stable")
            rows, ids = rows[order], [ids[position] for position in order.tolist()]
            twice = np.flatnonzero(np.diff(rows["index"]) == 0)
            if len(twice):
                raise ValueError(
                    f"image {ids[twice[0]]!r} is in two of the parts; merge each part once"
                )
        self.rows = rows
        self.ids = ids
        self.facts = facts

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        found = self.summary()
        figures = ", ".join(f"{name} {found[name]:.3f}" for name in ("accuracy", "crs"))
        part = "" if self.complete else f" of {self.facts['images']:,}"
        return f"AuditReport({len(self):,}{part} images, {figures}, {self.facts['regions']})"

    def _repr_html_(self) -> str:
        return pages.body(self)

    @property
    def complete(self) -> bool:
        """Whether every image of the set has a row."""
        return len(self) == int(self.facts["images"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the image set."""
        return tuple(self.facts["class_names"])

    # -- tables ------------------------------------------------------------------------------------

    @cached_property
    def class_table(self) -> Table:
        """One row per class that has images, the least robust first.

        Columns: ``class, label, images``, ``accuracy`` and ``accuracy_top5`` of the readable images,
        ``crs`` with the bootstrap's 95 % interval ``low … high`` (seeded; NaN below two images),
        ``scored`` (how many images it is the mean of), ``expected`` (their mean share of area in the
        region: the crs of even maps), ``lift`` (crs ÷ expected), ``confidence`` (mean), and how many
        images had ``empty_maps``, maps or logits ``not_finite``, ``no_box``, or were ``unreadable``.
        """
        rows = self.rows
        classes = len(self.class_names)
        label = rows["label"].astype(np.int64)
        known = label >= 0
        count = np.bincount(label[known], minlength=classes)
        read = known & (rows["status"] != UNREADABLE)
        scored = rows["status"] == SCORED

        def mean(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
            sums = np.bincount(label[where], values[where].astype(np.float64), minlength=classes)
            with np.errstate(invalid="ignore"):
                return sums / np.bincount(label[where], minlength=classes)

        def tally(status: int) -> NDArray[np.int64]:
            return np.bincount(label[known & (rows["status"] == status)], minlength=classes)

        crs, expected = mean(rows["rs"], scored), mean(rows["area"], scored)
        low, high = self._intervals()
        with np.errstate(invalid="ignore", divide="ignore"):
            lift = crs / expected
        columns: dict[str, NDArray[Any]] = {
            "class": np.array(self.class_names, dtype=object),
            "label": np.arange(classes),
            "images": count,
            "accuracy": mean(rows["rank"] == 0, read),
            "accuracy_top5": mean(rows["rank"] < 5, read),
            "crs": crs,
            "low": low,
            "high": high,
            "scored": tally(SCORED),
            "expected": expected,
            "lift": lift,
            "confidence": mean(rows["confidence"], read & ~np.isnan(rows["confidence"])),
            "empty_maps": tally(EMPTY),
            "not_finite": tally(NOT_FINITE),
            "no_box": tally(NO_REGION),
            "unreadable": tally(UNREADABLE),
        }
        order = np.argsort(crs, kind="stable")  # NaN last
        title = f"Robustness of {self.facts['model']} by class ({self.facts['saliency']})"
        return Table(columns, title=title).rows(order[count[order] > 0])

    @cached_property
    def image_table(self) -> Table:
        """One row per image, in the order of the set.

        Columns: ``image_id, class, label``, ``prediction`` (a class name, or "output 7" of the model where
        the set has no such class), ``correct, correct_top5, confidence`` (of the prediction),
        ``probability`` (of the label), ``rs, expected`` (share of area), ``elsewhere`` (share of the map
        on other classes' objects), ``rival`` (the wrong prediction names an object in the picture) and
        ``status``.
        """
        rows = self.rows
        names = np.array([*self.class_names, ""], dtype=object)
        columns: dict[str, NDArray[Any]] = {
            "image_id": np.array(self.ids, dtype=object),
            "class": names[rows["label"]],
            "label": rows["label"],
            "prediction": self._predictions(),
            "correct": rows["rank"] == 0,
            "correct_top5": (rows["rank"] >= 0) & (rows["rank"] < 5),
            **{name: rows[name] for name in ("confidence", "probability", "rs")},
            "expected": rows["area"],
            "elsewhere": rows["elsewhere"],
            "rival": rows["rival"].astype(bool),
            "status": np.array(STATUS, dtype=object)[rows["status"]],
        }
        return Table(columns, title="Images")

    @property
    def classes(self) -> pd.DataFrame:
        """`class_table` as a pandas DataFrame."""
        return self.class_table.frame()

    @property
    def images(self) -> pd.DataFrame:
        """`image_table` as a pandas DataFrame."""
        return self.image_table.frame()

    @property
    def ranking(self) -> list[str]:
        """Names of the classes that have a crs, the least robust first."""
        table = self.class_table
        return [str(name) for name in table["class"][~np.isnan(table["crs"])]]

    def summary(self) -> dict[str, float]:
        """Return the audit in a few numbers.

        Returns
        -------
        dict
            ``images``; ``accuracy``, ``accuracy_top5``; ``crs`` and ``expected``, means over the classes;
            ``empty_maps``, ``not_finite``, ``no_box``, ``unreadable``, counts.
        """
        table, read = self.class_table, self.rows[self.rows["status"] != UNREADABLE]
        has = ~np.isnan(table["crs"])

        def mean(values: NDArray[Any]) -> float:
            return float(values.mean()) if len(values) else float("nan")

        counts = {
            name: float(table[name].sum())
            for name in ("empty_maps", "not_finite", "no_box", "unreadable")
        }
        return {
            "images": float(len(self)),
            "accuracy": mean(read["rank"] == 0),
            "accuracy_top5": mean(read["rank"] < 5),
            "crs": mean(table["crs"][has]),
            "expected": mean(table["expected"][has]),
            **counts,
        }

    def worst(self, class_name: str, count: int = 12, *, correct: bool | None = None) -> list[str]:
        """Return ids of the images of a class with the least attention on the object.

        Parameters
        ----------
        class_name
            As in `class_names`.
        count
            How many at most.
        correct
            True: only images that are classified right (right for the wrong reason); False: only others.

        Raises
        ------
        ValueError
            No such class.
        """
        if class_name not in self.class_names:
            raise ValueError(f"no class {class_name!r}; see report.class_names")
        rows = self.rows
        chosen = (rows["label"] == self.class_names.index(class_name)) & (rows["status"] == SCORED)
        if correct is not None:
            chosen &= (rows["rank"] == 0) == correct
        positions = np.flatnonzero(chosen)
        order = np.argsort(rows["rs"][positions], kind="stable")[:count]
        return [self.ids[position] for position in positions[order].tolist()]

    def scores(self, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the rs of images, NaN where there is none.

        Parameters
        ----------
        image_ids
            Also of images that were not audited.

        Returns
        -------
        ndarray
            float32 ``[len(image_ids)]`` in [0, 1] or NaN.
        """
        scored = np.where(self.rows["status"] == SCORED, self.rows["rs"], np.nan)
        known = dict(zip(self.ids, scored.tolist(), strict=True))
        return np.array([known.get(image_id, np.nan) for image_id in image_ids], np.float32)

    # -- joining and comparing ---------------------------------------------------------------------

    @classmethod
    def merge(cls, parts: Iterable[AuditReport]) -> AuditReport:
        """Join the reports of shards: exactly what one process would have found.

        Raises
        ------
        ValueError
            No part, parts of different audits, or an image that is in two of them.
        """
        reports = list(parts)
        if not reports:
            raise ValueError("nothing to merge; pass the reports of the shards")
        facts = reports[0].facts
        for report in reports[1:]:
            differing = [name for name in facts if report.facts.get(name) != facts[name]]
            if differing:
                raise ValueError(
                    f"the parts belong to different audits: {differing[0]} differs; shards need the same "
                    "model, data, saliency, boxes and batch size"
                )
        reports = (
            sorted((r for r in reports if len(r)), key=lambda r: int(r.rows["index"][0])) or reports
        )
        ids = [image_id for report in reports for image_id in report.ids]
        return cls(np.concatenate([report.rows for report in reports]), ids, facts)

    def compare(self, other: AuditReport) -> Table:
        """Compare with an audit of the same classes: before and after a correction, or two models.

        Parameters
        ----------
        other
            The later or second one.

        Returns
        -------
        Table
            One row per class with a crs in both, the greatest loss first: ``class``, ``accuracy`` and
            ``accuracy_other``, ``crs`` and ``crs_other``, their ``difference`` (other − this) with the
            bootstrap's 95 % interval ``low … high``. On the same images the difference is that of each
            image scored in both (paired), and ``scored`` counts those; else ``scored`` is the smaller
            number of both.

        Raises
        ------
        ValueError
            The classes differ.
        """
        if self.class_names != other.class_names:
            raise ValueError(
                "the reports have different classes; compare audits of the same classes"
            )
        paired = self.facts["data"] == other.facts["data"]
        found: list[tuple[Any, ...]] = []
        tables = [
            {int(t["label"][i]): i for i in range(t.height)}
            for t in (self.class_table, other.class_table)
        ]
        for label in sorted(tables[0].keys() & tables[1].keys()):
            a, b = self._scores(label), other._scores(label)
            if paired:
                _, at, bt = np.intersect1d(a["index"], b["index"], return_indices=True)
                a, b = a[at], b[bt]
            if not len(a) or not len(b):
                continue
            first, second = a["rs"].astype(np.float64), b["rs"].astype(np.float64)
            if paired:
                draws = resampled(second - first, label)
            else:
                draws = resampled(second, label) - resampled(first, label + len(self.class_names))
            accuracy = [
                float(t["accuracy"][places[label]])
                for t, places in zip((self.class_table, other.class_table), tables, strict=True)
            ]
            figures = (first.mean(), second.mean(), second.mean() - first.mean(), *_interval(draws))
            found.append((self.class_names[label], *accuracy, *figures, min(len(a), len(b))))
        names = (
            "class",
            "accuracy",
            "accuracy_other",
            "crs",
            "crs_other",
            "difference",
            "low",
            "high",
        )
        columns = list(zip(*found, strict=True)) or [()] * 9
        table = Table(
            {
                name: np.array(column, dtype=object if name == "class" else None)
                for name, column in zip((*names, "scored"), columns, strict=True)
            },
            title="Robustness compared",
        )
        return table.rows(np.argsort(table["difference"], kind="stable"))

    # -- files and pictures ------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, figures: Sequence[Figure] = ()) -> None:
        """Write the report; an existing file is replaced in one step.

        Parameters
        ----------
        path
            ``.json`` and ``.parquet`` hold everything and can be loaded; ``.csv`` holds `image_table`;
            ``.html`` is one self-contained page with the classes and the figures.
        figures
            More matplotlib figures for the page, such as that of `plot_worst`.

        Raises
        ------
        ValueError
            Another ending.
        ImportError
            For parquet without pyarrow, naming the extra to install.
        """
        pages.save(self, path, figures)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuditReport:
        """Read what `save` wrote as JSON or parquet, or the directory of an audit.

        Raises
        ------
        FileNotFoundError, ValueError
            Nothing there, or not a report: the file is named.
        """
        return cls(*pages.load(path))

    def plot_ranking(self, count: int = 30) -> Figure:
        """Draw the `count` lowest classes, with their intervals and what even maps would give."""
        from xfeedback_widgets.audit import figures

        return figures.ranking(self, count)

    def plot_scatter(self, *, label: int = 8) -> Figure:
        """Draw accuracy × crs, one dot per class; the `label` lowest that are mostly right are named."""
        from xfeedback_widgets.audit import figures

        return figures.scatter(self, label)

    def plot_worst(
        self,
        model: nn.Module,
        data: ImageSet,
        *,
        boxes: BoxSource | None = None,
        masks: MaskSource | None = None,
        ids: Sequence[str] | None = None,
        count: int = 12,
    ) -> Figure:
        """Draw images with their map and the outline of the box; maps are computed anew.

        Parameters
        ----------
        model, data, boxes, masks
            Those of the audit.
        ids
            Which images; default: the worst of the lowest classes, one each.
        count
            How many at most.
        """
        from xfeedback_widgets.audit import figures

        if ids is None:
            found = [self.worst(name, 1) for name in self.ranking[:count]]
            ids = [image_id for each in found for image_id in each]
        return figures.worst(self, model, data, list(ids)[:count], boxes=boxes, masks=masks)

    # -- parts -------------------------------------------------------------------------------------

    def _scores(self, label: int) -> NDArray[np.void]:
        chosen = (self.rows["label"] == label) & (self.rows["status"] == SCORED)
        found: NDArray[np.void] = self.rows[chosen]
        return found

    def _predictions(self) -> NDArray[Any]:
        """Return the names of the predicted classes."""
        outputs = self.facts["outputs"]
        named = dict(
            enumerate(self.class_names)
            if outputs is None
            else zip(outputs, self.class_names, strict=True)
        )
        guesses, inverse = np.unique(self.rows["prediction"], return_inverse=True)
        names = [
            "" if guess < 0 else named.get(guess, f"output {guess}") for guess in guesses.tolist()
        ]
        return np.array(names, dtype=object)[inverse]

    def _intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the bootstrap's interval of every class's crs."""
        bounds = np.full((2, len(self.class_names)), np.nan)
        scored = self.rows[self.rows["status"] == SCORED]
        order = np.argsort(scored["label"], kind="stable")
        labels, starts = np.unique(scored["label"][order], return_index=True)
        if not len(labels):
            return bounds[0], bounds[1]
        for label, values in zip(
            labels.tolist(), np.split(scored["rs"][order], starts[1:]), strict=True
        ):
            if len(values) > 1:
                bounds[:, label] = _interval(resampled(values.astype(np.float64), label))
        return bounds[0], bounds[1]


def resampled(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return the means of `RESAMPLES` bootstrap samples of `values`; the same for the same seed."""
    generator = np.random.default_rng([seed, len(values)])
    step = max(1, _DRAWN_AT_ONCE // len(values))
    means = [
        values[
            generator.integers(0, len(values), (min(step, RESAMPLES - start), len(values)))
        ].mean(1)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(means)


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(draws, _LEVEL)
    return float(low), float(high)
