"""The hand: does what a person asks for on a thread of its own, in the order in which it was asked.

A stroke on a large picture takes longer to write down than a callback may take, and whatever is pressed
next (undo, another image, training) must find it written. So everything goes through here.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.keyed import Job, KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable


class Hand(KeyedThread):
    """One thread that leaves nothing out.

    Parameters
    ----------
    on_error : callable
        Receives the exception of a job that failed; the next one follows all the same.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._numbers = itertools.count()
        self._following: list[Job] = []
        super().__init__("xfeedback-hand", on_error)

    def do(self, job: Job) -> None:
        """Run `job` after all that was asked for before.

        What a job itself asks for follows it at once, when it has let go of its locks.
        """
        if threading.current_thread() is self._thread:
            self._following.append(job)
        else:
            self.post(next(self._numbers), job)

    def _run(self, job: Job) -> None:
        super()._run(job)
        while self._following:
            super()._run(self._following.pop(0))
