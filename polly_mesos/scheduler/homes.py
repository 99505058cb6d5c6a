"""Which agent is to offer a volume that has none. Pure: agents and volumes in, an agent out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from polly_mesos.ledger.volumes import role_of
from polly_mesos.model import Agent, Volume


@dataclass(slots=True)
class Neighbours:
    """What is on an agent already.

    :param volumes: service -> how many volumes it offers
    :param names: role and persistence id of each of them
    """

    volumes: Counter[str] = field(default_factory=Counter)
    names: set[tuple[str, str]] = field(default_factory=set)

    def add(self, volume: Volume) -> None:
        """Count one more volume."""
        self.volumes[volume.service] += 1
        if volume.persistence_id:
            self.names.add((role_of(volume.owner), volume.persistence_id))


def choose(
    volume: Volume, reach: Collection[str], agents: Iterable[Agent], around: Mapping[str, Neighbours]
) -> tuple[str, str]:
    """The agent that is to offer a volume: the one with the fewest volumes of those that can.

    :param reach: the zones whose hosts can have the volume, empty where all can
    :param agents: those that are connected and not being drained
    :returns: the agent's id and an empty text, or an empty id and why there is none
    """
    refused: Counter[str] = Counter()
    found: list[tuple[int, str]] = []
    for agent in agents:
        near = around.get(agent.id) or Neighbours()
        count = near.volumes[volume.service]
        identity = agent.identities.get(volume.service)
        if identity is None or volume.service in agent.problems:
            refused[f"cannot use service {volume.service}"] += 1
        elif reach and identity.zone not in reach:
            refused[f"not in zone {' or '.join(sorted(reach))}"] += 1
        elif identity.attach_limit is not None and count >= identity.attach_limit:
            refused["no attach slot free"] += 1
        elif volume.persistence_id and (role_of(volume.owner), volume.persistence_id) in near.names:
            refused["a volume of this name there"] += 1
        else:
            found.append((count, agent.id))
    if found:
        return min(found)[1], ""
    return "", ", ".join(f"{why} ({count})" for why, count in sorted(refused.items())) or "no other agent is connected"


def neighbours(volumes: Iterable[Volume]) -> defaultdict[str, Neighbours]:
    """Agent -> what it offers; an agent that is not here offers nothing."""
    found: defaultdict[str, Neighbours] = defaultdict(Neighbours)
    for volume in volumes:
        if volume.agent:
            found[volume.agent].add(volume)
    return found
