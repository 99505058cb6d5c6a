"""What the capacity planner looks at: pools, agents and leases at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from polly_mesos.model import MB

Leases = Mapping[tuple[str, str], int]
"""(pool, agent) -> bytes."""


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool as the ledger has it.

    :param zones: those whose hosts can have its volumes; empty where all can
    :param capacity: bytes that may be promised in all
    :param committed: bytes of the reservations that are backed, and of the volumes
    :param minimum_size: smallest volume that the profile allows
    :param maximum_size: largest volume that the profile allows, None where it does not say
    :param retired: the agent that must hand the big lease on (:attr:`Turn.retired`), empty for none
    """

    name: str
    service: str
    zones: frozenset[str]
    capacity: int
    committed: int = 0
    minimum_size: int = MB
    maximum_size: int | None = None
    retired: str = ""


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """An agent as the ledger has it.

    :param zones: service -> this host's zone there, empty where the service has none; a service that is not here
        cannot be used on this host
    :param slots: service -> how many more volumes can be attached; None, or no entry, where there is no limit
    :param eligible: chosen, connected, and to be given leases
    :param reclaimable: of an agent that is not eligible: its leases may be taken back, because it can be told or is
        gone for good. Unreachable is neither
    """

    id: str
    zones: Mapping[str, str]
    slots: Mapping[str, int | None] = field(default_factory=dict)
    eligible: bool = True
    reclaimable: bool = False

    def can_use(self, pool: PoolSnapshot) -> bool:
        """Whether the agent may have a lease of the pool."""
        zone = self.zones.get(pool.service)
        if not self.eligible or zone is None or (pool.zones and zone not in pool.zones):
            return False
        slots = self.slots.get(pool.service)
        return slots is None or slots > 0


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is to hold a pool's big lease.

    :param holder: the agent with the largest lease
    :param size: of that lease when it was last looked at
    :param since: when it came there or was last used
    :param retired: the agent that must hand the big lease on, empty for none
    """

    holder: str
    size: int
    since: float
    retired: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a plan is made from. Leases of agents that are not in ``agents`` count and are left alone."""

    pools: Sequence[PoolSnapshot]
    agents: Sequence[AgentSnapshot]
    leases: Leases


def by_pool(leases: Leases) -> dict[str, dict[str, int]]:
    """Leases as pool -> agent -> bytes."""
    pools: dict[str, dict[str, int]] = {}
    for (pool, agent), size in leases.items():
        pools.setdefault(pool, {})[agent] = size
    return pools


def users(pool: PoolSnapshot, agents: Iterable[AgentSnapshot]) -> list[str]:
    """The agents that can use the pool, in the order of their ids."""
    return sorted(agent.id for agent in agents if agent.can_use(pool))


def whole_mb(size: int) -> int:
    """Rounded down to whole MB; nothing where it is negative."""
    return max(0, size // MB * MB)
