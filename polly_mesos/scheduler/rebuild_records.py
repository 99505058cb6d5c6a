"""The records of a rebuilt ledger beside its volumes: agents, providers, pools, reservations, publications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from polly_mesos.model import (
    MB,
    Agent,
    AgentState,
    Pool,
    Profile,
    Provider,
    Publication,
    PublicationState,
    Reservation,
    Volume,
    VolumeState,
)
from polly_mesos.scheduler.half import PROVIDER_TYPE
from polly_mesos.scheduler.rebuild_evidence import AgentWord, Evidence

_DEFAULT_PORT = "5051"
_OFFERED = frozenset({VolumeState.CREATING, VolumeState.READY})


def agents(
    words: Sequence[AgentWord],
    volumes: Sequence[Volume],
    absent: Mapping[str, str],
    roots: Mapping[str, str],
    root_on: Callable[[str, int], str],
) -> list[Agent]:
    """The agents that have our provider or a volume.

    :param absent: agent id -> address of those that only tags name: their hosts may still write
    :param roots: agent id -> volume root as it was offered
    """
    holding = {volume.agent for volume in volumes}
    found = []
    for word in words:
        if word.provider or word.id in holding:
            root = roots.get(word.id) or root_on(word.hostname, _port(word.endpoint))
            found.append(
                Agent(
                    word.id,
                    word.hostname,
                    word.endpoint,
                    AgentState.CHOSEN,
                    attributes=word.attributes,
                    volume_root=root,
                    standalone=not word.launched,
                )
            )
    for agent_id, endpoint in absent.items():
        if agent_id in holding:
            hostname = endpoint.rpartition(":")[0] or agent_id
            root = root_on(hostname, _port(endpoint))
            found.append(Agent(agent_id, hostname, endpoint, AgentState.UNREACHABLE, volume_root=root))
    return found


def _port(endpoint: str) -> int:
    port = endpoint.rpartition(":")[2]
    return int(port if port.isdigit() else _DEFAULT_PORT)


def providers(words: Sequence[AgentWord], cluster: str) -> list[Provider]:
    """The providers that are subscribed, which go on under the same ids."""
    return [Provider(word.id, word.provider, PROVIDER_TYPE, cluster) for word in words if word.provider]


def publications(volumes: Sequence[Volume], attached: Mapping[str, Sequence[str]]) -> list[Publication]:
    """What the platforms say that hosts hold, so that no other host gets it before its holder has said so itself.

    They are ATTACHING: to attach what is attached changes nothing, and tells what the host's driver needs.

    :param attached: volume id -> the platform's names of the hosts that hold it
    """
    return [
        Publication(volume.id, volume.agent, attached[volume.id][0], volume.generation, PublicationState.ATTACHING)
        for volume in volumes
        if volume.state in _OFFERED and volume.agent and attached.get(volume.id)
    ]


def balanced(
    known: Sequence[Pool], profiles: Mapping[str, Profile], volumes: Sequence[Volume], reserved: Sequence[Reservation]
) -> tuple[list[Pool], list[Reservation], list[str]]:
    """Pools and reservations whose sums agree, and statements about pools that are smaller than what is promised.

    Where a pool is too small, bytes of its reservations are taken to be still in volumes that were released on the same
    agent: that is where they are after a DESTROY.
    """
    by_name = {pool.name: pool for pool in known}
    pools, reservations, statements = [], list(reserved), []
    for profile in profiles.values():
        made = sum(volume.size for volume in volumes if volume.pool == profile.pool)
        pool = by_name.get(profile.pool)
        if pool is None:
            pool = Pool(profile.pool, profile.name, profile.service, profile.zone, 0)
            statements.append(f"the capacity of pool {profile.pool} is not known now; it is asked for again")
        excess = made + sum(one.size for one in reservations if one.pool == profile.pool) - pool.capacity
        reservations, left = _less_backed(reservations, volumes, profile.pool, excess)
        if left > 0:
            if pool.capacity:
                statements.append(f"pool {pool.name} has {left // MB} MB less than is promised of it")
            pool = replace(pool, capacity=pool.capacity + left)
        pools.append(pool)
    return pools, reservations, statements


def _less_backed(
    reservations: Sequence[Reservation], volumes: Sequence[Volume], pool: str, excess: int
) -> tuple[list[Reservation], int]:
    released = Counter[str]()
    for volume in volumes:
        if volume.pool == pool and volume.state is VolumeState.RELEASED:
            released[volume.agent] += volume.size
    changed = []
    for one in reservations:
        if one.pool == pool and excess > 0:
            less = min(excess, one.backed, released[one.agent])
            released[one.agent] -= less
            excess -= less
            changed.append(replace(one, backed=one.backed - less))
        else:
            changed.append(one)
    return changed, max(excess, 0)


def statements(evidence: Evidence, absent: Mapping[str, str]) -> Iterator[str]:
    """What could not be known of Mesos, in sentences for people."""
    if not evidence.framework_id:
        yield (
            "the id of Polly's framework could not be told: polly serve registers as a new one, and the executors of"
            " the old one go on until its failover timeout is over, or until it is torn down in the master"
        )
    for word in evidence.agents:
        if word.problem:
            whose = "the master's word was taken" if word.provider else "what it offers is not known"
            yield f"agent {word.hostname} ({word.id}) could not be asked, and {whose}: {word.problem}"
        elif word.provider and not word.launched:
            yield (
                f"the executor half on agent {word.hostname} ({word.endpoint}) was started by hand and needs a new"
                f" token: polly agent register {word.endpoint}"
            )
    for agent_id, endpoint in absent.items():
        yield (
            f"agent {agent_id} ({endpoint}) is not registered with the master and its host may still write: its volumes"
            " wait for it until it is back, or fenced (polly agent fence)"
        )
