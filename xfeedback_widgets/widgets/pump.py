"""The UI pump: the one thread that writes to widgets and draws.

Widget callbacks, the trainer and the explainer run on threads of their own, and none of them touches
a widget; they post to the pump under a key ("picture", "training"), the newest post per key wins, and
the pump runs what is there at most twenty times a second. So the screen goes on moving while the
user's own cell is busy, and a thousand progress reports become a few dozen messages.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xfeedback_widgets.widgets.keyed import Job, KeyedThread

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMES_PER_SECOND = 20.0
BURST_FRAMES = 10  # so many frames without a pause are a burst
QUIET_SECONDS = 0.5  # and so long a pause ends it


class Pump(KeyedThread):
    """Run posted functions in rounds, at most `rate` rounds a second.

    Parameters
    ----------
    on_error : callable
        Receives the exception of a post that failed. Runs on the pump's thread.
    on_quiet : callable
        Runs on the pump's thread when a burst of frames has ended. Jupyter drops messages above
        1,000 a second, and a widget whose message was dropped stays wrong for ever: here its state
        is sent again.
    rate : float
        Rounds per second.
    """

    def __init__(
        self,
        on_error: Callable[[Exception], None],
        on_quiet: Callable[[], None],
        *,
        rate: float = FRAMES_PER_SECOND,
    ) -> None:
        self._on_quiet = on_quiet
        self._burst = 0
        self._last_frame = 0.0
        self.frames = 0
        super().__init__("xfeedback-ui", on_error, interval=1.0 / rate)

    def _take(self) -> list[Job]:
        jobs = [job for _, job in self._posts.values()]
        self._posts.clear()
        now = time.monotonic()
        self._burst = self._burst + 1 if now - self._last_frame < QUIET_SECONDS else 1
        self._last_frame = now
        self.frames += 1
        return jobs

    def _wait_for_posts(self) -> None:
        while not (self._closed or self._posts):
            woken = self._condition.wait(QUIET_SECONDS if self._burst >= BURST_FRAMES else None)
            if not woken and not self._posts:
                self._burst = 0
                self._posts["quiet"] = (0, self._on_quiet)
