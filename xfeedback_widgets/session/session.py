"""The facade: one model, its data, its journal and its trainer, tied to one directory and to one lock.

The widgets, the command line and the simulated annotator speak to the model only through :class:`Session`. It
owns no arithmetic: the journal comes from ``feedback``, the loop and the versions from ``training``, and what
is computed with the live model from the neighbours of this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import Self

from xfeedback_widgets import bayesian as bayesian_tools
from xfeedback_widgets import units as unit_tools
from xfeedback_widgets.corrections import CrayonAttention, CrayonPruning
from xfeedback_widgets.corrections.bayesian import irrelevant_region
from xfeedback_widgets.data import UnreadableImageError
from xfeedback_widgets.feedback import Journal, UnitVerdict, check_content
from xfeedback_widgets.session.maps import Maps
from xfeedback_widgets.session.opening import (
    check_problem,
    chosen_device,
    login_name,
    named,
    training_settings,
)
from xfeedback_widgets.session.passes import Passes
from xfeedback_widgets.session.units import Units
from xfeedback_widgets.training import (
    DamagedVersionError,
    Guard,
    LiveModel,
    Precedence,
    Progress,
    Run,
    Version,
    VersionStore,
    Worker,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import torch
    from torch import Tensor, nn

    from xfeedback_widgets.audit import AuditReport
    from xfeedback_widgets.corrections import Correction
    from xfeedback_widgets.data import ImageSet
    from xfeedback_widgets.feedback import Feedback, Record
    from xfeedback_widgets.session.maps import Explanation
    from xfeedback_widgets.units import Preview, UnitSurvey

#: Answers whose pictures are compared with the data's when a directory is opened, about.
_COMPARED = 64

_log = logging.getLogger(__name__)

Event = Literal["recorded", "undone", "redone", "progress", "published", "error"]


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
        self.settings = training_settings(settings, inspect.signature(Session.__init__).parameters)
        check_problem(model, data, validation)
        self.data = data
        self.validation = validation
        self.correction = CrayonAttention() if correction is None else correction
        self.directory = Path(directory)
        self.annotator = annotator or login_name()
        self.train_every = train_every
        self.guard = guard or Guard()
        self.saliency = saliency or self.correction.saliency
        self._subscribers: list[Callable[[Event, Any], None]] = []
        self._closed = False

        with named(self.directory):
            self._store = VersionStore(self.directory, keep=keep_versions)
        self._journal = Journal(self.directory / "feedback.sqlite")
        try:
            # reading thousands of pictures would take minutes: the others are compared before training
            records = self._journal.records()
            check_content(records[:: -max(1, len(records) // _COMPARED)], self._content_hash)
            model.to(chosen_device(device, model))
            self._live = LiveModel(model)
            self._maps = Maps(self._live, self._store, data)
            # a wrong name, or a model without maps, is said at once
            self._maps.method(self.saliency)
            with named(self.directory):
                self._open_versions()
                self._write_session_file()
            self._trained_answers = self._tried_answers = self._answers_learned()
        except BaseException:
            self._journal.close()
            raise
        #: Widgets claim it when somebody presses something; whoever computes for long gives way to it.
        self.precedence = Precedence()
        self._passes = Passes(self._live, data, self.precedence)
        self._units = Units(self._live, data, self.directory / "units")
        self._worker = Worker(
            self._live, self._store, self._on_training, precedence=self.precedence
        )

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
            return self._maps.explain_draws(
                batch, name, target, version, samples=samples, stop=stop
            )
        return self._maps.explain(batch, name, target, version)

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
        return self._passes.predictions(batch_size, self._or_closed(stop))

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
        stop = self._or_closed(stop)
        if by == "overlap":
            maps, version = self._passes.maps(self.saliency, batch_size, stop)
            feedback, hot = self.feedback, getattr(self.correction, "hot", 0.5)
            said = dict.fromkeys((*feedback.masks, *feedback.verdicts))
            found = (irrelevant_region(feedback, image_id, hot=hot) for image_id in said)
            return bayesian_tools.overlap_with(maps, [r for r in found if r is not None]), version
        return self._passes.uncertainty(by, samples, batch_size, stop)

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
        return self._passes.experience(data, samples, self._or_closed(stop))

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
        return self._units.head()

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
        return self._units.survey(patches=patches, progress=progress, stop=stop)

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
        pruning = getattr(self.correction, "pruning", self.correction)
        l2 = pruning.l2 if isinstance(pruning, CrayonPruning) else CrayonPruning().l2
        return self._units.preview(train, self.validation, l2=l2)

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

    def _or_closed(self, stop: Callable[[], bool] | None) -> Callable[[], bool]:
        """Ask whether a long pass is to end: its caller says so, or the session was closed meanwhile."""
        return lambda: self._closed or (stop is not None and stop())

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this session is closed; open the directory again with xf.Session")
