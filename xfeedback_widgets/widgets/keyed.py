"""A background thread fed through keys: posting twice under one key runs only the newest function.

Both threads of the widgets are of this kind: the UI pump (`pump.py`) and the explainer
(`explainer.py`). What they run, in which order and how often is theirs; waiting, stopping and the
routing of errors is here.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable

Job = Callable[[], None]


class KeyedThread:
    """One daemon thread that runs the newest function posted under each key.

    Parameters
    ----------
    name : str
        Name of the thread.
    on_error : callable
        Receives the exception of a function that failed; the thread goes on.

    Notes
    -----
    The thread runs in a copy of the context it was made in: ipykernel 7 keeps the cell that output
    belongs to in a context variable, and comm messages from a thread without it raise ``LookupError``.
    """

    def __init__(self, name: str, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._condition = threading.Condition()
        self._posts: dict[Hashable, tuple[int, Job]] = {}
        self._busy = False
        self._closed = False
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._loop,), name=name, daemon=True
        )
        self._thread.start()

    def post(self, key: Hashable, job: Job, *, priority: int = 0) -> None:
        """Run `job` soon, in place of an earlier one of the same `key` that has not begun.

        Any thread may call this; it never blocks. After :meth:`close` it does nothing.
        """
        with self._condition:
            if not self._closed:
                self._posts[key] = (priority, job)
                self._condition.notify_all()

    def drop(self, key: Hashable) -> None:
        """Forget what was posted under `key` and has not begun."""
        with self._condition:
            self._posts.pop(key, None)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything posted so far has run; False when `timeout` seconds passed first."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(f"{self._thread.name} cannot wait for itself")
        with self._condition:
            return self._condition.wait_for(
                lambda: self._closed or not (self._posts or self._busy), timeout
            )

    def close(self) -> None:
        """Stop the thread after the function it is running; what waits is dropped."""
        with self._condition:
            self._closed = True
            self._posts.clear()
            self._condition.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _pause(self) -> float:
        """Return how many seconds to wait before the next round; asked again after every post."""
        return 0.0

    def _take(self) -> list[Job]:
        """Remove and return the functions of the next round: the first of the lowest priority."""
        key = min(self._posts, key=lambda key: self._posts[key][0])
        return [self._posts.pop(key)[1]]

    def _wait_for_posts(self) -> None:
        """Wait, holding the condition, until there is something to do."""
        self._condition.wait_for(lambda: self._closed or bool(self._posts))

    def _loop(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._wait_for_posts()
                # posts that arrive during this pause are merged into the same round
                while not self._closed and (left := self._pause()) > 0:
                    self._condition.wait(left)
                if self._closed:
                    return
                jobs = self._take() if self._posts else []
                self._busy = bool(jobs)
            for job in jobs:
                self._run(job)

    def _run(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001  a failing job must not end the thread
            self._on_error(error)
