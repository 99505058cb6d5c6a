"""What operators see of the capacity planner."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from polly_mesos.config import PlannerSettings, Policy
from polly_mesos.model import MB
from polly_mesos.scheduler.planner import (
    AgentSnapshot,
    PoolSnapshot,
    Snapshot,
    Turn,
    plan,
    retire,
    rotate,
    shared_view,
)

GIB = 1024 * MB
LEASE = PlannerSettings()
SHARED = PlannerSettings(policy=Policy.SHARED)


def agents(count: int) -> list[AgentSnapshot]:
    return [AgentSnapshot(f"agent-{number:04}", {"local": ""}) for number in range(count)]


def gold(capacity: int = 100 * GIB, **more: object) -> PoolSnapshot:
    return replace(PoolSnapshot("gold", "local", frozenset(), capacity), **more)


def after_one(snapshot: Snapshot, settings: PlannerSettings = LEASE) -> Snapshot:
    changes = plan(snapshot, settings)
    leases = {**snapshot.leases, **{(change.pool, change.agent): change.after for change in changes}}
    return replace(snapshot, leases=leases)


def settled(snapshot: Snapshot) -> Snapshot:
    while (following := after_one(snapshot)) != snapshot:
        snapshot = following
    return snapshot


def sizes(snapshot: Snapshot) -> list[int]:
    return sorted(snapshot.leases.values())


def used(snapshot: Snapshot, agent: str, size: int) -> Snapshot:
    """A framework reserves space on an agent, of a snapshot with one pool."""
    pool = replace(snapshot.pools[0], committed=snapshot.pools[0].committed + size)
    leases = {**snapshot.leases, (pool.name, agent): snapshot.leases[pool.name, agent] - size}
    return replace(snapshot, pools=[pool], leases=leases)


def holder(snapshot: Snapshot) -> str:
    return max(snapshot.leases, key=lambda key: snapshot.leases[key])[1]


def test_one_agent_gets_all_of_a_pool() -> None:
    snapshot = settled(Snapshot([gold()], agents(1), {}))
    assert snapshot.leases == {("gold", "agent-0000"): 100 * GIB}


def test_every_agent_gets_a_slice_and_one_a_big_lease() -> None:
    snapshot = settled(Snapshot([gold()], agents(5), {}))
    assert sizes(snapshot) == [8 * GIB] * 4 + [68 * GIB]


def test_pools_begin_with_their_big_leases_on_different_agents() -> None:
    pools = [replace(gold(), name=f"pool-{number}") for number in range(20)]
    snapshot = settled(Snapshot(pools, agents(10), {}))
    holders = {agent for (_, agent), size in snapshot.leases.items() if size > 50 * GIB}
    assert len(holders) > 3


def test_where_not_every_agent_can_hold_a_smallest_volume_some_get_none() -> None:
    snapshot = settled(Snapshot([gold(10 * GIB, minimum_size=2 * GIB)], agents(20), {}))
    assert [size // GIB for size in sizes(snapshot) if size] == [2, 2, 6]


def test_a_pool_smaller_than_a_volume_is_not_offered() -> None:
    assert plan(Snapshot([gold(GIB, minimum_size=2 * GIB)], agents(3), {}), LEASE) == ()


def test_the_big_lease_need_not_be_larger_than_the_largest_volume() -> None:
    snapshot = settled(Snapshot([gold(maximum_size=10 * GIB)], agents(5), {}))
    assert sizes(snapshot) == [16 * GIB] * 4 + [36 * GIB]


def test_an_unreachable_agent_keeps_its_lease_and_a_gone_one_gives_it_back() -> None:
    snapshot = settled(Snapshot([gold()], agents(2), {}))
    lost = holder(snapshot)

    def with_agent(**state: bool) -> Snapshot:
        return replace(snapshot, agents=[replace(a, **state) if a.id == lost else a for a in snapshot.agents])

    unreachable = with_agent(eligible=False)
    assert plan(unreachable, LEASE) == ()
    gone = with_agent(eligible=False, reclaimable=True)
    assert [size for size in sizes(settled(gone)) if size] == [100 * GIB]


@pytest.mark.parametrize(
    "misfit",
    [
        AgentSnapshot("agent-0001", {"local": "west"}),
        AgentSnapshot("agent-0001", {"other": "east"}),
        AgentSnapshot("agent-0001", {"local": "east"}, slots={"local": 0}),
    ],
    ids=["of another zone", "without the service", "with all attach slots taken"],
)
def test_an_agent_that_cannot_use_a_pool_has_no_lease_of_it(misfit: AgentSnapshot) -> None:
    pool = replace(gold(), zones=frozenset({"east"}))
    fitting = AgentSnapshot("agent-0000", {"local": "east"})
    snapshot = Snapshot([pool], [fitting, misfit], {("gold", misfit.id): 10 * GIB})
    assert settled(snapshot).leases == {("gold", fitting.id): 100 * GIB, ("gold", misfit.id): 0}


def test_growth_waits_until_the_ledger_has_made_the_shrink_that_pays_for_it() -> None:
    snapshot = Snapshot([gold()], agents(2), {("gold", "agent-0000"): 100 * GIB})
    [change] = plan(snapshot, LEASE)
    assert (change.agent, change.after < change.before) == ("agent-0000", True)
    assert plan(snapshot, LEASE) == (change,)  # refused: the same is planned again, and no growth
    [growth] = plan(after_one(snapshot), LEASE)
    assert (growth.agent, growth.after) == ("agent-0001", change.before - change.after)


def test_a_new_agent_costs_two_changes() -> None:
    snapshot = settled(Snapshot([gold()], agents(5), {}))
    changes = 0
    snapshot = replace(snapshot, agents=agents(6))
    while found := plan(snapshot, LEASE):
        changes += len(found)
        snapshot = after_one(snapshot)
    assert changes == 2


def test_a_trembling_capacity_changes_nothing() -> None:
    snapshot = settled(Snapshot([gold()], agents(5), {}))
    changes = 0
    for megabytes in (-3, 5, -20, 12, -1, 0, -30, 40, -2):
        snapshot = replace(snapshot, pools=[gold(100 * GIB + megabytes * MB)])
        changes += len(plan(snapshot, LEASE))
        snapshot = settled(snapshot)
    assert changes == 1


def test_an_unused_big_lease_visits_every_agent_in_turn() -> None:
    snapshot = settled(Snapshot([gold()], agents(4), {}))
    turns: dict[str, Turn] = {}
    visited = []
    for turn in range(9):
        turns = rotate(snapshot, turns, now=turn * LEASE.rotate, settings=LEASE)
        snapshot = settled(retire(snapshot, turns))
        turns = rotate(snapshot, turns, now=turn * LEASE.rotate, settings=LEASE)
        visited.append(holder(snapshot))
    assert set(visited) == {agent.id for agent in agents(4)}
    assert visited[1:5] == visited[5:9]


def test_between_turns_nothing_changes() -> None:
    snapshot = settled(Snapshot([gold()], agents(4), {}))
    turns = rotate(snapshot, {}, now=0, settings=LEASE)
    turns = rotate(snapshot, turns, now=LEASE.rotate - 1, settings=LEASE)
    assert plan(retire(snapshot, turns), LEASE) == ()


def test_handing_on_the_big_lease_costs_two_changes() -> None:
    snapshot = settled(Snapshot([gold()], agents(1000), {}))
    turns = {"gold": Turn(holder(snapshot), 0, 0, retired=holder(snapshot))}
    first = plan(retire(snapshot, turns), LEASE)
    second = plan(after_one(retire(snapshot, turns)), LEASE)
    assert (len(first), len(second)) == (1, 1)


def test_a_big_lease_that_is_used_stays() -> None:
    snapshot = settled(Snapshot([gold()], agents(4), {}))
    first = holder(snapshot)
    turns: dict[str, Turn] = {}
    for turn in range(6):
        turns = rotate(snapshot, turns, now=turn * LEASE.rotate, settings=LEASE)
        snapshot = settled(retire(used(snapshot, first, GIB), turns))
    assert holder(snapshot) == first


def test_the_only_agent_keeps_its_lease_when_its_turn_is_over() -> None:
    snapshot = settled(Snapshot([gold()], agents(1), {}))
    turns = {"gold": Turn("agent-0000", 100 * GIB, 0, retired="agent-0000")}
    assert plan(retire(snapshot, turns), LEASE) == ()


def test_the_shared_policy_takes_all_leases_back() -> None:
    snapshot = settled(Snapshot([gold()], agents(3), {}))
    assert sizes(after_one(snapshot, SHARED)) == [0, 0, 0]


def test_the_shared_policy_shows_the_free_space_to_every_agent() -> None:
    view = shared_view(Snapshot([gold()], agents(3), {}), {})
    assert view == {("gold", agent.id): 96 * GIB for agent in agents(3)}


def test_the_shared_view_is_not_larger_than_the_largest_volume_and_then_stays() -> None:
    view = shared_view(Snapshot([gold(maximum_size=10 * GIB)], agents(2), {}), {})
    assert set(view.values()) == {10 * GIB}
    after_use = Snapshot([gold(maximum_size=10 * GIB, committed=85 * GIB)], agents(2), {})
    assert shared_view(after_use, view) == view


def test_the_shared_view_follows_what_is_free_in_few_steps() -> None:
    view: dict[tuple[str, str], int] = {}
    shown = []
    for committed in (*range(90), *reversed(range(90))):
        view = shared_view(Snapshot([gold(committed=committed * GIB)], agents(1), {}), view)
        shown.append(*view.values())
    changes = sum(1 for before, after in pairwise(shown) if before != after)
    assert shown[89] == 10 * GIB
    assert shown[-1] == 96 * GIB
    assert changes < 30


def test_the_shared_view_leaves_out_pools_without_room_for_a_volume() -> None:
    assert shared_view(Snapshot([gold(GIB, minimum_size=2 * GIB)], agents(1), {}), {}) == {}


def test_five_thousand_agents_and_ten_pools_are_planned_once_and_then_left_alone() -> None:
    pools = [replace(gold(10_000 * GIB), name=f"pool-{number}") for number in range(10)]
    snapshot = after_one(Snapshot(pools, agents(5000), {}))
    assert len(snapshot.leases) == 50_000
    for pool in pools:
        assert sum(size for (name, _), size in snapshot.leases.items() if name == pool.name) == pool.capacity
    assert plan(snapshot, LEASE) == ()
    gone = [replace(agent, eligible=agent.id != "agent-0042", reclaimable=True) for agent in snapshot.agents]
    snapshot = replace(snapshot, agents=gone)
    assert len(plan(snapshot, LEASE)) + len(plan(after_one(snapshot), LEASE)) == 20
