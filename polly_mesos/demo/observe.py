"""What Polly and Mesos say is so. Nothing here fails where one of them does not answer: it may be starting again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from polly_mesos.model import MB, Json

_VENDOR = "polly."
"""How DiskInfo.Source.vendor begins on Polly's disks."""


@dataclass(frozen=True)
class Space:
    """Where the bytes of all pools are, by Polly's ledger and by the Mesos master.

    :param capacity: of the pools; the next four are its parts
    :param free: on no agent's offer
    :param offered: in the master's view, unreserved on some agent: what frameworks are offered
    :param claimed: in the master's view, reserved or in a persistent volume
    """

    capacity: int
    leased: int
    reserved: int
    volumes: int
    free: int
    offered: int
    claimed: int


@dataclass
class Observation:
    """One look at everything; empty where nobody answered."""

    health: Json = field(default_factory=dict)
    agents: list[Json] = field(default_factory=list)
    volumes: list[Json] = field(default_factory=list)
    pools: list[Json] = field(default_factory=list)
    disks: list[tuple[str, Json]] = field(default_factory=list)
    """Polly's disks in the master's view: (agent id, resource)."""

    @property
    def offered(self) -> dict[str, int]:
        """Agent id -> bytes unreserved on it."""
        found: dict[str, int] = {}
        for agent, disk in self.disks:
            if not disk.get("reservations"):
                found[agent] = found.get(agent, 0) + int(disk["scalar"]["value"]) * MB
        return found

    @property
    def space(self) -> Space:
        """The sums over all pools and agents."""
        claimed = sum(int(disk["scalar"]["value"]) * MB for _, disk in self.disks if disk.get("reservations"))
        parts = {
            name: sum(pool[name] for pool in self.pools)
            for name in ("capacity", "leased", "reserved", "volumes", "free")
        }
        return Space(**parts, offered=sum(self.offered.values()), claimed=claimed)


class Observer:
    """Looks at a scheduler half and a master.

    :param polly: URL of the scheduler half
    :param master: ``host:port``
    """

    def __init__(self, polly: str, master: str) -> None:
        self.polly, self.master = polly, f"http://{master}"
        self._http = httpx.Client(timeout=5.0)

    def look(self) -> Observation:
        """Ask them all."""
        return Observation(
            health=self._get(f"{self.polly}/health", {}),
            agents=self._get(f"{self.polly}/v1/agents", []),
            volumes=self._get(f"{self.polly}/v1/volumes", []),
            pools=self._get(f"{self.polly}/v1/pools", []),
            disks=list(_disks(self._get(f"{self.master}/slaves", {}))),
        )

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def _get(self, url: str, otherwise: Any) -> Any:
        try:
            return self._http.get(url).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return otherwise


def _disks(slaves: Json) -> Iterator[tuple[str, Json]]:
    """The master's ``/slaves`` (src/master/readonly_handler.cpp): reservations are listed by role."""
    for agent in slaves.get("slaves", ()):
        claimed = [disk for disks in agent.get("reserved_resources_full", {}).values() for disk in disks]
        for disk in agent.get("unreserved_resources_full", []) + claimed:
            if str(disk.get("disk", {}).get("source", {}).get("vendor", "")).startswith(_VENDOR):
                yield agent["id"], disk
