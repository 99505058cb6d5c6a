"""Whatever is asked in whatever order: the books balance, one host has a volume, repeats and reopening do nothing."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from sqlalchemy import select

from polly_mesos import faults
from polly_mesos.errors import InsufficientCapacity, PollyError, UnknownAgent
from polly_mesos.ledger import (
    AdoptVolume,
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
    FormatState,
    Operation,
    OperationState,
    Pool,
    Publication,
    PublicationState,
    Reclaim,
    Reservation,
    Volume,
    VolumeKind,
    VolumeState,
)

CAPACITY = 12
AGENTS = ("a1", "a2", "a3")
"""The last is where the first is: it is the first that came back under another Mesos id."""
GOING = frozenset({VolumeState.RELEASED, VolumeState.DELETING, VolumeState.DELETED})
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


def timeless(ledger: Ledger) -> dict[str, list[Any]]:
    """All rows without their times, of which a repeat may write new ones."""
    with ledger.reading() as connection:
        return {
            name: sorted(
                map(
                    tuple,
                    connection.execute(
                        select(*(column for column in table.c if column.name not in ("updated", "time")))
                    ),
                ),
                key=repr,
            )
            for name, table in tables.metadata.tables.items()
        }


def host_of(agent: str) -> str:
    """Who an agent's host is to the platform."""
    return "host of " + (AGENTS[0] if agent == AGENTS[-1] else agent)


class Crash(BaseException):
    """The process ends here."""


def _crash() -> None:
    raise Crash


class LedgerMachine(RuleBasedStateMachine):
    """One pool, two agents, two owners, and everything that can be asked of them."""

    volumes = Bundle("volumes")
    publications = Bundle("publications")

    def __init__(self) -> None:
        super().__init__()
        self.ready: set[str] = set()
        self.unwanted: set[str] = set()
        self.generations: dict[str, int] = {}
        self.told = 0
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
            self.appear(agent)
        self.ledger.apply_leases([LeaseChange("gold", "a1", 0, 10)])
        self.reserve("a1", "", OWNERS[0], 8, shared=False)
        return self.create(0, "data", 5)

    @rule(agent=agents)
    def appear(self, agent: str) -> None:
        assert self.ledger
        if agent not in self.ledger.agents():
            node = AGENTS[0] if agent == AGENTS[-1] else agent
            self.ledger.put_agent(Agent(agent, node, f"{node}:5051", AgentState.CONNECTED))

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
        if agent not in self.ledger.agents():
            return
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
        except (InsufficientCapacity, UnknownAgent):
            return multiple()

    @rule(volume=volumes, reclaim=reclaims)
    def destroy(self, volume: Volume, reclaim: Reclaim) -> None:
        assert self.ledger
        volume = self.as_it_is(volume)
        self.unwanted.add(volume.id)
        if volume.kind is VolumeKind.PATH:
            self.admit(volume.agent, DestroyVolume(volume.id, reclaim))
        elif volume.persistence_id:
            self.admit(volume.agent, ClearPersistence(volume.id, reclaim))
        else:
            self.admit(volume.agent, DestroyDisk(volume.id, reclaim is Reclaim.RETAIN))

    @rule(volume=volumes, owner=anyone, name=names, claim=st.booleans())
    def use_disk(self, volume: Volume, owner: str, name: str, claim: bool) -> None:
        change = SetOwner(volume.id, owner) if claim else SetPersistence(volume.id, name, {}, owner)
        self.admit(self.as_it_is(volume).agent, change)

    @rule(volume=volumes, step=st.sampled_from(("created", "failed", "failed for good", "delete", "deleted")))
    def platform(self, volume: Volume, step: str) -> None:
        assert self.ledger
        ledger = self.ledger
        steps = {
            "created": lambda ledger: ledger.volume_created(volume.id, f"vol-{volume.id}"),
            "failed": lambda ledger: ledger.volume_failed(volume.id, "no", final=False),
            "failed for good": lambda ledger: ledger.volume_failed(volume.id, "no", final=True),
            "delete": lambda ledger: ledger.delete_volume(volume.id),
            "deleted": lambda ledger: ledger.volume_deleted(volume.id),
        }
        if step == "delete":
            self.unwanted.add(volume.id)
        self.twice(lambda: steps[step](ledger))

    @rule(target=publications, volume=volumes, agent=agents)
    def publish(self, volume: Volume, agent: str) -> Any:
        assert self.ledger
        try:
            return self.ledger.publish(volume.id, agent, host_of(agent))
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

    def twice(self, ask: Callable[[], object]) -> None:
        """Ask for something that may be refused, and see that asking again changes nothing but times."""
        assert self.ledger
        before = content(self.ledger)
        try:
            ask()
        except PollyError:
            assert content(self.ledger) == before
            return
        after = timeless(self.ledger)
        ask()
        assert timeless(self.ledger) == after

    @rule(agent=agents, state=st.sampled_from(AgentState))
    def hear_of(self, agent: str, state: AgentState) -> None:
        self.twice(lambda: self.the_ledger().set_agent_state(agent, state))

    @rule(agent=agents, service=st.sampled_from(("disks", "tapes")))
    def fence(self, agent: str, service: str) -> None:
        self.twice(lambda: self.the_ledger().fence(agent, service, "it is off"))

    @rule(agent=agents)
    def dissolve(self, agent: str) -> None:
        self.twice(lambda: self.the_ledger().dissolve(agent))

    @rule(agent=agents)
    def forget(self, agent: str) -> None:
        self.twice(lambda: self.the_ledger().forget_agent(agent))

    @rule(old=agents, new=agents)
    def replace(self, old: str, new: str) -> None:
        self.twice(lambda: self.the_ledger().replace_agent(old, new))

    @rule(volume=volumes, agent=st.sampled_from(("", *AGENTS)))
    def move(self, volume: Volume, agent: str) -> None:
        self.twice(lambda: self.the_ledger().move_volume(volume.id, agent))

    @rule(volume=volumes, held=anything, name=names)
    def adopt(self, volume: Volume, held: int, name: str) -> None:
        for reservation in self.one_of_the_reservations(held):
            change = AdoptVolume(volume.id, reservation.agent, reservation.owner, name, {}, "f")
            self.admit(reservation.agent, change)

    @rule(target=volumes, agent=st.sampled_from(("", *AGENTS)), owner=owners, size=sizes, released=st.booleans())
    def find(self, agent: str, owner: str, size: int, released: bool) -> Any:
        volume = replace(
            wanted(agent, owner, "", size, VolumeKind.PATH),
            state=VolumeState.RELEASED if released else VolumeState.READY,
            platform_id="found",
            format_state=FormatState.FORMATTED,
        )
        self.twice(lambda: self.the_ledger().adopt_volume(volume))
        return volume if volume.id in {known.id for known in self.the_ledger().volumes()} else multiple()

    @rule(target=publications, volume=volumes, agent=agents, ahead=st.integers(-1, 2))
    def adopt_publication(self, volume: Volume, agent: str, ahead: int) -> Any:
        generation = self.as_it_is(volume).generation + ahead
        current = self.the_ledger().publication(volume.id)
        self.twice(lambda: self.the_ledger().adopt_publication(volume.id, agent, host_of(agent), generation, "/target"))
        adopted = self.the_ledger().publication(volume.id)
        if current is not None and adopted is not None:
            assert adopted.host == current.host
        return adopted or multiple()

    @rule(ahead=st.sampled_from((-1e9, 1e9)), keep=st.integers(1, 3))
    def prune(self, ahead: float, keep: int) -> None:
        waiting = {operation.id for agent in AGENTS for operation in self.the_ledger().unacknowledged(agent)}
        last = [event.number for event in self.the_ledger().events(limit=1)]
        self.twice(lambda: self.the_ledger().prune(time.time() + ahead, keep=keep))
        assert waiting == {operation.id for agent in AGENTS for operation in self.the_ledger().unacknowledged(agent)}
        assert last == [event.number for event in self.the_ledger().events(limit=1)]

    def as_it_is(self, volume: Volume) -> Volume:
        """What the ledger knows of it; what was asked for where it was pruned."""
        return next((known for known in self.the_ledger().volumes() if known.id == volume.id), volume)

    def the_ledger(self) -> Ledger:
        assert self.ledger
        return self.ledger

    @rule(volume=volumes, agent=agents, step=st.integers(0, 5), written=st.booleans())
    def crash(self, volume: Volume, agent: str, step: int, written: bool) -> None:
        """The process ends at the ledger's commit, before or after it: the step was made whole, or not at all."""
        steps: list[Callable[[Ledger], object]] = [
            lambda ledger: ledger.publish(volume.id, agent, host_of(agent)),
            lambda ledger: ledger.delete_volume(volume.id),
            lambda ledger: ledger.fence(agent, "disks", "it is off"),
            lambda ledger: ledger.replace_agent(AGENTS[0], AGENTS[-1]),
            lambda ledger: ledger.move_volume(volume.id, agent),
            lambda ledger: ledger.volume_deleted(volume.id),
        ]
        ledger = self.the_ledger()
        before = content(ledger)
        point = "ledger.commit.after-write" if written else "ledger.commit.before-write"
        with faults.armed(point, _crash) as fault, contextlib.suppress(PollyError, Crash):
            steps[step](ledger)
        if step == 1 and written:
            self.unwanted.add(volume.id)
        self.reopen()
        if not (fault.fired and written):
            assert content(self.the_ledger()) == before
        if fault.fired:
            with contextlib.suppress(PollyError):
                steps[step](self.the_ledger())
            self.unwanted |= {volume.id} if step == 1 else set()

    @precondition(lambda machine: machine.asked)
    @rule(number=anything, acknowledged=st.booleans())
    def repeat(self, number: int, acknowledged: bool) -> None:
        assert self.ledger
        operation, change, verdict = self.asked[number % len(self.asked)]
        if operation.id not in {known.id for known in self.ledger.operations(limit=10_000)}:
            return  # It was pruned.
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
    def nothing_is_lost(self) -> None:
        """What was ever ready is there, or was destroyed by wish; generations and events only go up."""
        if not self.ledger:
            return
        known = {volume.id: volume for volume in self.ledger.volumes()}
        gone = {volume.id for volume in known.values() if volume.state in GOING}
        assert self.ready - (known.keys() - gone) <= self.unwanted
        self.ready |= {volume.id for volume in known.values() if volume.state is VolumeState.READY}
        for volume in known.values():
            assert volume.generation >= self.generations.get(volume.id, 0)
            self.generations[volume.id] = volume.generation
        told = max((event.number for event in self.ledger.events(limit=1)), default=0)
        assert told >= self.told
        self.told = told

    @invariant()
    def one_host_has_a_volume_and_its_agent_offers_it(self) -> None:
        if not self.ledger:
            return
        known = {volume.id: volume for volume in self.ledger.volumes()}
        for publication in self.ledger.publications():
            volume = known[publication.volume]
            assert publication.generation == volume.generation
            assert volume.agent in ("", publication.agent) or volume.state in GOING
            assert not publication.fenced or publication.state is PublicationState.DETACHING

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
