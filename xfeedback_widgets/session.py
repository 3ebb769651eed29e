"""A session: one model, its data, what people said about it, and the trainer that learns from that.

:class:`Session` is the facade that everything people touch is built on: the widgets, the command line and
the simulated annotator speak to the model only through it. It owns no arithmetic. Maps come from
``saliency``, the journal from ``feedback``, the loop and the versions from ``training``; here they are
tied to one directory on disk and to one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import getpass
import inspect
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional as F
from typing_extensions import Self

from xfeedback_widgets import bayesian as bayesian_tools
from xfeedback_widgets import saliency as saliency_methods
from xfeedback_widgets import units as unit_tools
from xfeedback_widgets.corrections import CrayonAttention, CrayonPruning
from xfeedback_widgets.corrections.bayesian import irrelevant_region
from xfeedback_widgets.data import UnreadableImageError
from xfeedback_widgets.feedback import Journal, UnitVerdict, check_content
from xfeedback_widgets.saliency import normalize
from xfeedback_widgets.saliency.base import evaluating, logits_of
from xfeedback_widgets.training import (
    DamagedVersionError,
    Guard,
    LiveModel,
    Progress,
    Run,
    Settings,
    Version,
    VersionStore,
    Worker,
    check_fits,
    load_in_place,
)
from xfeedback_widgets.units import store as unit_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from torch import Tensor, nn

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import Batch, ImageSet
    from xfeedback_widgets.feedback import Feedback, Record
    from xfeedback_widgets.saliency import SaliencyMethod
    from xfeedback_widgets.saliency.base import Targets
    from xfeedback_widgets.units import Head, Preview, UnitSurvey

#: Images whose features a preview keeps.
_PREVIEWED = 5000

#: Images on which it is found out what an uncertainty means.
_EXPERIENCED = 256

#: Answers whose pictures are compared with the data's when a directory is opened, about.
_COMPARED = 64

#: Largest side of a map that is stored with a verdict; finer maps are area-averaged down to it.
_STORED_MAP = 32

_log = logging.getLogger(__name__)

Event = Literal["recorded", "undone", "redone", "progress", "published", "error"]


@dataclass(frozen=True)
class Explanation:
    """Maps of some images, and the predictions they explain, all from the same weights.

    Parameters
    ----------
    image_ids
        The images, in order. Unreadable ones are missing (their reason is in ``data.skipped``).
    maps
        ``float32 [N, h, w]`` in [0, 1] on the CPU, normalised per image; all zero: no attention.
    probabilities
        ``float32 [N, C]`` on the CPU.
    targets, labels
        ``int64 [N]``: the class explained, and the true one.
    version
        Number of the weights.
    method
        Name of the saliency method.
    doubt
        What draws of the weights say, where a Bayesian model was asked for them; maps and probabilities
        are then the means over the draws.
    """

    image_ids: tuple[str, ...]
    maps: Tensor
    probabilities: Tensor
    targets: Tensor
    labels: Tensor
    version: int
    method: str
    doubt: Doubt | None = None


@dataclass(frozen=True)
class Doubt:
    """How far draws of a Bayesian model's weights differ.

    Parameters
    ----------
    entropy, mutual_information
        ``float32 [N]`` on the CPU, in nats, as in :class:`~.bayesian.Prediction`.
    spread
        ``float32 [N, h, w]`` on the CPU: standard deviation of the maps, each divided by its maximum before.
    samples
        How many draws.
    """

    entropy: Tensor
    mutual_information: Tensor
    spread: Tensor
    samples: int


class Session:
    """One model, its data, its journal and its trainer.

    Parameters
    ----------
    model
        Any image classifier. It stays yours: corrections are published into it in place, its Parameter
        objects never change. Hold ``session.lock`` around a forward that must not see a publication.
    data
        The training images people are asked about.
    directory
        Where answers and versions are kept. Opening an existing one resumes: the journal is read and
        the current version is loaded into ``model``.
    correction
        How feedback becomes an objective; default :class:`~.corrections.CrayonAttention`.
    validation
        Images that measure each epoch and inform the guard; without them, up to 256 of ``data``.
    saliency
        Method shown first, a name of ``xf.saliency.METHODS``; None: the one whose maps the
        correction trains.
    device
        ``"auto"``: CUDA where there is one, else where the model is. Otherwise any torch device.
    annotator
        Whose answers these are; default the login name.
    train_every
        Train whenever this many answers came since the last run began, also when a run ends and so
        many came meanwhile; None: only when asked. A run that failed or was stopped starts nothing
        by itself, and neither does opening a directory: the next answer does.
    guard
        What a version must pass.
    keep_versions
        How many versions stay on disk besides the original and the live one; None: all.
    **settings
        Fields of :class:`~.training.Settings` (``epochs``, ``batch_size``, ``lr``, ``seed``, …).

    Raises
    ------
    ContentMismatchError
        The directory holds answers about images whose content differs from ``data``'s. Some answers,
        spread over all, are compared when it is opened; the others when a training begins.
    TypeError
        An unknown option, or no model and ImageSet.
    ValueError
        The model does not fit the images or the number of their classes, or the directory's weights
        belong to another model.
    OSError, JournalError
        The directory cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageSet,
        directory: str | Path = "xfeedback-session",
        correction: Correction | None = None,
        validation: ImageSet | None = None,
        *,
        saliency: str | None = None,
        device: str | torch.device = "auto",
        annotator: str | None = None,
        train_every: int | None = None,
        guard: Guard | None = None,
        keep_versions: int | None = 20,
        **settings: Any,
    ) -> None:
        if train_every is not None and train_every < 1:
            raise ValueError(f"train_every must be at least 1 answer, got {train_every}")
        self.settings = _training_settings(settings)
        _check_problem(model, data, validation)
        self.data = data
        self.validation = validation
        self.correction = CrayonAttention() if correction is None else correction
        self.directory = Path(directory)
        self.annotator = annotator or _login_name()
        self.train_every = train_every
        self.guard = guard or Guard()
        self.saliency = saliency or self.correction.saliency
        self._subscribers: list[Callable[[Event, Any], None]] = []
        self._scratch: tuple[int, nn.Module] | None = None
        self._scratch_lock = threading.Lock()
        self._predictions: tuple[int, Tensor] | None = None
        self._swept: dict[str, tuple[int, Tensor]] = {}
        self._experience: tuple[int, bayesian_tools.Experience] | None = None
        self._head: Head | None = None
        self._survey: UnitSurvey | None = None
        self._previewed: ImageSet | None = None
        self._unit_lock = threading.Lock()
        self._closed = False

        with _named(self.directory):
            self._store = VersionStore(self.directory, keep=keep_versions)
        self._journal = Journal(self.directory / "feedback.sqlite")
        try:
            # reading thousands of pictures would take minutes: the others are compared before training
            records = self._journal.records()
            check_content(records[:: -max(1, len(records) // _COMPARED)], self._content_hash)
            model.to(_device(device, model))
            self._live = LiveModel(model)
            self._methods: dict[str, SaliencyMethod] = {}
            self._method(self.saliency)  # a wrong name, or a model without maps, is said at once
            with _named(self.directory):
                self._open_versions()
                self._write_session_file()
            self._trained_answers = self._tried_answers = self._answers_learned()
        except BaseException:
            self._journal.close()
            raise
        self._worker = Worker(self._live, self._store, self._on_training)

    # ------------------------------------------------------------------ opening

    def _open_versions(self) -> None:
        try:
            current = self._store.current()
        except DamagedVersionError:
            current = None  # nothing readable is left: the model as given is the last good state
        if current is None:
            version = self._store.write(
                self._live.state(), metrics={}, parent=None, answers=0, correction="original"
            )
            self._store.point_to(version.number)
            self._live.publish({**self._live.state()}, version.number)
        else:
            version, weights = current
            self._live.publish(weights, version.number)
            if self._store.damage or not self._store.has_pointer():
                self._store.point_to(version.number)

    def _content_hash(self, image_id: str) -> str | None:
        if image_id not in self.data:
            return None
        try:
            return self.data.content_hash(self.data.index(image_id))
        except UnreadableImageError:
            return None  # training leaves it out as well

    def _answers_learned(self) -> int:
        return next((v.answers for v in self._store if v.number == self.version), 0)

    def _write_session_file(self) -> None:
        content = {
            "format": 1,
            "class_names": list(self.data.class_names),
            "images": len(self.data),
            "correction": repr(self.correction),
            "saliency": self.saliency,
        }
        path = self.directory / "session.json"
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(content, indent=1), encoding="utf-8")
        scratch.replace(path)

    # ------------------------------------------------------------------ reading

    @property
    def model(self) -> nn.Module:
        """The user's model; hold :attr:`lock` around a forward that must not see a publication."""
        return self._live.model

    @property
    def lock(self) -> threading.RLock:
        """The model lock."""
        return self._live.lock

    @property
    def version(self) -> int:
        """Number of the weights now in the model."""
        return self._live.version

    @property
    def versions(self) -> list[Version]:
        """All versions on disk, 0 first."""
        return list(self._store)

    @property
    def feedback(self) -> Feedback:
        """The current answers of everybody, votes merged."""
        return self._journal.feedback()

    @property
    def progress(self) -> Progress:
        """A snapshot of the present or last training run."""
        return self._worker.poll()

    @property
    def answers_since_training(self) -> int:
        """How many more answers are in force than when the live version was made.

        A retracted answer counts as one fewer, whether the version had learned from it or not.
        """
        return max(0, self._journal.count - self._trained_answers)

    @property
    def damage(self) -> list[str]:
        """What was found damaged in the directory, in words; empty in health."""
        found = [self._journal.damage] if self._journal.damage else []
        return found + self._store.damage

    # ------------------------------------------------------------------ answering

    def record(self, record: Record) -> Record:
        """Write an answer to the journal; it is on disk when this returns.

        Parameters
        ----------
        record
            A Verdict, RegionMask, UnitVerdict or Byproduct. What it does not say (annotator, time,
            version, content hash) is filled in.

        Returns
        -------
        Record
            As stored.

        Raises
        ------
        KeyError
            The image is not in ``data``.
        ContentMismatchError
            The answer carries the hash of another content.
        ValueError
            The answer is about a class that does not exist.
        """
        self._check_open()
        target = getattr(record, "target", None)
        if target is not None and not 0 <= target < self.data.num_classes:
            raise ValueError(
                f"the answer about image {getattr(record, 'image_id', '')!r} has target {target}, but "
                f"there are {self.data.num_classes} classes: 0 … {self.data.num_classes - 1}"
            )
        filled: dict[str, Any] = {
            "annotator": record.annotator or self.annotator,
            "time": time.time() if record.time is None else record.time,
            "version": self.version if record.version is None else record.version,
        }
        if not isinstance(record, UnitVerdict):
            check_content([record], self._content_hash)
            filled["content_hash"] = self.data.content_hash(self.data.index(record.image_id))
        stored = dataclasses.replace(record, **filled)
        self._journal.append(stored)
        self._tell("recorded", stored)
        self._train_if_due()
        return stored

    def undo(self) -> Record | None:
        """Retract this annotator's last answer; returns it, or None where there is none."""
        self._check_open()
        undone = self._journal.undo(self.annotator)
        if undone is not None:
            self._tell("undone", undone)
        return undone

    def redo(self) -> Record | None:
        """Restore what :meth:`undo` retracted last; returns it, or None."""
        self._check_open()
        restored = self._journal.redo(self.annotator)
        if restored is not None:
            self._tell("redone", restored)
        return restored

    @property
    def can_undo(self) -> bool:
        """Whether this annotator has an answer to retract."""
        return self._journal.can_undo(self.annotator)

    @property
    def can_redo(self) -> bool:
        """Whether this annotator has a retracted answer to restore."""
        return self._journal.can_redo(self.annotator)

    # ------------------------------------------------------------------ looking

    def explain(
        self,
        image_ids: Sequence[str],
        *,
        method: str | None = None,
        target: Literal["label", "predicted"] | int = "label",
        version: int | None = None,
        samples: int = 0,
        stop: Callable[[], bool] | None = None,
    ) -> Explanation:
        """Compute the maps of some images; blocks, so call it from a thread of your own.

        Parameters
        ----------
        image_ids
            Which images, not empty.
        method
            Name of a saliency method; None: the session's.
        target
            Class explained: the true label, the prediction, or a class index for all.
        version
            Weights to explain; None: the live ones.
        samples
            Draws of a Bayesian model's weights over which predictions and maps are averaged; 0: the means
            of the weights alone.
        stop
            Asked before every draw; True ends the work.

        Returns
        -------
        Explanation
            Carries the version of the weights it was computed from.

        Raises
        ------
        KeyError
            No such image, or no such version (any more).
        DamagedVersionError
            The version's files are damaged.
        ValueError
            No image, none that can be read, no such method, target or class, or draws of a model that is
            not Bayesian.
        DrawsStoppedError
            ``stop`` returned True.
        """
        self._check_open()
        if len(image_ids) == 0:
            raise ValueError("image_ids is empty; pass at least one id")
        if isinstance(target, str) and target not in ("label", "predicted"):
            raise ValueError(f"target must be 'label', 'predicted' or a class, got {target!r}")
        batch = self.data.batch([self.data.index(image_id) for image_id in image_ids])
        if len(batch) == 0:
            reasons = "; ".join(f"{i}: {self.data.skipped.get(i)}" for i in image_ids)
            raise ValueError(f"none of these images can be read: {reasons}")
        name = method or self.saliency
        if samples:
            return self._explain_draws(batch, name, target, version, samples, stop)
        with self._live.reading() as (_, number):
            live = version is None or version == number
            if live:
                logits, maps, targets = _explain(self._method(name), batch, target)
            elif self._scratch is None:
                # copied before the scratch lock is taken: nobody waits for this lock with that one
                self._scratch = (number, self._live.shadow())
        if not live:
            assert version is not None  # noqa: S101 - else it is the live one
            with self._scratch_lock:
                number = version
                instance = saliency_methods.create(name, self._model_of(version))
                logits, maps, targets = _explain(instance, batch, target)
        return Explanation(
            image_ids=tuple(self.data.ids[i] for i in batch.indices.tolist()),
            maps=normalize(maps.float()).cpu(),
            probabilities=F.softmax(logits.float(), dim=1).cpu(),
            targets=targets.cpu(),
            labels=batch.labels.cpu(),
            version=number,
            method=name,
        )

    def predictions(
        self, *, batch_size: int = 64, stop: Callable[[], bool] | None = None
    ) -> tuple[Tensor, int]:
        """Probabilities of the whole training set, for ordering a queue; blocks.

        The lock is taken per batch, so that nobody waits for long; a publication in between mixes two
        versions, which ordering can bear.

        Returns
        -------
        tuple
            ``float32 [N, C]`` (NaN where an image cannot be read), and the version at the start.
            Cached until the next version. ``stop`` may end the work early; the rest is NaN.
        """
        started = self.version
        if self._predictions is not None and self._predictions[0] == started:
            return self._predictions[1], started
        result = torch.full((len(self.data), self.data.num_classes), float("nan"))
        finished = True
        for start in range(0, len(self.data), batch_size):
            if self._closed or (stop is not None and stop()):
                finished = False
                break
            batch = self.data.batch(range(start, min(start + batch_size, len(self.data))))
            if len(batch) == 0:
                continue
            with self._live.reading() as (model, _), torch.no_grad(), evaluating(model):
                images = batch.images.to(_device_of(model))
                result[batch.indices] = F.softmax(logits_of(model(images)).float(), 1).cpu()
        if finished:
            self._predictions = (started, result)
        return result, started

    # ------------------------------------------------------------------ doubting

    @property
    def bayesian(self) -> bool:
        """Whether the model was made Bayesian, by :func:`xf.bayesian.convert` or from the start."""
        return bayesian_tools.is_bayesian(self.model)

    def worth_asking(
        self,
        by: str = "mutual_information",
        *,
        samples: int = 20,
        batch_size: int = 64,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[Tensor, int]:
        """Score how much is to be learned from asking about each training image; blocks.

        Parameters
        ----------
        by
            ``"entropy"`` or ``"mutual_information"`` of a Bayesian model; ``"overlap"`` of the true class's
            map with what was called irrelevant in other images, for any model with maps. See
            :func:`~.bayesian.worth_asking`.
        samples
            Draws of the weights.
        batch_size
            Images computed at once.
        stop
            Asked before every batch; True ends the work early, and the rest is NaN.

        Returns
        -------
        tuple
            ``float32 [N]``, the highest first to be asked about, NaN where an image cannot be read; and
            the version of the weights. What costs is kept until the next version.

        Raises
        ------
        ValueError
            Something else in `by`, or uncertainty of a model that is not Bayesian.
        """
        self._check_open()
        if by not in bayesian_tools.ASKING:
            raise ValueError(f"unknown by={by!r}: choose one of {', '.join(bayesian_tools.ASKING)}")
        if by == "overlap":
            maps, version = self._sweep("maps", self._small_maps, batch_size, stop)
            feedback, hot = self.feedback, getattr(self.correction, "hot", 0.5)
            said = dict.fromkeys((*feedback.masks, *feedback.verdicts))
            found = (irrelevant_region(feedback, image_id, hot=hot) for image_id in said)
            return bayesian_tools.overlap_with(maps, [r for r in found if r is not None]), version

        def uncertainty(model: nn.Module, batch: Batch) -> Tensor:
            predicted = bayesian_tools.predict(model, batch.images, samples=samples)
            return torch.stack([predicted.entropy, predicted.mutual_information], 1)

        both, version = self._sweep(f"uncertainty, {samples}", uncertainty, batch_size, stop)
        return both.flatten(1)[:, 0 if by == "entropy" else -1], version

    def experience(
        self, *, samples: int = 20, stop: Callable[[], bool] | None = None
    ) -> tuple[bayesian_tools.Experience, int]:
        """Find out what the live version's uncertainty means: how often it was right; blocks.

        Measured on at most 256 images of the validation set or, without one, of the training set.

        Parameters
        ----------
        samples
            Draws of the weights.
        stop
            Asked before every batch; True ends the work with what was seen.

        Returns
        -------
        tuple
            The experience, and the version of the weights; kept until the next one.

        Raises
        ------
        ValueError
            The model is not Bayesian, or images have several labels.
        """
        self._check_open()
        data = self.data if self.validation is None else self.validation
        if data.labels.ndim == 2:
            raise ValueError("images have several labels, so a prediction is not right or wrong")
        with self._live.reading() as (_, version):
            if self._experience is not None and self._experience[0] == version:
                return self._experience[1], version
            model = self._live.shadow()
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        seen, finished = [], True
        for rows in torch.split(chosen[:_EXPERIENCED], 32):
            if self._closed or (stop is not None and stop()):
                finished = False
                break
            if len(batch := data.batch(rows.tolist())):
                predicted = bayesian_tools.predict(model, batch.images, samples=samples)
                seen.append(bayesian_tools.Experience.of(predicted, batch.labels))
        found = bayesian_tools.Experience.joined(seen)
        if finished:
            self._experience = version, found
        return found, version

    def _sweep(
        self,
        name: str,
        measure: Callable[[nn.Module, Batch], Tensor],
        batch_size: int,
        stop: Callable[[], bool] | None,
    ) -> tuple[Tensor, int]:
        """What `measure` says of each training image, by a copy of the live weights; kept if complete."""
        kept = self._swept.get(name)
        with self._live.reading() as (_, version):
            if kept is not None and kept[0] == version:
                return kept[1], version
            model = self._live.shadow()
        result, finished = torch.full((len(self.data), 1, 1), torch.nan), True
        for start in range(0, len(self.data), batch_size):
            if self._closed or (stop is not None and stop()):
                finished = False
                break
            batch = self.data.batch(range(start, min(start + batch_size, len(self.data))))
            if len(batch) == 0:
                continue
            measured = measure(model, batch).cpu().float()
            if result.shape[1:] != measured.shape[1:]:
                result = torch.full((len(self.data), *measured.shape[1:]), torch.nan)
            result[batch.indices] = measured
        if finished:
            self._swept[name] = version, result
        return result, version

    def _small_maps(self, model: nn.Module, batch: Batch) -> Tensor:
        """Maps of the true classes, none larger than those stored with answers."""
        maps = saliency_methods.create(self.saliency, model).explain(batch.images, batch.labels)
        size = (min(maps.shape[1], _STORED_MAP), min(maps.shape[2], _STORED_MAP))
        return normalize(F.adaptive_avg_pool2d(maps[:, None], size)[:, 0])

    def _explain_draws(
        self,
        batch: Batch,
        method: str,
        target: Literal["label", "predicted"] | int,
        version: int | None,
        samples: int,
        stop: Callable[[], bool] | None,
    ) -> Explanation:
        with self._live.reading() as (_, number):
            model = self._live.shadow()
        if version is not None and version != number:
            number = version
            load_in_place(model, self._store.weights(version))
        targets: Targets = batch.labels if target == "label" else None
        if isinstance(target, int):
            targets = target
        found = bayesian_tools.beliefs(
            model, batch.images, targets, method=method, samples=samples, stop=stop
        )
        prediction, maps = found.prediction, found.maps
        return Explanation(
            image_ids=tuple(self.data.ids[i] for i in batch.indices.tolist()),
            maps=normalize(maps.mean).cpu(),
            probabilities=prediction.probabilities.cpu(),
            targets=found.targets.cpu(),
            labels=batch.labels.cpu(),
            version=number,
            method=method,
            doubt=Doubt(
                prediction.entropy.cpu(),
                prediction.mutual_information.cpu(),
                maps.std.cpu(),
                samples,
            ),
        )

    # ------------------------------------------------------------------ auditing

    def audit(self, data: ImageSet | None = None, **options: Any) -> AuditReport:
        """Audit the live version: how much of each class's maps lies on its objects; blocks.

        It is computed on a copy, so nobody waits for the model meanwhile.

        Parameters
        ----------
        data
            Which images; None: the training images. Where these have no masks, what people drew as
            relevant is taken, and the report says so.
        **options
            As for :func:`xfeedback_widgets.audit.audit`: ``boxes``, ``masks``, ``saliency``, ``stop``, …

        Raises
        ------
        ValueError
            Nothing says where the objects are, or another reason that the audit gives.
        """
        from xfeedback_widgets.audit import audit

        self._check_open()
        audited = self.data if data is None else data
        if data is None and not audited.has_masks and options.get("boxes") is None:
            drawn = self.feedback
            if options.get("masks") is None and drawn.masks:
                options["masks"] = drawn
        return audit(self._live.shadow(), audited, **options)

    # ------------------------------------------------------------------ units

    def head(self) -> tuple[Tensor, Tensor]:
        """Return the last linear layer of the live version.

        Returns
        -------
        tuple of Tensor
            Weight ``float32 [C, K]`` and bias ``float32 [C]``, copies on the CPU.

        Raises
        ------
        NoLinearHeadError
            The model does not end in pooling and one linear layer.
        """
        with self._live.reading() as (model, _):
            weight, bias = unit_tools.parameters_of(self._head_of(model).classifier)
            return weight.cpu(), bias.cpu()

    def units(
        self,
        *,
        patches: int = 3,
        progress: Callable[[int, int], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> UnitSurvey:
        """Collect what each unit responds to in the training set; blocks for one pass over it.

        Kept in memory and in the directory under the weights before the last layer, so pruning, which
        changes that layer only, needs no new pass.

        Parameters
        ----------
        patches
            Patches per unit.
        progress
            Called with (images done, images in all).
        stop
            Asked before every batch; True ends the pass.

        Raises
        ------
        NoLinearHeadError
            The model does not end in pooling and one linear layer.
        SurveyStoppedError
            ``stop`` returned True; nothing is kept.
        """
        self._check_open()
        with self._live.reading() as (model, _):
            trunk = unit_tools.fingerprint(model, self._head_of(model))
        with self._unit_lock:
            found = self._survey
            if found is not None and (found.fingerprint, found.peaks.shape[1]) == (trunk, patches):
                return found
            name = unit_store.name_of_survey(trunk, self.data, patches)
            found = unit_store.load(self.directory / "units" / name)
            if found is None:
                found = unit_tools.survey(
                    self._live.shadow(), self.data, patches=patches, progress=progress, stop=stop
                )
                try:
                    # of a newer trunk, where one was published meanwhile
                    name = unit_store.name_of_survey(found.fingerprint, self.data, patches)
                    unit_store.save(found, self.directory / "units" / name)
                except OSError as error:  # a cache that is missing costs time, not answers
                    _log.warning("the units could not be cached: %s", error)
            elif len(found.sample) == found.images_seen:
                unit_tools.remember(self.data, trunk, found.sample)
            self._survey = found
            return found

    def _head_of(self, model: nn.Module) -> Head:
        """The live model's head, found by a probe once; the caller holds the lock."""
        if self._head is None:
            self._head = unit_tools.find_head(model, self.data)
        return self._head

    def suspicion(self, *, stop: Callable[[], bool] | None = None) -> Tensor:
        """Share of each unit's activation outside what masks and answers say is relevant; blocks.

        Returns
        -------
        Tensor
            ``float32 [K]`` in [0, 1], NaN where nothing is known; see :func:`~.units.suspicion`.
        """
        self._check_open()
        return unit_tools.suspicion(self._live.shadow(), self.data, self.feedback, stop=stop)

    def unit_preview(self) -> Preview:
        """Prepare to say what pruning would do now, on features alone; blocks for a pass at first.

        Measured on the validation set where there is one, else on training images; on at most 5,000.

        Returns
        -------
        Preview
            Of the live version; a new one is due when another version is published.
        """
        self._check_open()
        train = self.units().sample
        model = self._live.shadow()
        weight, bias = self.head()
        measured, data = train, self.data
        if self.validation is not None:
            if self._previewed is None:
                drawn = torch.randperm(
                    len(self.validation), generator=torch.Generator().manual_seed(0)
                )
                self._previewed = self.validation.subset(drawn[:_PREVIEWED])
            data = self._previewed
            measured = unit_tools.pooled_features(model, data)
        pruning = getattr(self.correction, "pruning", self.correction)
        l2 = pruning.l2 if isinstance(pruning, CrayonPruning) else CrayonPruning().l2
        return unit_tools.Preview(train, measured, data, weight, bias, l2=l2)

    def _method(self, name: str) -> SaliencyMethod:
        if name not in self._methods:
            self._methods[name] = saliency_methods.create(name, self.model)
        return self._methods[name]

    def _model_of(self, version: int) -> nn.Module:
        """The scratch copy with that version's weights; the caller holds the scratch lock."""
        assert self._scratch is not None  # noqa: S101 - explain() has made it
        number, model = self._scratch
        if number != version:
            load_in_place(model, self._store.weights(version))
            self._scratch = (version, model)
        return model

    # ------------------------------------------------------------------ training

    def train(self, **overrides: Any) -> None:
        """Start a training run in the background; returns at once.

        Parameters
        ----------
        **overrides
            Fields of :class:`~.training.Settings` for this run only.

        Raises
        ------
        RuntimeError
            A run is already under way.
        """
        self._check_open()
        self._worker.submit(
            Run(
                data=self.data,
                feedback=self._feedback_to_learn,
                correction=self.correction,
                settings=self.settings.but(**overrides),
                validation=self.validation,
                guard=self.guard,
            )
        )

    def pause(self) -> None:
        """Hold the run between two batches."""
        self._worker.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._worker.resume()

    def stop(self) -> None:
        """End the run between two batches; the last published version stays live."""
        self._worker.stop()

    def wait(self, timeout: float | None = None) -> Progress:
        """Block until no run is under way, and return its end.

        For scripts; in a notebook cell ``await session.wait_for(n)`` lets clicks arrive meanwhile.

        Raises
        ------
        TimeoutError
            The run still goes on after ``timeout`` seconds.
        """
        return self._worker.wait(timeout)

    async def wait_for(self, n_answers: int) -> Feedback:
        """Wait, without blocking the kernel, until ``n_answers`` images are answered.

        Answers that other processes write to the same directory count, too.

        Raises
        ------
        RuntimeError
            The session was closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        def listen(event: Event, _payload: Any) -> None:
            if event in ("recorded", "redone"):
                loop.call_soon_threadsafe(answered.set)

        unsubscribe = self.subscribe(listen)
        try:
            while True:
                self._check_open()
                feedback = self.feedback
                if len(feedback) >= n_answers:
                    return feedback
                with contextlib.suppress(asyncio.TimeoutError):  # nothing tells of other processes
                    await asyncio.wait_for(answered.wait(), 1.0)
                answered.clear()
        finally:
            unsubscribe()

    def rollback(self, version: int) -> None:
        """Publish an older version; newer ones stay on disk.

        Raises
        ------
        RuntimeError
            A run is under way: it would publish over it.
        KeyError
            No such version.
        DamagedVersionError
            Its files are damaged; the model keeps the weights it has.
        """
        self._check_open()
        with self._live.lock, self._worker.resting():  # in this order: a user may hold the first
            chosen, weights = self._store.get(version), self._store.weights(version)
            self._store.point_to(version)
            self._live.publish(weights, version)
            self._trained_answers = chosen.answers
        self._tell("published", chosen)

    def _feedback_to_learn(self) -> Feedback:
        feedback = self.feedback
        check_content(feedback.records, self._content_hash)
        self._tried_answers = len(feedback.records)
        return feedback

    def _train_if_due(self) -> None:
        """Start the run that ``train_every`` asks for; whatever keeps it from starting is no error."""
        if self.train_every is None or self.progress.active:
            return
        # Another thread may have started one, or closed the session, since: the answer is on disk.
        with contextlib.suppress(RuntimeError):
            if self._journal.count - self._tried_answers >= self.train_every:
                self.train()

    def _on_training(self, event: Event, payload: Any) -> None:
        if event == "published":
            self._trained_answers = payload.answers
        self._tell(event, payload)
        if event == "progress" and payload.state == "done":
            self._train_if_due()

    # ------------------------------------------------------------------ listening

    def subscribe(self, callback: Callable[[Event, Any], None]) -> Callable[[], None]:
        """Be told what happens.

        Parameters
        ----------
        callback
            ``callback(event, payload)``, called on whichever thread it happens on, so it must return
            within milliseconds: "recorded", "undone", "redone" (the record), "progress", "error" (a
            :class:`~.training.Progress`), "published" (a :class:`~.training.Version`). What it raises
            is logged, with its traceback, and reaches neither the answer, nor the trainer, nor the
            other subscribers.

        Returns
        -------
        callable
            Ends the subscription.
        """
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def _tell(self, event: Event, payload: Any) -> None:
        for callback in tuple(self._subscribers):
            try:
                callback(event, payload)
            except Exception:  # noqa: BLE001, PERF203 - theirs, whatever it is
                _log.exception("a subscriber of the session failed at %r: %r", event, callback)

    # ------------------------------------------------------------------ closing

    def close(self) -> None:
        """Stop training and close the journal; the model keeps its weights. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._worker.close()
        self._journal.close()
        self._subscribers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<Session {str(self.directory)!r}: {len(self.data)} images, "
            f"{len(self.feedback) if not self._closed else 'closed,'} answered, "
            f"version {self.version}>"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this session is closed; open the directory again with xf.Session")


def judged_map(map_: Tensor) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Return a map as it is stored with a verdict: float16, at most 32 cells a side.

    Parameters
    ----------
    map_
        ``float [h, w]`` in [0, 1].
    """
    h, w = map_.shape
    if max(h, w) > _STORED_MAP:
        size = (min(h, _STORED_MAP), min(w, _STORED_MAP))
        map_ = normalize(F.adaptive_avg_pool2d(map_[None, None], size)[0])[0]
    return map_.numpy().astype(np.float16)


def _explain(
    method: SaliencyMethod, batch: Batch, target: Literal["label", "predicted"] | int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, raw maps and the classes explained."""
    if target == "predicted":
        logits, maps = method.logits_and_explain(batch.images, None)
        return logits, maps, logits.argmax(1)
    targets = batch.labels if target == "label" else torch.full_like(batch.labels, int(target))
    logits, maps = method.logits_and_explain(batch.images, targets)
    return logits, maps, targets


def _training_settings(options: dict[str, Any]) -> Settings:
    """Settings from what ``Session`` does not know itself; a misspelt option of its own is named, too."""
    own = list(inspect.signature(Session.__init__).parameters)
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in options:
        near = difflib.get_close_matches(name, own + known, 1)
        if name not in known and near:
            raise TypeError(f"unknown option {name!r}; did you mean {near[0]!r}?")
    return Settings().but(**options)


def _check_problem(model: nn.Module, data: ImageSet, validation: ImageSet | None) -> None:
    classes = check_fits(model, data)
    if classes != data.num_classes:
        raise ValueError(
            f"the model gives {classes} logits, but data names {data.num_classes} classes "
            f"({', '.join(data.class_names[:5])}, …); pass class_names= with one name for each output "
            "of the model to ImageSet, or give the model as many outputs"
        )
    if validation is not None:
        check_fits(model, validation, "validation")


@contextlib.contextmanager
def _named(directory: Path) -> Iterator[None]:
    """Say which directory an error of the file system is about, and what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            error.errno,
            f"the session directory cannot be written ({error.strerror or error}); pass directory= that "
            "is a folder you may write to",
            str(directory),
        ) from error


def _device(device: str | torch.device, model: nn.Module) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda") if torch.cuda.is_available() else _device_of(model)


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "me"
