"""All that an audit compares, as it was seen at one look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.base import PlatformVolume
from polly_mesos.ledger.check import Finding as LedgerFinding
from polly_mesos.mesos.master_client import RegisteredAgent
from polly_mesos.model import Agent, Json, Profile, Provider, Publication, Volume
from polly_mesos.scheduler.hosts import HostView


@dataclass(frozen=True, slots=True)
class Records:
    """The ledger, at one moment.

    :param provider_type: ResourceProviderInfo.type of our providers; their name is ``cluster``
    :param volumes: by id, those that are not deleted
    :param deleted: by id, those deleted volumes whose tags a platform still shows
    :param publications: by volume id
    :param leased: pools of which some agent has a lease
    :param advertised: agent id -> the disks that its provider is to advertise
    :param busy: agents with operations that Mesos has not acknowledged
    """

    cluster: str
    provider_type: str = ""
    agents: Mapping[str, Agent] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    deleted: Mapping[str, Volume] = field(default_factory=dict)
    publications: Mapping[str, Publication] = field(default_factory=dict)
    leased: frozenset[str] = frozenset()
    advertised: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    findings: tuple[LedgerFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class PlatformView:
    """One service's platform.

    :param volumes: by platform id, those with our cluster's tag
    :param error: why it could not be asked; empty where it answered
    """

    volumes: Mapping[str, PlatformVolume] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class MasterView:
    """The leading master.

    :param agents: by agent id
    :param awaited: agents that a new leader knows of and still waits for
    :param error: why it could not be asked; empty where it answered
    """

    agents: Mapping[str, RegisteredAgent] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()
    error: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """One look at everything.

    :param asked: when the hosts were asked to report; reports that came before it are too old to be compared
    :param now: when the ledger was read
    :param heard: agent id -> when its executor was heard last, at least since when it could have been
    :param master: None where it was not to be asked
    :param hosts: agent id -> its newest report; None where hosts could not be asked
    """

    asked: float
    now: float
    records: Records
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    platforms: Mapping[str, PlatformView] = field(default_factory=dict)
    master: MasterView | None = None
    hosts: Mapping[str, HostView] | None = None
    heard: Mapping[str, float] = field(default_factory=dict)

    def platform_volume(self, volume: Volume) -> PlatformVolume | None:
        """The volume as its platform has it, None where it has not or could not be asked."""
        view = self.platforms.get(volume.service)
        return view.volumes.get(volume.platform_id) if view is not None and volume.platform_id else None

    def fresh(self, agent: str) -> HostView | None:
        """The agent's report, if it came after it was asked for."""
        view = (self.hosts or {}).get(agent)
        return view if view is not None and view.time >= self.asked else None

    def denies(self, agent: str, volume: str) -> bool:
        """Whether the agent's host has just said that it does not hold the volume."""
        view = self.fresh(agent)
        return view is not None and volume not in view.report.mounted and volume not in view.report.generations
