"""The ledger against what the hosts say of their own mounts. Only reports that were just asked for are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from polly_mesos.agent_api import HostReport
from polly_mesos.audit.actions import Action, AdoptPublication, EndPublication, TellHost
from polly_mesos.audit.findings import Finding, finding
from polly_mesos.audit.world import World
from polly_mesos.ledger.volumes import LIVE
from polly_mesos.model import Agent, AgentState, Publication, PublicationState, Volume


def compare_hosts(world: World) -> Iterator[Finding]:
    """What the ledger and the hosts tell differently."""
    for agent in world.records.agents.values():
        view = world.fresh(agent.id)
        if view is None:
            continue
        for volume_id in sorted(view.report.mounted.keys() | view.report.generations.keys()):
            yield from _held(world, agent, volume_id, view.report)
        yield from _not_mounted(world, agent, view.report)
    yield from _twice(world)


def adoption(volume: Volume, agent: Agent, report: HostReport) -> AdoptPublication | None:
    """How a publication becomes known that a host has under a newer generation than this ledger ever gave.

    So it is after a ledger was restored from a backup: the host is right, and nobody else can have the volume.
    """
    generation, target = report.generations.get(volume.id, 0), report.mounted.get(volume.id, "")
    identity = agent.identities.get(volume.service)
    if generation <= volume.generation or not target or identity is None or volume.state not in LIVE:
        return None
    return AdoptPublication(volume.id, agent.id, identity.host, generation, target)


def _held(world: World, agent: Agent, volume_id: str, report: HostReport) -> Iterator[Finding]:
    volume = world.records.volumes.get(volume_id)
    target, generation = report.mounted.get(volume_id, ""), report.generations.get(volume_id, 0)
    impossible = _impossible(volume, agent, target)
    if impossible:
        yield finding(
            "mount.impossible",
            f"{volume_id}@{agent.id}",
            f"host {agent.hostname} reports volume {volume_id}" + (f" at {target}" if target else "") + impossible,
            "see what is mounted there; if Polly did not mount it, this host or its executor cannot be trusted",
            evidence=(target, generation),
        )
        return
    assert volume is not None
    publication = world.records.publications.get(volume_id)
    held = f"host {agent.hostname} has volume {volume_id}" + (f" mounted at {target}" if target else "")
    if publication is None or publication.agent != agent.id:
        elsewhere = f"published on {publication.host}" if publication is not None else "published nowhere"
        yield finding(
            "mount.unexpected",
            f"{volume_id}@{agent.id}",
            f"{held}, under generation {generation}; it is {elsewhere} since generation {volume.generation}",
            "its executor is to let go of it; where it does not, end the task that uses it and unmount it there",
            action=_explain(world, volume, agent, report),
            evidence=(generation, volume.generation),
        )
    elif generation and generation != publication.generation:
        yield finding(
            "mount.stale",
            f"{volume_id}@{agent.id}",
            f"{held}, under generation {generation}, and the ledger's is {publication.generation}",
            "its executor is to let go of it; where it does not, end the task that uses it and unmount it there",
            action=TellHost(agent.id),
            evidence=(generation, publication.generation),
        )
    else:
        yield from _published(agent, publication, held, target)


def _impossible(volume: Volume | None, agent: Agent, target: str) -> str:
    """Why a host cannot have a volume that it reports, empty where it can."""
    if volume is None:
        return ", which the ledger does not have"
    if volume.service not in agent.identities:
        return f", and it has no access to service {volume.service}"
    if target and agent.volume_root and not target.startswith(agent.volume_root + "/"):
        return f", outside its volume root {agent.volume_root}"
    return ""


def _explain(world: World, volume: Volume, agent: Agent, report: HostReport) -> Action:
    if volume.id not in world.records.publications:
        adopted = adoption(volume, agent, report)
        if adopted is not None:
            return adopted
    return TellHost(agent.id)


def _published(agent: Agent, publication: Publication, held: str, target: str) -> Iterator[Finding]:
    """A volume that the host has under the ledger's own publication."""
    evidence = (publication.generation, publication.updated, target)
    if publication.state is PublicationState.PUBLISHED and target and target != publication.target:
        yield finding(
            "mount.elsewhere",
            f"{publication.volume}@{agent.id}",
            f"{held}, and it should be at {publication.target}",
            "end the task that uses it and unmount it there; the next task mounts it where it belongs",
            evidence=evidence,
        )
    elif publication.state is PublicationState.DETACHING and target:
        yield finding(
            "mount.unexpected",
            f"{publication.volume}@{agent.id}",
            f"{held}, and it is being detached from there",
            "end the task that uses it and unmount it there",
            action=TellHost(agent.id),
            evidence=evidence,
        )


def _not_mounted(world: World, agent: Agent, report: HostReport) -> Iterator[Finding]:
    for publication in world.records.publications.values():
        if (
            publication.agent != agent.id
            or publication.state is not PublicationState.PUBLISHED
            or publication.volume in report.mounted
            or agent.state is not AgentState.CONNECTED
        ):
            continue
        yield finding(
            "mount.missing",
            f"{publication.volume}@{agent.id}",
            f"volume {publication.volume} is published on {agent.hostname} at {publication.target}, where it is not"
            " mounted",
            "end the task that uses it, if it still runs: what it writes there goes to the host's own disk;"
            " the next task mounts it again",
            action=_end_or_tell(world, publication),
            evidence=(publication.generation, publication.updated),
        )


def _end_or_tell(world: World, publication: Publication) -> Action:
    volume = world.records.volumes.get(publication.volume)
    found = world.platform_volume(volume) if volume is not None else None
    if (
        found is not None
        and publication.host not in found.attached_to
        and world.denies(publication.agent, found.tags.volume)
    ):
        return EndPublication(publication.volume, publication.generation)
    return TellHost(publication.agent)


def _twice(world: World) -> Iterator[Finding]:
    mounted: defaultdict[str, list[str]] = defaultdict(list)
    for agent in world.records.agents.values():
        view = world.fresh(agent.id)
        for volume_id in view.report.mounted if view is not None else ():
            mounted[volume_id].append(agent.hostname)
    for volume_id, hosts in mounted.items():
        if len(hosts) > 1:
            yield finding(
                "mount.twice",
                volume_id,
                f"volume {volume_id} is mounted by {len(hosts)} hosts: {', '.join(sorted(hosts))}",
                "end its tasks on all of them but the one that the ledger names (`polly volume list`), and check its"
                " file system before it is used again",
                evidence=(tuple(sorted(hosts)),),
            )
