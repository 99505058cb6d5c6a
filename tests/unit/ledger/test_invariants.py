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

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from polly_mesos.errors import InsufficientCapacity, PollyError
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
    tables,
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
    Reservation,
    Volume,
    VolumeKind,
    VolumeState,
)

CAPACITY = 12
AGENTS = ("a1", "a2")
OWNERS = ('[{"role":"r1"}]', '[{"role":"r2"}]')

agents = st.sampled_from(AGENTS)
owners = st.sampled_from(OWNERS)
anyone = st.sampled_from(("", *OWNERS))
sizes = st.integers(1, 5)
anything = st.integers(0, 1000)
reclaims = st.sampled_from(Reclaim)
names = st.sampled_from(("", "data", "log"))


def content(ledger: Ledger) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with ledger.reading() as connection:
        return {
            name: sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {name}")), key=repr)
            for name in tables.metadata.tables
        }


@cache
def _new_ledger() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        Ledger.open(path, "test").close()
        return path.read_bytes()


def wanted(agent: str, owner: str, name: str, size: int, kind: VolumeKind) -> Volume:
    """A volume to be asked for."""
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


class LedgerMachine(RuleBasedStateMachine):
    """One pool, two agents, two owners, and everything that can be asked of them."""

    volumes = Bundle("volumes")
    publications = Bundle("publications")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="polly-ledger-"))
        self.ledger: Ledger | None = None
        self.asked: list[tuple[Operation, Change, Operation]] = []

    @initialize(target=volumes)
    def open(self) -> Any:
        path = self.directory / "ledger.sqlite"
        path.write_bytes(_new_ledger())
        self.ledger = Ledger.open(path, "test")
        self.ledger.set_pool(Pool("gold", "gold", "disks", "", CAPACITY))
        for agent in AGENTS:
            self.ledger.put_agent(Agent(agent, agent, f"{agent}:5051", AgentState.CONNECTED))
        self.ledger.apply_leases([LeaseChange("gold", "a1", 0, 10)])
        self.reserve("a1", "", OWNERS[0], 8, shared=False)
        return self.create(0, "data", 5)

    def teardown(self) -> None:
        try:
            if self.ledger:
                assert [found for found in check(self.ledger) if found.severity is Severity.ERROR] == []
                self.ledger.close()
        finally:
            shutil.rmtree(self.directory)

    def admit(self, agent: str, change: Change) -> bool:
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
            after = content(self.ledger)
            assert len(after.pop("verdicts")) == len(before.pop("verdicts")) + 1
            assert after == before
        self.asked.append((operation, change, verdict))
        return verdict.state is OperationState.DONE

    @rule(agent=agents, to=st.integers(0, CAPACITY + 2))
    def plan(self, agent: str, to: int) -> None:
        assert self.ledger
        before = sum(lease.size for lease in self.ledger.leases(agent))
        free = self.ledger.balance()["gold"].free
        change = LeaseChange("gold", agent, before, to)
        assert self.ledger.apply_leases([change]) == ([change] if to - before <= free else [])

    @rule(agent=agents, before=anyone, after=owners, size=sizes, shared=st.booleans())
    def reserve(self, agent: str, before: str, after: str, size: int, shared: bool) -> None:
        self.admit(agent, Reserve("gold", agent, before, after, size, shared))

    @rule(held=anything, after=anyone, size=sizes, shared=st.booleans())
    def unreserve(self, held: int, after: str, size: int, shared: bool) -> None:
        for reservation in self.one_of_the_reservations(held):
            change = Unreserve("gold", reservation.agent, reservation.owner, after, size, shared)
            self.admit(reservation.agent, change)

    @rule(target=volumes, held=anything, name=names, size=sizes)
    def create(self, held: int, name: str, size: int) -> Any:
        for reservation in self.one_of_the_reservations(held):
            volume = wanted(reservation.agent, reservation.owner, name, min(size, reservation.size), VolumeKind.PATH)
            if self.admit(volume.agent, CreateVolume(volume)):
                return volume
        return multiple()

    def one_of_the_reservations(self, number: int) -> list[Reservation]:
        assert self.ledger
        found = self.ledger.reservations()
        return [found[number % len(found)]] if found else []

    @rule(target=volumes, agent=agents, owner=anyone, size=sizes, shared=st.booleans())
    def create_disk(self, agent: str, owner: str, size: int, shared: bool) -> Any:
        volume = wanted(agent, owner, "", size, VolumeKind.MOUNT)
        return volume if self.admit(agent, CreateDisk(volume, shared)) else multiple()

    @rule(target=volumes, agent=st.sampled_from(("", *AGENTS)), owner=anyone, size=sizes)
    def add(self, agent: str, owner: str, size: int) -> Any:
        assert self.ledger
        try:
            return self.ledger.add_volume(wanted(agent, owner, "", size, VolumeKind.MOUNT))
        except InsufficientCapacity:
            return multiple()

    @rule(volume=volumes, reclaim=reclaims)
    def destroy(self, volume: Volume, reclaim: Reclaim) -> None:
        assert self.ledger
        if volume.kind is VolumeKind.PATH:
            self.admit(volume.agent, DestroyVolume(volume.id, reclaim))
        elif self.ledger.volume(volume.id).persistence_id:
            self.admit(volume.agent, ClearPersistence(volume.id, reclaim))
        else:
            self.admit(volume.agent, DestroyDisk(volume.id, reclaim is Reclaim.RETAIN))

    @rule(volume=volumes, owner=anyone, name=names, claim=st.booleans())
    def use_disk(self, volume: Volume, owner: str, name: str, claim: bool) -> None:
        change = SetOwner(volume.id, owner) if claim else SetPersistence(volume.id, name, {}, owner)
        self.admit(volume.agent, change)

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
            # A host with an old publication changes nothing for the one that has the volume now.
            assert self.ledger.publication(publication.volume) == current

    @precondition(lambda machine: machine.asked)
    @rule(number=anything, acknowledged=st.booleans())
    def repeat(self, number: int, acknowledged: bool) -> None:
        assert self.ledger
        operation, change, verdict = self.asked[number % len(self.asked)]
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

    @invariant()
    def the_books_balance(self) -> None:
        if not self.ledger:
            return
        balance = self.ledger.balance()["gold"]
        counted = sum(volume.size for volume in self.ledger.volumes() if volume.state is not VolumeState.DELETED)
        assert balance.volumes == counted
        assert balance.leased + balance.reserved + counted <= CAPACITY
        assert balance.free >= 0


TestLedger = LedgerMachine.TestCase
TestLedger.pytestmark = [pytest.mark.timeout(900)]  # a failure takes minutes to become a short story
TestLedger.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
