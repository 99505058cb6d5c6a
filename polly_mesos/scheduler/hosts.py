"""What every host said last of itself, and when. Memory only: hosts say it again soon after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from polly_mesos.agent_api import HostReport


@dataclass(frozen=True, slots=True)
class HostView:
    """The newest report of one agent's host.

    :param time: when it came, seconds since the epoch
    """

    report: HostReport
    time: float


class HostViews:
    """The newest :class:`~polly_mesos.agent_api.HostReport` of each agent. Safe to use from several threads.

    :param clock: gives the time now, seconds since the epoch
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._views: dict[str, HostView] = {}

    def put(self, agent_id: str, report: HostReport) -> None:
        """Keep a report that came just now instead of the agent's earlier one."""
        view = HostView(report, self._clock())
        with self._lock:
            self._views[agent_id] = view

    def get(self, agent_id: str) -> HostView | None:
        """The agent's newest report, None where none came since this process started."""
        with self._lock:
            return self._views.get(agent_id)

    def all(self) -> dict[str, HostView]:
        """The newest report of every agent that sent one, by agent id."""
        with self._lock:
            return dict(self._views)

    def forget(self, agent_id: str) -> None:
        """Drop what an agent said that Polly has nothing to do with any more."""
        with self._lock:
            self._views.pop(agent_id, None)
