"""Whatever is asked in whatever order: the books balance, one host has a volume, repeats and reopening do nothing."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from polly_mesos.errors import PollyError
from polly_mesos.ledger import (
    Change,
    ClearPersistence,
    CreateDisk,
    CreateVolume,
    DestroyDisk,
    DestroyVolume,
    LeaseChange,
    Ledger,
    Reserve,
    SetOwner,
    SetPersistence,
    Unreserve,
)
from polly_mesos.ledger.check import Severity, check
from polly_mesos.model import (
    Agent,
    AgentState,
    Operation,
    OperationState,
    Pool,
    Publication,
    Reclaim,
    Volume,
    VolumeKind,
    VolumeState,
)

CAPACITY = 20
AGENTS = ("a1", "a2")
OWNERS = ('[{"role":"r1"}]', '[{"role":"r2"}]')

agents = st.sampled_from(AGENTS)
owners = st.sampled_from(OWNERS)
anyone = st.sampled_from(("", *OWNERS))
sizes = st.integers(1, 8)
reclaims = st.sampled_from(Reclaim)
names = st.sampled_from(("", "data", "log"))


def content(ledger: Ledger) -> Any:
    """All that the ledger says."""
    return (
        ledger.framework_id(),
        ledger.pools(),
        ledger.agents(),
        ledger.holdings(),
        ledger.volumes(),
        ledger.publications(),
        ledger.operations(limit=10_000),
    )


@cache
def _new_ledger() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        Ledger.open(path, "test").close()
        return path.read_bytes()


class LedgerMachine(RuleBasedStateMachine):
    """One pool, two agents, two owners, and everything that can be asked of them."""

    volumes = Bundle("volumes")
    operations = Bundle("operations")
    publications = Bundle("publications")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="polly-ledger-"))
        self.ledger: Ledger | None = None

    @initialize()
    def open(self) -> None:
        path = self.directory / "ledger.sqlite"
        path.write_bytes(_new_ledger())
        self.ledger = Ledger.open(path, "test")
        self.ledger.set_pool(Pool("gold", "gold", "disks", "", CAPACITY))
        for agent in AGENTS:
            self.ledger.put_agent(Agent(agent, agent, f"{agent}:5051", AgentState.CONNECTED))

    def teardown(self) -> None:
        if self.ledger:
            assert [found for found in check(self.ledger) if found.severity is Severity.ERROR] == []
            self.ledger.close()
        shutil.rmtree(self.directory)

    def admit(self, agent: str, change: Change) -> Any:
        """Admit or refuse; a refusal changes nothing but the record of it."""
        assert self.ledger
        operation = Operation(
            id=str(uuid.uuid4()),
            kind=type(change).__name__,
            subject=agent,
            state=OperationState.INTENT,
            agent=agent,
            status_uuid=str(uuid.uuid4()),
        )
        before = content(self.ledger)
        try:
            verdict = self.ledger.admit(operation, change)
        except PollyError as error:
            assert content(self.ledger) == before
            verdict = self.ledger.refuse(operation, error)
            assert content(self.ledger)[:-1] == before[:-1]
        return operation, change, verdict

    @rule(agent=agents, to=st.integers(0, CAPACITY + 5))
    def plan(self, agent: str, to: int) -> None:
        assert self.ledger
        before = sum(lease.size for lease in self.ledger.leases(agent))
        free = self.ledger.balance()["gold"].free
        change = LeaseChange("gold", agent, before, to)
        assert self.ledger.apply_leases([change]) == ([change] if to - before <= free else [])

    @rule(target=operations, agent=agents, before=anyone, after=owners, size=sizes, shared=st.booleans())
    def reserve(self, agent: str, before: str, after: str, size: int, shared: bool) -> Any:
        return self.admit(agent, Reserve("gold", agent, before, after, size, shared))

    @rule(target=operations, agent=agents, before=owners, after=anyone, size=sizes, shared=st.booleans())
    def unreserve(self, agent: str, before: str, after: str, size: int, shared: bool) -> Any:
        return self.admit(agent, Unreserve("gold", agent, before, after, size, shared))

    @rule(targets=(volumes,), agent=agents, owner=owners, name=names, size=sizes)
    def create(self, agent: str, owner: str, name: str, size: int) -> Any:
        volume = self.wanted(agent, owner, name, size, VolumeKind.PATH)
        self.admit(agent, CreateVolume(volume))
        return volume

    @rule(targets=(volumes,), agent=agents, owner=anyone, size=sizes, shared=st.booleans())
    def create_disk(self, agent: str, owner: str, size: int, shared: bool) -> Any:
        volume = self.wanted(agent, owner, "", size, VolumeKind.MOUNT)
        self.admit(agent, CreateDisk(volume, shared))
        return volume

    @rule(targets=(volumes,), agent=st.sampled_from(("", *AGENTS)), owner=anyone, size=sizes)
    def add(self, agent: str, owner: str, size: int) -> Any:
        assert self.ledger
        volume = self.wanted(agent, owner, "", size, VolumeKind.MOUNT)
        with contextlib.suppress(PollyError):
            self.ledger.add_volume(volume)
        return volume

    @rule(target=operations, volume=volumes, reclaim=reclaims, shared=st.booleans(), owner=anyone, name=names)
    def change_volume(self, volume: Volume, reclaim: Reclaim, shared: bool, owner: str, name: str) -> Any:
        changes: list[Change] = [
            DestroyVolume(volume.id, reclaim),
            DestroyDisk(volume.id, shared),
            ClearPersistence(volume.id, reclaim),
            SetPersistence(volume.id, name, {"persistence": {"id": name}}, owner),
            SetOwner(volume.id, owner),
        ]
        return multiple(*(self.admit(volume.agent, change) for change in changes[:: -1 if shared else 1]))

    @rule(volume=volumes, step=st.sampled_from(("created", "failed", "failed for good", "delete", "deleted")))
    def platform(self, volume: Volume, step: str) -> None:
        assert self.ledger
        steps = {
            "created": lambda ledger: ledger.volume_created(volume.id, f"vol-{volume.id}"),
            "failed": lambda ledger: ledger.volume_failed(volume.id, "no", final=False),
            "failed for good": lambda ledger: ledger.volume_failed(volume.id, "no", final=True),
            "delete": lambda ledger: ledger.delete_volume(volume.id),
            "deleted": lambda ledger: ledger.volume_deleted(volume.id),
        }
        with contextlib.suppress(PollyError):
            steps[step](self.ledger)

    @rule(target=publications, volume=volumes, agent=agents)
    def publish(self, volume: Volume, agent: str) -> Any:
        assert self.ledger
        try:
            return self.ledger.publish(volume.id, agent, f"host of {agent}")
        except PollyError:
            return multiple()

    @rule(
        publication=publications,
        steps=st.lists(
            st.sampled_from(("attached", "formatting", "formatted", "published", "unpublished", "detached")), max_size=6
        ),
    )
    def on_host(self, publication: Publication, steps: list[str]) -> None:
        assert self.ledger
        arguments: dict[str, tuple[Any, ...]] = {"attached": ({"at": "x"},), "published": ("/dev/x", "/target")}
        current = self.ledger.publication(publication.volume)
        over = current is None or current.generation != publication.generation
        for step in steps:
            with contextlib.suppress(PollyError):
                getattr(self.ledger, step)(publication.volume, publication.generation, *arguments.get(step, ()))
        if over:
            assert self.ledger.publication(publication.volume) == current

    @rule(asked=operations, acknowledged=st.booleans())
    def repeat(self, asked: Any, acknowledged: bool) -> None:
        assert self.ledger
        operation, change, verdict = asked
        if acknowledged:
            self.ledger.acknowledge(operation.id)
        before = content(self.ledger)
        again = self.ledger.admit(operation, change)
        assert replace(again, acknowledged=False) == verdict
        assert content(self.ledger) == before

    @rule()
    def reopen(self) -> None:
        assert self.ledger
        before = content(self.ledger)
        self.ledger.close()
        self.ledger = Ledger.open(self.directory / "ledger.sqlite", "test")
        assert content(self.ledger) == before
        assert [found for found in check(self.ledger) if found.severity is Severity.ERROR] == []

    @invariant()
    def the_books_balance(self) -> None:
        if not self.ledger:
            return
        balance = self.ledger.balance()["gold"]
        counted = sum(volume.size for volume in self.ledger.volumes() if volume.state is not VolumeState.DELETED)
        assert balance.volumes == counted
        assert balance.leased + balance.reserved + counted <= CAPACITY
        assert balance.free >= 0

    def wanted(self, agent: str, owner: str, name: str, size: int, kind: VolumeKind) -> Volume:
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
        )


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
