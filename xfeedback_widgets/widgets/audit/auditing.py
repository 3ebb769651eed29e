"""Auditing again: in the background, with an estimate, and with an end when somebody presses Stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from xfeedback_widgets.widgets.keyed import KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from xfeedback_widgets.audit import AuditReport, Progress


class Audit(Protocol):
    """Makes a report, telling how far it is, and stops when asked."""

    def __call__(
        self, *, progress: Callable[[Progress], object], stop: Callable[[], bool]
    ) -> AuditReport:
        """Return the report; an incomplete one where it was stopped."""


class Auditor(KeyedThread):
    """Runs an audit on a thread of its own.

    Parameters
    ----------
    audit : Audit
    on_progress : callable
        Called on this thread when :attr:`progress` or :attr:`active` is new.
    on_found : callable
        Receives a report that is complete.
    on_error : callable
        Receives the exception of an audit that failed.

    Attributes
    ----------
    active : bool
        Whether an audit runs.
    progress : Progress or None
        How far it is; None before its first batch.
    """

    def __init__(
        self,
        audit: Audit,
        *,
        on_progress: Callable[[], None],
        on_found: Callable[[AuditReport], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.active = False
        self.progress: Progress | None = None
        self._audit, self._on_progress, self._on_found = audit, on_progress, on_found
        self._halt = threading.Event()
        super().__init__("xfeedback-audit", on_error)

    def start(self) -> None:
        """Begin, unless one is under way."""
        if not self.active:
            self.active, self.progress = True, None
            self._halt.clear()
            self.post("audit", self._run_audit)
            self._on_progress()

    def halt(self) -> None:
        """End it after the batch it is at; what it has found is dropped."""
        self._halt.set()

    def close(self) -> None:
        """Stop the thread, after the batch it is at."""
        self.halt()
        super().close()

    def _run_audit(self) -> None:
        report = None
        try:
            report = self._audit(progress=self._tell, stop=self._halt.is_set)
        finally:
            self.active = False
            self._on_progress()
        if report.complete:
            self._on_found(report)

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
        self._on_progress()
