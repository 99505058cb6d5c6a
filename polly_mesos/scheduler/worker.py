"""Threads that look at named things: one look at a time for each name, side by side for different ones."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class KeyedWorkers:
    """A worker pool with per-key ordering and delayed second looks.

    :param look: called with a key; returns the seconds after which to look again, or None
    """

    def __init__(self, look: Callable[[str], float | None], *, workers: int, name: str) -> None:
        self._look = look
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, str]] = []
        self._when: dict[str, float] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._order = itertools.count()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the running looks finish and end the threads; waiting keys are forgotten."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def put(self, key: str, delay: float = 0.0) -> None:
        """Have ``key`` looked at after ``delay`` seconds, or earlier if that was asked for before."""
        with self._condition:
            if key in self._busy:
                self._again.add(key)
            else:
                self._schedule(key, delay)

    def _schedule(self, key: str, delay: float) -> None:
        when = time.monotonic() + delay
        if self._when.get(key, float("inf")) <= when:
            return
        self._when[key] = when
        heapq.heappush(self._due, (when, next(self._order), key))
        self._condition.notify()

    def _take(self) -> str | None:
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    when, _, key = heapq.heappop(self._due)
                    if self._when.get(key) == when:
                        del self._when[key]
                        self._busy.add(key)
                        return key
                    continue
                self._condition.wait(self._due[0][0] - now if self._due else None)
            return None

    def _run(self) -> None:
        while (key := self._take()) is not None:
            delay: float | None = None
            try:
                delay = self._look(key)
            finally:
                with self._condition:
                    self._busy.discard(key)
                    if key in self._again:
                        self._again.discard(key)
                        self._schedule(key, 0.0)
                    elif delay is not None:
                        self._schedule(key, delay)
