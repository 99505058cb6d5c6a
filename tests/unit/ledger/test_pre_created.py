"""Volumes that an operator makes ahead of their use find room although every byte is leased."""

from __future__ import annotations

from pathlib import Path

import pytest

from polly_mesos.errors import InsufficientCapacity
from polly_mesos.ledger import Ledger
from polly_mesos.model import MB, Agent, AgentState, LeaseChange, Pool, Volume, VolumeKind, VolumeState


def volume(size: int, agent: str = "a1") -> Volume:
    return Volume(
        "5e2b9c10-1111-4c6e-8a53-7a0a8e8b0d01",
        "gold",
        "gold",
        "local",
        VolumeKind.MOUNT,
        size,
        VolumeState.CREATING,
        agent=agent,
    )


@pytest.fixture
def leased(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(tmp_path / "ledger.db", "test")
    ledger.set_pool(Pool("gold", "gold", "local", "", 1000 * MB))
    for name, size in (("a1", 300), ("a2", 700)):
        ledger.put_agent(Agent(name, name, f"{name}:5051", AgentState.CONNECTED))
        ledger.apply_leases([LeaseChange("gold", name, 0, size * MB)])
    return ledger


def sizes(ledger: Ledger) -> dict[str, int]:
    return {lease.agent: lease.size // MB for lease in ledger.leases() if lease.size}


def test_its_own_agents_lease_gives_first(leased: Ledger) -> None:
    with leased:
        leased.add_volume(volume(100 * MB))
        assert sizes(leased) == {"a1": 200, "a2": 700}


def test_then_the_largest_gives(leased: Ledger) -> None:
    with leased:
        leased.add_volume(volume(400 * MB))
        assert sizes(leased) == {"a2": 600}
        assert leased.balance()["gold"].free == 0


def test_more_than_there_is_changes_nothing(leased: Ledger) -> None:
    with leased:
        with pytest.raises(InsufficientCapacity):
            leased.add_volume(volume(1001 * MB))
        assert sizes(leased) == {"a1": 300, "a2": 700}
        assert not leased.volumes()
