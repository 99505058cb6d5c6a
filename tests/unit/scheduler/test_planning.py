"""The planner at work on a real ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

from polly_mesos.config import PlannerSettings
from polly_mesos.ledger import Ledger
from polly_mesos.model import MB, Agent, AgentState, HostIdentity, Pool
from polly_mesos.scheduler.planning import Planning
from tests.unit.scheduler.conftest import GOLD

CAPACITY = 10_000 * MB


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """A ledger with agents, a pool of a platform that can change, and the planner."""

    def __init__(self, ledger: Ledger, **settings: object) -> None:
        self.ledger = ledger
        self.capacity = CAPACITY
        self.clock = Clock()
        self.shown: list[str] = []
        self.planning = Planning(
            ledger,
            PlannerSettings.model_validate(settings),
            {"gold": GOLD},
            lambda: [Pool("gold", "gold", "local", "", self.capacity)],
            self.show,
            self.clock,
        )
        self.planning._learn_capacity()

    def show(self, agents: Iterable[str]) -> None:
        self.shown.extend(agents)

    def agent(self, name: str, state: AgentState = AgentState.CONNECTED, **fields: object) -> None:
        agent = Agent(name, name, f"{name}:5051", state, identities={"local": HostIdentity(name)}, volume_root="/p")
        self.ledger.put_agent(dataclasses.replace(agent, **fields))

    def settle(self) -> dict[str, int]:
        for _ in range(5):
            self.planning.once()
        return {lease.agent: lease.size // MB for lease in self.ledger.leases() if lease.size}


@pytest.fixture
def world(tmp_path: Path) -> Iterable[World]:
    with Ledger.open(tmp_path / "ledger.db", "test") as ledger:
        yield World(ledger)


def test_all_of_a_pool_is_leased_to_the_agents_that_are_connected(world: World) -> None:
    world.agent("a1")
    world.agent("a2")
    world.agent("a3", AgentState.CHOSEN)
    leases = world.settle()
    assert set(leases) == {"a1", "a2"}
    assert sum(leases.values()) == CAPACITY // MB


def test_an_executor_that_is_away_for_a_while_keeps_its_agents_lease(world: World) -> None:
    world.agent("a1")
    world.agent("a2")
    before = world.settle()
    world.agent("a2", AgentState.CHOSEN)
    assert world.settle() == before


def test_an_agent_that_is_gone_for_good_gives_its_lease_back(world: World) -> None:
    world.agent("a1")
    world.agent("a2")
    world.settle()
    world.agent("a2", AgentState.LOST)
    leases = world.settle()
    assert set(leases) == {"a1"}
    assert leases["a1"] > 0.95 * CAPACITY // MB


def test_a_host_that_lacks_a_tool_or_has_no_slot_gets_nothing(world: World) -> None:
    world.agent("a1")
    world.agent("a2", problems={"local": "mkfs.ext4 is missing"})
    world.agent("a3", identities={"local": HostIdentity("a3", attach_limit=0)})
    world.agent("a4", identities={"other": HostIdentity("a4")})
    assert set(world.settle()) == {"a1"}


def test_a_pool_that_becomes_smaller_promises_no_more_than_it_has(world: World) -> None:
    world.agent("a1")
    world.agent("a2")
    world.settle()
    world.capacity = 1_000 * MB
    world.planning._learn_capacity()
    assert sum(world.settle().values()) <= 1_000


def test_the_big_lease_moves_on_when_nobody_uses_it(world: World) -> None:
    for name in ("a1", "a2", "a3"):
        world.agent(name)
    leases = world.settle()
    first = max(leases, key=lambda agent: leases[agent])
    world.clock.now += 301.0
    leases = world.settle()
    second = max(leases, key=lambda agent: leases[agent])
    assert second != first
    assert world.settle() == leases


def test_shared_pools_lease_nothing_and_show_everything_to_everybody(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "shared.db", "test") as ledger:
        world = World(ledger, policy="shared")
        world.agent("a1")
        world.agent("a2")
        assert world.settle() == {}
        assert set(world.shown) == {"a1", "a2"}
        assert world.planning.shared_view("a1") == world.planning.shared_view("a2") != {}
        world.shown.clear()
        world.settle()
        assert not world.shown


def test_a_platform_that_has_less_than_before_is_asked_again_at_the_next_plan(world: World) -> None:
    world.agent("a1")
    world.settle()
    world.capacity = CAPACITY // 2
    world.clock.now += 60
    world.planning.once()
    assert world.ledger.pools()["gold"].capacity == CAPACITY // 2
    world.capacity = CAPACITY
    world.clock.now += PlannerSettings().interval
    world.planning.once()
    assert world.ledger.pools()["gold"].capacity == CAPACITY


def test_a_platform_that_has_what_it_had_is_not_asked_at_every_plan(world: World) -> None:
    world.agent("a1")
    world.settle()
    world.capacity = CAPACITY // 2
    world.clock.now += PlannerSettings().interval
    world.planning.once()
    assert world.ledger.pools()["gold"].capacity == CAPACITY
