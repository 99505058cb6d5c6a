"""What agents offer of ours, as the rebuilding of a ledger reads it: which disks, and which platform volume each is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from drivers.base import PlatformState, PlatformVolume
from polly_mesos.errors import PollyError, UnknownProfile
from polly_mesos.mesos.resources import role_of
from polly_mesos.model import UNRESERVED, Profile, VolumeKind
from polly_mesos.scheduler.disks import Disk, parse_disk
from polly_mesos.scheduler.rebuild_evidence import AgentWord
from polly_mesos.scheduler.tags import Origin, decode


@dataclass(frozen=True, slots=True)
class Found:
    """One platform volume and what its tags say."""

    service: str
    volume: PlatformVolume
    origin: Origin | None

    @property
    def id(self) -> str:
        """Polly's id of the volume."""
        return self.volume.tags.volume


@dataclass(frozen=True, slots=True)
class Offered:
    """One volume that an agent offers."""

    agent: AgentWord
    disk: Disk

    @property
    def role(self) -> str:
        """The role that holds it."""
        return role_of(self.disk.resource)


@dataclass(slots=True)
class Shown:
    """All that the agents offer.

    :param reservations: pool, agent and owner -> bytes that are reserved and in no volume
    :param roots: agent -> its volume root, where it can be told
    :param odd: resources that are not understood, in words
    """

    volumes: list[Offered] = field(default_factory=list)
    reservations: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    roots: dict[str, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


def read_found(platforms: Mapping[str, Iterable[PlatformVolume]]) -> list[Found]:
    """The platforms' volumes with their tags read."""
    return [
        Found(service, volume, decode(volume.tags.user))
        for service, volumes in sorted(platforms.items())
        for volume in volumes
    ]


def read_shown(agents: Iterable[AgentWord], profiles: Mapping[str, Profile]) -> Shown:
    """The agents' totals in our words.

    :raises UnknownProfile: a disk is of a profile that is not configured
    """
    shown = Shown()
    for agent in agents:
        for resource in agent.resources:
            try:
                disk = parse_disk(resource, profiles)
            except UnknownProfile:
                raise
            except PollyError as error:
                shown.odd.append(
                    f"agent {agent.hostname} ({agent.id}) offers something that is not understood: {error}"
                )
                continue
            _sort(shown, agent, disk)
    return shown


def _sort(shown: Shown, agent: AgentWord, disk: Disk) -> None:
    source = disk.resource["disk"]["source"]
    root = str(source.get(str(source.get("type", "")).lower(), {}).get("root", ""))
    if root.endswith(f"/{disk.pool}"):
        shown.roots[agent.id] = root.removesuffix(f"/{disk.pool}")
    if disk.volume_id or disk.persistence_id:
        shown.volumes.append(Offered(agent, disk))
    elif disk.owner != UNRESERVED:
        shown.reservations[disk.pool, agent.id, disk.owner] += disk.size


def match(found: Sequence[Found], offered: Sequence[Offered]) -> tuple[dict[str, Offered], list[Offered]]:
    """Which platform volume is offered as which disk: Polly's volume id -> disk; and the disks that are none of them.

    A disk that can be several volumes is none of them: data must not come into the wrong hands.
    """
    by_name: defaultdict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in found:
        if one.volume.state is not PlatformState.DELETING and one.origin is not None:
            by_name[one.origin.role, one.origin.persistence_id].append(one)
    ids = {one.id for one in found if one.volume.state is not PlatformState.DELETING}
    matched: dict[str, list[Offered]] = defaultdict(list)
    unmatched: list[Offered] = []
    for offer in offered:
        if offer.disk.volume_id:
            candidates = [offer.disk.volume_id] if offer.disk.volume_id in ids else []
        else:
            candidates = _candidates(offer, by_name[offer.role, offer.disk.persistence_id])
        if len(candidates) == 1:
            matched[candidates[0]].append(offer)
        else:
            unmatched.append(offer)
    for offers in matched.values():
        if len(offers) > 1:
            unmatched += offers
    return {volume: offers[0] for volume, offers in matched.items() if len(offers) == 1}, unmatched


def _candidates(offer: Offered, named: Sequence[Found]) -> list[str]:
    """The volumes that a PATH disk can be, narrowed down as long as some are left."""
    fitting = [one for one in named if _fits(one, offer.disk)]
    narrower: tuple[Callable[[Found], bool], ...] = (
        lambda one: was_made_on(one.origin, offer.agent),
        lambda one: bool(one.volume.attached_to),
    )
    for condition in narrower:
        if len(fitting) > 1:
            fitting = [one for one in fitting if condition(one)] or fitting
    return [one.id for one in fitting]


def _fits(one: Found, disk: Disk) -> bool:
    origin = one.origin
    if origin is None or origin.kind is not VolumeKind.PATH or one.volume.tags.profile != disk.profile.name:
        return False
    return origin.size == disk.size if origin.size else one.volume.size >= disk.size


def was_made_on(origin: Origin | None, agent: AgentWord) -> bool:
    """Whether a volume was made for this agent, or for the one that was at its address before."""
    return origin is not None and (origin.agent == agent.id or (origin.node != "" and origin.node == agent.endpoint))
