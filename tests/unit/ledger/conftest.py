"""A ledger with one pool and two agents, and short ways to ask it for things."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from polly_mesos.ledger import Change, CreateVolume, LeaseChange, Ledger, Reserve, Unreserve
from polly_mesos.model import MB, Agent, AgentState, Operation, OperationState, Pool, Volume, VolumeKind, VolumeState

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'
OTHER = '[{"role":"other","type":"DYNAMIC"}]'


class Desk:
    """Asks a ledger in few words; pool ``gold`` and agent ``a1`` unless said otherwise."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def furnish(self, capacity: int = 100 * GB) -> None:
        self.ledger.set_pool(Pool("gold", "gold", "disks", "", capacity))
        for agent in ("a1", "a2"):
            self.ledger.put_agent(Agent(agent, f"{agent}.example", f"{agent}.example:5051", AgentState.CONNECTED))

    def lease(self, size: int, agent: str = "a1") -> None:
        before = self.leased(agent)
        assert self.ledger.apply_leases([LeaseChange("gold", agent, before, size)])

    def leased(self, agent: str = "a1") -> int:
        return sum(lease.size for lease in self.ledger.leases(agent))

    def admit(self, change: Change, *, agent: str = "a1", operation_id: str = "", detail: str = "") -> Operation:
        return self.ledger.admit(self.operation(agent=agent, operation_id=operation_id, detail=detail), change)

    def operation(self, *, agent: str = "a1", operation_id: str = "", detail: str = "") -> Operation:
        return Operation(
            id=operation_id or str(uuid.uuid4()),
            kind="mesos.ANY",
            subject=agent,
            state=OperationState.INTENT,
            agent=agent,
            framework="f1",
            detail={"asked": detail},
            outcome={"converted": [{"name": "disk"}]},
            status_uuid=str(uuid.uuid4()),
        )

    def reserve(self, size: int, owner: str = OWNER, *, agent: str = "a1", shared: bool = False) -> Operation:
        return self.admit(Reserve("gold", agent, "", owner, size, shared), agent=agent)

    def unreserve(self, size: int, owner: str = OWNER, *, agent: str = "a1", shared: bool = False) -> Operation:
        return self.admit(Unreserve("gold", agent, owner, "", size, shared), agent=agent)

    def create(self, size: int, name: str = "data", owner: str = OWNER, *, agent: str = "a1") -> Volume:
        wanted = self.wanted(size, name, owner, agent=agent)
        self.admit(CreateVolume(wanted), agent=agent)
        return self.ledger.volume(wanted.id)

    def wanted(
        self,
        size: int,
        name: str = "data",
        owner: str = OWNER,
        *,
        agent: str = "a1",
        kind: VolumeKind = VolumeKind.PATH,
    ) -> Volume:
        return Volume(
            id=str(uuid.uuid4()),
            pool="gold",
            profile="gold",
            service="disks",
            kind=kind,
            size=size,
            state=VolumeState.CREATING,
            agent=agent,
            owner=owner,
            persistence_id=name,
            persistence={"persistence": {"id": name}} if name else {},
            framework="f1",
        )

    def reserved(self, owner: str = OWNER, agent: str = "a1") -> tuple[int, int]:
        """Size and backed bytes of a reservation."""
        found = [held for held in self.ledger.reservations(agent) if held.owner == owner]
        return (found[0].size, found[0].backed) if found else (0, 0)

    def free(self) -> int:
        return self.ledger.balance()["gold"].free


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A new ledger's file, made once because that takes longest."""
    path = tmp_path_factory.mktemp("ledger") / "empty.sqlite"
    Ledger.open(path, "test").close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, empty_ledger: bytes) -> Path:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(empty_ledger)
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path, "test") as ledger:
        yield ledger


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    desk = Desk(ledger)
    desk.furnish()
    return desk
