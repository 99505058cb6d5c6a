"""Resource arithmetic gives what the agent's own arithmetic gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polly_mesos.errors import InvalidRequest, NotSupported
from polly_mesos.mesos import resources as r

PRINCIPAL = {"principal": "marathon", "labels": {"labels": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}]}}
OWNER = r.owner_of({"role": "dev/db", "reservation": PRINCIPAL})
PERSISTENCE = {
    "persistence": {"id": "app#data#1", "principal": "marathon"},
    "volume": {"container_path": "data", "mode": "RW"},
}


def pool(size, owner="", disk=None, profile="gold"):
    return r.pool_disk(size, root=f"/polly/{profile}", profile=profile, vendor="polly.gold", owner=owner, disk=disk)


def mount(size, disk_id="v1", owner=""):
    return r.mount_disk(size, root="/polly/gold", disk_id=disk_id, profile="gold", vendor="polly.gold", owner=owner)


def raw(size, disk_id=None):
    disk = r.raw_disk(size, profile="gold", vendor="polly.gold")
    if disk_id:
        disk["disk"]["source"]["id"] = disk_id
    return disk


def persistent(name):
    return {"persistence": {"id": name, "principal": "p"}, "volume": {"container_path": "data", "mode": "RW"}}


PIECES = st.builds(
    lambda make, size: make(size),
    st.sampled_from(
        [
            pool,
            raw,
            mount,
            lambda size: pool(size, OWNER),
            lambda size: pool(size, OWNER, persistent("one")),
            lambda size: pool(size, OWNER, persistent("two")),
            lambda size: pool(size, profile="silver"),
            lambda size: mount(size, "v2", OWNER),
            lambda size: raw(size, "r1"),
        ]
    ),
    st.integers(0, 5000).map(lambda thousandths: thousandths / 1000),
)
SETS = st.lists(PIECES, max_size=6)


@given(SETS, SETS)
def test_what_was_added_can_be_taken_away(left, right):
    together = r.add(left, right)
    assert r.contains(together, left)
    assert r.equal(r.subtract(together, right), left)
    assert r.equal(together, r.add(right, left))


@given(SETS, SETS)
def test_subtraction_works_exactly_where_it_is_contained(left, right):
    if r.contains(left, right):
        assert r.equal(r.add(r.subtract(left, right), right), left)
    else:
        with pytest.raises(r.NotContained):
            r.subtract(left, right)


@given(SETS)
def test_the_normal_form_is_stable(resources):
    once = r.add(resources, [])
    assert r.equal(once, resources)
    assert r.add(once, []) == once


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_path_pool_is_divisible_and_the_way_to_a_volume_and_back_changes_nothing(total, part):
    totals = [pool(total)]
    reserve = {"type": "RESERVE", "reserve": {"resources": [pool(part, OWNER)]}}
    if part > total:
        with pytest.raises(r.NotContained, match="is not contained in"):
            r.apply(totals, reserve)
        return
    volume = pool(part, OWNER, PERSISTENCE)
    reserved = r.apply(totals, reserve)
    assert r.equal(reserved, [pool(total - part), pool(part, OWNER)])
    created = r.apply(reserved, {"type": "CREATE", "create": {"volumes": [volume]}})
    assert r.equal(created, [pool(total - part), volume])
    destroyed = r.apply(created, {"type": "DESTROY", "destroy": {"volumes": [volume]}})
    assert r.equal(destroyed, reserved)
    unreserve = {"type": "UNRESERVE", "unreserve": {"resources": [pool(part, OWNER)]}}
    assert r.equal(r.apply(destroyed, unreserve), totals)


def test_a_thousand_tenths_are_exact():
    totals = [pool(100)]
    for _ in range(999):
        totals = r.subtract(totals, [pool(0.1)])
    assert r.equal(totals, [pool(0.1)])


def test_a_size_of_zero_is_nothing():
    assert r.equal([pool(0), mount(0)], [])


@pytest.mark.parametrize("whole", [mount(10), raw(10, "r1"), pool(10, OWNER, PERSISTENCE)])
def test_exclusive_disks_cannot_be_taken_in_part(whole):
    part = {**whole, "scalar": {"value": 5.0}}
    assert r.is_exclusive(whole)
    assert not r.contains([whole], [part])
    assert not r.contains([part, part], [whole])
    assert r.subtract([whole, pool(1)], [whole]) == [pool(1)]


def test_raw_without_id_is_divisible():
    assert r.equal(r.subtract([raw(10)], [raw(4)]), [raw(6)])


@pytest.mark.parametrize(
    "spelling",
    [
        {"role": "dev/db", "reservation": PRINCIPAL},
        {"reservations": [{"type": "DYNAMIC", "role": "dev/db", **PRINCIPAL}]},
        {"reservations": [{"role": "dev/db", **PRINCIPAL}], "role": "dev/db", "reservation": PRINCIPAL},
    ],
    ids=["pre-refinement", "post-refinement", "endpoint"],
)
def test_every_spelling_of_a_reservation_is_the_same(spelling):
    disk = {**pool(5), **spelling, "allocation_info": {"role": "dev/db"}}
    assert r.equal([disk], [pool(5, OWNER)])
    assert r.owner_of(disk) == OWNER
    assert r.role_of(disk) == "dev/db"
    assert "role" not in r.normalise(disk)
    assert "allocation_info" not in r.normalise(disk)


def test_the_order_of_labels_means_nothing_but_is_kept():
    turned = {"principal": "marathon", "labels": {"labels": PRINCIPAL["labels"]["labels"][::-1]}}
    disk = {**pool(5), "role": "dev/db", "reservation": turned}
    assert r.owner_of(disk) == OWNER
    assert r.normalise(disk)["reservations"][0]["labels"] == turned["labels"]


def test_a_static_role_is_not_a_dynamic_reservation():
    static = {**pool(5), "role": "dev/db"}
    assert r.normalise(static)["reservations"] == [{"type": "STATIC", "role": "dev/db"}]
    assert not r.equal([static], [{**static, "reservation": {}}])


@pytest.mark.parametrize("role", [{}, {"role": "*"}])
def test_unreserved_has_no_owner(role):
    assert r.owner_of({**pool(5), **role}) == ""
    assert r.reservations_of("") == []


def test_where_a_volume_is_mounted_does_not_make_it_another():
    elsewhere = {"persistence": {"id": "app#data#1"}, "volume": {"container_path": "other", "mode": "RO"}}
    assert r.equal([pool(5, OWNER, PERSISTENCE)], [pool(5, OWNER, elsewhere)])


def test_provider_id_separates_and_can_be_set():
    assert not r.equal([r.normalise(pool(1), "one")], [r.normalise(pool(1), "two")])
    assert r.provider_of(r.normalise(pool(1), "one")) == "one"
    assert r.provider_of(pool(1)) == ""


def test_create_disk_takes_the_providers_answer():
    info = {"type": "CREATE_DISK", "create_disk": {"source": raw(10), "target_type": "MOUNT"}}
    totals = r.apply([raw(30)], info, [mount(10)])
    assert r.equal(totals, [raw(20), mount(10)])
    back = {"type": "DESTROY_DISK", "destroy_disk": {"source": mount(10)}}
    assert r.equal(r.apply(totals, back, [raw(10)]), [raw(30)])


def test_a_conversion_of_another_size_is_refused():
    info = {"type": "CREATE_DISK", "create_disk": {"source": raw(10), "target_type": "MOUNT"}}
    with pytest.raises(InvalidRequest, match=r"turns 10\.0 MB into 11\.0 MB; Mesos needs the same size"):
        r.apply([raw(30)], info, [mount(11)])


@pytest.mark.parametrize(
    ("info", "error", "message"),
    [
        ({"type": "LAUNCH"}, NotSupported, "LAUNCH is not an operation on a resource provider"),
        ({}, NotSupported, "an operation without type"),
        ({"type": "RESERVE", "reserve": {"resources": []}}, InvalidRequest, "RESERVE without resources"),
        ({"type": "RESERVE", "reserve": {"resources": [pool(1)]}}, InvalidRequest, "no reservation to take away"),
        ({"type": "CREATE", "create": {"volumes": [pool(1, OWNER)]}}, InvalidRequest, "not a persistent volume"),
        ({"type": "CREATE_DISK", "create_disk": {"source": raw(1)}}, InvalidRequest, "without converted resources"),
        ({"type": "CREATE_DISK"}, InvalidRequest, "without a source"),
    ],
)
def test_malformed_operations_are_refused(info, error, message):
    with pytest.raises(error, match=message):
        r.apply([pool(10)], info)


@pytest.mark.parametrize("value", [-1, "5", None, True, float("nan"), float("inf")])
def test_a_size_that_is_no_size_is_refused(value):
    with pytest.raises(InvalidRequest, match="no size of at least 0 MB"):
        r.normalise({"name": "disk", "scalar": {"value": value}})


def test_only_whole_megabytes_are_bytes():
    assert r.size_of(pool(3)) == 3 * 1024 * 1024
    assert r.megabytes(pool(1.5)) == 1.5
    with pytest.raises(InvalidRequest, match="whole number of MB"):
        r.size_of(pool(1.5))


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (pool(1, OWNER, PERSISTENCE), "/polly/gold/volumes/roles/dev db/app#data#1"),
        (mount(1, "0b5d-9", OWNER), "/polly/gold/0b5d-9/target"),
        (mount(1, "a b~c!"), "/polly/gold/a%20b%7Ec!/target"),
        ({"name": "disk", "disk": {"source": {"type": "MOUNT", "mount": {"root": "/m"}}}}, "/m"),
    ],
)
def test_the_path_is_where_the_agent_looks(resource, path):
    assert r.volume_path(resource) == path


@pytest.mark.parametrize(
    "resource",
    [
        pool(1, OWNER),
        pool(1, "", PERSISTENCE),
        raw(1),
        pool(1, OWNER, {"persistence": {"id": "../../etc"}}),
        pool(1, OWNER, {"persistence": {"id": ".."}}),
        {"name": "disk", "disk": {"source": {"type": "MOUNT", "mount": {"root": "relative"}}}},
        mount(1, ".."),
    ],
)
def test_what_has_no_path_is_refused(resource):
    with pytest.raises(InvalidRequest):
        r.volume_path(resource)
