"""The ledger against the platforms: is each volume there, as large as recorded, attached where it should be?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from drivers.base import PlatformState, PlatformVolume
from polly_mesos.audit.actions import Action, DetachUnused, EndPublication
from polly_mesos.audit.findings import Finding, finding
from polly_mesos.audit.hosts import adoption
from polly_mesos.audit.world import World
from polly_mesos.model import AgentState, Publication, PublicationState, Volume, VolumeState, profile_of

_HELD = frozenset({PublicationState.ATTACHED, PublicationState.PUBLISHED})
_LISTING_LAG_SECONDS = 60.0
"""So long a platform may go on listing what it has deleted."""


def compare_platforms(world: World) -> Iterator[Finding]:
    """What the ledger and the platforms tell differently."""
    for service, view in world.platforms.items():
        if view.error:
            yield finding(
                "platform.unreachable",
                service,
                f"service {service} does not answer: {view.error}",
                "see that the platform runs and that this service's settings are right",
            )
    yield from _unknown_services(world)
    answering = {service for service, view in world.platforms.items() if not view.error}
    for volume in world.records.volumes.values():
        if volume.service in answering and volume.platform_id:
            yield from _volume(world, volume)
    yield from _orphans(world)


def _unknown_services(world: World) -> Iterator[Finding]:
    homeless = defaultdict(list)
    for volume in world.records.volumes.values():
        if volume.service not in world.platforms:
            homeless[volume.service].append(volume.id)
    for service, volumes in homeless.items():
        yield finding(
            "service.unknown",
            service,
            f"{_several(volumes)} on service {service}, which is not configured",
            "put the service back into polly.yml",
            evidence=(tuple(volumes),),
        )


def _volume(world: World, volume: Volume) -> Iterator[Finding]:
    found = world.platform_volume(volume)
    seen = (volume.updated, volume.platform_id)
    if found is None:
        if volume.state is not VolumeState.DELETING:
            yield finding(
                "volume.missing",
                volume.id,
                f"volume {volume.id} ({volume.state}) is {volume.platform_id} on {volume.service}, which has none such",
                "bring it back on the platform; if it is lost for good, have its framework destroy the volume,"
                " or `polly volume delete` it",
                evidence=seen,
            )
        return
    if found.state is PlatformState.ERROR:
        yield finding(
            "volume.broken",
            volume.id,
            f"volume {volume.id}: {volume.service} says that {found.id} is in error",
            "see what the platform says of it; if its data is gone, have its framework destroy the volume",
            evidence=seen,
        )
    if found.size < volume.size:
        yield finding(
            "volume.shrunk",
            volume.id,
            f"volume {volume.id} was recorded with {volume.size} bytes, and {found.id} has {found.size}",
            "stop its task and grow it on the platform before anything writes beyond its end",
            evidence=(*seen, found.size),
        )
    yield from _attachments(world, volume, found)


def _attachments(world: World, volume: Volume, found: PlatformVolume) -> Iterator[Finding]:
    publication = world.records.publications.get(volume.id)
    rightful = publication.host if publication is not None else ""
    state = (volume.generation, publication.state, publication.updated) if publication else (volume.generation,)
    for host in found.attached_to:
        if host != rightful:
            yield finding(
                "attachment.unexpected",
                volume.id,
                f"volume {volume.id} is attached to {host} on {volume.service}, and published "
                + (f"on {rightful}" if rightful else "nowhere"),
                "see that nothing on that host uses it, then detach it there with the platform's own tools",
                action=_end_attachment(world, volume, host) if publication is None else None,
                evidence=(host, *state),
            )
    if (
        publication is not None
        and publication.state in _HELD
        and not publication.fenced
        and rightful not in found.attached_to
    ):
        yield finding(
            "attachment.missing",
            volume.id,
            f"volume {volume.id} is {publication.state} on {rightful}, and {volume.service} has not attached it there",
            "end the task that uses it: the volume is detached, and attached again with the next task",
            action=_end_publication(world, publication),
            evidence=state,
        )


def _end_publication(world: World, publication: Publication) -> Action | None:
    if not world.denies(publication.agent, publication.volume):
        return None
    return EndPublication(publication.volume, publication.generation)


def _end_attachment(world: World, volume: Volume, host: str) -> Action | None:
    """What ends or explains an attachment that the ledger knows nothing of: the host's own word decides."""
    for agent in world.records.agents.values():
        identity = agent.identities.get(volume.service)
        view = world.fresh(agent.id)
        if identity is None or identity.host != host or view is None or agent.state is not AgentState.CONNECTED:
            continue
        if world.denies(agent.id, volume.id):
            return DetachUnused(volume.id, agent.id, host)
        return adoption(volume, agent, view.report)
    return None


def _orphans(world: World) -> Iterator[Finding]:
    by_tag: dict[str, list[str]] = defaultdict(list)
    for service, found in orphan_candidates(world):
        tag = found.tags.volume
        known, deleted = world.records.volumes.get(tag), world.records.deleted.get(tag)
        subject = f"{service}/{found.id}"
        if known is not None or by_tag[tag]:
            other = known.platform_id if known is not None else by_tag[tag][0]
            yield finding(
                "volume.duplicate",
                subject,
                f"{found.id} on {service} carries the tag of volume {tag}, which is {other}",
                "look at both; keep the one with the data, and remove the other with the platform's own tools",
            )
        elif deleted is not None:
            if world.now - deleted.updated > _LISTING_LAG_SECONDS:
                yield finding(
                    "volume.orphan-deleted",
                    subject,
                    f"{found.id} on {service} ({found.size} bytes) is volume {tag}, which was deleted",
                    "if nobody wants its data, remove it with the platform's own tools",
                )
        else:
            yield finding(
                "volume.orphan",
                subject,
                f"{found.id} on {service} ({found.size} bytes) carries our tag, and the ledger knows no volume {tag}",
                f"keep it: `polly volume adopt {service} {found.id}`; or remove it with the platform's own tools",
            )
        by_tag[tag].append(found.id)


def orphan_candidates(world: World) -> Iterator[tuple[str, PlatformVolume]]:
    """Platform volumes with our tag that are no volume of the ledger's by their platform id; each once.

    Two services may show the same platform; what both list is named under the one that its profile uses.
    """
    ours = {(volume.platform_id, volume.id) for volume in world.records.volumes.values() if volume.platform_id}
    unheard = {volume.id for volume in world.records.volumes.values() if not volume.platform_id}
    seen: dict[tuple[str, str], tuple[str, PlatformVolume]] = {}
    for service, view in world.platforms.items():
        for found in view.volumes.values():
            tag = found.tags.volume
            # The controller finds by its tag what it has not heard of, or what a failed creation left.
            if (found.id, tag) in ours or tag in unheard or found.state is PlatformState.DELETING:
                continue
            profile = profile_of(world.profiles, found.tags.profile, found.zone)
            if (found.id, tag) not in seen or (profile is not None and profile.service == service):
                seen[found.id, tag] = (service, found)
    yield from seen.values()


def _several(volumes: list[str]) -> str:
    return f"volume {volumes[0]} is" if len(volumes) == 1 else f"{len(volumes)} volumes are"
