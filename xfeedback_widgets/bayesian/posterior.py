"""What a Bayesian model believes: predictions and saliency maps over draws of its weights.

A draw is a whole network: weights drawn once, from a generator of its own, and used for every image and at
every position. They are put into a copy that is an ordinary torch model, so that any saliency
method explains it, and the model itself is never touched.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from xfeedback_widgets.bayesian.conversion import bayesian_layers, is_bayesian, to_deterministic
from xfeedback_widgets.saliency import SaliencyMethod, create, normalize
from xfeedback_widgets.saliency.base import (
    Targets,
    check_finite,
    class_indices,
    evaluating,
    logits_of,
    plain,
    prepared,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DrawsStoppedError(RuntimeError):
    """The caller asked to stop between two draws; nothing is returned."""


class Prediction(NamedTuple):
    """What a model predicts and how sure it is, per image.

    Attributes
    ----------
    probabilities
        ``[N, C]``, the mean over the draws.
    entropy
        ``[N]``, of those probabilities, in nats: all of the uncertainty, at most ``log C``.
    mutual_information
        ``[N]``, between prediction and weights: the part that more data could remove (epistemic), from
        0 to `entropy`. The rest, ``entropy - mutual_information``, lies in the image (aleatoric).
    """

    probabilities: Tensor
    entropy: Tensor
    mutual_information: Tensor


class PosteriorMaps(NamedTuple):
    """Saliency over draws of the weights, per image; each map was divided by its own maximum before.

    Attributes
    ----------
    mean
        ``[N, h, w]`` in [0, 1].
    std
        ``[N, h, w]`` ≥ 0: how far the draws differ there.
    """

    mean: Tensor
    std: Tensor


class Beliefs(NamedTuple):
    """What the same draws predict and where they look, per image.

    Attributes
    ----------
    prediction
        As :func:`predict` returns it.
    maps
        As :func:`posterior_maps` returns them.
    targets
        int64 ``[N]``, the class explained.
    """

    prediction: Prediction
    maps: PosteriorMaps
    targets: Tensor


def predict(model: nn.Module, images: Tensor, *, samples: int = 20, seed: int = 0) -> Prediction:
    """Average the predictions of `samples` draws of the weights.

    Parameters
    ----------
    model
        A converted model; left as it is. BatchNorm and dropout are in evaluation mode.
    images
        Floating point ``[N, C, H, W]``, as the model expects them.
    samples
        How many draws, at least 1; with 1 the mutual information is 0.
    seed
        Of the draws: the same seed gives the same networks, whatever the images.

    Returns
    -------
    Prediction
        float32, on the model's device.

    Raises
    ------
    ValueError
        Nothing in the model is Bayesian, no draw, or images that are not a finite ``[N, C, H, W]``.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        images = prepared(images, model)
        check_finite(images)
        mixture = _Mixture(samples)
        for network in draws(model, samples, seed):
            mixture.add(logits_of(network(images)))
    return mixture.prediction()


def posterior_maps(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    *,
    method: str | type[SaliencyMethod] | SaliencyMethod = "gradcam",
    samples: int = 20,
    seed: int = 0,
) -> PosteriorMaps:
    """Explain `samples` draws of the weights; where the maps differ, the model is not sure where to look.

    Parameters
    ----------
    model, images, samples, seed
        As for :func:`predict`.
    targets
        Class to explain, the same for all draws; None: what the mean weights predict.
    method
        Name, class or example of a saliency method.

    Returns
    -------
    PosteriorMaps
        A draw whose map is empty counts as zero everywhere.

    Raises
    ------
    ValueError
        As :func:`predict`, or a target that is no class.
    """
    return beliefs(model, images, targets, method=method, samples=samples, seed=seed).maps


def beliefs(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    *,
    method: str | type[SaliencyMethod] | SaliencyMethod = "gradcam",
    samples: int = 20,
    seed: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Beliefs:
    """Predict and explain with the same draws, at the cost of explaining alone.

    Parameters
    ----------
    model, images, targets, method, samples, seed
        As for :func:`posterior_maps`.
    stop
        Asked before every draw; True ends the work.

    Returns
    -------
    Beliefs
        The same numbers as from :func:`predict` and :func:`posterior_maps` with the same seed.

    Raises
    ------
    ValueError
        As :func:`posterior_maps`.
    DrawsStoppedError
        ``stop`` returned True.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        images = prepared(images, model)
        check_finite(images)
        networks = draws(model, samples, seed)
        explainer = create(method, next(networks))
        if targets is None:
            with evaluating(model):
                targets = logits_of(model(images)).argmax(1)
        mixture = _Mixture(samples)
        total, squares = torch.zeros(()), torch.zeros(())
        for _ in range(samples):
            if stop is not None and stop():
                raise DrawsStoppedError("asked to stop between two draws of the weights")
            logits, maps = explainer.logits_and_explain(images, targets)
            mixture.add(logits)
            maps = normalize(maps).double()
            total = total.to(maps.device) + maps / samples
            squares = squares.to(maps.device) + maps.square() / samples
            next(networks, None)
    spread = (squares - total.square()).clamp_min(0).sqrt()
    return Beliefs(
        mixture.prediction(),
        PosteriorMaps(total.float(), spread.float()),
        class_indices(targets, logits),
    )


def draws(model: nn.Module, samples: int, seed: int = 0) -> Iterator[nn.Module]:
    """Yield `samples` times one deterministic copy of the model, each time with newly drawn weights.

    Parameters
    ----------
    model, samples, seed
        As for :func:`predict`.

    Yields
    ------
    nn.Module
        In evaluation mode. The same object each time: use it before asking for the next.

    Raises
    ------
    ValueError
        As :func:`predict`.
    """
    model = plain(model)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not is_bayesian(model):
        raise ValueError(
            f"{type(model).__name__} has no Bayesian layer, so there is nothing to draw; make it "
            "Bayesian first: xf.bayesian.convert(model)"
        )
    network = copy.deepcopy(model)
    for module in network.modules():
        module.training = False
    gaussians: dict[nn.Parameter | Tensor, tuple[Tensor, Tensor]] = {}
    for layer in bayesian_layers(network):
        for weight, std in zip((layer.weight, layer.bias), layer.stds(), strict=True):
            if weight is not None and std is not None:
                gaussians[weight] = weight.detach().clone(), std.detach()
    to_deterministic(network)
    generators: dict[torch.device, torch.Generator] = {}
    for _ in range(samples):
        with torch.no_grad():
            for weight, (mean, std) in gaussians.items():
                if weight.device not in generators:
                    generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
                noise = torch.empty_like(mean).normal_(generator=generators[weight.device])
                weight.copy_(mean + std * noise)
        yield network


class _Mixture:
    """The mean prediction of `samples` draws, added one by one."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._mean, self._within = torch.zeros(()), torch.zeros(())

    def add(self, logits: Tensor) -> None:
        probabilities = logits.float().softmax(1)
        self._mean = self._mean.to(logits.device) + probabilities / self._samples
        self._within = self._within.to(logits.device) + _entropy(probabilities) / self._samples

    def prediction(self) -> Prediction:
        entropy = _entropy(self._mean)
        return Prediction(self._mean, entropy, (entropy - self._within).clamp_min(0))


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(1)
