"""The ledger against the leading master: are our agents there, and do their providers offer what they should?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from polly_mesos.audit.actions import TellHost
from polly_mesos.audit.findings import Finding, finding
from polly_mesos.audit.world import MasterView, World
from polly_mesos.mesos.master_client import RegisteredProvider
from polly_mesos.mesos.resources import add, canonical, equal, megabytes, normalise, persistence_of, role_of
from polly_mesos.model import AgentState, Json


def compare_master(world: World) -> Iterator[Finding]:
    """What the ledger and the master tell differently."""
    master = world.master
    if master is None:
        return
    if master.error:
        yield finding(
            "master.unreachable",
            "master",
            f"no master answers: {master.error}",
            "see that a Mesos master leads, and mesos.master in polly.yml",
        )
        return
    yield from _unregistered(world, master)
    for agent_id, agent in master.agents.items():
        for provider in agent.providers:
            if (provider.type, provider.name) == (world.records.provider_type, world.records.cluster):
                yield from _provider(world, agent_id, agent.hostname, provider)
        expected = world.records.providers.get(agent_id)
        if expected is not None and expected.id not in {provider.id for provider in agent.providers}:
            yield from _totals(world, agent_id, agent.hostname, expected.id, ())


def _unregistered(world: World, master: MasterView) -> Iterator[Finding]:
    for agent in world.records.agents.values():
        if agent.state is AgentState.CONNECTED and agent.id not in master.agents:
            waits = "still waits for it" if agent.id in master.awaited else "does not know it"
            yield finding(
                "agent.unregistered",
                agent.id,
                f"agent {agent.hostname} ({agent.id}) is connected to Polly, and the master {waits}",
                "see that its mesos-agent runs and reaches the master",
                evidence=(waits,),
            )


def _provider(world: World, agent_id: str, hostname: str, provider: RegisteredProvider) -> Iterator[Finding]:
    expected = world.records.providers.get(agent_id)
    if expected is not None and expected.id == provider.id:
        yield from _totals(world, agent_id, hostname, provider.id, provider.resources)
    elif provider.resources:
        yield finding(
            "provider.unknown",
            f"{provider.id}@{agent_id}",
            f"agent {hostname} ({agent_id}) offers {_describe(provider.resources)} of provider {provider.id},"
            + (f" and the ledger's is {expected.id}" if expected is not None else " which the ledger does not know"),
            "restart that mesos-agent: a provider that nobody serves any more has no disks after that",
            evidence=(_fingerprint(provider.resources),),
        )


def _totals(
    world: World, agent_id: str, hostname: str, provider: str, resources: tuple[Json, ...]
) -> Iterator[Finding]:
    agent = world.records.agents.get(agent_id)
    if agent is None or agent.state is not AgentState.CONNECTED or agent_id in world.records.busy:
        return
    wanted = world.records.advertised.get(agent_id, ())
    if equal(wanted, resources):
        return
    missing, surplus = _difference(wanted, resources)
    parts = [f"lacks {_describe(missing)}"] if missing else []
    parts += [f"has {_describe(surplus)} too much"] if surplus else []
    yield finding(
        "provider.totals",
        agent_id,
        f"of provider {provider} on agent {hostname} ({agent_id}) the master {' and '.join(parts)}",
        "the executor there puts it right when it is told again; if this stays, see its log",
        action=TellHost(agent_id),
        evidence=(_fingerprint(wanted), _fingerprint(resources)),
    )


def _difference(wanted: Iterable[Json], found: Iterable[Json]) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """What is only in the one and what is only in the other; resources that differ in size alone are in both."""
    left, right = (Counter(canonical(one) for one in add(side, ())) for side in (wanted, found))
    return tuple(map(json.loads, (left - right).elements())), tuple(map(json.loads, (right - left).elements()))


def _fingerprint(resources: Iterable[Json]) -> tuple[str, ...]:
    return tuple(sorted(canonical(normalise(one)) for one in resources))


def _describe(resources: Iterable[Json]) -> str:
    return ", ".join(map(_words, resources)) or "nothing"


def _words(resource: Json) -> str:
    source = resource.get("disk", {}).get("source", {})
    words = [f"{megabytes(resource):g} MB of profile {source.get('profile', '(none)')}"]
    if role_of(resource):
        words.append(f"for role {role_of(resource)}")
    if persistence_of(resource):
        words.append(f"as volume {persistence_of(resource)}")
    return " ".join(words)
