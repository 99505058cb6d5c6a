"""Executors of another build are replaced after an upgrade, one agent after the other.

Tasks on the agent go on throughout: what is mounted stays mounted, and the next executor half finds it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_LONGEST = 120.0
"""Seconds after which the next agent has its turn although this one's new executor has not reported."""
_AGAIN = 1800.0
"""Seconds after which an executor that came back with the old build is replaced again."""


class Renewal:
    """Notes which build every executor runs, and has those of another one ended.

    :param current: the build that executors are to run
    :param end: ends the executor on an agent, so that it is launched anew; False where that is not possible now
    """

    def __init__(self, current: str, end: Callable[[str], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._current = current
        self._end = end
        self._clock = clock
        self._lock = threading.Lock()
        self._outdated: dict[str, str] = {}
        self._tried: dict[str, float] = {}
        self._turn = ""

    def reported(self, agent_id: str, build: str) -> None:
        """An executor has said what it runs; nothing, where it was not started by Mesos and nobody can replace it."""
        with self._lock:
            if build in ("", self._current):
                self._outdated.pop(agent_id, None)
                if self._turn == agent_id:
                    self._turn = ""
            else:
                self._outdated[agent_id] = build

    def tick(self) -> None:
        """Give the next agent its turn, when the one before has its new executor."""
        now = self._clock()
        with self._lock:
            if self._turn and now - self._tried[self._turn] < _LONGEST:
                return
            waiting = [name for name in self._outdated if now - self._tried.get(name, float("-inf")) >= _AGAIN]
            self._turn = min(waiting, default="")
            if not self._turn:
                return
            chosen, build = self._turn, self._outdated[self._turn]
            self._tried[chosen] = now
        if self._end(chosen):
            log.info("agent %s: its executor runs %s and is replaced by %s", chosen, build, self._current)
        else:
            with self._lock:
                del self._tried[chosen]
                self._turn = ""
