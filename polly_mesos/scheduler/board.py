"""Tells waiting executors that something about their agent changed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable


class Board:
    """A version per agent that grows with every change, and waiting for it.

    Versions begin at the time of the process' start in milliseconds, so that those of an earlier process are older.
    ``changed`` may be called from any thread, ``wait`` from any event loop.
    """

    def __init__(self) -> None:
        self._base = int(time.time() * 1000)
        self._changes: dict[str, int] = {}
        self._waiters: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def version(self, agent: str) -> int:
        """The current version of an agent's assignment."""
        with self._lock:
            return self._base + self._changes.get(agent, 0)

    def changed(self, agents: Iterable[str]) -> None:
        """Something about these agents changed."""
        with self._lock:
            for agent in agents:
                self._changes[agent] = self._changes.get(agent, 0) + 1
                for loop, event in self._waiters.get(agent, ()):
                    loop.call_soon_threadsafe(event.set)

    @property
    def closed(self) -> bool:
        """Whether nobody is to wait any more."""
        with self._lock:
            return self._closed

    def close(self) -> None:
        """Answer all who wait, and let nobody wait any more."""
        with self._lock:
            self._closed = True
            for waiters in self._waiters.values():
                for loop, event in waiters:
                    loop.call_soon_threadsafe(event.set)

    async def wait(self, agent: str, after: int, seconds: float) -> int:
        """Wait until the agent's version is another than ``after``, ``seconds`` at most; returns the version."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._lock:
            self._waiters.setdefault(agent, set()).add(entry)
        try:
            if self.version(agent) == after and not self._closed:
                await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiters[agent].discard(entry)
                if not self._waiters[agent]:
                    del self._waiters[agent]
        return self.version(agent)
