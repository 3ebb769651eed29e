"""The controls without which no claim stands.

They use the same seam, the same batches and the same number of steps as the correction they are
compared with: :class:`PlainFineTuning` ignores the feedback, :class:`RandomFeedback` keeps the images
and units and their number but draws the answers by chance. A correction that does not beat both has shown
that more training, or pressure on the maps as such, helps; not that people do.
:class:`DeepFeatureReweighting` is a reference, not a control: it is told the groups.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch.nn import functional as F

from xfeedback_widgets.bayesian import is_bayesian, kl
from xfeedback_widgets.corrections.base import Correction, Losses, Solving, Wrapped, label_loss
from xfeedback_widgets.feedback import (
    Feedback,
    Point,
    RegionMask,
    Verdict,
    points_of,
    repointed,
)
from xfeedback_widgets.saliency.base import logits_of
from xfeedback_widgets.units import LinearProblem, find_head, pooled_features, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Byproduct, Record


_HOW = ("random", "shuffled", "maps", "masks")


class PlainFineTuning(Correction):
    """Cross-entropy on the same batches, feedback ignored.

    Parameters
    ----------
    kl_weight
        Of KL(q‖P)/n, which is added for a Bayesian network; as in `BayesianFeedback`.
    """

    name: ClassVar[str] = "plain fine-tuning"
    several_labels: ClassVar[bool] = True

    def __init__(self, *, kl_weight: float = 1.0) -> None:
        self.kl_weight = kl_weight
        self._kl_scale: float | None = None

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:  # noqa: ARG002
        """See whether the network is Bayesian."""
        self._kl_scale = self.kl_weight / len(data) if is_bayesian(model) else None

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Mean cross-entropy of the batch, plus KL(q‖P)/n where there is a posterior."""
        logits = logits_of(model(batch.images)).float()
        labels, correct = label_loss(logits, batch.labels)
        parts = {"cross_entropy": labels}
        if self._kl_scale is not None:
            parts["kl"] = kl(model) * self._kl_scale
        return Losses(
            total=sum(parts.values(), logits.new_zeros(())),
            parts={name: part.detach() for name, part in parts.items()},
            correct=correct,
        )


class RandomFeedback(Wrapped):
    """Another correction, fed with meaningless answers and points about the same images and units.

    Parameters
    ----------
    correction
        The correction under test, with the settings under test.
    how
        ``"random"`` draws each answer, accept or reject, with equal chance, in place of each mask
        blobs of as many relevant and irrelevant pixels, and points from all over the picture (the
        control of LUAB). ``"shuffled"`` deals the real answers, masks and points out to other images (and
        units), so that their proportions stay. ``"maps"`` keeps the answers and
        deals out the judged maps to other images; ``"masks"`` keeps them and deals out the masks.
    seed
        Of the draw.
    """

    name: ClassVar[str] = "random feedback"

    def __init__(
        self,
        correction: Correction,
        *,
        how: Literal["random", "shuffled", "maps", "masks"] = "random",
        seed: int = 0,
    ) -> None:
        if how not in _HOW:
            raise ValueError(f"how must be one of {', '.join(map(repr, _HOW))}, got {how!r}")
        super().__init__(correction)
        self.how = how
        self.seed = seed

    def __repr__(self) -> str:
        return f"RandomFeedback({self.correction!r}, how={self.how!r}, seed={self.seed})"

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Prepare the other correction on meaningless answers."""
        rng = random.Random(self.seed)
        scrambled: list[Record] = []
        for said in (feedback.verdicts, feedback.units, feedback.masks):
            scrambled += self._scramble(list(said.values()), rng)
        byproducts = [one for of_image in feedback.byproducts.values() for one in of_image]
        scrambled += self._pointed_elsewhere(byproducts, rng)
        super().prepare(model, data, Feedback.of(scrambled))

    def _scramble(self, said: Sequence[Record], rng: random.Random) -> Iterator[Record]:
        for one, other in zip(said, rng.sample(said, len(said)), strict=True):
            changed: dict[str, Any] = {}
            if isinstance(one, RegionMask) and isinstance(other, RegionMask):
                if self.how == "random":
                    changed = {"mask": _blobs(one.mask, rng.getrandbits(32)), "strokes": ()}
                elif self.how in ("shuffled", "masks"):
                    changed = {"mask": other.mask, "strokes": other.strokes}
            elif self.how == "random":
                changed = {"answer": rng.choice(("accept", "reject"))}
            elif self.how == "shuffled":
                changed = {"answer": getattr(other, "answer", None)}
            elif self.how == "maps" and isinstance(other, Verdict):
                changed = {"map": other.map}
            yield dataclasses.replace(one, **changed)

    def _pointed_elsewhere(self, said: list[Byproduct], rng: random.Random) -> Iterator[Byproduct]:
        dealt = [point for one in said for point in points_of(one).values()]
        rng.shuffle(dealt)
        for one in said:
            if self.how == "random":
                yield repointed(one, lambda _: Point(rng.random(), rng.random()))
            else:
                yield repointed(one, lambda _: dealt.pop()) if self.how == "shuffled" else one


def _blobs(mask: NDArray[np.int8], seed: int) -> NDArray[np.int8]:
    """Draw as many relevant and irrelevant pixels as in `mask`, in blobs somewhere else."""
    noise = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    hills = F.interpolate(noise, mask.shape, mode="bicubic", align_corners=False)
    order = hills.flatten().argsort()
    drawn = torch.zeros(mask.size, dtype=torch.int8)
    drawn[order[: int((mask < 0).sum())]] = -1
    drawn[order[mask.size - int((mask > 0).sum()) :]] = 1
    return drawn.reshape(mask.shape).numpy()


class DeepFeatureReweighting(Correction):
    """Refit the last layer on held-out images with every group equally often (DFR, arXiv 2204.02937).

    A reference that is told what feedback has to find out: the group of every held-out image. As in the
    paper, the layer is fitted to several balanced draws and the fits are averaged.

    Parameters
    ----------
    held_out
        Images with groups that were not trained on.
    l2
        Penalty, in the units of :class:`~.units.LinearProblem`.
    draws
        How many balanced subsets.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        The images have no groups.
    """

    name: ClassVar[str] = "DFR"
    by_batches: ClassVar[bool] = False

    def __init__(
        self, held_out: ImageSet, *, l2: float = 1e-2, draws: int = 10, seed: int = 0
    ) -> None:
        if held_out.groups is None:
            raise ValueError("DFR needs to know the groups; pass groups= to the held-out ImageSet")
        self.held_out = held_out
        self.l2 = l2
        self.draws = draws
        self.seed = seed

    def __repr__(self) -> str:
        return f"DeepFeatureReweighting(l2={self.l2:g}, draws={self.draws}, seed={self.seed})"

    def solve(self, model: nn.Module) -> Iterator[Solving]:
        """Fit the layer to each balanced draw, and write the average of the fits."""
        classifier = find_head(model, self.held_out).classifier
        features = pooled_features(model, self.held_out)
        assert self.held_out.groups is not None  # noqa: S101 - refused when it was made
        groups = self.held_out.groups[features.indices]
        present = sorted(set(groups.tolist()))
        smallest = min(int((groups == group).sum()) for group in present)
        generator = torch.Generator().manual_seed(self.seed)
        weights, biases = [], []
        for draw in range(1, self.draws + 1):
            rows = torch.cat(
                [
                    members[torch.randperm(len(members), generator=generator)[:smallest]]
                    for members in ((groups == group).nonzero()[:, 0] for group in present)
                ]
            )
            problem = LinearProblem(
                features.pooled[rows],
                features.labels[rows],
                classifier.out_features,
                l2=self.l2,
                bias=classifier.bias is not None,
            )
            fit = problem.solve(torch.ones(classifier.in_features, dtype=torch.bool))
            weights.append(fit.weight)
            biases.append(fit.bias)
            yield Solving(draw, self.draws, {"loss": fit.loss})
        write(classifier, torch.stack(weights).mean(0), torch.stack(biases).mean(0))

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Mean cross-entropy of the batch; not used by the loop."""
        return PlainFineTuning().loss(model, batch)
