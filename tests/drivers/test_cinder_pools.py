"""Capacity where an administrator asks, who sees the pools: the least of the quota and what back ends have."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.base import Capacity, CreateRequest, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.pools import size_of, sum_of
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import NotSupported
from polly_mesos.testing.openstack.cloud import PROJECT, SMALL_SIZE
from polly_mesos.testing.openstack.configuration import SMALL_BACKEND, SMALL_ZONE
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

POOL = {
    "total_capacity_gb": 100.0,
    "free_capacity_gb": 40.0,
    "provisioned_capacity_gb": 60.0,
    "reserved_percentage": 0,
    "max_over_subscription_ratio": 20.0,
    "thin_provisioning_support": False,
}
THIN = {**POOL, "thin_provisioning_support": True}


class TestReckoning:
    """One pool, by what its back end says of it."""

    @pytest.mark.parametrize(
        ("pool", "size"),
        [
            pytest.param(POOL, (100, 40), id="thick: what is free"),
            pytest.param({**POOL, "reserved_percentage": 10}, (90, 30), id="thick: less what is reserved"),
            pytest.param({**POOL, "free_capacity_gb": 5.5}, (100, 5.5), id="thick: somebody else fills it"),
            pytest.param(THIN, (2000, 800), id="thin: the ratio of what is free"),
            pytest.param({**THIN, "provisioned_capacity_gb": 1900}, (2000, 100), id="thin: much is promised"),
            pytest.param({**THIN, "provisioned_capacity_gb": 2100}, (2000, 0), id="thin: too much is promised"),
            pytest.param({**THIN, "reserved_percentage": 30}, (1400, 200), id="thin: less what is reserved"),
            pytest.param({**THIN, "free_capacity_gb": 0}, (2000, 0), id="thin: its disks are full"),
            pytest.param(
                {**THIN, "max_over_subscription_ratio": 0.5}, (100, 0), id="thin: a ratio that Cinder refuses"
            ),
            pytest.param({**THIN, "thin_provisioning_support": "True"}, (2000, 800), id="told as text"),
            pytest.param({**THIN, "max_over_subscription_ratio": None}, (100, 40), id="thin without a ratio"),
            pytest.param({**POOL, "free_capacity_gb": "unknown"}, (100, None), id="free: unknown"),
            pytest.param({**POOL, "free_capacity_gb": "infinite"}, (100, None), id="free: infinite"),
            pytest.param({**POOL, "total_capacity_gb": "infinite"}, (None, None), id="total: infinite"),
            pytest.param(
                {**POOL, "total_capacity_gb": "unknown", "reserved_percentage": 10}, (None, 0), id="a part of unknown"
            ),
            pytest.param({**POOL, "backend_state": "down"}, (None, 0), id="down"),
            pytest.param({}, (None, None), id="nothing told"),
        ],
    )
    def test_a_pool(self, pool: dict[str, Any], size: tuple[float | None, float | None]) -> None:
        assert size_of(pool) == size

    def test_a_thick_type_in_a_thin_pool_gets_what_is_free(self) -> None:
        assert size_of(THIN, thick=True) == (100, 40)

    def test_several_pools(self) -> None:
        assert sum_of([(100, 40), (10, 1)]) == (110, 41)
        assert sum_of([(100, 40), (None, None)]) == (None, None)
        assert sum_of([(100, 40), (None, 0)]) == (None, 40)


@pytest.fixture(scope="module")
def administrator(needs_cloud: None) -> CinderController:
    """Logged in as an administrator of the project."""
    identity: Any = cloud().connect().identity
    user, role = identity.find_user("admin"), identity.find_role("admin")
    identity.assign_project_role_to_user(identity.find_project(PROJECT), user, role)
    return CinderController(CinderSettings(**cloud().login(user_name="admin")), "pools")


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextlib.contextmanager
def quota(gigabytes: int) -> Iterator[None]:
    admin: Any = cloud().connect().block_storage
    admin.update_quota_set(cloud().project_id, gigabytes=gigabytes)
    try:
        yield
    finally:
        admin.update_quota_set(cloud().project_id, gigabytes=400)


@pytest.mark.root
@pytest.mark.openstack
@pytest.mark.timeout(600)
class TestRealPools:
    """A back end that promises twenty times what it has, and one that promises three quarters of it."""

    def test_the_least_of_quota_and_pools_counts(self, administrator: CinderController) -> None:
        assert administrator.capacity("", "standard").total == 400 * GIB, "the quota: 64 GiB are promised 20 times"
        small = administrator.capacity("", "small")
        assert small.total == SMALL_SIZE * 3 // 4
        with quota(1):
            assert administrator.capacity("", "small") == Capacity(GIB, GIB)
        with quota(-1):
            both, large = administrator.capacity("", ""), administrator.capacity("", "standard")
            assert both.total is not None
            assert large.total is not None
            assert 0 <= both.total - large.total - small.total <= GIB
            assert large.total > 20 * 60 * GIB

    def test_a_type_that_nothing_provides_has_no_room(self, administrator: CinderController) -> None:
        assert administrator.capacity("", "impossible").available == 0
        with pytest.raises(NotSupported, match="no-such-type"):
            administrator.capacity("", "no-such-type")

    def test_only_pools_of_the_zone_count(self, administrator: CinderController) -> None:
        with quota(-1):
            assert administrator.capacity(SMALL_ZONE, "") == administrator.capacity("", "small")
            assert administrator.capacity("nova", "") == administrator.capacity("", "standard")
            assert administrator.capacity("nova", "small").available == 0

    def test_what_others_put_there_is_not_offered(self, administrator: CinderController) -> None:
        """A volume is noted when the back end tells of itself, every few seconds; so is a disk that fills up."""
        before = administrator.capacity("", "small").available
        token = str(uuid.uuid4())
        asked = CreateRequest(token, GIB, Tags("pools", token, "gold"), platform_type="small", zone=SMALL_ZONE)
        volume = available(administrator.create(asked), administrator)
        assert before is not None
        until(lambda: administrator.capacity("", "small").available == before - GIB)
        (image,) = cloud().directory.glob(f"mounts/*/volume-{volume.id}")
        other = image.with_name("of-somebody-else")
        with other.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, SMALL_SIZE * 3 // 4)
        until(lambda: administrator.capacity("", "small").available == 0)
        assert administrator.capacity("", "standard").available != 0
        other.unlink()
        administrator.delete(volume.id)
        until(lambda: administrator.capacity("", "small").available == before)

    def test_a_back_end_that_is_out_of_service_keeps_its_volumes_and_takes_no_more(
        self, administrator: CinderController
    ) -> None:
        admin: Any = cloud().connect().block_storage
        (service,) = [one for one in admin.services(binary="cinder-volume") if one.host.endswith(f"@{SMALL_BACKEND}")]
        admin.freeze_service(service)
        try:
            until(lambda: administrator.capacity("", "small") == Capacity(400 * GIB, 0))
            assert administrator.capacity("", "standard").available != 0
        finally:
            admin.thaw_service(service)
        until(lambda: administrator.capacity("", "small").available != 0)

    def test_without_the_right_the_quota_counts_after_one_refused_call(self, needs_cloud: None) -> None:
        driver = CinderController(CinderSettings(**cloud().login()), "pools")
        driver.list()
        cloud().proxy.clear()
        for _ in range(3):
            assert driver.capacity("", "small").total == 400 * GIB
        assert cloud().proxy.calls["GET /v3/{project}/scheduler-stats/get_pools"] == 1
