"""A ledger with one pool, one agent and one lease, as the scheduler half finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polly_mesos.ledger import Ledger
from polly_mesos.model import MB, Agent, AgentState, HostIdentity, LeaseChange, Pool, Profile
from tests.unit.scheduler.lost_cluster import Cluster

GOLD = Profile(name="gold", service="local", minimum_size=16 * MB, maximum_size=4096 * MB)
AGENT = Agent(
    "a1",
    "host1",
    "127.0.0.1:5051",
    AgentState.CONNECTED,
    identities={"local": HostIdentity("127.0.0.1:5051")},
    volume_root="/polly",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db", "test") as opened:
        opened.set_pool(Pool("gold", "gold", "local", "", 10_000 * MB))
        opened.put_agent(AGENT)
        opened.apply_leases([LeaseChange("gold", "a1", 0, 6000 * MB)])
        yield opened


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.half.stop()


@pytest.fixture
def retaining(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose volumes are kept when they are destroyed."""
    made = Cluster(tmp_path, "retain")
    yield made
    made.half.stop()
