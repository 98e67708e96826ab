"""Wall-clock limits of emulated calls, for next to nothing a call.

Unicorn has limits of its own, but starts a thread for every call that has one and lets it poll,
which takes longer than a step of a small network. Here one thread, for all cores of the process,
sleeps until the first limit of those that run; a call wakes it only where its own limit is earlier,
and it ends when it finds nothing running.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AGAIN_S = 0.01
"""Until a core that has not stopped is told again: told too early, a start forgets it."""


class Watchdog:
    """Calls what stops a core that runs for too long, over and over until the call has returned."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child must: it has neither the thread nor the others' calls."""
        self._changed = threading.Condition(threading.Lock())
        self._keys = itertools.count()
        self._running: dict[int, tuple[float, Callable[[], object]]] = {}
        self._wakes = 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, stop: Callable[[], object]) -> Iterator[None]:
        """A context that a call should leave within `seconds`.

        Args:
            seconds: from now, of wall-clock time.
            stop: called from another thread once they are over, and never after the context.
        """
        key, due = next(self._keys), time.monotonic() + seconds
        with self._changed:
            self._running[key] = due, stop
            if self._thread is None:
                # A daemon: the limit of the last call must not keep the process from ending.
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
                self._wakes = due
            elif due < self._wakes:
                self._changed.notify()
                self._wakes = due
        try:
            yield
        finally:
            with self._changed:
                del self._running[key]

    def _watch(self) -> None:
        """Sleep until the first limit, stop what has passed its own, and so on."""
        with self._changed:
            try:
                while self._running:
                    now = time.monotonic()
                    self._stop_overdue(now)
                    first = min(due for due, _ in self._running.values())
                    self._wakes = max(first, now + _AGAIN_S)
                    self._changed.wait(self._wakes - now)
            finally:
                self._thread = None

    def _stop_overdue(self, now: float) -> None:
        """Stop what has passed its limit; what sleeps afterwards holds on to none of it."""
        for due, stop in self._running.values():
            if due <= now:
                stop()


WATCHDOG = Watchdog()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCHDOG.forget)
