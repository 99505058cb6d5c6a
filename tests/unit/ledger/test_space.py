"""Pools, leases and balances: never more than the pool has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import InsufficientCapacity, InvalidRequest, UnknownAgent, UnknownPool
from polly_mesos.ledger import Balance, DestroyVolume, LeaseChange, Ledger
from polly_mesos.model import MB, Lease, Pool, Reclaim

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'


def change(agent: str, before: int, after: int, pool: str = "gold") -> LeaseChange:
    return LeaseChange(pool, agent, before, after)


def test_leases_are_given_changed_and_taken_back(desk: Desk) -> None:
    plan = [change("a1", 0, 10 * GB), change("a2", 0, 20 * GB)]
    assert desk.ledger.apply_leases(plan) == plan
    assert desk.ledger.leases() == [Lease("gold", "a1", 10 * GB), Lease("gold", "a2", 20 * GB)]
    assert desk.ledger.leases("a2") == [Lease("gold", "a2", 20 * GB)]
    desk.ledger.apply_leases([change("a1", 10 * GB, 0)])
    assert desk.ledger.leases("a1") == []
    assert desk.free() == 80 * GB


def test_a_step_of_a_stale_plan_is_left_out_and_the_rest_applied(desk: Desk) -> None:
    desk.lease(10 * GB)
    good = change("a2", 0, 5 * GB)
    assert desk.ledger.apply_leases([change("a1", 9 * GB, 20 * GB), good]) == [good]
    assert (desk.leased("a1"), desk.leased("a2")) == (10 * GB, 5 * GB)


def test_growth_beyond_the_pool_is_left_out(desk: Desk) -> None:
    assert desk.ledger.apply_leases([change("a1", 0, 101 * GB)]) == []
    first = change("a1", 0, 60 * GB)
    assert desk.ledger.apply_leases([first, change("a2", 0, 60 * GB)]) == [first]


def test_what_one_lease_gives_up_can_go_to_another_in_the_same_plan(desk: Desk) -> None:
    desk.lease(100 * GB)
    plan = [change("a2", 0, 40 * GB), change("a1", 100 * GB, 60 * GB)]
    assert sorted(desk.ledger.apply_leases(plan), key=lambda step: step.agent, reverse=True) == plan
    assert desk.free() == 0


def test_a_lease_that_is_owed_bytes_gets_them_beside_what_was_planned_since(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    desk.unreserve(4 * GB)
    desk.ledger.apply_leases([change("a1", 6 * GB, 0)])
    assert desk.ledger.leases() == []
    desk.ledger.volume_deleted(volume.id)
    assert desk.leased() == 4 * GB


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (change("a1", 0, -1), InvalidRequest),
        (change("a1", -1, 0), InvalidRequest),
        (change("a9", 0, GB), UnknownAgent),
        (change("a1", 0, GB, "tin"), UnknownPool),
    ],
)
def test_an_impossible_plan_is_refused_whole(desk: Desk, step: LeaseChange, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        desk.ledger.apply_leases([change("a2", 0, GB), step])
    assert desk.ledger.leases() == []


def test_the_balance_says_where_every_byte_is(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(6 * GB)
    volume = desk.create(4 * GB)
    desk.create(1 * GB, "more")
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    expected = Balance("gold", 100 * GB, leased=4 * GB, reserved=1 * GB, unbacked=4 * GB, volumes=5 * GB)
    assert desk.ledger.balance() == {"gold": expected}
    assert expected.free == 90 * GB


def test_a_pool_that_shrinks_takes_leases_back_the_largest_first(desk: Desk) -> None:
    desk.lease(60 * GB, "a1")
    desk.lease(30 * GB, "a2")
    desk.reserve(5 * GB, agent="a2")
    desk.ledger.set_pool(Pool("gold", "gold", "disks", "", 50 * GB))
    assert (desk.leased("a1"), desk.leased("a2")) == (20 * GB, 25 * GB)
    assert desk.free() == 0


def test_a_pool_that_shrinks_below_what_is_reserved_gives_nothing_more(desk: Desk) -> None:
    desk.lease(60 * GB)
    desk.reserve(50 * GB)
    desk.ledger.set_pool(Pool("gold", "gold", "disks", "", 40 * GB))
    assert (desk.ledger.leases(), desk.reserved(), desk.free()) == ([], (50 * GB, 50 * GB), -10 * GB)
    assert desk.ledger.apply_leases([change("a2", 0, MB)]) == []
    with pytest.raises(InsufficientCapacity, match="has 0 bytes free"):
        desk.reserve(MB, agent="a2", shared=True)


@pytest.mark.parametrize("capacity", [-1, 2**63])
def test_an_impossible_capacity_is_refused(ledger: Ledger, capacity: int) -> None:
    with pytest.raises(InvalidRequest, match=str(capacity)):
        ledger.set_pool(Pool("gold", "gold", "disks", "", capacity))
    assert ledger.pools() == {}
