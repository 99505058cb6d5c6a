"""How many volumes an instance can have is EC2's word, as far as EC2 gives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import boto3
import pytest

from drivers.ebs import host_limits
from drivers.ebs.controller import EbsController
from drivers.ebs.host import EbsHost
from polly_mesos.errors import PlatformFull
from polly_mesos.model import HostIdentity
from polly_mesos.testing.ec2 import KEY, SECRET, Account, Ec2, Fault, Policy
from polly_mesos.testing.ec2.wire import Wire
from tests.drivers.ebs_platform import controller, ec2, request, wire

__all__ = ["ec2", "wire"]


def said(ec2: Ec2, node: str = "node") -> HostIdentity:
    """What the host says of itself."""
    return EbsHost({"metadata_endpoint": ec2.settings["metadata_endpoint"], "host_root": "/nowhere"}, node).identify()


def in_time(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def stranger(ec2: Ec2) -> Any:
    """Somebody else of the same account."""
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=ec2.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host waits until EC2 has answered, and for no more than that."""
    monkeypatch.setattr(host_limits, "_PATIENCE", 3600.0)


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is asked for again each time."""
    monkeypatch.setattr(host_limits, "_FRESH", 0.0)
    monkeypatch.setattr(host_limits, "_AGAIN", 0.0)


@pytest.mark.parametrize(
    ("kind", "interfaces", "limit"),
    [
        ("m5.large", 1, 26),
        ("m5.large", 3, 24),
        ("m5d.large", 1, 25),
        ("m7i.large", 3, 31),
        ("g5.xlarge", 1, 24),
        ("t2.micro", 1, 39),
        ("m7i.48xlarge", 2, 127),
    ],
)
def test_the_limit_is_that_of_the_type_less_interfaces_where_they_count_and_the_root_volume(
    ec2: Ec2, kind: str, interfaces: int, limit: int
) -> None:
    ec2.instance("node", kind).interfaces = interfaces
    driver = controller(ec2)
    known = driver.known_host(said(ec2))
    assert known.attach_limit == limit
    assert (known.host, known.zone, known.details) == (said(ec2).host, said(ec2).zone, said(ec2).details)


def test_as_many_volumes_as_the_limit_says_can_be_attached_and_no_more(wire: Wire) -> None:
    with Ec2(wire=wire, limit=6) as ec2:
        ec2.instance("node").interfaces = 2
        driver = controller(ec2)
        host = driver.known_host(said(ec2))
        assert host.attach_limit == 4
        for _ in range(4):
            driver.attach(driver.create(request()).id, host)
        with pytest.raises(PlatformFull):
            driver.attach(driver.create(request()).id, host)
        assert controller(ec2).known_host(said(ec2)).attach_limit == 4, "what is Polly's takes nothing from Polly"


@pytest.mark.usefixtures("stale")
def test_what_others_attach_is_counted_and_what_they_take_away_is_not(ec2: Ec2, stranger: Any) -> None:
    driver, host = controller(ec2), said(ec2)
    assert driver.known_host(host).attach_limit == 26
    disks = [stranger.create_volume(AvailabilityZone=host.zone, Size=1, VolumeType="gp3")["VolumeId"] for _ in "ab"]
    for disk, name in zip(disks, "fg", strict=True):
        stranger.attach_volume(VolumeId=disk, InstanceId=host.host, Device=f"/dev/sd{name}")
    others, asked = controller(ec2, "another"), request()
    others.attach(others.create(replace(asked, tags=replace(asked.tags, cluster="another"))).id, host)
    in_time(lambda: driver.known_host(host).attach_limit == 23)
    stranger.detach_volume(VolumeId=disks[0])
    in_time(lambda: driver.known_host(host).attach_limit == 24)


def test_places_that_are_reserved_count_instead_of_what_others_have(ec2: Ec2) -> None:
    driver = controller(ec2, reserved_attachments=10)
    assert driver.known_host(said(ec2)).attach_limit == 17
    assert not ec2.calls["DescribeVolumes"]


def test_a_type_is_asked_for_once_and_an_instance_once_in_ten_minutes(ec2: Ec2) -> None:
    driver = controller(ec2)
    hosts = [said(ec2, f"node-{number}") for number in range(20)]
    for _ in range(3):
        with ThreadPoolExecutor(20) as pool:
            assert {host.attach_limit for host in pool.map(driver.known_host, hosts)} == {26}
    assert ec2.calls["DescribeInstanceTypes"] == 1
    assert ec2.calls["DescribeVolumes"] < 20


@pytest.mark.parametrize("action", ["DescribeInstanceTypes", "DescribeVolumes"])
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HTML, Fault.NONSENSE, Fault.THROTTLED])
def test_where_ec2_does_not_answer_a_host_is_what_it_says_and_is_known_later(
    ec2: Ec2, action: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, host = controller(ec2), said(ec2)
    ec2.instance("node").limit = 20
    ec2.cloud.limit = 20
    ec2.faults.plan(action, fault)
    assert driver.known_host(host) == host
    assert driver.known_host(host) == host, "not asked again at once"
    assert ec2.calls[action] == 1
    monkeypatch.setattr(host_limits, "_AGAIN", 0.0)
    assert driver.known_host(host).attach_limit == 19


def test_a_platform_that_hangs_keeps_no_host_waiting(ec2: Ec2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_limits, "_PATIENCE", 0.05)
    driver, host = controller(ec2), said(ec2)
    with ec2.cloud.lock:
        assert driver.known_host(host) == host
        assert driver.known_host(host) == host
    in_time(lambda: driver.known_host(host).attach_limit == 26)
    assert ec2.calls["DescribeInstanceTypes"] == 1


def test_without_the_permission_a_host_is_what_it_says(ec2: Ec2) -> None:
    host = said(ec2)
    ec2.accounts[KEY] = Account(SECRET, policy=Policy.allowing("ec2:DescribeVolumes"))
    assert controller(ec2).known_host(host) == host


@pytest.mark.parametrize("details", [{}, {"instance_type": "zz9.plural"}, {"instance_type": "m5.large"}])
def test_a_host_of_which_too_little_is_known_is_what_it_says(ec2: Ec2, details: dict[str, str]) -> None:
    host = HostIdentity(ec2.instance("node").id, "us-east-1a", 7, details)
    driver: EbsController = controller(ec2)
    for _ in range(2):
        assert driver.known_host(host) == host


@pytest.fixture(autouse=True)
def nobody_asks_any_more(ec2: Ec2) -> Iterator[None]:
    """A thread that asks is ended with its test."""
    yield
    ec2.faults.forget()
