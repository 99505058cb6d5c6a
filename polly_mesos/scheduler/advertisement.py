"""What an agent's provider advertises: the ledger's records as Mesos resources, and back.

The agent keeps no copy of a provider's reservations and volumes, so what is built here from the ledger after any
restart must equal, bit for bit, what the frameworks were offered before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polly_mesos.agent_api import Assignment
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, Json, Profile, PublicationState, Volume, VolumeKind, VolumeState
from polly_mesos.scheduler.admission import verdict_of
from polly_mesos.scheduler.arrivals import over
from polly_mesos.scheduler.disks import disk, source_of, volume_disk

_ADVERTISED = {VolumeState.CREATING, VolumeState.READY, VolumeState.FAILED}
_ENDED = {VolumeState.DELETING, VolumeState.RELEASED, VolumeState.DELETED}


def resources_of(
    ledger: Ledger, agent: Agent, profiles: Mapping[str, Profile], shared_view: Mapping[str, int] | None = None
) -> list[Json]:
    """The totals of one agent's provider, without ``provider_id``.

    :param shared_view: pool name -> bytes to show, where pools are shared instead of leased
    """
    leases = {lease.pool: lease.size for lease in ledger.leases(agent.id)} if shared_view is None else shared_view
    resources = [
        disk(source_of(None, profiles[pool], agent.volume_root, ""), size, "")
        for pool, size in sorted(leases.items())
        if size and pool in profiles
    ]
    for reservation in ledger.reservations(agent.id):
        if reservation.size and (profile := profiles.get(reservation.pool)):
            source = source_of(None, profile, agent.volume_root, "")
            resources.append(disk(source, reservation.size, reservation.owner))
    for volume in _advertised(ledger.volumes(agent=agent.id, states=_ADVERTISED)):
        if profile := profiles.get(volume.pool):
            resources.append(volume_disk(volume, profile, agent.volume_root))
    return resources


def _advertised(volumes: Iterable[Volume]) -> Iterable[Volume]:
    for volume in volumes:
        # A framework believes in the disk that it made from the moment its operation is answered; a disk that an
        # operator pre-creates is shown only when it can be used.
        if volume.kind is VolumeKind.PATH or volume.framework or volume.state is VolumeState.READY:
            yield volume


def assignment_of(
    ledger: Ledger,
    agent: Agent,
    profiles: Mapping[str, Profile],
    version: int,
    shared_view: Mapping[str, int] | None = None,
    held: Mapping[str, int] | None = None,
) -> Assignment:
    """All that one agent is to know: what to advertise, what to keep mounted, what to let go.

    :param held: volume id -> generation, as the agent's host said last
    """
    ended = {volume.id for volume in ledger.volumes(agent=agent.id, states=_ENDED)}
    keep: dict[str, int] = {}
    revoke: dict[str, int] = {}
    for publication in ledger.publications(agent.id):
        if publication.state is not PublicationState.DETACHING:
            (revoke if publication.volume in ended else keep)[publication.volume] = publication.generation
    assignment = Assignment(
        version=version,
        resources=tuple(resources_of(ledger, agent, profiles, shared_view)),
        operations=tuple(verdict_of(operation) for operation in ledger.unacknowledged(agent.id)),
        keep=keep,
        revoke=revoke,
        stop=over(ledger, agent.id, held or {}),
    )
    fault_point("assignment.answer.before-send")
    return assignment
