"""Feedback as evidence for a Bayesian network (Bekkemoen & Langseth, arXiv 2105.02653).

What a person calls irrelevant must not move the prediction: where an irrelevant region meets the maps of
the last convolution, the activation is *observed to be zero*. Training conditions the forward on that
evidence and raises its density. The equations are :func:`evidence_on` and :func:`evidence_density`, pure
functions over tensors; beyond the paper, :func:`scale_free_density` measures activations by each other, and
:func:`inattention` asks for attention to what is relevant. The class looks up what was called so in the
images of a batch. The Bayesian layers are in ``bayesian``.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xfeedback_widgets.bayesian import BayesianConv2d, BayesianLayer, is_bayesian, kl
from xfeedback_widgets.bayesian.layers import intercepted
from xfeedback_widgets.corrections.base import Correction, Losses
from xfeedback_widgets.corrections.mask_losses import checked_weight
from xfeedback_widgets.corrections.masks import DrawnMasks
from xfeedback_widgets.data.augment import resample
from xfeedback_widgets.saliency import create, threshold
from xfeedback_widgets.saliency.base import evaluating, logits_of, prepared
from xfeedback_widgets.saliency.layers import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback, RegionMask, Verdict

_LOG_SQRT_TWO_PI = 0.5 * math.log(2 * math.pi)


def evidence_on(irrelevant: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay what is irrelevant in an image over the maps of a convolution (eq. 10).

    Parameters
    ----------
    irrelevant
        The feedback ``F``: bool ``[..., H, W]``, true where the image is irrelevant.
    size
        (u, v) of the maps, finer or coarser than ``F``.

    Returns
    -------
    Tensor
        ``J = AdaptiveMaxPool(F, (u, v))``, bool ``[..., u, v]``: true where any of a cell is irrelevant.
    """
    stacked = irrelevant.reshape(-1, 1, *irrelevant.shape[-2:]).float()
    pooled = F.adaptive_max_pool2d(stacked, size) > 0
    return pooled.reshape(*irrelevant.shape[:-2], *size)


def evidence_density(mean: Tensor, std: Tensor, evidence: Tensor) -> Tensor:
    """Log-density of the evidence that activations are zero (the second term of eqs. 14-16).

    Parameters
    ----------
    mean, std
        Float ``[N, K, u, v]`` of the activations before the nonlinearity; `std` is positive.
    evidence
        bool, broadcasting to them: true where the activation is observed to be zero.

    Returns
    -------
    Tensor
        ``Σ log N(0; μ, σ)`` over the evidence, float32 ``[N]``; 0 for an image without evidence. The dense
        form ``−Σ J · (½ (μ/σ)² + log σ + ½ log 2π)`` has no shape that depends on the data.
    """
    mean, std = mean.float(), std.float()
    cost = 0.5 * (mean / std).square() + std.log() + _LOG_SQRT_TWO_PI
    return -torch.where(evidence, cost, 0.0).flatten(1).sum(1)


def scale_free_density(mean: Tensor, evidence: Tensor) -> Tensor:
    """Log-density of the evidence, rectified activations in units of what they are elsewhere in the image.

    :func:`evidence_density` can be raised while attention stays where it is: by making all activations
    small, or by drawing them with so much noise that anything could have been observed. In units of what
    the other activations of the image are, only what is evidence can become smaller.

    Parameters
    ----------
    mean
        Float ``[N, K, u, v]`` of the activations before the rectifier.
    evidence
        bool, broadcasting to `mean`: true where the activation is observed to be zero.

    Returns
    -------
    Tensor
        ``−½ Σ (μ⁺ / s)²`` over the evidence, float32 ``[N]``, with ``s²`` the mean of ``(μ⁺)²`` over what
        is no evidence; the same for all positive multiples of `mean`. 0 for an image without evidence,
        or without any positive activation elsewhere.
    """
    squares = mean.float().relu().square()
    inside = torch.where(evidence, squares, 0.0).flatten(1).sum(1)
    outside = torch.where(evidence, 0.0, squares).flatten(1).sum(1)
    cells = (~evidence).expand_as(squares).flatten(1).sum(1)
    measurable = outside > 0
    scale = torch.where(measurable, outside / cells.clamp_min(1), 1.0)
    return torch.where(measurable, -0.5 * inside / scale, 0.0)


def inattention(activations: Tensor, logits: Tensor, labels: Tensor, relevant: Tensor) -> Tensor:
    """Share of the attention that does not lie on what is relevant.

    ``1 − Σ R ⊗ G / Σ G`` with ``G = ReLU(Σ_k α_k a_k)``, Grad-CAM of the label, whose channel weights
    ``α_k = mean_ij ∂z_y/∂a_kij`` are taken as numbers.

    Parameters
    ----------
    activations
        Float ``[N, K, u, v]`` that `logits` were computed from, in one graph; the graph is kept.
    logits
        ``[N, C]``.
    labels
        int64 ``[N]``.
    relevant
        ``R``, float ``[N, u, v]`` in [0, 1].

    Returns
    -------
    Tensor
        float32 ``[N]`` in [0, 1], differentiable; 0 where there is no attention at all, or nothing relevant.
    """
    of_label = logits.gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(of_label, activations, retain_graph=True)
    alpha = gradient.float().mean((2, 3), keepdim=True)
    maps = (alpha * activations.float()).sum(1).relu()
    total = maps.sum((1, 2))
    counted = (total > 0) & relevant.flatten(1).any(1)
    outside = 1 - (maps * relevant).sum((1, 2)) / torch.where(counted, total, 1.0)
    return torch.where(counted, outside, 0.0)


def irrelevant_region(feedback: Feedback, image_id: str, *, hot: float = 0.5) -> Tensor | None:
    """Return what people called irrelevant in an image, as far as it can be known without the model.

    Parameters
    ----------
    feedback
        Everything people said, votes merged.
    image_id
        Which image.
    hot
        Share of a rejected map's maximum, in [0, 1), above which a region is hot.

    Returns
    -------
    Tensor or None
        bool ``[H, W]`` of the mask's or the map's size: what a mask marks −1, or else the hot region of a
        map that was rejected. None where nothing was called so, or the map was not stored or is empty.
    """
    drawn, verdict = feedback.masks.get(image_id), feedback.verdicts.get(image_id)
    if drawn is not None and _marks(drawn, -1):
        return torch.tensor(drawn.mask) == -1
    if verdict is None or verdict.answer != "reject" or verdict.map is None:
        return None
    region = threshold(torch.tensor(verdict.map.astype("float32")), hot)
    return region if bool(region.any()) else None


def irrelevant_regions(data: ImageSet, feedback: Feedback) -> dict[int, Tensor]:
    """Return :func:`irrelevant_region` of the images of a set that have one, by their positions."""
    return {
        data.index(image_id): region
        for image_id in dict.fromkeys((*feedback.masks, *feedback.verdicts))
        if image_id in data and (region := irrelevant_region(feedback, image_id)) is not None
    }


class BayesianFeedback(Correction):
    """Fine-tune a Bayesian network on the evidence that irrelevant regions do not activate it.

    The loss of a batch is the mean over its images of ::

        L = KL(q‖P)/n − (1/m) Σ_t [ log P(y | a_F = 0, a_Fc^t) + w Σ log N(0; μ_a, σ_a) ]

    (eqs. 14-16; the second sum is over ``a_F``), where ``a`` are the activations of the last convolution
    before its nonlinearity, ``F`` the irrelevant ones among them, and ``n`` the number of training images.
    An image without feedback has no evidence, and what remains is the loss of a Bayesian network. Batches
    with a share of answered images, ``answered_share`` of the training settings, keep a few masks
    from being drowned.

    Irrelevant is what a region mask marks −1, drawn by a person or computed by a programme; and, in images
    without such a mask, the hot region of a map that was rejected.

    Parameters
    ----------
    weight
        ``w``. 1 is the paper's; as the density is summed over hundreds of activations it then outweighs
        the cross-entropy, and the authors' later experiments use 5e-5 … 3e-4 for digits and 2e-6 … 1e-5
        for photographs.
    gradient_mask
        Keep as evidence only activations that the logits depend on, ``∇_A Σ_j ŷ_j ≠ 0`` (eq. 12): a
        rectified or pooled-away activation is no attention. Read ``ŷ`` as logits: the sum of
        probabilities is 1, and does not depend on anything.
    mc_samples
        ``m``, draws of the network per step.
    kl_weight
        Of KL(q‖P)/n; 1 is the paper's. With few images the prior outweighs what they say (1,000 digits
        teach a LeNet nothing), and a "cold" posterior of 0.01 or so is what can be learned.
    sigma_floor
        Smallest ``σ_a`` in the density, which grows beyond all bounds where ``σ_a`` goes to 0.
    scale_free
        Beyond the paper: take :func:`scale_free_density` instead, with weights about 0.1; a network then
        cannot get away with making all of its activations small. It needs a rectifier after the
        convolution, and neither ``gradient_mask``, for what is rectified away is not counted, nor
        ``sigma_floor``.
    hot
        Share of a rejected map's maximum, in [0, 1), above which a region is hot.
    relevant
        Beyond the paper: weight of a term that raises attention to what masks mark +1, the mean over
        images of :func:`inattention`; try 1. 0, the default, makes no use of such marks.
    layer
        The Bayesian convolution whose activations are observed, by name or module; None: the one that
        runs last.

    Raises
    ------
    ValueError
        An option out of range; at `prepare`, a model without a Bayesian convolution.

    Examples
    --------
    >>> BayesianFeedback(weight=3e-4)
    BayesianFeedback(weight=0.0003, gradient_mask=True, sigma_floor=1e-06, mc_samples=1, kl_weight=1)
    """

    name: ClassVar[str] = "Bayesian feedback"
    learns_from: ClassVar[frozenset[str]] = frozenset({"verdicts", "masks"})

    def __init__(
        self,
        *,
        weight: float = 1.0,
        gradient_mask: bool = True,
        mc_samples: int = 1,
        kl_weight: float = 1.0,
        sigma_floor: float = 1e-6,
        scale_free: bool = False,
        hot: float = 0.5,
        relevant: float = 0.0,
        layer: str | nn.Module | None = None,
    ) -> None:
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be ≥ 0 and finite, got {weight}")
        if mc_samples < 1:
            raise ValueError(f"mc_samples must be at least 1, got {mc_samples}")
        if not 0 <= kl_weight < math.inf:
            raise ValueError(f"kl_weight must be ≥ 0 and finite, got {kl_weight}")
        if not 0 < sigma_floor < math.inf:
            raise ValueError(f"sigma_floor must be positive and finite, got {sigma_floor}")
        if not 0 <= hot < 1:
            raise ValueError(f"hot must be in [0, 1), got {hot}")
        self.weight = float(weight)
        self.gradient_mask = gradient_mask
        self.mc_samples = mc_samples
        self.kl_weight = kl_weight
        self.sigma_floor = sigma_floor
        self.scale_free = scale_free
        self.hot = hot
        self.relevant = checked_weight("relevant", relevant)
        self.layer = layer

    @classmethod
    def published(cls, **overrides: Any) -> BayesianFeedback:
        """Return the paper's form: density unweighted, gradient mask, one draw, no floor to speak of.

        Parameters
        ----------
        **overrides
            Constructor arguments that replace the paper's, for example ``weight=3e-4``.
        """
        paper: dict[str, Any] = {
            "weight": 1.0,
            "gradient_mask": True,
            "mc_samples": 1,
            "kl_weight": 1.0,
            "sigma_floor": 1e-6,
            "scale_free": False,
        }
        return cls(**paper | overrides)

    def __repr__(self) -> str:
        form = (
            "scale_free=True"
            if self.scale_free
            else f"gradient_mask={self.gradient_mask}, sigma_floor={self.sigma_floor:g}"
        )
        return (
            f"BayesianFeedback(weight={self.weight:g}, {form}, "
            f"mc_samples={self.mc_samples}, kl_weight={self.kl_weight:g}"
            + (f", relevant={self.relevant:g})" if self.relevant else ")")
        )

    def uses(self, feedback: Feedback, image_id: str) -> str:  # noqa: D102 - inherited
        drawn, verdict = feedback.masks.get(image_id), feedback.verdicts.get(image_id)
        irrelevant = drawn is not None and _marks(drawn, -1)
        relevant = drawn is not None and self.relevant > 0 and _marks(drawn, 1)
        rejected = verdict is not None and verdict.answer == "reject"
        said = {"mask": irrelevant or relevant, "verdict": rejected and not irrelevant}
        return " and ".join(name for name, used in said.items() if used)

    def prepare(self, model: nn.Module, data: ImageSet, feedback: Feedback) -> None:
        """Find the convolution, and collect what was called irrelevant."""
        self._images = len(data)
        self._convolution = _observed(model, data, self.layer)
        irrelevant = self._irrelevant(model, data, feedback)
        device = next(model.parameters()).device
        self._masks = [mask.to(device) for mask in irrelevant.values()]
        # The row of each image's evidence; the last row is that of images without any.
        self._rows = torch.full((len(data),), len(irrelevant), dtype=torch.long)
        self._rows[list(irrelevant)] = torch.arange(len(irrelevant))
        self._evidence = torch.zeros(1, 0, 0, dtype=torch.bool, device=device)
        self._drawn = DrawnMasks(data, feedback, device) if self.relevant else None

    def _irrelevant(
        self, model: nn.Module, data: ImageSet, feedback: Feedback
    ) -> dict[int, Tensor]:
        """``F`` of each image by position: bool ``[H, W]`` of any size, on the CPU or where maps are."""
        found: dict[int, Tensor] = {}
        for image_id in dict.fromkeys((*feedback.masks, *feedback.verdicts)):
            if image_id not in data or not self.uses(feedback, image_id):
                continue
            position = data.index(image_id)
            region = irrelevant_region(feedback, image_id, hot=self.hot)
            verdict = feedback.verdicts.get(image_id)
            if region is None and verdict is not None and verdict.map is None:
                region = self._hot_now(model, data, position, verdict)
            if region is not None:  # an empty map shows no region to reject
                found[position] = region
        return found

    def _hot_now(
        self, model: nn.Module, data: ImageSet, position: int, verdict: Verdict
    ) -> Tensor | None:
        """What a map that was rejected and not stored showed, by the weights the run starts from."""
        batch = data.batch([position])
        if verdict.answer != "reject" or not len(batch):  # it can no longer be read
            return None
        target = None if verdict.target is None else [verdict.target]
        region = threshold(create(self.saliency, model).explain(batch.images, target)[0], self.hot)
        return region if bool(region.any()) else None

    def _evidence_of(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """``J`` of a batch's images, bool ``[N, 1, u, v]``."""
        rows = self._rows[batch.indices]
        if batch.source is None:
            if tuple(self._evidence.shape[1:]) != size:
                none = torch.zeros(size, dtype=torch.bool, device=self._evidence.device)
                pooled = [evidence_on(mask, size) for mask in self._masks]
                self._evidence = torch.stack([*pooled, none])
            return self._evidence[rows.to(self._evidence.device)][:, None]
        evidence = torch.zeros(len(batch), 1, *size, dtype=torch.bool, device=batch.images.device)
        pixels = (batch.images.shape[2], batch.images.shape[3])
        for image, row in enumerate(rows.tolist()):
            if row < len(self._masks):
                moved = resample(
                    self._masks[row][None, None].float(), batch.source[image, None], pixels
                )
                evidence[image] = evidence_on(moved[0] > 0, size)
        return evidence

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward: at the convolution, what is evidence is set to zero, and its density taken."""
        layer, draws = self._convolution, self.mc_samples
        images = batch.images if draws == 1 else batch.images.repeat(draws, 1, 1, 1)
        labels = batch.labels.repeat(draws)
        told = self._rows[batch.indices] < len(self._masks)
        if self._drawn is not None:
            told = told | self._drawn.have(batch).cpu()
        answered = told.repeat(draws).nonzero()[:, 0]
        density, activations = torch.zeros((), device=images.device), None
        if len(answered):
            # a slice, because answered images come last in a batch and a view costs nothing
            rows = slice(int(answered[0]), int(answered[-1]) + 1)
            trunk, looks_ahead = _Trunk(rows), self.gradient_mask and not self.scale_free

            def condition(mean: Tensor, std: Tensor) -> Tensor:
                nonlocal density, activations
                activations = drawn = type(layer).draw(layer, mean, std)
                evidence = self._evidence_of(batch, (mean.shape[2], mean.shape[3]))
                evidence = evidence.repeat(draws, 1, 1, 1)
                if looks_ahead:
                    evidence = evidence & trunk.influential(model, layer, images, drawn)
                if self.scale_free:
                    found = scale_free_density(mean[rows], evidence[rows])
                else:
                    floored = std[rows].clamp_min(self.sigma_floor)
                    found = evidence_density(mean[rows], floored, evidence[rows])
                density = found.sum() / len(images)
                return drawn.masked_fill(evidence, 0)

            with trunk.listening(model, when=looks_ahead), intercepted(layer, condition):
                logits = logits_of(model(images)).float()
        else:
            logits = logits_of(model(images)).float()
        parts = {
            "cross_entropy": F.cross_entropy(logits, labels),
            "kl": self.kl_weight / self._images * kl(model),
            "evidence": -self.weight * density,
        }
        if activations is not None and self._drawn is not None:
            relevant = self._relevant(batch, self._drawn, activations).repeat(draws, 1, 1)
            outside = inattention(activations, logits, labels, relevant)
            parts["relevant"] = self.relevant * outside.sum() / len(images)
        return Losses(
            total=sum(parts.values(), logits.new_zeros(())),
            parts={name: part.detach() for name, part in parts.items()},
            correct=int((logits[: len(batch)].argmax(1) == batch.labels).sum()),
        )

    @staticmethod
    def _relevant(batch: Batch, drawn: DrawnMasks, activations: Tensor) -> Tensor:
        """How much of each cell is marked relevant, ``[N, u, v]``, zero for images without such a mark."""
        size = (activations.shape[2], activations.shape[3])
        relevant = torch.zeros(len(batch), *size, device=activations.device)
        have = drawn.have(batch)
        if bool(have.any()):
            relevant[have] = drawn.shares(batch, size)[:, 0]
        return relevant


def _observed(model: nn.Module, data: ImageSet, layer: str | nn.Module | None) -> BayesianConv2d:
    """Find the convolution that is named, or else the one that runs last."""
    if not is_bayesian(model):
        raise ValueError(
            f"{type(model).__name__} is not Bayesian; make it so before: xf.bayesian.convert(model)"
        )
    order: list[BayesianConv2d] = []
    convolutions = [m for m in model.modules() if isinstance(m, BayesianConv2d)]
    handles = [c.register_forward_hook(lambda c, *_: order.append(c)) for c in convolutions]
    try:
        batch = next(b for i in range(len(data)) if len(b := data.batch([i])))
        with torch.no_grad(), evaluating(model):
            model(prepared(batch.images, model))
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        raise ValueError(
            f"{type(model).__name__} has no Bayesian 2-d convolution whose maps feedback could be about"
        )
    found = order[-1] if layer is None else model.get_submodule(name_of(model, layer))
    if not isinstance(found, BayesianConv2d) or order.count(found) != 1:
        raise ValueError(
            f"the layer {name_of(model, found)!r} is a {type(found).__name__} that runs "
            f"{order.count(found)} times; pass layer= a Bayesian 2-d convolution that runs once"  # type: ignore[arg-type]
        )
    return found


def _marks(drawn: RegionMask, value: int) -> bool:
    return bool((drawn.mask == value).any())


class _Trunk:
    """What came before the convolution in a forward, so that what comes after it can run once more.

    Parameters
    ----------
    rows
        The images of the batch that this is about.
    """

    def __init__(self, rows: slice) -> None:
        self._rows = rows
        self._outputs: dict[nn.Module, list[Tensor]] = {}

    @contextmanager
    def listening(self, model: nn.Module, *, when: bool) -> Iterator[None]:
        """Keep what the modules without children give, until `influential` is asked."""
        leaves = [m for m in model.modules() if not any(m.children())] if when else []
        self._handles = [leaf.register_forward_hook(self._keep) for leaf in leaves]
        try:
            yield
        finally:
            self._stop()

    def _keep(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):  # a copy, for what follows may work in place
            self._outputs.setdefault(module, []).append(output.detach()[self._rows].clone())

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()

    def influential(
        self, model: nn.Module, layer: BayesianLayer, images: Tensor, drawn: Tensor
    ) -> Tensor:
        """Whether the logits depend on each of the activations drawn (eq. 12), bool ``[N, K, u, v]``.

        The images go through what follows `layer` once more, in evaluation mode, so that neither
        BatchNorm nor dropout notices; modules before it hand out what they gave. Other images: no.
        """
        self._stop()
        activations = drawn.detach()[self._rows].requires_grad_()
        with torch.enable_grad(), evaluating(model):
            given = {**self._outputs, layer: [activations.clone()]}
            with _replaying(given):
                logits = logits_of(model(images.detach()[self._rows]))
            (gradient,) = torch.autograd.grad(logits.sum(), activations, materialize_grads=True)
        influential = torch.zeros_like(drawn, dtype=torch.bool)
        influential[self._rows] = gradient != 0
        return influential


@contextmanager
def _replaying(given: Mapping[nn.Module, list[Tensor]]) -> Iterator[None]:
    """Let each module return what is given, one per call, and compute when nothing is left."""

    def replay(outputs: list[Tensor], compute: Callable[..., Any]) -> Callable[..., Any]:
        left = iter(outputs)
        return lambda *args, **kwargs: _next(left, compute, args, kwargs)

    own = {module: vars(module).get("forward") for module in given}
    try:
        for module, outputs in given.items():
            module.forward = replay(outputs, module.forward)
        yield
    finally:
        for module, forward in own.items():
            if forward is not None:
                module.forward = forward
            elif "forward" in vars(module):
                del module.forward


def _next(
    left: Iterator[Tensor], compute: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> Any:
    output = next(left, None)
    return compute(*args, **kwargs) if output is None else output
