"""What a rebuilt ledger is to hold, and what could not be known. Pure: evidence in, records and statements out.

Whatever is not known is chosen so that no data can be lost and none can come into the wrong hands:

=========================================  =====================================================================
not known                                  chosen
=========================================  =====================================================================
whether a volume was formatted             it was: nothing formats it
the generation under which a host has it   the first: the host says it when it greets, and it is believed
who may use a volume                       nobody: RELEASED, kept until an operator adopts or deletes it
which volume a disk on offer is            none: the disk is shown as FAILED, its data is kept as RELEASED
whether an agent that is gone comes back   it may, and its host may write: UNREACHABLE, until it is fenced
=========================================  =====================================================================
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from drivers.base import PlatformState
from polly_mesos.errors import ConfigurationError
from polly_mesos.ledger.backup import UNSEEN_EPOCHS
from polly_mesos.ledger.rebuilding import NewLedger
from polly_mesos.ledger.volumes import role_of
from polly_mesos.model import (
    MB,
    UNRESERVED,
    Event,
    FormatState,
    Profile,
    Reservation,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
    profile_of,
)
from polly_mesos.scheduler import rebuild_records as records
from polly_mesos.scheduler.rebuild_evidence import Evidence
from polly_mesos.scheduler.rebuild_shown import Found, Offered, match, read_found, read_shown, was_made_on

_GENERATION = "generation: its host says it"
_FORMAT = "whether it was formatted: taken for formatted"
_FRAMEWORK = "the framework that made it"


@dataclass(frozen=True, slots=True)
class Recovered:
    """One volume as the rebuilt ledger has it.

    :param said_by: who said whose it is: ``agent``, ``tags``, or ``nobody``
    :param unknown: what could not be known, in words
    :param remark: why it is what it is, where that needs a reason
    """

    volume: Volume
    said_by: str
    unknown: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A ledger to be, with what is to be said about it.

    :param statements: what could not be known and is about no single volume
    """

    ledger: NewLedger
    volumes: tuple[Recovered, ...]
    statements: tuple[str, ...]


def plan(
    evidence: Evidence, *, cluster: str, profiles: Mapping[str, Profile], root_on: Callable[[str, int], str]
) -> Plan:
    """The ledger that the evidence gives.

    :param root_on: the volume root of an agent, by host name and port
    :raises ConfigurationError: volumes are of profiles that are not configured
    :raises UnknownProfile: an agent offers a disk of such a profile
    """
    found, left_out = _usable(read_found(evidence.platforms), profiles)
    shown = read_shown(evidence.agents, profiles)
    offers, homeless = match(found, shown.volumes)
    judge = _Judge(evidence, profiles, offers)
    recovered = _without_namesakes([*(judge.decide(one) for one in found), *(_lost(offer) for offer in homeless)])
    volumes = [one.volume for one in recovered]
    reserved = [Reservation(*key, size, size) for key, size in sorted(shown.reservations.items())]
    pools, reservations, shortages = records.balanced(evidence.pools, profiles, volumes, reserved)
    attached = {one.id: one.volume.attached_to for one in found}
    epoch = max((one.volume.tags.epoch for one in found), default=0) + UNSEEN_EPOCHS
    new = NewLedger(
        cluster=cluster,
        epoch=epoch,
        framework_id=evidence.framework_id,
        pools=pools,
        agents=records.agents(evidence.agents, volumes, judge.absent, shown.roots, root_on),
        providers=records.providers(evidence.agents, cluster),
        reservations=reservations,
        volumes=volumes,
        publications=records.publications(volumes, attached),
        event=Event(
            "ledger.rebuilt",
            cluster,
            f"the ledger was rebuilt from platforms and agents with {len(recovered)} volumes; its epoch is {epoch}",
            Severity.WARNING,
            {"epoch": epoch, "volumes": len(recovered)},
        ),
    )
    statements = [*left_out, *shown.odd, *records.statements(evidence, judge.absent), *shortages]
    return Plan(new, tuple(recovered), tuple(statements))


class _Judge:
    """Decides whose a platform volume is.

    :ivar absent: agent id -> address of the agents that tags name and Mesos does not know
    """

    def __init__(self, evidence: Evidence, profiles: Mapping[str, Profile], offers: Mapping[str, Offered]) -> None:
        self._agents = evidence.agents
        self._profiles = profiles
        self._offers = offers
        self.absent: dict[str, str] = {}

    def decide(self, found: Found) -> Recovered:
        """The volume as it is to be recorded."""
        offer = self._offers.get(found.id)
        if offer is not None:
            return self._offered(found, offer)
        volume = self._bare(found)
        origin = found.origin
        home = next((word for word in self._agents if was_made_on(origin, word)), None)
        if origin is None:
            return Recovered(volume, "nobody", (_FORMAT, _GENERATION, "its owner"), "an older Polly made it")
        if home is not None:
            volume = replace(volume, agent=home.id)
        named = replace(volume, persistence_id=origin.persistence_id, framework=origin.framework)
        unknown = (_FORMAT, _GENERATION)
        if home is not None and home.tells:
            return Recovered(named, "tags", unknown, f"its agent {home.hostname} does not offer it (any more)")
        if origin.owner is None or origin.persistence is None:
            return Recovered(named, "tags", (*unknown, "its owner"), "its tags do not say enough")
        if volume.kind is VolumeKind.PATH and origin.owner == UNRESERVED:
            return Recovered(named, "tags", (*unknown, "its owner"), "its tags name no owner")
        if home is None and origin.agent:
            self.absent[origin.agent] = origin.node
        owned = replace(
            named,
            agent=home.id if home is not None else origin.agent,
            owner=origin.owner,
            persistence=origin.persistence,
            state=_state(found),
        )
        late = "what was changed since it was made"
        return Recovered(_settled(owned, found), "tags", (*unknown, late), "its agent could not be asked")

    def _offered(self, found: Found, offer: Offered) -> Recovered:
        disk, origin = offer.disk, found.origin
        framework = origin.framework if origin is not None else ""
        volume = replace(
            self._bare(found),
            kind=VolumeKind.MOUNT if disk.volume_id else VolumeKind.PATH,
            size=disk.size,
            state=_state(found),
            agent=offer.agent.id,
            owner=disk.owner,
            persistence_id=disk.persistence_id,
            persistence=disk.persistence,
            framework=framework,
        )
        unknown = (_FORMAT, _GENERATION) if framework else (_FORMAT, _GENERATION, _FRAMEWORK)
        return Recovered(_settled(volume, found), "agent", unknown)

    def _bare(self, found: Found) -> Volume:
        profile = profile_of(self._profiles, found.volume.tags.profile, found.volume.zone)
        assert profile is not None, "volumes without a profile are refused before"
        origin = found.origin
        return Volume(
            id=found.id,
            pool=profile.pool,
            profile=profile.name,
            service=found.service,
            kind=origin.kind if origin is not None else VolumeKind.PATH,
            size=(origin.size if origin is not None else 0) or max(MB, found.volume.size // MB * MB),
            state=VolumeState.RELEASED,
            platform_id=found.volume.id,
            format_state=FormatState.FORMATTED,
        )


def _state(found: Found) -> VolumeState:
    return {
        PlatformState.AVAILABLE: VolumeState.READY,
        PlatformState.CREATING: VolumeState.CREATING,
    }.get(found.volume.state, VolumeState.FAILED)


def _settled(volume: Volume, found: Found) -> Volume:
    if volume.state is VolumeState.CREATING:
        # Asked for again by its token, the platform tells of it when it is done. No host has ever seen it.
        return replace(volume, format_state=FormatState.NEVER)
    if volume.state is VolumeState.FAILED:
        return replace(volume, error=f"the platform says that {found.volume.id} is {found.volume.state}")
    return replace(volume, generation=1) if found.volume.attached_to else volume


def _lost(offer: Offered) -> Recovered:
    """A disk that a framework takes for its volume, and no platform volume that it surely is."""
    disk = offer.disk
    volume = Volume(
        id=disk.volume_id or str(uuid.uuid4()),
        pool=disk.pool,
        profile=disk.profile.name,
        service=disk.profile.service,
        kind=VolumeKind.MOUNT if disk.volume_id else VolumeKind.PATH,
        size=disk.size,
        state=VolumeState.FAILED,
        agent=offer.agent.id,
        owner=disk.owner,
        persistence_id=disk.persistence_id,
        persistence=disk.persistence,
        format_state=FormatState.FORMATTED,
        error="no platform volume surely is this disk; the ledger was rebuilt",
    )
    remark = f"agent {offer.agent.hostname} offers it, and no platform volume surely is it"
    return Recovered(volume, "agent", ("its platform volume",), remark)


def _usable(found: Sequence[Found], profiles: Mapping[str, Profile]) -> tuple[list[Found], list[str]]:
    """What can be recorded, and statements about what cannot."""
    tags = sorted({(one.volume.tags.profile, one.volume.zone) for one in found})
    unconfigured = [(name, zone) for name, zone in tags if profile_of(profiles, name, zone) is None]
    if unconfigured:
        told = dict.fromkeys(f"{name!r}{zone and f' in zone {zone}'}" for name, zone in unconfigured)
        raise ConfigurationError(
            f"there are volumes of profiles that are not configured: {', '.join(told)}",
            field="profiles",
            value=unconfigured[0][0],
            remedy="put the profiles back into polly.yml as they were",
        )
    counts = Counter(one.id for one in found)
    usable, statements = [], []
    for one in found:
        name = f"{one.volume.id} on service {one.service}"
        if one.volume.state is PlatformState.DELETING:
            statements.append(f"{name} is being deleted and is left out")
        elif not _is_uuid(one.id):
            statements.append(f"{name} is left out: its tag names no volume of Polly's, but {one.id!r}")
        elif counts[one.id] > 1:
            statements.append(f"{name} is left out: {counts[one.id]} platform volumes say that they are {one.id}")
        else:
            usable.append(one)
    return usable, statements


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _without_namesakes(recovered: Sequence[Recovered]) -> list[Recovered]:
    """Two volumes cannot have one path: where tags alone gave two the same, nobody gets either."""
    offered = (VolumeState.CREATING, VolumeState.READY, VolumeState.FAILED)
    names: defaultdict[tuple[str, str, str], list[Recovered]] = defaultdict(list)
    for one in recovered:
        if one.volume.state in offered and one.volume.persistence_id:
            names[one.volume.agent, role_of(one.volume.owner), one.volume.persistence_id].append(one)
    doubtful = {one.volume.id for same in names.values() if len(same) > 1 for one in same if one.said_by == "tags"}
    return [_unowned(one) if one.volume.id in doubtful else one for one in recovered]


def _unowned(one: Recovered) -> Recovered:
    volume = replace(one.volume, state=VolumeState.RELEASED, owner=UNRESERVED, format_state=FormatState.FORMATTED)
    return replace(one, volume=volume, remark="others of the same persistence id are there; only one can have its path")
