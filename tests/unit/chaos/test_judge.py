"""Each rule of the judge finds what breaks it, and nothing where nothing is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos import judge
from chaos.view import Books, Disk, View
from polly_mesos.mesos.resources import canonical
from polly_mesos.model import (
    MB,
    Lease,
    Operation,
    OperationState,
    Publication,
    PublicationState,
    Reservation,
    Volume,
    VolumeKind,
    VolumeState,
)

CAPACITY_MB = 100
NEEDED = {"orders": {"v1": 32}, "metrics": {}}
OWNER = canonical([{"role": "orders", "type": "DYNAMIC"}])
VOLUME = Volume(
    "id-1", "gold", "gold", "local", VolumeKind.PATH, 32 * MB, VolumeState.READY, "a1", OWNER, "v1", platform_id="p1"
)
OTHER = replace(VOLUME, id="id-2", persistence_id="v2", platform_id="p2")
BOOKS = Books(CAPACITY_MB * MB, [VOLUME], [], [], [Lease("gold", "a1", 60 * MB), Lease("gold", "a2", 8 * MB)], [])
VIEW = View(
    registered=True,
    serving={"a1", "a2"},
    active={"a1", "a2"},
    disks=[Disk("a1", 60, "", ""), Disk("a2", 8, "", ""), Disk("a1", 32, "orders", "v1")],
    pending=[],
    books=BOOKS,
    images={"p1"},
    loops=set(),
    mounted=set(),
)


def complaints(view: View) -> list[str]:
    """All that the judge says of it, with two agents and what is needed."""
    return [*judge.not_serving(view, 2), *judge.not_at_rest(view, NEEDED), *judge.broken(view, CAPACITY_MB)]


def changed(**books: Any) -> View:
    return replace(VIEW, books=replace(BOOKS, **books))


def test_where_all_is_well_there_is_nothing_to_say() -> None:
    assert complaints(VIEW) == []


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (replace(VIEW, registered=False), "has not got Polly"),
        (replace(VIEW, active={"a1"}), "1 of 2 agents"),
        (replace(VIEW, serving={"a1"}), "a2 is not served"),
        (changed(open=[Operation("o", "volume.create", "id-1", OperationState.INTENT)]), "no outcome"),
        (replace(VIEW, pending=["CREATE x is OPERATION_PENDING"]), "waits for CREATE"),
        (changed(volumes=[replace(VOLUME, state=VolumeState.DELETING)]), "id-1 is deleting"),
        (changed(publications=[Publication("id-1", "a1", "h", 1, PublicationState.ATTACHED)]), "no task needs it"),
        (changed(reservations=[Reservation("gold", "a1", OWNER, 8 * MB, 0)]), "orders has 8 MB reserved"),
        (changed(capacity=90 * MB), "100 MB are promised of 90 MB"),
        (changed(volumes=[]), "the ledger has lost volume v1"),
        (changed(volumes=[VOLUME, OTHER]), "the ledger has volume v2, which orders does not need"),
        (changed(volumes=[replace(VOLUME, size=16 * MB)]), "has 16 MB of volume v1"),
        (replace(VIEW, disks=VIEW.disks[:2]), "the master has lost volume v1"),
        (replace(VIEW, disks=[*VIEW.disks, Disk("a2", 8, "orders", "v2")]), "the master has volume v2"),
        (changed(leases=BOOKS.leases[:1]), "a2 offers 8 MB, and its lease is 0 MB"),
        (changed(volumes=[VOLUME, OTHER]), "the ledger promises 132 MB of 100 MB"),
        (replace(VIEW, disks=[*VIEW.disks, Disk("a2", 32, "", "")]), "132 MB of disks"),
        (replace(VIEW, images={"p1", "p3"}), "leaked: the platform has p3"),
        (replace(VIEW, images=set()), "not on the platform any more"),
        (changed(volumes=[VOLUME, replace(OTHER, platform_id="p1")]), "2 volumes of the ledger are in p1"),
        (replace(VIEW, loops={"p1.img"}), "leaked: p1.img is attached"),
        (replace(VIEW, mounted={"/volumes/v1"}), "leaked: /volumes/v1 is mounted"),
    ],
)
def test_what_is_wrong_is_said(view: View, words: str) -> None:
    assert words in "\n".join(complaints(view))


def test_a_host_that_is_off_may_keep_a_lease_that_nobody_offers() -> None:
    without = replace(VIEW, active={"a1"}, serving={"a1"}, disks=[VIEW.disks[0], VIEW.disks[2]])
    assert [*judge.not_serving(without, 1), *judge.not_at_rest(without, NEEDED)] == []
