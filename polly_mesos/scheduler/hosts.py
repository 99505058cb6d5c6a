"""What every host said last of itself, and when. Memory only: hosts say it again soon after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
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
    :ivar since: from when on reports would have been heard
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._views: dict[str, HostView] = {}
        self._asked: dict[str, int] = {}
        self.since = clock()

    def put(self, agent_id: str, report: HostReport) -> None:
        """Keep a report that came just now instead of the agent's earlier one."""
        view = HostView(report, self._clock())
        with self._changed:
            self._views[agent_id] = view
            self._changed.notify_all()

    def get(self, agent_id: str) -> HostView | None:
        """The agent's newest report, None where none came since this process started."""
        with self._changed:
            return self._views.get(agent_id)

    def generations(self, agent_id: str) -> dict[str, int]:
        """Volume id -> generation that the agent's host holds, as far as it has said."""
        view = self.get(agent_id)
        return dict(view.report.generations) if view is not None else {}

    def all(self) -> dict[str, HostView]:
        """The newest report of every agent that sent one, by agent id."""
        with self._changed:
            return dict(self._views)

    def ask(self, agents: Iterable[str]) -> None:
        """Want a new report of these agents; their next assignment says so."""
        with self._changed:
            for agent in agents:
                self._asked[agent] = self._asked.get(agent, 0) + 1

    def asked(self, agent_id: str) -> int:
        """How often a report of the agent was asked for: :attr:`~polly_mesos.agent_api.Assignment.look`."""
        with self._changed:
            return self._asked.get(agent_id, 0)

    def forget(self, agent_id: str) -> None:
        """Drop what an agent said that Polly has nothing to do with any more."""
        with self._changed:
            self._views.pop(agent_id, None)
            self._asked.pop(agent_id, None)

    def wait_for(self, agents: Iterable[str], since: float, patience: float) -> bool:
        """Wait until all these agents have reported at ``since`` or later; False where some have not in time.

        :param patience: seconds to wait at most
        """
        wanted = frozenset(agents)

        def reported() -> bool:
            return all(agent in self._views and self._views[agent].time >= since for agent in wanted)

        with self._changed:
            return self._changed.wait_for(reported, patience)
