"""The fine-tuning loop: batches, steps, epochs.

:func:`iterate` is the loop itself, a generator whose every ``yield`` is a point where the caller may
pause, stop or publish; :func:`fine_tune` exhausts it and blocks. Which objective is minimised is a
correction's business, which weights are kept is ``guard``'s and ``versions``', and on which thread
this runs is ``worker``'s.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from xfeedback_widgets import metrics
from xfeedback_widgets.audit import mean_score
from xfeedback_widgets.corrections import Solving
from xfeedback_widgets.data.augment import augmented, check_augmentation
from xfeedback_widgets.saliency import NoSpatialLayerError, create
from xfeedback_widgets.training.checks import check_fits
from xfeedback_widgets.training.randomness import OwnRandomNumbers, is_stochastic
from xfeedback_widgets.training.stopping import Exchange, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from torch import Tensor

    from xfeedback_widgets.corrections import Correction, Losses
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite, and the weights are those before that step; or the weights did."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; every field can be given by keyword to :func:`fine_tune` and ``Session``.

    Parameters
    ----------
    epochs
        How many epochs; the guard looks, and a version may be published, at the end of each.
    steps_per_epoch
        Length of an epoch in batches. None: as many as show every image once.
    batch_size
        Images per step.
    answered_share
        Share of each batch, in [0, 1), that is drawn from the images with feedback, so that a few
        answers are not drowned by many images. 0 is the papers' plain shuffling.
    lr, weight_decay
        Of Adam.
    lr_schedule
        ``"constant"``, or ``"cosine"`` for a rate that falls to 0 along half a cosine until the last step
        of the run: the weights it ends with scatter less, for a run that has time to end.
    optimizer
        Other optimiser: a callable from the list of trainable parameters to a
        ``torch.optim.Optimizer``; ``lr`` and ``weight_decay`` are then its own business.
    freeze_batchnorm
        Keep the running statistics, and normalise with them: with the small and selected batches of
        an interactive session, batch statistics describe the selection.
    seed
        Of the batches, and of dropout.
    precision
        ``"float32"``, or ``"bfloat16"`` for autocast.
    channels_last
        Memory format of images and weights; pays on recent GPUs.
    augment
        Transform of ``torchvision.transforms.v2`` that each training image is sent through, with random
        numbers of its own from ``seed``; masks and judged maps follow it. It is given what the model is
        fed, so flips, crops, resizing and affine transforms suit, and colours only where the images are
        not normalised.
    patience
        How many epochs to wait for a better one before the run ends early; it then ends with the weights of
        the best epoch. Better is accuracy, less the share of answered images whose prediction changes when
        what is irrelevant in them is exchanged (:class:`~.stopping.Patience`), which looks at no image
        without the shortcut. None: all epochs are made, and the last weights kept.
    audited
        How many images of a validation set with masks are audited by Grad-CAM++ at the end of each epoch,
        always the same ones: ``robustness_score`` among the metrics. 0: none.
    """

    epochs: int = 5
    steps_per_epoch: int | None = None
    batch_size: int = 64
    answered_share: float = 0.5
    lr: float = 1e-4
    weight_decay: float = 0.0
    lr_schedule: Literal["constant", "cosine"] = "constant"
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None
    freeze_batchnorm: bool = True
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    augment: Callable[..., Any] | None = None
    patience: int | None = None
    audited: int = 128

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "steps_per_epoch", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.answered_share < 1:
            raise ValueError(f"answered_share must be in [0, 1), got {self.answered_share}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if self.lr_schedule not in ("constant", "cosine"):
            raise ValueError(
                f"lr_schedule must be 'constant' or 'cosine', got {self.lr_schedule!r}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")
        if self.audited < 0:
            raise ValueError(f"audited must be a number of images or 0, got {self.audited}")
        if self.augment is not None:
            check_augmentation(self.augment)

    def but(self, **changes: Any) -> Settings:
        """Return a copy with some fields changed; an unknown name raises with the nearest one."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
                raise TypeError(f"unknown training setting {name!r}{hint}")
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number from 1, of how many in all, and its losses as floats."""

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: dict[str, float]


@dataclass(frozen=True)
class Epoch:
    """End of an epoch and what was measured there.

    0 is before the first step, and comes again after what a correction solves before the batches.

    ``metrics`` holds ``train_loss`` and ``train_accuracy`` (running, over the epoch's batches) and,
    with a validation set, everything :func:`xfeedback_widgets.metrics.evaluate` returns; where that has
    masks, ``robustness_score`` as well, the mean of crs over the classes (:func:`~.audit.mean_score`).
    With ``patience``, ``steadiness`` is there too, and the best epoch comes once more, as the last event,
    where others came after it.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass
class History:
    """What a blocking run did.

    ``steps`` and ``epochs`` hold every event in order; ``skipped`` maps the id of each image that
    could not be read to the reason.
    """

    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def fine_tune(
    model: nn.Module,
    data: ImageSet,
    feedback: Feedback,
    correction: Correction,
    *,
    validation: ImageSet | None = None,
    on_step: Callable[[Step], object] | None = None,
    **settings: Any,
) -> History:
    """Fine-tune ``model`` in place with a correction; blocks until done.

    Parameters
    ----------
    model
        Any image classifier; trained where it lies. Its modes and ``requires_grad`` flags are kept;
        parameters that do not require a gradient stay as they are.
    data, feedback
        The training images and what people said of them.
    correction
        The objective, for example ``CrayonAttention()``.
    validation
        Images to measure at the end of each epoch.
    on_step
        Called after each optimiser step.
    **settings
        Fields of :class:`Settings`: ``epochs``, ``batch_size``, ``lr``, ``seed``, …

    Returns
    -------
    History
        Losses of every step and metrics of every epoch.

    Raises
    ------
    NonFiniteLossError
        The loss became NaN or infinite: the weights are the finite ones before that step. Or the
        weights did, in the last step of an epoch.
    TypeError
        An unknown setting, or no model and ImageSet.
    ValueError
        The model and the images do not fit together; see :func:`~.checks.check_fits`.
    """
    history = History()
    for event in iterate(
        model, data, feedback, correction, Settings().but(**settings), validation=validation
    ):
        if isinstance(event, Epoch):
            history.epochs.append(event)
        else:
            history.steps.append(event)
            if on_step is not None:
                on_step(event)
    history.skipped = dict(data.skipped)
    return history


def iterate(
    model: nn.Module,
    data: ImageSet,
    feedback: Feedback,
    correction: Correction,
    settings: Settings,
    *,
    validation: ImageSet | None = None,
) -> Iterator[Step | Epoch]:
    """Yield an :class:`Epoch` 0 with the metrics at the start, then steps and epochs as they end.

    Whoever iterates may do anything with the model between two events except change its weights.
    Closing the generator ends the run and restores the model's modes.
    """
    check_fits(model, data)
    if validation is not None:
        check_fits(model, validation, "validation")
    _check_labels(data, correction)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the model requires a gradient: nothing to fine-tune")
    steps, batches = _schedule(data, feedback, settings)
    modes = {module: module.training for module in model.modules()}
    with contextlib.ExitStack() as stack:
        stack.callback(_restore_modes, modes)
        correction = copy.copy(correction)
        model.eval()
        stack.callback(correction.finish)
        correction.prepare(model, data, feedback)
        epochs = settings.epochs if correction.by_batches else 1
        yield Epoch(0, epochs, _validate(model, validation, correction, settings))

        before = yield from _solve(model, correction, epochs, steps)
        if not correction.by_batches:
            _check_weights(parameters, 1)
            measured = {f"train_{name}": value for name, value in before.losses.items()}
            yield Epoch(1, 1, measured | _validate(model, validation, correction, settings))
            return
        if before.step:
            yield Epoch(0, epochs, _validate(model, validation, correction, settings))

        optimizer = _optimizer([*parameters, *correction.parameters()], settings)
        stepper = _Stepper(model, correction, optimizer, settings, steps * epochs)
        load = _loader(data, parameters[0], settings)
        ready = stack.enter_context(contextlib.closing(_prefetched(load, batches, parameters[0])))
        patience = _patience(data, feedback, settings)
        for epoch in range(1, epochs + 1):
            _training_mode(model, settings)
            made = before.step + (epoch - 1) * steps
            measured = yield from _epoch(stepper, ready, made, steps, (epoch, epochs))
            if not measured:
                raise ValueError(f"none of the {len(data)} training images could be read")
            _check_weights(parameters, epoch)
            measured |= _validate(model, validation, correction, settings)
            if patience is not None:
                measured |= patience.measured(model, settings.batch_size)
            yield Epoch(epoch, epochs, measured)
            if patience is not None and patience.ends(model, epoch, measured):
                break
        if patience is not None and patience.take_back(model):
            yield Epoch(patience.best, epochs, patience.metrics)


def _epoch(
    stepper: _Stepper, ready: Iterator[Batch], made: int, steps: int, epoch: tuple[int, int]
) -> Generator[Step, None, dict[str, float]]:
    """Make the steps of an epoch, the so many-th of so many, after those `made`.

    Returns what its batches showed; nothing if no image could be read.
    """
    number, epochs = epoch
    last = made + steps * (epochs - number + 1)
    seen, correct, taken, loss_sum = 0, 0, 0, 0.0
    for done in range(made + 1, made + steps + 1):
        batch = next(ready)
        if len(batch) == 0:  # every image of it unreadable; each is named in data.skipped
            continue
        losses = stepper.step(batch, done)
        seen, taken = seen + len(batch), taken + 1
        correct += losses.correct
        values = {"total": losses.total.item()}
        values |= {name: float(part) for name, part in losses.parts.items()}
        loss_sum += values["total"]
        yield Step(done, last, number, epochs, values)
    if seen == 0:
        return {}
    return {"train_loss": loss_sum / taken, "train_accuracy": correct / seen}


def _solve(
    model: nn.Module, correction: Correction, epochs: int, steps: int
) -> Generator[Step, None, Solving]:
    """Let the correction solve what needs no batches; return how it ended."""
    rest = steps * epochs if correction.by_batches else 0
    ended = Solving(0, 0)
    for ended in correction.solve(model):
        yield Step(ended.step, ended.steps + rest, 1, epochs, dict(ended.losses))
    return ended


def _check_labels(data: ImageSet, correction: Correction) -> None:
    if data.labels.ndim == 2 and not correction.several_labels:
        raise ValueError(
            f"{correction.name} learns from one label to an image, and the images have several; use Luab "
            "or PlainFineTuning, or give one label to each"
        )


def _optimizer(parameters: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer is not None:
        return settings.optimizer(parameters)
    return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=settings.weight_decay)


def _patience(data: ImageSet, feedback: Feedback, settings: Settings) -> Patience | None:
    if settings.patience is None:
        return None
    return Patience(settings.patience, Exchange(data, feedback))


def _learning_rate(
    optimizer: torch.optim.Optimizer, settings: Settings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.lr_schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


class _Stepper:
    """One optimiser step, in as many micro-batches as memory allows."""

    def __init__(
        self,
        model: nn.Module,
        correction: Correction,
        optimizer: torch.optim.Optimizer,
        settings: Settings,
        steps: int,
    ) -> None:
        self._model = model
        self._correction = correction
        self._optimizer = optimizer
        self._rate = _learning_rate(optimizer, settings, steps)
        self._autocast = settings.precision == "bfloat16"
        self._micro_batch = settings.batch_size
        self._draws: contextlib.AbstractContextManager[Any] = (
            OwnRandomNumbers(settings.seed) if is_stochastic(model) else contextlib.nullcontext()
        )

    def step(self, batch: Batch, number: int) -> Losses:
        while True:
            try:
                with self._draws:
                    losses = self._gradients(batch)
                break
            except (RuntimeError, MemoryError) as error:
                if self._micro_batch == 1 or not _is_out_of_memory(error):
                    raise
                self._micro_batch = max(1, min(self._micro_batch, len(batch)) // 2)
                self._optimizer.zero_grad(set_to_none=True)
                if batch.images.is_cuda:
                    torch.cuda.empty_cache()
        if not math.isfinite(losses.total.item()):
            self._optimizer.zero_grad(set_to_none=True)
            values = ", ".join(f"{name} {float(part):g}" for name, part in losses.parts.items())
            raise NonFiniteLossError(
                f"the loss of step {number} is {losses.total.item()} ({values}); "
                "lower lr or the correction's weights"
            )
        self._optimizer.step()
        self._rate.step()
        return losses

    def _gradients(self, batch: Batch) -> Losses:
        self._optimizer.zero_grad(set_to_none=True)
        pieces = batch.split(self._micro_batch)
        results = []
        for piece in pieces:
            with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self._autocast):
                losses = self._correction.loss(self._model, piece)
            share = len(piece) / len(batch) if losses.reduction == "mean" else 1.0
            (losses.total * share if share != 1 else losses.total).backward()  # type: ignore[no-untyped-call]
            results.append((share, losses))
        if len(results) == 1:
            return results[0][1]
        first = results[0][1]
        return dataclasses.replace(
            first,
            total=sum((s * r.total.detach() for s, r in results), first.total.new_zeros(())),
            parts={name: sum(s * r.parts[name] for s, r in results) for name in first.parts},  # type: ignore[misc]
            correct=sum(r.correct for _, r in results),
        )


def _schedule(
    data: ImageSet, feedback: Feedback, settings: Settings
) -> tuple[int, Iterator[Tensor]]:
    """Steps per epoch, and the positions of every batch for ever, decided by the seed alone."""
    if len(data) == 0:
        raise ValueError("the training set is empty")
    drawn = (i for i, m in feedback.masks.items() if i not in feedback.verdicts and not m.empty)
    ids = dict.fromkeys([*feedback.verdicts, *drawn, *feedback.points])
    answered = torch.tensor([data.index(i) for i in ids if i in data], dtype=torch.long)
    from_answered = round(settings.answered_share * settings.batch_size) if len(answered) else 0
    from_answered = min(from_answered, len(answered))
    from_all = min(max(1, settings.batch_size - from_answered), len(data))
    steps = settings.steps_per_epoch or math.ceil(len(data) / from_all)
    return steps, _batches(len(data), answered, from_all, from_answered, settings.seed)


def _batches(
    images: int, answered: Tensor, from_all: int, from_answered: int, seed: int
) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    everything = _shuffled(torch.arange(images), from_all, generator)
    those_answered = _shuffled(answered, from_answered, generator)
    while True:
        yield torch.cat([next(everything), next(those_answered)])


def _shuffled(positions: Tensor, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless draws of ``count`` positions; all are drawn before any comes again."""
    left = positions[:0]
    while True:
        if len(left) < count:
            left = torch.cat([left, positions[torch.randperm(len(positions), generator=generator)]])
        yield left[:count]
        left = left[count:]


def _loader(data: ImageSet, weight: Tensor, settings: Settings) -> Callable[[Tensor], Batch]:
    """Read a batch and make it ready to be copied; runs on the prefetching thread."""
    draws = OwnRandomNumbers(settings.seed)

    def load(positions: Tensor) -> Batch:
        batch = data.batch(positions.tolist())
        if settings.augment is not None:
            with draws:
                batch = augmented(batch, settings.augment)
        images = batch.images.to(weight.dtype)
        if settings.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        if weight.is_cuda:
            images = images.pin_memory()
        return dataclasses.replace(batch, images=images)

    return load


def _prefetched(
    load: Callable[[Tensor], Batch], batches: Iterator[Tensor], weight: Tensor
) -> Generator[Batch, None, None]:
    """Read each batch while the one before is trained with."""
    with ThreadPoolExecutor(1, thread_name_prefix="xfeedback-load") as thread:
        upcoming = thread.submit(load, next(batches))
        while True:
            batch = _on_device(upcoming.result(), weight)
            upcoming = thread.submit(load, next(batches))
            yield batch


def _on_device(batch: Batch, weight: Tensor) -> Batch:
    """Copy on the trainer's own thread, hence on its stream.

    So the kernels that follow wait for the copy, and the memory is not used again before they are done.
    """
    return batch.to(weight.device, non_blocking=True)


def _check_weights(parameters: list[nn.Parameter], epoch: int) -> None:
    """The loss of a step is checked before the step is made; the last step of an epoch is checked here."""
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise NonFiniteLossError(
            f"the weights are no longer finite after epoch {epoch}; lower lr or the correction's weights"
        )


def _is_out_of_memory(error: Exception) -> bool:
    """On the CPU torch raises a plain RuntimeError, told apart by its text only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(
        error
    )


def _training_mode(model: nn.Module, settings: Settings) -> None:
    model.train()
    if settings.freeze_batchnorm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                module.eval()


def _restore_modes(modes: dict[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _validate(
    model: nn.Module, validation: ImageSet | None, correction: Correction, settings: Settings
) -> dict[str, float]:
    """Metrics on the validation set, of the maps as well where the model has any."""
    if validation is None:
        return {}
    try:
        method = create(correction.saliency, model)
    except NoSpatialLayerError:
        return metrics.evaluate(model, validation, batch_size=settings.batch_size)
    found = metrics.evaluate(model, validation, batch_size=settings.batch_size, saliency=method)
    return found | _audited(model, validation, settings)


def _audited(model: nn.Module, validation: ImageSet, settings: Settings) -> dict[str, float]:
    """What an audit says of some validation images: by a method that no correction trains."""
    if not settings.audited or not validation.has_masks or validation.labels.ndim == 2:
        return {}
    drawn = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))
    sample = validation.subset(drawn[: settings.audited])
    try:
        return {"robustness_score": mean_score(model, sample, batch_size=settings.batch_size)}
    except NoSpatialLayerError:  # the correction's method needs no layer
        return {}
