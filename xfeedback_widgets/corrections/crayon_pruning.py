"""CRAYON-Pruning and CRAYON-Attention+Pruning: people say which units are irrelevant (arXiv 2410.22312).

Rejected units are masked before pooling and the last linear layer is refitted. Pooling is linear, so a
mask is the same as a zero column of that layer's weight, and the refit needs cached features only. With
both kinds of feedback, units are pruned first and attention is trained then; as Grad-CAM's channel weights
are columns of the same matrix, its maps are masked by the same zeros. Attention alone is in ``crayon``,
features and the solver in ``units``.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch.nn import functional as F

from xfeedback_widgets.corrections.base import Correction, Losses, Solving
from xfeedback_widgets.corrections.baselines import PlainFineTuning
from xfeedback_widgets.corrections.crayon import CrayonAttention
from xfeedback_widgets.units import Fit, LinearProblem, find_head, parameters_of, write
from xfeedback_widgets.units.features import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback
    from xfeedback_widgets.units import Features

_READ = 64  # images per forward where features are computed


class CrayonPruning(Correction):
    """CRAYON-Pruning: zero the columns of rejected units and refit the last linear layer.

    A unit is pruned if its ±1 votes sum below zero: ties stay, and so do units nobody was asked about. The
    rest of the model stays as it is, in evaluation mode, batch statistics included. No image is read when
    the features of this trunk are known.

    Parameters
    ----------
    solver
        ``"lbfgs"`` finds the one minimum of the convex problem, starting from the present layer; so
        taking an answer back and refitting gives what never giving it would have given. ``"sgd"`` is the
        paper's: a few epochs from the present weights; a unit that comes back starts at zero weight.
    l2
        Penalty of ``"lbfgs"`` on the weights, in the units of :class:`~.units.LinearProblem`; weight
        decay of ``"sgd"``.
    iterations
        At most so many of ``"lbfgs"``.
    epochs, lr, batch_size, seed
        Of ``"sgd"``; 5 to 10 epochs at 5e-5 in the paper.

    Raises
    ------
    ValueError
        A value out of its range.
    """

    name: ClassVar[str] = "CRAYON-Pruning"
    learns_from: ClassVar[frozenset[str]] = frozenset({"units"})
    by_batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        solver: Literal["lbfgs", "sgd"] = "lbfgs",
        l2: float = 1e-2,
        iterations: int = 200,
        epochs: int = 10,
        lr: float = 5e-5,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        if solver not in ("lbfgs", "sgd"):
            raise ValueError(f"solver must be 'lbfgs' or 'sgd', got {solver!r}")
        if not (l2 >= 0 and math.isfinite(l2)):
            raise ValueError(f"l2 must be >= 0 and finite, got {l2}")
        if not (lr > 0 and math.isfinite(lr)):
            raise ValueError(f"lr must be positive and finite, got {lr}")
        for name, value in (
            ("iterations", iterations),
            ("epochs", epochs),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.solver = solver
        self.l2 = float(l2)
        self.iterations = iterations
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed

    @classmethod
    def published(cls, **overrides: Any) -> CrayonPruning:
        """Return the paper's form: ten epochs of SGD at 5e-5 with weight decay 1e-4, batches of 128.

        Parameters
        ----------
        **overrides
            Constructor arguments that replace the paper's.
        """
        paper: dict[str, Any] = {"solver": "sgd", "l2": 1e-4}
        return cls(**paper | overrides)

    def __repr__(self) -> str:
        if self.solver == "lbfgs":
            return f"CrayonPruning(l2={self.l2:g})"
        return (
            f"CrayonPruning(solver='sgd', l2={self.l2:g}, epochs={self.epochs}, lr={self.lr:g}, "
            f"batch_size={self.batch_size}, seed={self.seed})"
        )

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Find the linear layer, and which of its columns people rejected.

        Raises
        ------
        NoLinearHeadError
            The model does not end in pooling and one linear layer.
        ValueError
            Every unit is rejected, or an answer is about a unit that the model does not have.
        """
        self._head = find_head(model, data)
        self._keep = kept_units(feedback, self._head.units)
        self._data = data
        self._handles: list[RemovableHandle] = []

    def solve(self, model: nn.Module) -> Iterator[Solving]:
        """Read the features, where they are not known, and refit the layer to those that are left."""
        classifier = self._head.classifier
        steps = 1 if self.solver == "lbfgs" else self.epochs
        batches = math.ceil(len(self._data) / _READ)
        read = 0
        collecting = collect(model, self._data, batch_size=_READ)
        while True:
            try:
                next(collecting)
            except StopIteration as end:
                features = end.value
                break
            read += 1
            yield Solving(read, batches + steps)
        fitting = self._minimum if self.solver == "lbfgs" else self._descend
        for number, losses in fitting(classifier, features):
            yield Solving(read + number, read + steps, losses)

    def _minimum(
        self, classifier: nn.Linear, features: Features
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """One step for people, as it takes a second: the minimum, from where the layer stands."""
        device = classifier.weight.device
        pooled, labels = features.pooled.to(device), features.labels.to(device)
        problem = LinearProblem(
            pooled,
            labels,
            classifier.out_features,
            l2=self.l2,
            bias=classifier.bias is not None,
        )
        start = Fit(*parameters_of(classifier), math.nan, 0)
        fit = problem.solve(self._keep, start=start, iterations=self.iterations)
        write(classifier, fit.weight, fit.bias)
        yield 1, _measured(classifier, pooled, labels, fit.loss)

    def _descend(
        self, classifier: nn.Linear, features: Features
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """The paper's optimiser, on features in place of images; one step for people is an epoch."""
        weight, bias = parameters_of(classifier)
        keep = self._keep.to(weight.device)
        pooled, labels = features.pooled.to(weight.device), features.labels.to(weight.device)
        weight = (weight * keep).requires_grad_()
        trained = [weight] if classifier.bias is None else [weight, bias.requires_grad_()]
        optimizer = torch.optim.SGD(trained, lr=self.lr, weight_decay=self.l2)
        generator = torch.Generator().manual_seed(self.seed)
        for epoch in range(1, self.epochs + 1):
            total = weight.new_zeros(())
            with torch.enable_grad():
                shuffled = torch.randperm(len(labels), generator=generator)
                for start in range(0, len(labels), self.batch_size):
                    rows = shuffled[start : start + self.batch_size]
                    # masked inputs: the gradient of a pruned column is zero, and so it stays
                    logits = F.linear(pooled[rows] * keep, weight, bias)
                    loss = F.cross_entropy(logits, labels[rows])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    total += loss.detach() * len(rows)
            write(classifier, weight.detach(), bias.detach())
            yield epoch, _measured(classifier, pooled, labels, float(total) / len(labels))

    def hold(self) -> None:
        """Keep pruned columns at zero while something else trains the layer, until `finish`."""
        weight, keep = self._head.classifier.weight, self._keep

        def mask(gradient: Tensor) -> Tensor:
            return gradient * keep.to(gradient)

        if weight.requires_grad:
            handle = weight.register_hook(mask)  # type: ignore[no-untyped-call]
            self._handles.append(handle)

    def finish(self) -> None:
        """Let the layer go."""
        for handle in getattr(self, "_handles", ()):
            handle.remove()

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Mean cross-entropy through the whole model, for whoever trains a pruned model directly."""
        return PlainFineTuning().loss(model, batch)


class Crayon(Correction):
    """CRAYON-Attention+Pruning: prune and refit first, then train attention with the units masked.

    Grad-CAM's channel weights are columns of the last layer, so pruned units are missing from the maps
    as well; their columns stay exactly zero while attention is trained.

    Parameters
    ----------
    attention, pruning
        The two halves, with their settings; None: their defaults.
    """

    name: ClassVar[str] = "CRAYON-Attention+Pruning"
    learns_from: ClassVar[frozenset[str]] = frozenset({"verdicts", "units"})

    def __init__(
        self, *, attention: CrayonAttention | None = None, pruning: CrayonPruning | None = None
    ) -> None:
        self.attention = CrayonAttention() if attention is None else attention
        self.pruning = CrayonPruning() if pruning is None else pruning

    @property
    def saliency(self) -> str:  # type: ignore[override]  # settled by an option of attention
        """What people should be shown."""
        return self.attention.saliency

    def __repr__(self) -> str:
        return f"Crayon(attention={self.attention!r}, pruning={self.pruning!r})"

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Prepare both halves, before anything changes."""
        self._attention = copy.copy(self.attention)
        self._pruning = copy.copy(self.pruning)
        self._attention.prepare(model, data, feedback)
        self._pruning.prepare(model, data, feedback)

    def solve(self, model: nn.Module) -> Iterator[Solving]:
        """Prune and refit."""
        yield from self._pruning.solve(model)
        self._pruning.hold()

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """CRAYON-Attention's loss, one forward."""
        return self._attention.loss(model, batch)

    def finish(self) -> None:
        """Finish both halves."""
        for half in (getattr(self, "_attention", None), getattr(self, "_pruning", None)):
            if half is not None:
                half.finish()


def kept_units(feedback: Feedback, units: int) -> Tensor:
    """Say which units stay.

    Parameters
    ----------
    feedback
        What people said, votes merged.
    units
        K, how many the model has.

    Returns
    -------
    Tensor
        ``bool [K]``.

    Raises
    ------
    ValueError
        An answer is about a unit beyond, or no unit stays.
    """
    beyond = [unit for unit in feedback.units if unit >= units]
    if beyond:
        raise ValueError(
            f"an answer is about unit {min(beyond)}, but the model has {units} units (0 … {units - 1}); "
            "open a session with the model those answers are about, or in another directory"
        )
    keep = torch.ones(units, dtype=torch.bool)
    keep[[unit for unit, verdict in feedback.units.items() if verdict.answer == "reject"]] = False
    if not bool(keep.any()):
        raise ValueError(
            f"all {units} units are rejected, so nothing is left to classify with; take some answers back"
        )
    return keep


def _measured(
    classifier: nn.Linear, pooled: Tensor, labels: Tensor, loss: float
) -> dict[str, float]:
    with torch.no_grad():
        logits = F.linear(pooled, *parameters_of(classifier))
        right = (logits.argmax(1) == labels).float().mean()
    return {"loss": loss, "accuracy": float(right)}
