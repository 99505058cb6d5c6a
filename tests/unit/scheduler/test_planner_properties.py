"""What holds for every plan, whatever the pools, the agents and the leases are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polly_mesos.config import PlannerSettings
from polly_mesos.model import MB, LeaseChange
from polly_mesos.scheduler.planner import AgentSnapshot, PoolSnapshot, Snapshot, plan, shared_view

GIB = 1024 * MB
DEFAULTS = PlannerSettings()
few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])

KINDS = [
    {"zones": {"fast": "", "slow": "east"}},
    {"zones": {"fast": "", "slow": "east"}, "slots": {"fast": 20, "slow": 1}},
    {"zones": {"fast": "east", "slow": "west"}, "slots": {"slow": None}},
    {"zones": {"fast": "west", "slow": ""}, "slots": {"fast": 0}},
    {"zones": {"fast": ""}},
    {"zones": {}},
    {"zones": {"fast": "", "slow": "east"}, "eligible": False, "reclaimable": True},
    {"zones": {"fast": "", "slow": "east"}, "eligible": False},
]
"""Agents that can use both services, full ones, ones of other zones, gone ones, and ones that cannot be reached."""

whole_mb = st.integers(0, 200 * 1024).map(lambda megabytes: megabytes * MB)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Pools that promise what they have at most, and agents that have leases or not."""
    kinds = draw(st.lists(st.sampled_from(KINDS), max_size=8))
    everybody = [AgentSnapshot(f"agent-{number}", **kind) for number, kind in enumerate(kinds)]
    names = ["unknown-agent", *(agent.id for agent in everybody)]
    pools, leases = [], {}
    for name in draw(st.sampled_from((("gold",), ("gold", "silver")))):
        held = dict(zip(names, draw(st.lists(whole_mb, max_size=len(names))), strict=False))
        committed = draw(whole_mb)
        pools.append(
            PoolSnapshot(
                name=name,
                service=draw(st.sampled_from(("fast", "fast", "slow"))),
                zones=frozenset(draw(st.sampled_from(((), (), ("east",), ("east", "west"))))),
                capacity=committed + sum(held.values()) + draw(st.integers(0, 500 * GIB)),
                committed=committed,
                minimum_size=draw(st.sampled_from((1, MB, 300 * MB, 10 * GIB))),
                maximum_size=draw(st.sampled_from((None, 10 * GIB, 1000 * GIB))),
                retired=draw(st.sampled_from(("", *names))),
            )
        )
        leases |= {(name, agent): size for agent, size in held.items() if size}
    return Snapshot(pools, everybody, leases)


def applied(snapshot: Snapshot, changes: tuple[LeaseChange, ...]) -> Snapshot:
    leases = dict(snapshot.leases)
    for change in changes:
        assert leases.get((change.pool, change.agent), 0) == change.before
        leases[change.pool, change.agent] = change.after
    return replace(snapshot, leases={key: size for key, size in leases.items() if size})


def settled(snapshot: Snapshot, limit: int = 6) -> Snapshot:
    """The snapshot after as many plans as change something."""
    for _ in range(limit):
        changes = plan(snapshot, DEFAULTS)
        if not changes:
            return snapshot
        snapshot = applied(snapshot, changes)
    pytest.fail(f"still changing after {limit} plans: {plan(snapshot, DEFAULTS)}")


def leased(snapshot: Snapshot, pool: PoolSnapshot) -> int:
    return sum(size for (name, _), size in snapshot.leases.items() if name == pool.name)


def unleased(snapshot: Snapshot, pool: PoolSnapshot) -> int:
    return pool.capacity - pool.committed - leased(snapshot, pool)


@few
@given(snapshots(), st.data())
def test_no_selection_of_changes_in_any_order_promises_more_than_a_pool_has(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    changes = data.draw(st.permutations(plan(snapshot, DEFAULTS)))
    for change in data.draw(st.permutations(changes).map(lambda chosen: chosen[: len(chosen) * 2 // 3])):
        snapshot = applied(snapshot, (change,))
        assert all(unleased(snapshot, pool) >= 0 for pool in snapshot.pools)


@few
@given(snapshots())
def test_changes_are_whole_megabytes_and_one_per_lease_and_shrinks_come_first(snapshot: Snapshot) -> None:
    changes = plan(snapshot, DEFAULTS)
    assert all(change.after % MB == 0 and change.after >= 0 and change.after != change.before for change in changes)
    assert len({(change.pool, change.agent) for change in changes}) == len(changes)
    grows = [change.after > change.before for change in changes]
    assert grows == sorted(grows)


@few
@given(snapshots())
def test_planning_comes_to_rest(snapshot: Snapshot) -> None:
    settled(snapshot)


@few
@given(snapshots())
def test_at_rest_a_lease_is_none_or_holds_the_smallest_volume(snapshot: Snapshot) -> None:
    snapshot = settled(snapshot)
    for pool in snapshot.pools:
        for agent in snapshot.agents:
            size = snapshot.leases.get((pool.name, agent.id), 0)
            if agent.can_use(pool):
                assert size == 0 or size >= pool.minimum_size


@few
@given(snapshots())
def test_at_rest_only_agents_of_the_zone_with_free_slots_have_leases(snapshot: Snapshot) -> None:
    before, snapshot = snapshot, settled(snapshot)
    for pool in snapshot.pools:
        for agent in snapshot.agents:
            zone, slots = agent.zones.get(pool.service), agent.slots.get(pool.service)
            misfit = zone is None or (pool.zones and zone not in pool.zones) or slots == 0
            size = snapshot.leases.get((pool.name, agent.id), 0)
            if not agent.eligible and not agent.reclaimable:
                assert size == before.leases.get((pool.name, agent.id), 0)
            elif misfit or not agent.eligible:
                assert size == 0


@few
@given(snapshots())
def test_at_rest_no_gigabyte_that_an_agent_could_use_is_idle(snapshot: Snapshot) -> None:
    snapshot = settled(snapshot)
    for pool in snapshot.pools:
        usable = [agent for agent in snapshot.agents if agent.can_use(pool)]
        if usable and unleased(snapshot, pool) >= GIB:
            # All that is there is less than one volume.
            held = sum(snapshot.leases.get((pool.name, agent.id), 0) for agent in usable)
            assert unleased(snapshot, pool) + held < pool.minimum_size + MB


@few
@given(snapshots(), st.data())
def test_a_freed_gigabyte_comes_back(snapshot: Snapshot, data: st.DataObject) -> None:
    snapshot = settled(snapshot)
    fitting = [
        pool
        for pool in snapshot.pools
        if pool.committed >= GIB
        and any(agent.can_use(pool) for agent in snapshot.agents)
        and unleased(snapshot, pool) + GIB >= pool.minimum_size + MB
    ]
    assume(fitting)
    pool = data.draw(st.sampled_from(fitting))
    before = leased(snapshot, pool)
    freed = replace(pool, committed=pool.committed - GIB)
    pools = [freed if other is pool else other for other in snapshot.pools]
    assert leased(settled(replace(snapshot, pools=pools)), freed) >= before + GIB


@few
@given(snapshots(), st.data())
def test_a_small_use_changes_nothing(snapshot: Snapshot, data: st.DataObject) -> None:
    snapshot = settled(replace(snapshot, leases={}))
    assume(snapshot.leases)
    pool_name, agent = data.draw(st.sampled_from(sorted(snapshot.leases)))
    pool = next(pool for pool in snapshot.pools if pool.name == pool_name)
    lease = snapshot.leases[pool_name, agent]
    most = min(lease // 4, lease - pool.minimum_size) // MB
    assume(most >= 1)
    used = data.draw(st.integers(1, most)) * MB
    pools = [replace(p, committed=p.committed + used) if p is pool else p for p in snapshot.pools]
    leases = {**snapshot.leases, (pool_name, agent): lease - used}
    assert plan(replace(snapshot, pools=pools, leases=leases), DEFAULTS) == ()


@few
@given(snapshots())
def test_a_large_volume_fits_somewhere(snapshot: Snapshot) -> None:
    snapshot = settled(replace(snapshot, leases={}))
    for pool in snapshot.pools:
        free = pool.capacity - pool.committed
        largest = max([size for (name, _), size in snapshot.leases.items() if name == pool.name], default=0)
        usable = any(agent.can_use(pool) for agent in snapshot.agents)
        if usable and free >= pool.minimum_size + MB:
            assert largest >= min(free * DEFAULTS.big_share, pool.maximum_size or free) - MB


@few
@given(snapshots(), st.integers(0, 200 * GIB))
def test_a_pool_that_became_smaller_is_paid_back(snapshot: Snapshot, loss: int) -> None:
    snapshot = settled(snapshot)
    pool = snapshot.pools[0]
    smaller = replace(pool, capacity=max(0, pool.capacity - loss))
    snapshot = settled(replace(snapshot, pools=[smaller, *snapshot.pools[1:]]))
    retrievable = {agent.id for agent in snapshot.agents if agent.eligible or agent.reclaimable}
    left = sum(size for (name, agent), size in snapshot.leases.items() if name == pool.name and agent in retrievable)
    assert unleased(snapshot, smaller) >= 0 or left == 0


@few
@given(snapshots(), st.lists(st.integers(0, 500 * GIB), max_size=5))
def test_the_shared_view_never_shows_more_than_is_free(snapshot: Snapshot, uses: list[int]) -> None:
    view: dict[tuple[str, str], int] = {}
    snapshot = replace(snapshot, leases={})
    for use in uses:
        pools = [replace(p, committed=min(p.capacity, use)) for p in snapshot.pools]
        snapshot = replace(snapshot, pools=pools)
        view = shared_view(snapshot, view)
        for pool in pools:
            free = pool.capacity - pool.committed
            for agent in snapshot.agents:
                shown = view.get((pool.name, agent.id), 0)
                assert shown <= min(free, pool.maximum_size or free)
                assert shown % MB == 0
                if not agent.can_use(pool):
                    assert shown == 0
                elif free >= max(2 * pool.minimum_size, 2 * MB):
                    assert shown >= min(free / 2, (pool.maximum_size or free) - MB, free)


@few
@given(st.integers(2, 12), st.data())
def test_a_needy_slice_costs_two_changes_however_many_agents_there_are(count: int, data: st.DataObject) -> None:
    pool = PoolSnapshot("gold", "fast", frozenset(), capacity=100 * GIB)
    everybody = [AgentSnapshot(f"agent-{number}", {"fast": ""}) for number in range(count)]
    snapshot = settled(Snapshot([pool], everybody, {}))
    big = max(snapshot.leases, key=lambda key: snapshot.leases[key])
    key = data.draw(st.sampled_from(sorted(set(snapshot.leases) - {big})))
    pool = replace(pool, committed=snapshot.leases[key])
    snapshot = replace(snapshot, pools=[pool], leases={**snapshot.leases, key: 0})
    first = plan(snapshot, DEFAULTS)
    second = plan(applied(snapshot, first), DEFAULTS)
    assert [change.after < change.before for change in first] == [True]
    assert [(change.agent, change.after > change.before) for change in second] == [(key[1], True)]
