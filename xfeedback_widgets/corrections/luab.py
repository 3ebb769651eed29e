"""LUAB: learn from where people clicked while they labelled (Han et al., ICCV 2023, arXiv 2303.17595).

While the classifier learns the label, a second head reads the same pooled features and learns where people
pointed; what it takes to say where the object is draws the features to the object. The head is dropped
afterwards. The arithmetic is :func:`point_loss`, a pure function over points; the class looks up the points
of a batch and lets them follow its augmentation. What people pointed at comes from ``feedback``.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses, label_loss
from xfeedback_widgets.data.points import followed, in_view
from xfeedback_widgets.saliency import GradCAM, NoSpatialLayerError, find_target_layer
from xfeedback_widgets.saliency.base import evaluating, logits_of, plain, prepared, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Byproduct, Feedback, Point

_SPREAD = 0.15  # of a side: how far from the point attention still counts as on it
_MOST_DWELL = 2.0


def point_loss(predicted: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """``smooth-l1(h(f(X)), Z)`` of each image, the second term of LUAB's objective.

    Parameters
    ----------
    predicted
        float ``[N, C, 2]``, where the head sees each class; differentiable. C is 1 where an image has one
        label.
    points
        float ``[N, C, 2]``, Z: where people pointed, (x, y) in [0, 1]; any number where nobody did.
    weights
        float ``[N, C]`` ≥ 0, zero where there is no point.

    Returns
    -------
    Tensor
        float ``[N]``: the mean over both coordinates, and over the classes with a point; zero where none
        has one.
    """
    present = weights > 0
    # taken apart before the difference: what stands where nobody pointed must not reach the gradient
    target = torch.where(present[..., None], points, predicted.detach())
    each = F.smooth_l1_loss(predicted, target, reduction="none").mean(2)
    return (each * weights).sum(1) / present.sum(1).clamp_min(1)


def attention_away(maps: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Share of each map's attention that is away from the point.

    Parameters
    ----------
    maps
        float ``[N, h, w]`` ≥ 0; differentiable.
    points
        float ``[N, 2]``, (x, y) in [0, 1].
    weights
        float ``[N]`` ≥ 0, zero where there is no point.

    Returns
    -------
    Tensor
        float ``[N]``: ``weight · (1 − Σ M·B / Σ M)`` with a Gaussian hill B around the point (standard
        deviation 0.15 of a side); zero for an empty map.
    """
    height, width = maps.shape[1:]
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    squared = (x - points[:, None, None, 0]) ** 2 + (y[:, None] - points[:, None, None, 1]) ** 2
    hill = torch.exp(-squared / (2 * _SPREAD**2))
    total = maps.sum((1, 2))
    near = (maps * hill).sum((1, 2)) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return weights * torch.where(total > 0, 1 - near, 0.0)


class Luab(Correction):
    """LUAB: cross-entropy, plus a head of its own that learns where people pointed.

    ::

        L = mean_n( CE(g(f(X)), Y) + λ · smooth-l1(h(f(X)), Z) )

    ``f`` is what enters the classifier's last layer ``g``, ``h`` a linear head on the same, ``Z`` the final
    click (or, of a tagging page, the final placement of the icon). With several labels to an image the
    cross-entropy is binary, ``h`` has one point for each class, and the second term is the mean over the
    classes that are pointed at. Images nobody clicked on, and points that augmentation cut away, have no
    second term. The head exists during training only: the model keeps exactly its own weights.

    Parameters
    ----------
    weight
        λ.
    head
        ``"point"`` is the paper's. ``"map"``, an idea of its outlook, has no head: the saliency map of the
        label (centred, as in :class:`~.crayon.CrayonAttention`) is drawn to the point
        (:func:`attention_away`). Keep λ near 0.1 then: pressed harder, maps may become empty, which the
        guard of a session watches for.
    weighting
        ``"even"``: every point weighs the same. ``"dwell"``, another idea of the outlook: by how long the
        person looked before, in multiples of the median and at most twice that.
    fitted
        Let the head start from the ridge regression of the points on the features of the weights the run
        starts from, so that it need not be learned with the small steps of fine-tuning. False starts it at
        random, as when training from scratch. Costs one forward of the images with points.
    layer
        Target layer of Grad-CAM for ``head="map"``, by name or module; None finds it.
    seed
        Of the head's start.

    Raises
    ------
    ValueError
        A negative weight or an unknown word.

    Notes
    -----
    A point is (x, y) of the displayed picture. Where that is the picture as it lies on disk (records of the
    published files), the point goes through the ImageSet's preprocessing first.
    """

    name: ClassVar[str] = "LUAB"
    learns_from: ClassVar[frozenset[str]] = frozenset({"points"})
    several_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weight: float = 1.0,
        head: Literal["point", "map"] = "point",
        weighting: Literal["even", "dwell"] = "even",
        fitted: bool = True,
        layer: str | nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        if not weight >= 0:  # also refuses NaN
            raise ValueError(f"weight must be >= 0, got {weight}")
        if head not in ("point", "map"):
            raise ValueError(f"head must be 'point' or 'map', got {head!r}")
        if weighting not in ("even", "dwell"):
            raise ValueError(f"weighting must be 'even' or 'dwell', got {weighting!r}")
        self.weight = float(weight)
        self.head: Literal["point", "map"] = head
        self.weighting: Literal["even", "dwell"] = weighting
        self.fitted = fitted
        self.layer = layer
        self.seed = seed

    def __repr__(self) -> str:
        return (
            f"Luab(weight={self.weight:g}, head={self.head!r}, weighting={self.weighting!r}, "
            f"fitted={self.fitted}, seed={self.seed})"
        )

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option here
        """The method people should be shown: the one whose maps are trained, if any are."""
        return "centred_gradcam" if self.head == "map" else "gradcam"

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Look up every point, and make the head."""
        device = next(model.parameters()).device
        several = data.labels.ndim == 2
        if several and self.head == "map":
            raise ValueError("head='map' explains one label; use head='point' for several labels")
        classes = data.labels.shape[1] if several else 1
        points = torch.zeros(len(data), classes, 2)
        weights = torch.zeros(len(data), classes)
        dwell = _dwell(feedback) if self.weighting == "dwell" else {}
        for image_id, by_class in feedback.points.items():
            if image_id not in data:
                continue
            position = data.index(image_id)
            for column, point in _columns(data, position, by_class).items():
                trace = feedback.byproducts[image_id][-1].trace
                shown = (trace.originalImageHeight, trace.originalImageWidth)
                place = in_view(data, position, point, shown)
                if place is not None:
                    points[position, column] = torch.tensor(place)
                    weights[position, column] = dwell.get(image_id, 1.0)
        self._points, self._weights = points.to(device), weights.to(device)
        if self.head == "map":
            self._cam = GradCAM(model, self.layer, centred=True)
            return
        self._features = _Features(model, next(data.batches(1)).images)
        self._head = _head(self._features.size, classes, self.seed).to(device)
        if self.fitted:
            self._fit(model, data)

    @torch.no_grad()
    def _fit(self, model: nn.Module, data: ImageSet) -> None:
        """Put the head where ridge regression does."""
        wanted = (self._weights > 0).any(1).nonzero()[:, 0].tolist()
        features, rows = [], []
        with evaluating(model):
            for start in range(0, len(wanted), 64):
                batch = data.batch(wanted[start : start + 64])
                if len(batch):
                    with self._features.read() as read:
                        plain(model)(prepared(batch.images, model))
                    features.append(read().float())
                    rows += batch.indices.tolist()
        if not rows:
            return
        x = torch.cat(features).double()
        points, weights = self._points[rows].double(), self._weights[rows].double()
        for column in range(points.shape[1]):
            there = weights[:, column] > 0
            if int(there.sum()) > 1:
                w, b = _ridge(x[there], points[there, column])
                self._head.weight[2 * column : 2 * column + 2] = w.float()
                self._head.bias[2 * column : 2 * column + 2] = b.float()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The head's."""
        return self._head.parameters() if self.head == "point" else iter(())

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward: logits and features together, and the point where there is one."""
        points, weights = self._points[batch.indices], self._weights[batch.indices]
        if batch.source is not None:
            points, weights = _follow(points, weights, batch.source)
        if self.head == "map":
            logits, maps = self._cam.logits_and_maps(batch.images, batch.labels)
            away = attention_away(maps.float(), points[:, 0], weights[:, 0])
        else:
            with self._features.read() as read:
                logits = logits_of(plain(model)(batch.images))
            predicted = self._head(read().to(self._head.weight.dtype)).float()
            away = point_loss(predicted.unflatten(1, (-1, 2)), points, weights)
        logits = logits.float()
        labels, correct = label_loss(logits, batch.labels)
        pointing = self.weight * away.mean()
        return Losses(
            total=labels + pointing,
            parts={"cross_entropy": labels.detach(), "points": pointing.detach()},
            correct=correct,
        )


class _Features:
    """What enters the last layer of a classifier, or the average of its last feature map."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._module, self._pool = _classifier(model, images), None
        if self._module is None:
            try:
                self._pool = find_target_layer(model, images=images)
            except NoSpatialLayerError as error:
                raise ValueError(f"LUAB found no features to read: {error}") from error
        with torch.no_grad(), evaluating(model), self.read() as read:
            plain(model)(prepared(images, model))
        self.size = read().shape[1]

    @contextmanager
    def read(self) -> Iterator[Any]:
        """Watch one forward; what this yields gives float ``[N, K]`` afterwards, with its graph."""
        if self._module is None:
            assert self._pool is not None  # noqa: S101  # one of the two was found
            pool = self._pool
            with recorded(pool.module) as seen:
                yield lambda: pool.spatial(seen[-1], (1, 1)).mean((2, 3))
            return
        entered: list[Tensor] = []
        owner = threading.get_ident()

        def keep(_module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == owner:
                entered.append(inputs[0])

        handle = self._module.register_forward_pre_hook(keep)
        try:
            yield lambda: entered[-1]
        finally:
            handle.remove()


def _classifier(model: nn.Module, images: Tensor) -> nn.Linear | None:
    """Find the linear layer that gives the logits; None where something else does."""
    model = plain(model)
    products: list[tuple[nn.Linear, Tensor]] = []

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if inputs[0].ndim == 2:
            products.append((module, output))  # type: ignore[arg-type]

    handles = [m.register_forward_hook(watch) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad(), evaluating(model):
            logits = logits_of(model(prepared(images, model)))
    finally:
        for handle in handles:
            handle.remove()
    for linear, output in reversed(products):
        if output.shape == logits.shape and output.data_ptr() == logits.data_ptr():
            return linear
    return None


def _head(size: int, classes: int, seed: int) -> nn.Linear:
    """A linear layer that starts near the middle of the picture, with random numbers of its own."""
    head = nn.Linear(size, 2 * classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) / size)
        head.bias.fill_(0.5)
    return head


def _ridge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Linear regression of ``[n, 2]`` on ``[n, K]``; the penalty is the mean squared norm of the features."""
    middle, target = x.mean(0), y.mean(0)
    centred = x - middle
    kernel = centred @ centred.T
    penalty = kernel.diagonal().mean().clamp_min(torch.finfo(kernel.dtype).tiny)
    dual = torch.linalg.solve(kernel + penalty * torch.eye(len(x)).to(kernel), y - target)
    weight = (centred.T @ dual).T
    return weight, target - weight @ middle


def _follow(points: Tensor, weights: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Move the points of a batch with its images; what is cut away weighs nothing."""
    images, columns = weights.nonzero(as_tuple=True)
    if not len(images):
        return points, weights
    moved, seen = followed(points[images, columns], source[images])
    points, weights = points.clone(), weights.clone()
    points[images, columns] = moved
    weights[images, columns] *= seen
    return points, weights


def _columns(
    data: ImageSet, position: int, by_class: Mapping[int | str | None, Point]
) -> dict[int, Point]:
    """Give the points on the image's own classes, by column of the table."""
    if data.labels.ndim == 2:
        present = {int(c): int(c) for c in data.labels[position].nonzero()[:, 0]}
    else:
        present = {0: int(data.labels[position])}
    found = {}
    for column, label in present.items():
        keys = [label, data.class_names[label] if label >= 0 else None]
        keys += [None] if data.labels.ndim == 1 else []
        point = next((by_class[key] for key in keys if key in by_class), None)
        if point is not None:
            found[column] = point
    return found


def _dwell(feedback: Feedback) -> dict[str, float]:
    """Give how long people looked at each image in multiples of the median, at most two."""
    times: dict[str, float] = {}
    for image_id, byproducts in feedback.byproducts.items():
        spent = [t for t in map(_time_spent, byproducts) if t]
        if spent:
            times[image_id] = sorted(spent)[len(spent) // 2]
    middle = sorted(times.values())[len(times) // 2] if times else 1.0
    return {image_id: min(time / middle, _MOST_DWELL) for image_id, time in times.items()}


def _time_spent(byproduct: Byproduct) -> float | None:
    trace = byproduct.trace
    return getattr(trace, "estimateTime", None) or getattr(trace, "timeSpent", None)
