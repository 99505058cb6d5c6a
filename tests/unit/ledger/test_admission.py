"""What the ledger admits, what that moves, and what it refuses without changing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from polly_mesos.errors import (
    AlreadyExists,
    Conflict,
    InsufficientCapacity,
    InvalidRequest,
    PollyError,
    UnknownAgent,
    UnknownPool,
    UnknownVolume,
    WrongState,
)
from polly_mesos.ledger import (
    ClearPersistence,
    CreateDisk,
    CreateVolume,
    DestroyDisk,
    DestroyVolume,
    Reserve,
    SetOwner,
    SetPersistence,
    Unreserve,
)
from polly_mesos.model import MB, OperationState, Reclaim, Volume, VolumeKind, VolumeState

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

GB = 1024 * MB
OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"role":"marathon","type":"DYNAMIC"}]'
OTHER = '[{"role":"other","type":"DYNAMIC"}]'
REFINED = '[{"role":"marathon","type":"DYNAMIC"},{"role":"marathon/db","type":"DYNAMIC"}]'


def everything(desk: Desk) -> Any:
    """All that a refused change must leave as it was."""
    ledger = desk.ledger
    return ledger.leases(), ledger.reservations(), ledger.volumes(), ledger.balance(), ledger.operations()


def test_reserve_and_create_move_the_bytes_from_the_lease_over_the_reservation_into_the_volume(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    assert (desk.leased(), desk.reserved()) == (6 * GB, (4 * GB, 4 * GB))
    volume = desk.create(3 * GB)
    assert (desk.leased(), desk.reserved()) == (6 * GB, (1 * GB, 1 * GB))
    assert (volume.state, volume.size, volume.owner) == (VolumeState.CREATING, 3 * GB, OWNER)
    balance = desk.ledger.balance()["gold"]
    assert (balance.leased, balance.reserved, balance.volumes, balance.free) == (6 * GB, 1 * GB, 3 * GB, 90 * GB)


def test_the_whole_lease_can_be_reserved_and_given_back(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(10 * GB)
    assert desk.ledger.leases() == []
    desk.unreserve(10 * GB)
    assert (desk.leased(), desk.ledger.reservations()) == (10 * GB, [])


def test_a_reservation_is_refined_and_coarsened_with_its_bytes(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    desk.admit(Reserve("gold", "a1", OWNER, REFINED, 3 * GB))
    assert (desk.reserved(), desk.reserved(REFINED)) == ((1 * GB, 1 * GB), (3 * GB, 3 * GB))
    desk.admit(Unreserve("gold", "a1", REFINED, OWNER, 3 * GB))
    assert (desk.reserved(), desk.reserved(REFINED), desk.leased()) == ((4 * GB, 4 * GB), (0, 0), 6 * GB)


def test_after_destroy_unreserve_and_delete_the_lease_is_as_before(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    assert desk.ledger.volume(volume.id).state is VolumeState.DELETING
    assert desk.reserved() == (4 * GB, 0)
    desk.unreserve(4 * GB)
    assert (desk.leased(), desk.ledger.reservations()) == (6 * GB, [])
    assert desk.ledger.balance()["gold"].unbacked == 4 * GB
    desk.ledger.volume_deleted(volume.id)
    assert (desk.leased(), desk.free()) == (10 * GB, 90 * GB)
    assert desk.ledger.balance()["gold"].unbacked == 0


def test_freed_bytes_back_the_reservation_that_is_still_there(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    desk.unreserve(1 * GB)
    desk.ledger.volume_deleted(volume.id)
    assert (desk.reserved(), desk.leased()) == ((3 * GB, 3 * GB), 7 * GB)


def test_unreserve_gives_backed_bytes_back_first(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(5 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    assert desk.reserved() == (5 * GB, 1 * GB)
    desk.unreserve(2 * GB)
    assert (desk.leased(), desk.reserved()) == (6 * GB, (3 * GB, 0))


def test_a_volume_made_out_of_unbacked_space_is_backed_from_the_pool(desk: Desk) -> None:
    desk.lease(90 * GB)
    desk.reserve(6 * GB)
    first = desk.create(6 * GB)
    desk.admit(DestroyVolume(first.id, Reclaim.DELETE))
    second = desk.create(6 * GB, "data")
    assert (second.state, desk.reserved(), desk.free()) == (VolumeState.CREATING, (0, 0), 4 * GB)
    desk.ledger.volume_deleted(first.id)
    assert desk.free() == 10 * GB


def test_a_volume_is_refused_while_its_space_is_neither_backed_nor_free(desk: Desk) -> None:
    desk.lease(100 * GB)
    desk.reserve(6 * GB)
    volume = desk.create(6 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    before = everything(desk)
    with pytest.raises(InsufficientCapacity, match="pool gold has 0 bytes free"):
        desk.create(6 * GB)
    assert everything(desk) == before
    desk.ledger.volume_deleted(volume.id)
    desk.create(6 * GB)


def test_bytes_that_a_reservation_still_has_are_not_counted_twice(desk: Desk) -> None:
    desk.lease(100 * GB)
    desk.reserve(6 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    assert desk.reserved() == (6 * GB, 2 * GB)
    with pytest.raises(InsufficientCapacity):
        desk.create(4 * GB)
    assert desk.free() == 0
    desk.create(2 * GB)
    assert desk.free() == 0


def test_a_retained_volume_keeps_its_bytes_until_an_operator_deletes_it(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    volume = desk.create(4 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.RETAIN))
    desk.unreserve(4 * GB)
    assert desk.ledger.volume(volume.id).state is VolumeState.RELEASED
    assert (desk.leased(), desk.ledger.balance()["gold"].volumes) == (6 * GB, 4 * GB)
    desk.ledger.delete_volume(volume.id)
    desk.ledger.volume_deleted(volume.id)
    assert (desk.leased(), desk.ledger.balance()["gold"].volumes) == (10 * GB, 0)


def test_in_a_shared_pool_bytes_come_from_the_pool_and_go_back_to_it(desk: Desk) -> None:
    desk.reserve(60 * GB, shared=True)
    with pytest.raises(InsufficientCapacity, match=r"pool gold has \d+ bytes free"):
        desk.reserve(60 * GB, agent="a2", shared=True)
    volume = desk.create(60 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    desk.unreserve(60 * GB, shared=True)
    desk.ledger.volume_deleted(volume.id)
    assert (desk.ledger.leases(), desk.ledger.reservations(), desk.free()) == ([], [], 100 * GB)


def test_a_disk_is_made_from_the_lease_reserved_filled_emptied_and_destroyed(desk: Desk) -> None:
    desk.lease(10 * GB)
    disk = desk.wanted(4 * GB, "", "", kind=VolumeKind.MOUNT)
    desk.admit(CreateDisk(disk))
    assert desk.leased() == 6 * GB
    desk.admit(SetOwner(disk.id, OWNER))
    desk.admit(SetPersistence(disk.id, "data", {"persistence": {"id": "data"}}, OWNER))
    assert desk.ledger.find_volume("a1", OWNER, "data") == desk.ledger.volume(disk.id)
    desk.admit(ClearPersistence(disk.id, Reclaim.RETAIN))
    kept = desk.ledger.volume(disk.id)
    assert (kept.state, kept.persistence_id, kept.persistence) == (VolumeState.CREATING, "", {})
    desk.admit(SetOwner(disk.id, ""))
    desk.admit(DestroyDisk(disk.id))
    desk.ledger.volume_deleted(disk.id)
    assert (desk.leased(), desk.free()) == (10 * GB, 90 * GB)


def test_a_disk_made_from_a_reservation_goes_back_to_it(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(4 * GB)
    disk = desk.wanted(4 * GB, "", OWNER, kind=VolumeKind.MOUNT)
    desk.admit(CreateDisk(disk))
    assert desk.reserved() == (0, 0)
    desk.admit(DestroyDisk(disk.id))
    assert desk.reserved() == (4 * GB, 0)
    desk.ledger.volume_deleted(disk.id)
    assert desk.reserved() == (4 * GB, 4 * GB)


def test_an_unreserved_disk_of_a_shared_pool_comes_from_the_pool_and_goes_back_to_it(desk: Desk) -> None:
    disk = desk.wanted(4 * GB, "", "", kind=VolumeKind.MOUNT)
    desk.admit(CreateDisk(disk, shared=True))
    assert desk.free() == 96 * GB
    desk.admit(DestroyDisk(disk.id, shared=True))
    desk.ledger.volume_deleted(disk.id)
    assert (desk.free(), desk.ledger.leases()) == (100 * GB, [])


def test_destroying_a_disk_volume_by_its_policy_deletes_the_disk(desk: Desk) -> None:
    volume = desk.ledger.add_volume(desk.wanted(4 * GB, "data", kind=VolumeKind.MOUNT))
    assert desk.free() == 96 * GB
    desk.admit(ClearPersistence(volume.id, Reclaim.DELETE))
    assert desk.ledger.volume(volume.id).state is VolumeState.DELETING
    desk.ledger.volume_deleted(volume.id)
    assert desk.free() == 100 * GB


def test_the_same_operation_is_admitted_once_and_answered_alike(desk: Desk) -> None:
    desk.lease(10 * GB)
    operation = desk.operation()
    first = desk.ledger.admit(operation, Reserve("gold", "a1", "", OWNER, 4 * GB))
    assert (first.state, first.outcome) == (OperationState.DONE, operation.outcome)
    assert desk.ledger.admit(operation, Reserve("gold", "a1", "", OWNER, 4 * GB)) == first
    desk.ledger.acknowledge(operation.id)
    again = desk.ledger.admit(operation, Reserve("gold", "a1", "", OWNER, 4 * GB))
    assert again == replace(first, acknowledged=True)
    assert desk.leased() == 6 * GB


def test_a_repeated_create_answers_with_the_volume_of_the_first(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    operation = desk.operation()
    first, second = desk.wanted(4 * GB), desk.wanted(4 * GB)
    desk.ledger.admit(replace(operation, subject=first.id), CreateVolume(first))
    answer = desk.ledger.admit(replace(operation, subject=second.id), CreateVolume(second))
    assert answer.outcome["volumes"] == [first.id]
    assert [volume.id for volume in desk.ledger.volumes()] == [first.id]


def test_an_operation_with_several_changes_is_admitted_whole_or_not_at_all(desk: Desk) -> None:
    desk.lease(10 * GB)
    changes = [Reserve("gold", "a1", "", OWNER, 4 * GB), Reserve("gold", "a1", "", OTHER, 7 * GB)]
    before = everything(desk)
    with pytest.raises(InsufficientCapacity):
        desk.ledger.admit(desk.operation(), *changes)
    assert everything(desk) == before
    desk.ledger.admit(desk.operation(), changes[0], replace(changes[1], size=6 * GB))
    assert (desk.reserved(), desk.reserved(OTHER), desk.leased()) == ((4 * GB, 4 * GB), (6 * GB, 6 * GB), 0)


def test_an_operation_id_used_for_something_else_is_a_conflict(desk: Desk) -> None:
    desk.lease(10 * GB)
    operation = desk.operation(detail="one")
    desk.ledger.admit(operation, Reserve("gold", "a1", "", OWNER, 4 * GB))
    before = everything(desk)
    with pytest.raises(Conflict, match=operation.id):
        desk.ledger.admit(replace(operation, detail={"asked": "two"}), Reserve("gold", "a1", "", OWNER, GB))
    assert everything(desk) == before


def test_a_refused_operation_stays_refused(desk: Desk) -> None:
    operation = desk.operation()
    change = Reserve("gold", "a1", "", OWNER, 4 * GB)
    with pytest.raises(InsufficientCapacity) as refusal:
        desk.ledger.admit(operation, change)
    refused = desk.ledger.refuse(operation, refusal.value)
    assert refused.state is OperationState.FAILED
    assert refused.outcome["code"] == "insufficient-capacity"
    assert set(refused.outcome) == {"code", "message", "remedy"}
    desk.lease(10 * GB)
    assert desk.ledger.admit(operation, change) == refused
    assert desk.ledger.refuse(operation, InvalidRequest("something else")) == refused
    assert desk.ledger.unacknowledged("a1") == [refused]


Make = Callable[["Desk", Volume, Volume], object]

REFUSALS: dict[str, tuple[Make, type[PollyError], str]] = {
    "no bytes": (lambda d, v, m: Reserve("gold", "a1", "", OWNER, 0), InvalidRequest, "0 bytes"),
    "negative bytes": (lambda d, v, m: Unreserve("gold", "a1", OWNER, "", -MB), InvalidRequest, "-1048576 bytes"),
    "absurdly many bytes": (lambda d, v, m: Reserve("gold", "a1", "", OWNER, 2**63), InvalidRequest, "bytes"),
    "more than the lease": (lambda d, v, m: Reserve("gold", "a1", "", OWNER, 9 * GB), InsufficientCapacity, "lease"),
    "agent without lease": (lambda d, v, m: Reserve("gold", "a2", "", OWNER, GB), InsufficientCapacity, "a2"),
    "unknown pool": (lambda d, v, m: Reserve("tin", "a1", "", OWNER, GB), UnknownPool, "tin"),
    "unknown pool, shared": (lambda d, v, m: Reserve("tin", "a1", "", OWNER, GB, True), UnknownPool, "tin"),
    "unknown agent": (lambda d, v, m: Reserve("gold", "a9", "", OWNER, GB), UnknownAgent, "a9"),
    "unknown agent, shared": (lambda d, v, m: Reserve("gold", "a9", "", OWNER, GB, True), UnknownAgent, "a9"),
    "reserve for nobody": (lambda d, v, m: Reserve("gold", "a1", OWNER, "", GB), InvalidRequest, "after_owner"),
    "reserve for the same": (lambda d, v, m: Reserve("gold", "a1", OWNER, OWNER, GB), InvalidRequest, "after_owner"),
    "unreserve from nobody": (lambda d, v, m: Unreserve("gold", "a1", "", OWNER, GB), InvalidRequest, "before_owner"),
    "unreserve too much": (
        lambda d, v, m: Unreserve("gold", "a1", OWNER, "", 9 * GB),
        InsufficientCapacity,
        "marathon",
    ),
    "unknown owner": (lambda d, v, m: Unreserve("gold", "a1", OTHER, "", GB), InsufficientCapacity, "other"),
    "volume without reservation": (
        lambda d, v, m: CreateVolume(d.wanted(GB, "new", OTHER)),
        InsufficientCapacity,
        "other",
    ),
    "volume larger than its reservation": (
        lambda d, v, m: CreateVolume(d.wanted(9 * GB, "new")),
        InsufficientCapacity,
        "reservation",
    ),
    "volume of nobody": (lambda d, v, m: CreateVolume(d.wanted(GB, "new", "")), InvalidRequest, "owner"),
    "volume without name": (lambda d, v, m: CreateVolume(d.wanted(GB, "")), InvalidRequest, "persistence_id"),
    "volume of no bytes": (lambda d, v, m: CreateVolume(d.wanted(0, "new")), InvalidRequest, "0 bytes"),
    "volume of the wrong kind": (
        lambda d, v, m: CreateVolume(d.wanted(GB, "new", kind=VolumeKind.MOUNT)),
        InvalidRequest,
        "path",
    ),
    "persistence id taken": (lambda d, v, m: CreateVolume(d.wanted(GB, "data")), AlreadyExists, "'data'"),
    "volume id taken": (
        lambda d, v, m: CreateVolume(replace(d.wanted(GB, "new"), id=v.id)),
        AlreadyExists,
        "an id is given once",
    ),
    "text that is no Unicode": (lambda d, v, m: CreateVolume(d.wanted(GB, "\ud800")), InvalidRequest, "Unicode"),
    "unknown volume": (lambda d, v, m: DestroyVolume("nothing", Reclaim.DELETE), UnknownVolume, "nothing"),
    "destroying a disk as a volume": (lambda d, v, m: DestroyVolume(m.id, Reclaim.DELETE), InvalidRequest, "path"),
    "disk with a volume destroyed": (lambda d, v, m: DestroyDisk(m.id), WrongState, "DESTROY it first"),
    "disk with a volume unreserved": (lambda d, v, m: SetOwner(m.id, ""), WrongState, "DESTROY it first"),
    "second volume on a disk": (lambda d, v, m: SetPersistence(m.id, "two", {}, OWNER), WrongState, "'disk'"),
    "path volume used as a disk": (lambda d, v, m: SetOwner(v.id, OTHER), InvalidRequest, "mount"),
    "disk without lease": (
        lambda d, v, m: CreateDisk(d.wanted(9 * GB, "", "", kind=VolumeKind.MOUNT)),
        InsufficientCapacity,
        "lease",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_what_is_wrong_and_changes_nothing(desk: Desk, case: str) -> None:
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    volume = desk.create(2 * GB)
    mount = desk.ledger.add_volume(desk.wanted(2 * GB, "disk", kind=VolumeKind.MOUNT))
    make, kind, words = REFUSALS[case]
    change: Any = make(desk, volume, mount)
    before = everything(desk)
    with pytest.raises(kind, match=words) as refusal:
        desk.admit(change, agent="")
    assert type(refusal.value) is kind
    assert refusal.value.remedy
    assert everything(desk) == before


def test_one_agents_operation_cannot_touch_another_agents_space(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(8 * GB)
    volume = desk.create(2 * GB)
    for change in (Reserve("gold", "a1", "", OWNER, GB), DestroyVolume(volume.id, Reclaim.DELETE)):
        with pytest.raises(InvalidRequest, match="came through agent a2"):
            desk.admit(change, agent="a2")


def test_a_persistence_id_is_taken_once_per_role_whatever_the_labels(desk: Desk) -> None:
    relabelled = OWNER.replace('"db"', '"web"')
    desk.lease(10 * GB)
    for owner in (OWNER, relabelled, OTHER):
        desk.reserve(2 * GB, owner)
    desk.create(2 * GB, "data")
    with pytest.raises(AlreadyExists, match="persistence id 'data'"):
        desk.create(2 * GB, "data", relabelled)
    assert desk.create(2 * GB, "data", OTHER).persistence_id == "data"


def test_a_destroyed_volume_cannot_be_destroyed_again(desk: Desk) -> None:
    desk.lease(10 * GB)
    desk.reserve(2 * GB)
    volume = desk.create(2 * GB)
    desk.admit(DestroyVolume(volume.id, Reclaim.RETAIN))
    with pytest.raises(WrongState, match="released"):
        desk.admit(DestroyVolume(volume.id, Reclaim.DELETE))
    assert desk.reserved() == (2 * GB, 0)
