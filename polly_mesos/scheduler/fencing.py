"""Making sure that a host cannot write any more, before somebody else gets its volumes.

Unreachable is not dead. A host counts as fenced for a service when the service's platform proves it (policy
``platform``), or when an operator says so (policy ``operator``); only then may the platform take volumes from it by
force. Each publication that ends so is over for good: its host, should it come back, is told to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping

from polly_mesos.config import Fencing as Policy
from polly_mesos.errors import Conflict, InvalidRequest, PollyError, UnknownAgent
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState
from polly_mesos.scheduler.services import Services

log = logging.getLogger(__name__)

AWAY = frozenset({AgentState.UNREACHABLE, AgentState.LOST})
"""States in which a host may still write although Mesos has no hold of it."""


class Fencing:
    """Fences hosts, by their platforms' word or an operator's.

    :param look_at: told each volume that the volume controller has to take from a host
    :param patience: seconds that an agent must have been away before its platforms are asked
    """

    def __init__(
        self,
        ledger: Ledger,
        services: Services,
        look_at: Callable[[str], None],
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._services = services
        self._look_at = look_at
        self._patience = patience
        self._clock = clock
        self._away_since: dict[str, float] = {}
        self._fenced: dict[str, set[str]] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def fenced_services(self, agent: Agent) -> Collection[str]:
        """The services to which the agent's host is known to be unable to write."""
        if agent.state is AgentState.FENCED:
            return set(agent.identities)
        with self._lock:
            return set(self._fenced.get(agent.id, ()))

    def away_for(self, agent_id: str) -> float:
        """Seconds since the agent was first found to be away, 0 where it is not."""
        with self._lock:
            since = self._away_since.get(agent_id)
        return 0.0 if since is None else self._clock() - since

    def once(self) -> None:
        """Ask the platforms about every host that has been away for long enough."""
        agents = self._ledger.agents()
        with self._lock:
            away = {agent.id for agent in agents.values() if agent.state in AWAY}
            self._away_since = {name: self._away_since.get(name, self._clock()) for name in away}
            self._fenced = {name: services for name, services in self._fenced.items() if name in away}
        for agent_id in sorted(away):
            if self.away_for(agent_id) >= self._patience:
                self._ask_platforms(agents[agent_id])

    def _ask_platforms(self, agent: Agent) -> None:
        done = set(self.fenced_services(agent))
        for service in sorted(set(agent.identities) - done):
            if self._services.fencing(service) is not Policy.PLATFORM:
                self._explain(agent, service, "waits for an operator: polly agent fence")
                continue
            # Read before the platform is asked: what the host is given after it came back is not fenced by this.
            held = self._held(agent, service)
            try:
                volumes = [self._ledger.volume(volume).platform_id for volume in held]
                answer = self._services.controller(service).fence_from(agent.identities[service], volumes)
            except PollyError as error:
                self._explain(agent, service, str(error))
                continue
            self._explain(agent, service, answer.reason)
            if answer.proven:
                self._fence(agent, service, answer.reason, held)
        self._finish(agent)

    def by_operator(self, agent: Agent, services: Collection[str] = ()) -> Agent:
        """Take an operator's word that the agent's host cannot write to these services, or to any.

        :raises Conflict: the agent is there
        :raises InvalidRequest: the agent has no such service
        """
        if agent.state not in AWAY:
            raise Conflict(
                f"agent {agent.id} ({agent.hostname}) is {agent.state}: its host may be writing",
                remedy="drain it with Mesos instead; or stop the host, wait until it is unreachable, and fence it then",
            )
        if unknown := sorted(set(services) - set(agent.identities)):
            raise InvalidRequest(
                f"agent {agent.id} has no service {', '.join(unknown)}",
                field="services",
                value=unknown,
                remedy=f"one of {', '.join(sorted(agent.identities))}",
            )
        for service in sorted(services or agent.identities):
            self._fence(agent, service, "an operator said so", self._held(agent, service))
        if not agent.identities:
            self._ledger.set_agent_state(agent.id, AgentState.FENCED)
        self._finish(agent)
        return self._ledger.agent(agent.id)

    def _held(self, agent: Agent, service: str) -> Mapping[str, int]:
        return {
            publication.volume: publication.generation
            for publication in self._ledger.publications(agent.id)
            if self._ledger.volume(publication.volume).service == service
        }

    def _fence(self, agent: Agent, service: str, proof: str, held: Mapping[str, int]) -> None:
        taken = self._ledger.fence(agent.id, service, proof, held)
        log.warning(
            "agent %s (%s): fenced from service %s, %d volumes are taken from it: %s",
            agent.id,
            agent.hostname,
            service,
            len(taken),
            proof,
        )
        with self._lock:
            self._fenced.setdefault(agent.id, set()).add(service)
        for volume in taken:
            self._look_at(volume)

    def _finish(self, agent: Agent) -> None:
        """The agent is FENCED as soon as there is no service left to which its host could be writing."""
        open_services = set(agent.identities) - set(self.fenced_services(agent))
        if any(self._held(agent, service) for service in open_services):
            return
        if open_services and agent.state is not AgentState.LOST:
            return
        try:
            if self._ledger.agent(agent.id).state in AWAY:
                self._ledger.set_agent_state(agent.id, AgentState.FENCED)
        except UnknownAgent:
            log.info("agent %s has come back under another id", agent.id)

    def _explain(self, agent: Agent, service: str, reason: str) -> None:
        if self._said.get((agent.id, service)) != reason:
            self._said[agent.id, service] = reason
            log.info("agent %s (%s) is %s, service %s: %s", agent.id, agent.hostname, agent.state, service, reason)

    def waits_for(self, agent: Agent) -> Mapping[str, str]:
        """Service -> why the agent's host is not fenced there yet."""
        done = set(self.fenced_services(agent))
        return {service: why for (name, service), why in self._said.items() if name == agent.id and service not in done}
