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
FRAMES_AT_ONCE = 4.0  # so many may follow each other at once after a rest
RESERVE = 2.0  # of these, kept for what answers a person's press
BURST_FRAMES = 10  # so many frames without a pause are a burst
QUIET_SECONDS = 0.5  # and so long a pause ends it

UNASKED_PER_SECOND = 2.0

# What runs first in a frame: the words that answer a press, the picture, what surrounds it; only then what
# was computed for it, and last what nobody waits for. The trainer's news alone make no more than two
# frames a second: each costs the page and the server as much as a press, and on few cores a press would
# wait for them. Five also kept the connection so busy that a browser acknowledged late what came next, and
# the server held many a "saved" back for the 40 ms until it did.
WORDS, PICTURE, SURROUNDINGS, USUAL, UNASKED = range(5)


class Pump(KeyedThread):
    """Run posted functions in rounds, at most twenty a second on average.

    Posts of a priority before :data:`USUAL` answer a press. They find a frame left for them even while
    the trainer reports as fast as it can: waiting for the next regular one would be half of what a
    person notices.

    Parameters
    ----------
    on_error : callable
        Receives the exception of a post that failed. Runs on the pump's thread.
    on_quiet : callable
        Runs on the pump's thread when a burst of frames has ended. Jupyter drops messages above
        1,000 a second, and a widget whose message was dropped stays wrong for ever: here its state
        is sent again.
    held_back : callable, optional
        Returns for how many seconds from now what is :data:`UNASKED` must not make a frame.
    """

    def __init__(
        self,
        on_error: Callable[[Exception], None],
        on_quiet: Callable[[], None],
        held_back: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._on_quiet, self._held_back = on_quiet, held_back
        self._burst = 0
        self._allowed = FRAMES_AT_ONCE
        self._counted = self._last_frame = time.monotonic()
        self.frames = 0
        super().__init__("xfeedback-ui", on_error)

    def _pause(self) -> float:
        now = time.monotonic()
        self._allowed += (now - self._counted) * FRAMES_PER_SECOND
        self._allowed = min(self._allowed, FRAMES_AT_ONCE)
        self._counted = now
        first = min((priority for priority, _ in self._posts.values()), default=USUAL)
        needed = 1.0 if first < USUAL else 1.0 + RESERVE
        # the smallest amount more, so that rounding never lets it wait for nothing
        wait = (
            (needed - self._allowed + 1e-6) / FRAMES_PER_SECOND if self._allowed < needed else 0.0
        )
        if first < UNASKED:
            return wait
        return max(wait, self._last_frame + 1 / UNASKED_PER_SECOND - now, self._held_back())

    def _take(self) -> list[Job]:
        jobs = [job for _, job in sorted(self._posts.values(), key=lambda post: post[0])]
        self._posts.clear()
        now = time.monotonic()
        self._burst = self._burst + 1 if now - self._last_frame < QUIET_SECONDS else 1
        self._last_frame = now
        self._allowed -= 1.0
        self.frames += 1
        return jobs

    def _wait_for_posts(self) -> None:
        while not (self._closed or self._posts):
            woken = self._condition.wait(QUIET_SECONDS if self._burst >= BURST_FRAMES else None)
            if not woken and not self._posts:
                self._burst = 0
                self._posts["quiet"] = (USUAL, self._on_quiet)
