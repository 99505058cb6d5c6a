"""Volumes of hosts that will not have them again: which agent is to offer each of them instead.

A volume moves only while no host has it. Its reservation and its persistence id go with it, so that its framework is
offered the same disk elsewhere. Deciding is pure (:func:`polly_mesos.scheduler.homes.choose`); the ledger judges again
when a volume is moved.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from polly_mesos.errors import AlreadyExists, Conflict, PollyError
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.volumes import LIVE
from polly_mesos.model import Agent, AgentState, Event, Profile, Severity, Volume, VolumeState
from polly_mesos.scheduler.homes import Neighbours, choose, neighbours
from polly_mesos.scheduler.orphans import is_adoptable

log = logging.getLogger(__name__)


class Evacuation:
    """Moves what is idle on hosts that are fenced, lost or drained.

    :param draining: ids of the agents that are to be empty
    :param fenced_services: services from which an agent's host is cut off although it is not fenced as a whole
    """

    def __init__(
        self,
        ledger: Ledger,
        profiles: Mapping[str, Profile],
        draining: Callable[[], Collection[str]],
        fenced_services: Callable[[Agent], Collection[str]],
    ) -> None:
        self._ledger = ledger
        self._profiles = profiles
        self._draining = draining
        self._fenced_services = fenced_services
        self._said: dict[str, str] = {}

    def once(self) -> int:
        """Move what can be moved now; returns how many volumes were."""
        draining = self._draining()
        agents = self._ledger.agents()
        leaving = {agent.id: self._movable(agent, draining) for agent in agents.values()}
        published = {publication.volume for publication in self._ledger.publications()}
        volumes = self._ledger.volumes(states=LIVE)
        idle = [
            volume
            for volume in volumes
            if volume.id not in published and self._is_to_go(volume, leaving.get(volume.agent))
        ]
        self._said = {volume.id: self._said[volume.id] for volume in idle if volume.id in self._said}
        hosts = [agent for agent in agents.values() if agent.state is AgentState.CONNECTED and agent.id not in draining]
        moved = 0
        if idle:
            around = neighbours(volumes)
            for volume in idle:
                moved += self._move(volume, agents.get(volume.agent), hosts, around)
        for agent in agents.values():
            if agent.state.is_over and (self._ledger.leases(agent.id) or self._ledger.reservations(agent.id)):
                self._ledger.dissolve(agent.id)
        return moved

    def _movable(self, agent: Agent, draining: Collection[str]) -> Collection[str] | None:
        """Services whose idle volumes are to leave the agent, None for all."""
        # Draining ends the executor half too, so the agent need not be connected.
        there = agent.state in (AgentState.CONNECTED, AgentState.CHOSEN)
        if agent.state.is_over or (there and agent.id in draining):
            return None
        return self._fenced_services(agent) if agent.state is AgentState.UNREACHABLE else ()

    def _is_to_go(self, volume: Volume, services: Collection[str] | None) -> bool:
        if not volume.agent:
            # Parked volumes wait for their framework's next CREATE; what has none waits for an agent that fits.
            return volume.state is not VolumeState.RELEASED and not self._is_parked(volume)
        return services is None or volume.service in services

    def _is_parked(self, volume: Volume) -> bool:
        profile = self._profiles.get(volume.pool)
        return profile is not None and profile.adopt and is_adoptable(volume.persistence_id)

    def _move(self, volume: Volume, old: Agent | None, hosts: list[Agent], around: defaultdict[str, Neighbours]) -> int:
        try:
            if self._is_parked(volume) and (old is None or old.state.is_over):
                self._ledger.move_volume(volume.id, "")
                return 1
            profile = self._profiles.get(volume.pool)
            target, why = choose(volume, profile.reach if profile else (), hosts, around)
            if not target:
                self._wait(volume, why)
                return 0
            self._ledger.move_volume(volume.id, target)
            around[target].add(volume)
            log.info("volume %s is offered by agent %s instead of %s", volume.id, target, volume.agent or "none")
            return 1
        except (AlreadyExists, Conflict) as error:
            log.info("volume %s is not moved now: %s", volume.id, error)
        except PollyError as error:
            log.warning("volume %s cannot be moved: %s", volume.id, error)
        return 0

    def _wait(self, volume: Volume, why: str) -> None:
        if self._said.get(volume.id) == why:
            return
        self._said[volume.id] = why
        log.warning("volume %s waits for an agent that can have it: %s", volume.id, why)
        self._ledger.record_event(
            Event(
                kind="volume.waits",
                subject=volume.id,
                severity=Severity.WARNING,
                message=f"no agent can offer volume {volume.id} now: {why}",
            )
        )
