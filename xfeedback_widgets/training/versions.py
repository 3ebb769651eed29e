"""Versions on disk: immutable sets of weights with their metrics, and the pointer to the live one.

A session directory holds ``versions/NNNNNN/weights.safetensors``, ``versions/NNNNNN/version.json`` and
``CURRENT``. A version appears by one rename, after its files are on disk; ``CURRENT`` is written last.
So a process killed at any instant leaves either the version before or the version after, whole.
Weights are read back only if their checksum is right; damage is named and the last good version used.
Nothing is pickled. How weights are written is ``weights_file``'s business, putting them into a model
``live``'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from xfeedback_widgets.training.weights_file import write_weights

try:
    import fcntl
except ImportError:  # Windows: one session per directory, unguarded
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

_WEIGHTS, _META, _POINTER = "weights.safetensors", "version.json", "CURRENT"
_WRITING, _DELETING = ".writing-", ".deleting-"


class DamagedVersionError(RuntimeError):
    """A version's files are not what was written; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Version:
    """An immutable set of weights.

    Parameters
    ----------
    number
        0 is the original model.
    created
        Unix time, seconds.
    metrics
        What was measured when the version was made.
    parent
        Version the run started from.
    answers
        How many answers (records in force) it learned from.
    correction
        Name of the correction, with its settings.
    weights_sha256
        Checksum of the weights file.
    """

    number: int
    created: float
    metrics: dict[str, float]
    parent: int | None
    answers: int
    correction: str
    weights_sha256: str


class VersionStore:
    """The versions of one session directory.

    Parameters
    ----------
    directory
        The session directory; created where it does not exist.
    keep
        How many versions to keep besides version 0 and the live one; the oldest are deleted
        when another becomes current. None keeps all.

    Attributes
    ----------
    damage : list[str]
        What was found damaged, in words, since the store was opened.
    """

    def __init__(self, directory: str | Path, *, keep: int | None = 20) -> None:
        self.directory = Path(directory)
        self.keep = keep
        self.damage: list[str] = []
        self._root = self.directory / "versions"
        self._root.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[Version]:
        """All readable versions in order of their numbers."""
        for number in self._numbers():
            # KeyError: another thread or process has deleted it since its name was read
            with contextlib.suppress(DamagedVersionError, KeyError):
                yield self.get(number)

    def get(self, number: int) -> Version:
        """Return one version's metadata.

        Raises
        ------
        KeyError
            No such version.
        DamagedVersionError
            Its ``version.json`` cannot be read.
        """
        path = self._path(number) / _META
        try:
            content = json.loads(path.read_bytes())
            if _checksum(content["version"]) != content["checksum"]:
                raise ValueError("its checksum is wrong")  # noqa: TRY301 - named below like the rest
            return Version(**content["version"])
        except FileNotFoundError:
            if self._path(number).is_dir():
                raise self._damaged(f"{path} is missing") from None
            known = ", ".join(map(str, self._numbers())) or "none"
            raise KeyError(
                f"no version {number}; there are: {known} (the oldest are deleted beyond "
                "keep_versions)"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(f"{path} cannot be read ({error})") from error

    def weights(self, number: int) -> dict[str, torch.Tensor]:
        """Return a version's state dict on the CPU, its checksum verified."""
        version = self.get(number)
        path = self._path(number) / _WEIGHTS
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._damaged(f"{path} cannot be read ({error})") from error
        if hashlib.sha256(content).hexdigest() != version.weights_sha256:
            raise self._damaged(f"{path} does not match its checksum ({len(content):,} bytes)")
        try:
            return safetensors.torch.load(content)
        except SafetensorError as error:
            raise self._damaged(f"{path} cannot be read ({error})") from error

    def write(
        self,
        state: Mapping[str, torch.Tensor],
        *,
        metrics: Mapping[str, float],
        parent: int | None,
        answers: int,
        correction: str,
    ) -> Version:
        """Write a state dict as the next version; on disk when it returns. ``CURRENT`` stays."""
        with self._locked():
            self._sweep()
            scratch = self._root / f"{_WRITING}{os.getpid()}"
            scratch.mkdir()
            checksum = write_weights(scratch / _WEIGHTS, state)
            version = Version(
                number=max(self._numbers(), default=-1) + 1,
                created=time.time(),
                metrics=dict(metrics),
                parent=parent,
                answers=answers,
                correction=correction,
                weights_sha256=checksum,
            )
            fields = asdict(version)
            meta = {"version": fields, "checksum": _checksum(fields)}
            _write_durably(scratch / _META, json.dumps(meta, indent=1).encode())
            _sync_directory(scratch)
            scratch.rename(self._path(version.number))
            _sync_directory(self._root)
        return version

    def point_to(self, number: int) -> None:
        """Make a version the current one; beyond ``keep``, the oldest others are then deleted."""
        pointer = _pointer(self.get(number))
        with self._locked():
            scratch = self.directory / f".{_POINTER}-{os.getpid()}"
            _write_durably(scratch, pointer)
            scratch.replace(self.directory / _POINTER)
            _sync_directory(self.directory)
            self._prune(number)

    def has_pointer(self) -> bool:
        """Whether any version was ever made the current one."""
        return (self.directory / _POINTER).exists()

    def current(self) -> tuple[Version, dict[str, torch.Tensor]] | None:
        """Return the current version and its weights, or None in an empty directory.

        Where the pointer or the version it names is damaged, that is added to :attr:`damage` and the
        newest good version is returned instead.
        """
        candidates = sorted(self._numbers(), reverse=True)
        with contextlib.suppress(ValueError):
            pointed = self._pointed()
            if pointed is not None:
                # Versions newer than the pointer were refused or rolled back: they come last.
                candidates.sort(key=lambda n: (n <= pointed, n), reverse=True)
        for number in candidates:
            with contextlib.suppress(DamagedVersionError):
                return self.get(number), self.weights(number)
        if candidates:
            raise DamagedVersionError(
                "no version in this directory can be read: " + "; ".join(self.damage)
            )
        return None

    def _pointed(self) -> int | None:
        path = self.directory / _POINTER
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if len(self._numbers()) > 1:  # one: the process ended before the very first pointer
                self._damaged(f"{path} is missing")
            return None
        for version in self:
            if content == _pointer(version):
                return version.number
        self._damaged(f"{path} names no version of this directory")
        raise ValueError(_POINTER)

    def _damaged(self, message: str) -> DamagedVersionError:
        if message not in self.damage:
            self.damage.append(message)
        return DamagedVersionError(message)

    def _numbers(self) -> list[int]:
        return sorted(int(p.name) for p in self._root.iterdir() if p.name.isdigit() and p.is_dir())

    def _path(self, number: int) -> Path:
        return self._root / f"{number:06d}"

    def _prune(self, current: int) -> None:
        if self.keep is None:
            return
        removable = [number for number in self._numbers() if number not in (0, current)]
        for number in removable[: max(0, len(removable) - self.keep)]:
            # renamed first: a version that is half deleted would look damaged
            with contextlib.suppress(OSError):
                self._path(number).rename(self._root / f"{_DELETING}{number:06d}")
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is on its way out, and what killed processes left; the caller holds the lock."""
        for path in self._root.iterdir():
            if path.name.startswith((_WRITING, _DELETING)):
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes of the same directory from taking the same number."""
        with (self._root / ".lock").open("w") as handle:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _pointer(version: Version) -> bytes:
    """The checksum beside the number: a flipped bit must not turn one version into another."""
    return f"{version.number:06d} {version.weights_sha256}\n".encode()


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
