"""Which agents the master has at the moment, and which of them an operator is taking out of use."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from polly_mesos.mesos.master_client import RegisteredAgent


class Roster:
    """The newest word of the master about its agents. Safe to use from several threads.

    Before the first word nothing is known, and nobody is taken for missing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard = False
        self._registered: dict[str, str] = {}
        self._draining: frozenset[str] = frozenset()

    @property
    def heard(self) -> bool:
        """Whether the master has said yet which agents it has."""
        return self._heard

    def call(self, agents: Iterable[RegisteredAgent], machines: frozenset[str] = frozenset()) -> None:
        """Take the master's whole list.

        :param machines: host names and addresses whose maintenance has begun
        """
        agents = tuple(agents)
        with self._lock:
            self._heard = True
            self._registered = {agent.id: agent.endpoint for agent in agents}
            self._draining = frozenset(
                agent.id
                for agent in agents
                if agent.draining or machines & {agent.hostname, agent.endpoint.rpartition(":")[0]}
            )

    def add(self, agent_id: str, endpoint: str) -> None:
        """An agent is registered; another one that was at the same address is not any more."""
        with self._lock:
            others = {known: place for known, place in self._registered.items() if place != endpoint}
            self._registered = {**others, agent_id: endpoint}

    def remove(self, agent_id: str) -> None:
        """The master removed an agent, for now or for ever."""
        with self._lock:
            self._registered.pop(agent_id, None)

    def has(self, agent_id: str) -> bool:
        """Whether the master has the agent, as far as it is known."""
        with self._lock:
            return agent_id in self._registered

    def draining(self) -> frozenset[str]:
        """Ids of the agents that are being drained or whose maintenance has begun."""
        with self._lock:
            return self._draining
