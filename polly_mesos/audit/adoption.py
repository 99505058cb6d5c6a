"""An orphan becomes a volume of the ledger again, with its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from drivers.base import PlatformState, PlatformVolume
from polly_mesos.audit.gathering import Platforms
from polly_mesos.errors import AlreadyExists, InvalidRequest, NotFound, UnknownProfile, UnknownVolume, WrongState
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.volumes import role_of
from polly_mesos.model import (
    MB,
    AgentState,
    FormatState,
    Json,
    Profile,
    Volume,
    VolumeKind,
    VolumeState,
    profile_of,
)
from polly_mesos.scheduler.disks import static_owner
from polly_mesos.scheduler.tags import Origin, decode


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an operator asks for.

    :param agent: id of the agent that is to offer it; empty for the one that offered it before, if that is connected,
        else for any that fits
    :param role: the role that is to have it; empty for the one that had it
    :param persistence_id: by which that role knows it; empty for the one that it had
    """

    service: str
    platform_id: str
    agent: str = ""
    role: str = ""
    persistence_id: str = ""


def adopt(ledger: Ledger, platforms: Platforms, profiles: Mapping[str, Profile], wanted: Adoption) -> Volume:
    """Take a platform volume into the ledger.

    Where the role and persistence id are those of its tags, it is exactly the disk that its framework had. With another
    role and no persistence id it becomes a MOUNT disk for that role, and where no role is known it is retained.

    :raises NotFound: there is no such service
    :raises UnknownVolume: the platform has no such volume of ours
    :raises UnknownProfile: its profile is not configured
    :raises AlreadyExists: the ledger has the volume that its tag names, or knows it as deleted
    :raises InsufficientCapacity: its pool has not so many bytes that are free or in leases
    """
    if wanted.service not in platforms.names:
        raise NotFound(f"there is no service {wanted.service!r}", remedy=f"one of {', '.join(platforms.names)}")
    found = platforms.controller(wanted.service).get(wanted.platform_id)
    if found.state is not PlatformState.AVAILABLE:
        raise WrongState(f"{found.id} is {found.state} on {wanted.service}", remedy="wait until it is available")
    profile = _profile(profiles, wanted.service, found)
    _must_be_unknown(ledger, found)
    volume = describe(found, profile, decode(found.tags.user), wanted)
    return ledger.adopt_volume(replace(volume, agent=wanted.agent or _earlier_agent(ledger, volume.agent)))


def describe(found: PlatformVolume, profile: Profile, origin: Origin | None, wanted: Adoption) -> Volume:
    """The volume that the ledger is to keep; its agent is the one that offered it, whether or not that is there.

    :raises InvalidRequest: a persistence id is given, and the role is not known; or the volume is too small
    """
    known = origin or Origin(VolumeKind.PATH, 0)
    size = known.size or found.size // MB * MB
    if not 0 < size <= found.size:
        raise InvalidRequest(
            f"{found.id} has {found.size} bytes, and {size or MB} are needed",
            field="platform_id",
            value=found.id,
            remedy="look at what it is; it was made with another size",
        )
    volume = Volume(
        id=found.tags.volume,
        pool=profile.pool,
        profile=profile.name,
        service=profile.service,
        kind=known.kind,
        size=size,
        state=VolumeState.READY,
        agent=known.agent,
        framework=known.framework,
        platform_id=found.id,
        format_state=FormatState.FORMATTED,
    )
    role, persistence_id = wanted.role or known.role, wanted.persistence_id or known.persistence_id
    if wanted.persistence_id and not role:
        raise InvalidRequest(
            f"whose {wanted.persistence_id!r} it is is not known", field="role", value="", remedy="name a role"
        )
    if not role:
        return replace(volume, kind=VolumeKind.PATH, state=VolumeState.RELEASED, agent="")
    if (role, persistence_id) == (known.role, known.persistence_id) and known.owner and known.persistence is not None:
        return replace(volume, owner=known.owner, persistence_id=known.persistence_id, persistence=known.persistence)
    if wanted.persistence_id or (persistence_id and role == known.role):
        owner = known.owner if known.owner and role_of(known.owner) == role else _dynamic_owner(role)
        disk = _persistence(persistence_id)
        return replace(volume, owner=owner, persistence_id=persistence_id, persistence=disk)
    return replace(volume, kind=VolumeKind.MOUNT, owner=static_owner(role), framework="")


def _profile(profiles: Mapping[str, Profile], service: str, found: PlatformVolume) -> Profile:
    profile = profile_of(profiles, found.tags.profile, found.zone)
    if profile is None or profile.service != service:
        where = "is not configured" if profile is None else f"is on service {profile.service}, not on {service}"
        zone = f" in zone {found.zone}" if profile is None and found.zone else ""
        raise UnknownProfile(
            f"the profile {found.tags.profile!r} of {found.id}{zone} {where}",
            remedy="put the profile back into polly.yml" if profile is None else f"adopt it from {profile.service}",
        )
    return profile


def _must_be_unknown(ledger: Ledger, found: PlatformVolume) -> None:
    try:
        known = ledger.volume(found.tags.volume)
    except UnknownVolume:
        return
    if known.state is VolumeState.DELETED:
        raise AlreadyExists(
            f"{found.id} is volume {known.id}, which was deleted",
            remedy="if its data is wanted after all, copy the volume on the platform and attach the copy yourself",
        )
    if known.platform_id != found.id:
        raise AlreadyExists(
            f"{found.id} carries the tag of volume {known.id}, which is {known.platform_id or 'being made'}",
            remedy="see `polly check`; the two cannot be one volume",
        )


def _earlier_agent(ledger: Ledger, agent: str) -> str:
    known = ledger.agents().get(agent)
    return agent if known is not None and known.state is AgentState.CONNECTED else ""


def _dynamic_owner(role: str) -> str:
    return json.dumps([{"role": role, "type": "DYNAMIC"}], sort_keys=True, separators=(",", ":"))


def _persistence(persistence_id: str) -> Json:
    # Mesos wants to know where a task sees a volume; frameworks say so anew with each task.
    return {"persistence": {"id": persistence_id}, "volume": {"mode": "RW", "container_path": "volume"}}
