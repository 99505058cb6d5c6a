"""Takes one look at everything: platforms and master first, then what the hosts were asked for, the ledger last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from drivers.base import ControllerDriver, PlatformVolume
from polly_mesos.audit.world import MasterView, PlatformView, Records, World
from polly_mesos.errors import NotFound, PollyError, UnknownVolume
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.mesos.master_client import MasterClient
from polly_mesos.model import Agent, AgentState, Profile, Volume, VolumeState
from polly_mesos.scheduler.advertisement import resources_of
from polly_mesos.scheduler.hosts import HostViews

log = logging.getLogger(__name__)

_KEPT = frozenset(VolumeState) - {VolumeState.DELETED}
_LOOKED_FOR = 100


class Platforms(Protocol):
    """The services as an audit needs them; :class:`polly_mesos.scheduler.services.Services` is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The configured services."""

    def controller(self, service: str) -> ControllerDriver:
        """The controller side of a service."""


class Hosts:
    """The hosts' own view, and how they are asked for it.

    :param tell: has these agents' executors report soon
    :param patience: seconds that a look waits for reports
    """

    def __init__(self, views: HostViews, tell: Callable[[Iterable[str]], None], *, patience: float = 5.0) -> None:
        self.views = views
        self._tell = tell
        self._patience = patience

    def ask(self, agents: Iterable[str], since: float) -> None:
        """Have the agents report, and wait until all have or patience ends."""
        agents = tuple(agents)
        self._tell(agents)
        self.views.wait_for(agents, since, self._patience)


class Gathering:
    """Takes looks. With neither hosts nor master it looks at ledger and platforms alone.

    :param provider_type: ResourceProviderInfo.type of our providers
    :param shared_view: what an agent is shown of the pools where these are shared, None where they are leased
    """

    def __init__(
        self,
        ledger: Ledger,
        platforms: Platforms,
        profiles: Mapping[str, Profile],
        *,
        provider_type: str,
        master: Callable[[], MasterClient] | None = None,
        hosts: Hosts | None = None,
        shared_view: Callable[[str], Mapping[str, int] | None] = lambda agent: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._platforms = platforms
        self._profiles = profiles
        self._provider_type = provider_type
        self._master = master
        self._hosts = hosts
        self._shared_view = shared_view
        self._clock = clock

    def look(self, *, thorough: bool = True) -> World:
        """One look.

        :param thorough: whether the ledger's file is examined to its last page
        """
        platforms = {name: self._platform(name) for name in self._platforms.names}
        master = self._ask_master()
        asked = self._clock()
        if self._hosts is not None:
            connected = (a.id for a in self._ledger.agents().values() if a.state is AgentState.CONNECTED)
            self._hosts.ask(connected, asked)
        records = self._read(platforms, thorough)
        return World(
            asked=asked,
            now=self._clock(),
            records=records,
            profiles=self._profiles,
            platforms=self._look_for_missing(platforms, records),
            master=master,
            hosts=self._hosts.views.all() if self._hosts is not None else None,
            heard=self._heard(records.agents),
        )

    def platforms(self) -> World:
        """One look at the platforms and the ledger, for what only they tell."""
        platforms = {name: self._platform(name) for name in self._platforms.names}
        records = self._read(platforms, thorough=False, advertise=False)
        now = self._clock()
        return World(asked=now, now=now, records=records, profiles=self._profiles, platforms=platforms)

    def _platform(self, service: str) -> PlatformView:
        volumes: dict[str, PlatformVolume] = {}
        try:
            controller = self._platforms.controller(service)
            page = controller.list()
            while True:
                volumes.update((volume.id, volume) for volume in page.volumes)
                if page.next is None:
                    return PlatformView(volumes)
                page = controller.list(page.next)
        except PollyError as error:
            return PlatformView(error=str(error))
        except Exception as error:
            log.exception("service %s: listing its volumes failed", service)
            return PlatformView(error=f"{type(error).__name__}: {error}")

    def _ask_master(self) -> MasterView | None:
        if self._master is None:
            return None
        try:
            client = self._master()
            try:
                roll = client.roll()
            finally:
                client.close()
        except PollyError as error:
            return MasterView(error=str(error))
        return MasterView({agent.id: agent for agent in roll.registered}, roll.awaited)

    def _read(self, platforms: Mapping[str, PlatformView], thorough: bool, *, advertise: bool = True) -> Records:
        ledger = self._ledger
        findings = tuple(check(ledger, thorough=thorough))
        with ledger.snapshot():
            agents = ledger.agents()
            volumes = {volume.id: volume for volume in ledger.volumes(states=_KEPT)}
            providers = {agent: found for agent in agents if (found := ledger.provider(agent)) is not None}
            served = [agent for agent in agents.values() if advertise and agent.id in providers]
            return Records(
                cluster=ledger.cluster,
                provider_type=self._provider_type,
                agents=agents,
                providers=providers,
                volumes=volumes,
                deleted=self._deleted(platforms, volumes),
                publications={publication.volume: publication for publication in ledger.publications()},
                leased=frozenset(lease.pool for lease in ledger.leases()),
                advertised={agent.id: self._advertised(agent) for agent in served},
                busy=frozenset(agent.id for agent in served if ledger.unacknowledged(agent.id)),
                findings=findings,
            )

    def _advertised(self, agent: Agent) -> tuple[dict[str, object], ...]:
        return tuple(resources_of(self._ledger, agent, self._profiles, self._shared_view(agent.id)))

    def _deleted(self, platforms: Mapping[str, PlatformView], volumes: Mapping[str, Volume]) -> dict[str, Volume]:
        found = {}
        tags = {volume.tags.volume for view in platforms.values() for volume in view.volumes.values()}
        for tag in tags - volumes.keys():
            try:
                found[tag] = self._ledger.volume(tag)
            except UnknownVolume:
                continue
        return found

    def _look_for_missing(self, platforms: dict[str, PlatformView], records: Records) -> dict[str, PlatformView]:
        """Ask for each volume that a list does not have: lists of large platforms come true late."""
        found: dict[str, dict[str, PlatformVolume]] = {}
        missing = [
            volume
            for volume in records.volumes.values()
            if volume.platform_id
            and (view := platforms.get(volume.service)) is not None
            and not view.error
            and volume.platform_id not in view.volumes
        ]
        # So many at once are no lag: then the list is believed.
        for volume in missing if len(missing) <= _LOOKED_FOR else ():
            try:
                one = self._platforms.controller(volume.service).get(volume.platform_id)
            except NotFound:
                continue
            except PollyError as error:
                platforms[volume.service] = PlatformView(error=str(error))
            else:
                found.setdefault(volume.service, {})[one.id] = one
        return {
            name: view if view.error else PlatformView({**view.volumes, **found.get(name, {})})
            for name, view in platforms.items()
        }

    def _heard(self, agents: Mapping[str, Agent]) -> dict[str, float]:
        if self._hosts is None:
            return {}
        views, since = self._hosts.views.all(), self._hosts.views.since
        return {
            agent.id: max(agent.seen, since, views[agent.id].time if agent.id in views else 0.0)
            for agent in agents.values()
        }
