"""The example's policy is enough, nothing in it is too much, and what is not the cluster's is out of its reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from drivers.ebs.controller import EbsController
from polly_mesos.errors import PlatformDenied, PollyError
from polly_mesos.model import HostIdentity, Profile
from polly_mesos.testing.ec2 import KEY, SECRET, Account, Ec2, Key, Need, Policy
from tests.drivers.ebs_platform import GIB, actions, controller, ec2, example, request, wire

__all__ = ["ec2", "wire"]

FULL = "AKIAEVERYTHING000000"


@pytest.fixture(autouse=True)
def world(ec2: Ec2) -> None:
    """An account with a key of its own, and somebody else who may do everything."""
    ec2.accounts[FULL] = Account(SECRET)
    ec2.cloud.default_quotas.add("gp3")
    ec2.cloud.kms_keys.append(Key("11111111-2222-3333-4444-555555555555", ("alias/polly",)))


def limited(ec2: Ec2, policy: dict[str, Any] | None = None) -> EbsController:
    ec2.accounts[KEY] = Account(SECRET, policy=Policy(policy or example()))
    return controller(ec2, kms_key="alias/polly")


def all_that_polly_does(ec2: Ec2, driver: EbsController) -> None:
    """Every operation, with the customer's key and without; raises where one of them does not do what it is for."""
    host = HostIdentity(ec2.instance("node").id, details={"instance_type": "m5.large", "interfaces": "1"})
    assert driver.capacity("us-east-1a", "gp3").total
    assert driver.known_host(host).attach_limit
    for encryption in (False, True):
        volume = driver.get(driver.create(request(encryption=encryption)).id)
        driver.attach(volume.id, host)
        driver.fence(host)
        driver.detach(volume.id, host)
        snapshot = driver.snapshot(volume.id, volume.tags.volume, volume.tags)
        driver.get(driver.restore(snapshot.id, request(encryption=encryption)).id)
        driver.clone(volume.id, request(encryption=encryption))
        driver.expand(volume.id, 2 * GIB)
        driver.delete_snapshot(snapshot.id)
        driver.delete(volume.id)


def test_everything_works_with_the_example_policy(ec2: Ec2) -> None:
    all_that_polly_does(ec2, limited(ec2))


@pytest.mark.parametrize("action", actions())
def test_nothing_in_the_example_policy_can_be_left_out(ec2: Ec2, action: str) -> None:
    with pytest.raises((PollyError, AssertionError)):
        all_that_polly_does(ec2, limited(ec2, example(without=action)))


@pytest.mark.parametrize("theirs", ["another", ""])
def test_what_is_not_the_clusters_cannot_be_touched_with_these_credentials(ec2: Ec2, theirs: str) -> None:
    somebody, polly = (client(ec2, key) for key in (FULL, KEY))
    host = ec2.instance("node").id
    tags = {"TagSpecifications": tagged("volume", theirs)} if theirs else {}
    place = {"AvailabilityZone": "us-east-1a", "Size": 1, "VolumeType": "gp3"}
    volume, other = (somebody.create_volume(**place, **tags)["VolumeId"] for _ in "ab")
    snapshot = somebody.create_snapshot(VolumeId=volume)["SnapshotId"]
    somebody.attach_volume(VolumeId=other, InstanceId=host, Device="/dev/sdg")
    limited(ec2)
    attempts: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (polly.delete_volume, {"VolumeId": volume}),
        (polly.modify_volume, {"VolumeId": volume, "Size": 2}),
        (polly.attach_volume, {"VolumeId": volume, "InstanceId": host, "Device": "/dev/sdf"}),
        (polly.detach_volume, {"VolumeId": other, "InstanceId": host}),
        (polly.detach_volume, {"VolumeId": other}),
        (polly.create_snapshot, {"VolumeId": volume}),
        (polly.create_snapshot, {"VolumeId": volume, "TagSpecifications": tagged("snapshot", "test")}),
        (polly.delete_snapshot, {"SnapshotId": snapshot}),
        (polly.create_volume, {**place, "SnapshotId": snapshot, "TagSpecifications": tagged("volume", "test")}),
        (polly.create_tags, {"Resources": [volume], "Tags": [{"Key": "polly:cluster", "Value": "test"}]}),
        (polly.create_tags, {"Resources": [snapshot], "Tags": [{"Key": "polly:cluster", "Value": "test"}]}),
        (polly.create_volume, place),
        (polly.create_volume, {**place, "TagSpecifications": tagged("volume", "another")}),
    ]
    before = somebody.describe_volumes()["Volumes"], somebody.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    for attempt, parameters in attempts:
        with pytest.raises(ClientError) as error:
            attempt(**parameters)
        assert error.value.response["Error"]["Code"] == "UnauthorizedOperation", (attempt, parameters)
    assert before == (
        somebody.describe_volumes()["Volumes"],
        somebody.describe_snapshots(OwnerIds=["self"])["Snapshots"],
    )


def test_a_driver_of_another_cluster_is_denied(ec2: Ec2) -> None:
    limited(ec2)
    driver, asked = controller(ec2, "another"), request()
    with pytest.raises(PlatformDenied, match="ec2:CreateVolume on resource: arn:aws:ec2:us-east-1"):
        driver.create(replace(asked, tags=replace(asked.tags, cluster="another")))


def tagged(kind: str, cluster: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "polly:cluster", "Value": cluster}]}]


def client(ec2: Ec2, key: str) -> Any:
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=ec2.url,
        aws_access_key_id=key,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )


class TestCheck:
    """``polly service check``: what is missing, found out without changing anything."""

    PROFILE = Profile("gold", "aws", platform_type="gp3", minimum_size=GIB)

    def failed(self, driver: EbsController) -> dict[str, bool | None]:
        return {check.name: check.passed for check in driver.check([self.PROFILE]) if not check.passed}

    def test_with_the_example_policy_nothing_is_missing(self, ec2: Ec2) -> None:
        driver = limited(ec2)
        volume = driver.create(request())
        driver.attach(volume.id, HostIdentity(ec2.instance("node").id))
        assert self.failed(driver) == {"permission ec2:DeleteSnapshot": None}

    def test_what_only_a_volume_could_tell_is_not_called_missing_where_there_is_none(self, ec2: Ec2) -> None:
        unknown = ("DeleteVolume", "AttachVolume", "DetachVolume", "ModifyVolume", "CreateSnapshot", "DeleteSnapshot")
        assert self.failed(limited(ec2)) == {f"permission ec2:{action}": None for action in unknown}

    @pytest.mark.parametrize(
        ("without", "missing"),
        [
            ("ec2:AttachVolume", {"AttachVolume"}),
            ("UseInstances:ec2:DetachVolume", {"DetachVolume"}),
            ("ec2:DeleteVolume", {"DeleteVolume"}),
            ("ec2:CreateTags", {"CreateVolume", "CreateSnapshot"}),
            ("MakeVolumesOfTheCluster:ec2:CreateVolume", {"CreateVolume"}),
            ("ec2:ModifyVolume", {"ModifyVolume"}),
            ("ec2:DescribeInstanceTypes", {"DescribeInstanceTypes"}),
        ],
    )
    def test_it_names_what_is_missing_and_changes_nothing(self, ec2: Ec2, without: str, missing: set[str]) -> None:
        driver = limited(ec2)
        volume = driver.create(request())
        driver.attach(volume.id, HostIdentity(ec2.instance("node").id))
        before = driver.list()
        failed = self.failed(limited(ec2, example(without=without)))
        assert {name for name, passed in failed.items() if passed is False} == {f"permission ec2:{n}" for n in missing}
        assert driver.list() == before
        assert not ec2.cloud.snapshots

    def test_no_dry_run_would_do_harm_if_it_were_none(self, ec2: Ec2, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = limited(ec2, {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
        kept = driver.create(request())
        used = driver.create(request())
        host = HostIdentity(ec2.instance("node").id)
        driver.attach(used.id, host)
        snapshot = driver.snapshot(kept.id, "token", kept.tags)
        before = {one.id: (one.size, one.attached_to) for one in driver.list().volumes}

        def in_earnest(action: str, **parameters: Any) -> str:
            try:
                driver._api.call(action, "a dry run that is none", **parameters)
            except PollyError as error:
                return str(error)
            return "Performed"

        monkeypatch.setattr(driver._api, "dry_run", in_earnest)
        driver.check([self.PROFILE])
        after = {one.id: (one.size, one.attached_to) for one in driver.list().volumes}
        assert {name: after[name] for name in before} == before
        assert snapshot.id in ec2.cloud.snapshots

    def test_it_tells_wrong_credentials(self, ec2: Ec2) -> None:
        (check,) = controller(ec2, secret_key="wrong").check([])
        assert (check.name, check.passed) == ("credentials", False)


class TestPolicy:
    """The judge itself."""

    @pytest.mark.parametrize(
        ("condition", "context", "expected"),
        [
            ({}, {}, True),
            ({"StringEquals": {"k": "v"}}, {"k": ("v",)}, True),
            ({"StringEquals": {"k": ["u", "v"]}}, {"k": ("v",)}, True),
            ({"StringEquals": {"k": "v*"}}, {"k": ("vv",)}, False),
            ({"StringEquals": {"k": "v"}}, {}, False),
            ({"StringLike": {"k": "v*"}}, {"k": ("vv",)}, True),
            ({"StringLike": {"k": "v?"}}, {"k": ("v",)}, False),
            ({"StringLike": {"k": "v.v"}}, {"k": ("vxv",)}, False),
            ({"Null": {"k": "false"}}, {"k": ("v",)}, True),
            ({"Null": {"k": "false"}}, {}, False),
            ({"Null": {"k": "true"}}, {}, True),
            ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ("a", "b")}, True),
            ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ("a", "c")}, False),
            ({"ForAllValues:StringEquals": {"k": "a"}}, {}, True),
            ({"ForAnyValue:StringEquals": {"k": "a"}}, {"k": ("b", "a")}, True),
            ({"ForAnyValue:StringEquals": {"k": "a"}}, {}, False),
            ({"Bool": {"k": "true"}}, {"k": ("false",)}, False),
            ({"StringEquals": {"k": "v", "l": "w"}}, {"k": ("v",)}, False),
        ],
    )
    def test_conditions(self, condition: Any, context: Any, expected: bool) -> None:
        statement = {"Effect": "Allow", "Action": "ec2:Delete*", "Resource": "arn:x/*", "Condition": condition}
        policy = Policy({"Statement": [statement]})
        assert policy.allows(Need("ec2:DeleteVolume", "arn:x/1", context)) is expected
        assert not policy.allows(Need("ec2:DetachVolume", "arn:x/1", context))
        assert not policy.allows(Need("ec2:DeleteVolume", "arn:y/1", context))

    def test_what_is_denied_is_not_allowed(self) -> None:
        allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        deny = {"Effect": "Deny", "Action": "ec2:DeleteVolume", "Resource": "*"}
        assert not Policy({"Statement": [allow, deny]}).allows(Need("ec2:DeleteVolume", "arn:x"))

    @pytest.mark.parametrize("change", [{"NotAction": "x"}, {"Condition": {"DateLessThan": {"k": "v"}}}])
    def test_what_it_does_not_know_is_an_error(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="not known here"):
            Policy({"Statement": [{"Effect": "Allow", "Action": "x", "Resource": "*", **change}]})
