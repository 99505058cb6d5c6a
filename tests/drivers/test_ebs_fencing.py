"""Instances that EC2 knows no more: what is proven of them, and what never is."""

from __future__ import annotations

import pytest

from drivers.ebs.controller import EbsController
from polly_mesos.model import HostIdentity
from polly_mesos.testing.ec2 import Ec2, Instance
from polly_mesos.testing.ec2.wire import Wire
from tests.drivers.ebs_platform import controller, ec2, request, wire

__all__ = ["ec2", "wire"]

PATIENCE = 3600.0


@pytest.fixture
def driver(ec2: Ec2) -> EbsController:
    return controller(ec2, consistency_timeout=PATIENCE)


def patience_ends(driver: EbsController) -> None:
    """As if EC2 had said for an hour what it says."""
    since = driver._forgotten._since
    driver._forgotten._since = {name: (volumes, at - PATIENCE - 1) for name, (volumes, at) in since.items()}


def on_an_instance(ec2: Ec2, driver: EbsController) -> tuple[HostIdentity, str, Instance]:
    """A volume on an instance that runs."""
    instance = ec2.instance("node")
    volume = driver.create(request()).id
    driver.attach(volume, HostIdentity(instance.id))
    return HostIdentity(instance.id), volume, instance


def forget(ec2: Ec2, instance: Instance) -> None:
    ec2.cloud.stop_instance(instance.id, "terminated")
    ec2.cloud.forget_instance(instance.id)


def test_what_a_forgotten_instance_may_hold_is_proven_free_by_what_ec2_says_of_it(
    ec2: Ec2, driver: EbsController
) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    assert not driver.fence_from(host, [volume]).proven
    forget(ec2, instance)
    early = driver.fence_from(host, [volume])
    assert not early.proven
    assert "3600 seconds" in early.reason
    patience_ends(driver)
    assert driver.fence_from(host, [volume]).proven
    assert not driver.fence(host).proven, "nothing was asked of any volume"
    driver.detach(volume, host, force=True)
    other = HostIdentity(ec2.instance("other").id)
    driver.attach(volume, other)
    assert driver.get(volume).attached_to == (other.host,)


def test_a_volume_that_is_not_there_either_proves_nothing(ec2: Ec2, driver: EbsController) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    forget(ec2, instance)
    for missing in ("vol-0123456789abcdef0", "not-a-volume", ""):
        driver.fence_from(host, [volume, missing])
        patience_ends(driver)
        fence = driver.fence_from(host, [volume, missing])
        assert not fence.proven
        assert "region or the account" in fence.reason


def test_nothing_is_proven_where_nothing_is_held(ec2: Ec2, driver: EbsController) -> None:
    host, _, instance = on_an_instance(ec2, driver)
    forget(ec2, instance)
    for _ in range(2):
        assert not driver.fence_from(host, []).proven
        patience_ends(driver)


def test_the_volumes_of_another_cluster_prove_nothing(ec2: Ec2, driver: EbsController) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    forget(ec2, instance)
    stranger = controller(ec2, cluster="another", consistency_timeout=0.001)
    for _ in range(2):
        assert not stranger.fence_from(host, [volume]).proven


def test_another_account_that_has_neither_proves_nothing(ec2: Ec2, driver: EbsController) -> None:
    host, volume, _ = on_an_instance(ec2, driver)
    with Wire("us-west-2") as wire, Ec2(wire=wire, region="us-west-2") as elsewhere:
        wrong = controller(elsewhere, consistency_timeout=0.001)
        wrong.create(request())
        for _ in range(2):
            assert not wrong.fence_from(host, [volume]).proven


def test_an_instance_that_ec2_forgets_for_a_moment_keeps_its_volume(ec2: Ec2, driver: EbsController) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    del ec2.cloud.instances[instance.id]
    for _ in range(2):
        fence = driver.fence_from(host, [volume])
        assert not fence.proven
        assert "attached there" in fence.reason
        patience_ends(driver)
    ec2.cloud.instances[instance.id] = instance


def test_a_look_in_between_that_says_otherwise_begins_the_wait_anew(ec2: Ec2, driver: EbsController) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    other = driver.create(request()).id
    held = ec2.cloud.volumes[volume].attachments
    del ec2.cloud.instances[instance.id]
    ec2.cloud.volumes[volume].attachments = {}
    assert not driver.fence_from(host, [volume]).proven
    patience_ends(driver)
    ec2.cloud.instances[instance.id] = instance
    assert not driver.fence_from(host, [volume]).proven, "it is there after all"
    del ec2.cloud.instances[instance.id]
    assert not driver.fence_from(host, [volume]).proven, "the wait begins anew"
    patience_ends(driver)
    assert not driver.fence_from(host, [volume, other]).proven, "so it does for another volume"
    ec2.cloud.volumes[volume].attachments = held
    ec2.cloud.instances[instance.id] = instance
    assert driver.get(volume).attached_to == (host.host,)


def test_three_hundred_volumes_are_asked_for_in_two_calls(ec2: Ec2, driver: EbsController) -> None:
    host, volume, instance = on_an_instance(ec2, driver)
    forget(ec2, instance)
    before = ec2.calls["DescribeVolumes"]
    driver.fence_from(host, [volume, *(f"vol-{number:017x}" for number in range(299))])
    assert ec2.calls["DescribeVolumes"] - before == 2
