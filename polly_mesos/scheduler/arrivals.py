"""What a host's report changes: who the agent is, what it takes over, what it holds and must not."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping

from polly_mesos.agent_api import HostReport
from polly_mesos.errors import PollyError, UnknownVolume
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState, Event, HostIdentity, Severity
from polly_mesos.scheduler.hosts import HostViews
from polly_mesos.scheduler.roster import Roster

log = logging.getLogger(__name__)

_GONE_FOR_US = frozenset({AgentState.UNREACHABLE, AgentState.LOST, AgentState.FENCED})


class Arrivals:
    """Takes host reports: after each start of an executor half, whenever something changed, and every half minute.

    :param changed: told the agents whose assignment is another one now
    :param plan: called when leases may have to be planned anew
    :param known_host: given a service's name, a host as its platform knows it
    """

    def __init__(
        self,
        ledger: Ledger,
        roster: Roster,
        hosts: HostViews,
        *,
        changed: Callable[[tuple[str, ...]], None],
        plan: Callable[[], None],
        known_host: Callable[[str, HostIdentity], HostIdentity] = lambda service, host: host,
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._hosts = hosts
        self._changed = changed
        self._plan = plan
        self._known_host = known_host
        self._conflicts: set[tuple[str, str, int]] = set()

    def report(self, agent_id: str, report: HostReport) -> None:
        """Take one report.

        :raises UnknownAgent: the agent has been replaced or forgotten; its executor is to ask for a token anew
        """
        before = self._ledger.agent(agent_id)
        earlier = self._hosts.get(agent_id)
        self._hosts.put(agent_id, report)
        # An executor half can outlive its agent process; only the master says that the agent itself is there.
        away = before.state in _GONE_FOR_US and not self._roster.has(agent_id)
        # Before the ledger is locked: a platform may have to be asked.
        identities = {name: self._known_host(name, host) for name, host in report.identities.items()}
        now = self._ledger.change_agent(
            agent_id,
            lambda agent: dataclasses.replace(
                agent,
                state=agent.state if away else AgentState.CONNECTED,
                identities=identities,
                problems=report.problems,
                seen=time.time(),
            ),
        )
        if not away:
            self._take_over(now)
        self._adopt(now, report)
        if earlier is None or earlier.report.generations != report.generations:
            self._changed((agent_id,))
        if earlier is None or dataclasses.replace(now, seen=before.seen) != before:
            self._plan()

    def _take_over(self, agent: Agent) -> None:
        """What Mesos knew under another id on the same host is this agent's now."""
        for old in self._ledger.agents().values():
            if old.id == agent.id or old.endpoint != agent.endpoint or self._roster.has(old.id):
                continue
            if not self._is_same_host(old, agent):
                log.warning(
                    "agent %s is at %s as agent %s was, but its host is another one; that one has to be fenced",
                    agent.id,
                    agent.endpoint,
                    old.id,
                )
                continue
            self._ledger.replace_agent(old.id, agent.id)
            self._hosts.forget(old.id)
            log.info("agent %s (%s) is known as %s from now on", old.id, agent.endpoint, agent.id)

    def _is_same_host(self, old: Agent, new: Agent) -> bool:
        """Whether every platform that counts says that both are one host."""
        shared = set(old.identities) & set(new.identities)
        holding = {self._ledger.volume(held.volume).service for held in self._ledger.publications(old.id)}
        return holding <= shared and all(old.identities[name].host == new.identities[name].host for name in shared)

    def _adopt(self, agent: Agent, report: HostReport) -> None:
        """Learn of publications that the ledger does not have, because it was restored or rebuilt since."""
        for volume_id, generation in report.generations.items():
            try:
                volume = self._ledger.volume(volume_id)
            except UnknownVolume:
                continue
            if generation <= volume.generation:
                continue
            identity = agent.identities.get(volume.service, HostIdentity(agent.endpoint))
            try:
                self._ledger.adopt_publication(
                    volume_id, agent.id, identity.host, generation, report.mounted.get(volume_id, "")
                )
            except PollyError as error:
                self._warn(agent, volume_id, generation, error)

    def _warn(self, agent: Agent, volume_id: str, generation: int, error: PollyError) -> None:
        if (agent.id, volume_id, generation) in self._conflicts:
            return
        self._conflicts.add((agent.id, volume_id, generation))
        message = (
            f"host {agent.hostname} holds volume {volume_id} with generation {generation}, which the ledger does not"
            f" know: {error}"
        )
        log.error("%s", message)
        self._ledger.record_event(
            Event(kind="publication.conflict", subject=volume_id, severity=Severity.ERROR, message=message)
        )


def over(ledger: Ledger, agent_id: str, held: Mapping[str, int]) -> dict[str, int]:
    """What an agent's host still holds and has lost: volume id -> newest generation that is over.

    Nothing about volumes, or newer generations, that the ledger does not know: a ledger that is older than the hosts
    must not stop anybody.

    :param held: volume id -> generation, as the host says
    """
    stop: dict[str, int] = {}
    for volume_id, generation in held.items():
        try:
            volume = ledger.volume(volume_id)
        except UnknownVolume:
            continue
        publication = ledger.publication(volume_id)
        if generation > volume.generation:
            continue
        if publication is None or (publication.agent == agent_id and publication.fenced):
            stop[volume_id] = volume.generation
        elif publication.agent != agent_id or publication.generation > generation:
            stop[volume_id] = publication.generation - 1
    return stop
