"""What must hold once a round is over: first that everything comes to rest, then what may never be otherwise.

Both are pure functions of one :class:`~chaos.view.View` and of what the workload needs, so that each rule has a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from chaos.view import View
from polly_mesos.ledger.volumes import LIVE, role_of
from polly_mesos.model import MB, VolumeState

Needed = Mapping[str, Mapping[str, int]]
"""Role -> persistence id -> MB of the volumes that must be there."""

_STEADY = {VolumeState.READY, VolumeState.RELEASED, VolumeState.FAILED}


def not_serving(view: View, agents: int) -> Iterator[str]:
    """What still keeps Polly from serving every agent, in words."""
    if not view.registered:
        yield "the master has not got Polly"
    if len(view.active) < agents:
        yield f"the master has {len(view.active)} of {agents} agents"
    for agent in sorted(view.active - view.serving):
        yield f"agent {agent} is not served by an executor"
    for operation in view.books.open:
        yield f"{operation.kind} of {operation.subject} has no outcome"


def not_at_rest(view: View, needed: Needed) -> Iterator[str]:
    """What is still going on although nothing new was begun, in words."""
    if view.books.promised > view.books.capacity:
        # right for a while: a platform with a full disk has less than was promised on it
        yield f"{view.books.promised // MB} MB are promised of {view.books.capacity // MB} MB"
    for pending in view.pending:
        yield f"the master waits for {pending}"
    for volume in view.books.volumes:
        if volume.state not in _STEADY:
            yield f"volume {volume.id} is {volume.state}: {volume.error}"
    for publication in view.books.publications:
        yield f"volume {publication.volume} is {publication.state} on agent {publication.agent}, and no task needs it"
    for reservation in view.books.reservations:
        yield f"{role_of(reservation.owner)} has {reservation.size // MB} MB reserved that are no volume"
    yield from _difference("the ledger", _in_ledger(view), needed)
    yield from _difference("the master", _at_master(view), needed)
    yield from _lease_differences(view)


def broken(view: View, capacity_mb: int) -> Iterator[str]:
    """What must never be, once all is at rest."""
    if view.books.promised > capacity_mb * MB:
        yield f"the ledger promises {view.books.promised // MB} MB of {capacity_mb} MB"
    offered = sum(disk.size_mb for disk in view.disks)
    if offered > capacity_mb:
        yield f"the master has {offered:g} MB of disks, and the pool has {capacity_mb} MB"
    yield from leaked(view)


def leaked(view: View) -> Iterator[str]:
    """What is left of volumes that nobody has, and what is missing of those that somebody has."""
    platform = Counter(volume.platform_id for volume in view.books.volumes if volume.platform_id)
    for image in sorted(view.images - set(platform)):
        yield f"leaked: the platform has {image}, and no volume of the ledger is there"
    for volume in view.books.volumes:
        if volume.state in (VolumeState.READY, VolumeState.RELEASED) and volume.platform_id not in view.images:
            yield f"volume {volume.id} ({volume.persistence_id}) is not on the platform any more"
    for name, count in platform.items():
        if count > 1:
            yield f"{count} volumes of the ledger are in {name}"
    for image in sorted(view.loops):
        yield f"leaked: {image} is attached to a loop device, and no volume is published"
    for target in sorted(view.mounted):
        yield f"leaked: {target} is mounted, and no volume is published"


def _in_ledger(view: View) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for volume in view.books.volumes:
        if volume.state in LIVE:
            found.setdefault(role_of(volume.owner), {})[volume.persistence_id] = volume.size // MB
    return found


def _at_master(view: View) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for disk in view.disks:
        if disk.persistence_id:
            found.setdefault(disk.role, {})[disk.persistence_id] = int(disk.size_mb)
    return found


def _difference(who: str, found: Needed, needed: Needed) -> Iterator[str]:
    for role in sorted({*found, *needed}):
        has, wants = found.get(role, {}), needed.get(role, {})
        for name in sorted(set(wants) - set(has)):
            yield f"{who} has lost volume {name} of {role}"
        for name in sorted(set(has) - set(wants)):
            yield f"{who} has volume {name}, which {role} does not need"
        for name in sorted(set(has) & set(wants)):
            if has[name] != wants[name]:
                yield f"{who} has {has[name]} MB of volume {name} of {role}, which has {wants[name]} MB"


def _lease_differences(view: View) -> Iterator[str]:
    leased, offered = Counter[str](), Counter[str]()
    for lease in view.books.leases:
        leased[lease.agent] += lease.size // MB
    for disk in view.disks:
        if not disk.role:
            offered[disk.agent] += int(disk.size_mb)
    for agent in sorted(view.active):
        if leased[agent] != offered[agent]:
            yield f"agent {agent} offers {offered[agent]} MB, and its lease is {leased[agent]} MB"
