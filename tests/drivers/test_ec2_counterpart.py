"""The strict counterpart refuses what EC2 refuses. The SDK alone talks to it here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from polly_mesos.testing.ec2 import KEY, SECRET, TIB, Account, Ec2, Fault, Policy
from polly_mesos.testing.ec2.wire import Wire

GIB3 = {"AvailabilityZone": "us-east-1a", "Size": 1, "VolumeType": "gp3"}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire("us-east-1") as wire:
        yield wire


@pytest.fixture
def ec2(wire: Wire) -> Iterator[Ec2]:
    with Ec2(wire=wire, limit=4) as ec2:
        yield ec2


@pytest.fixture
def client(ec2: Ec2) -> Any:
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=ec2.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )


def code(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return str(error.value.response["Error"]["Code"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AvailabilityZone": "mars-1a"}, "InvalidZone.NotFound"),
        ({"Size": 0}, "InvalidParameterValue"),
        ({"Size": 10_000_000}, "InvalidParameterValue"),
        ({"VolumeType": "gp9"}, "InvalidParameterValue"),
        ({"VolumeType": "st1"}, "InvalidParameterValue"),
        ({"VolumeType": "io2", "Size": 4}, "MissingParameter"),
        ({"VolumeType": "io1", "Size": 4, "Iops": 201}, "InvalidParameterValue"),
        ({"VolumeType": "gp2", "Iops": 100}, "InvalidParameterCombination"),
        ({"Throughput": 1000}, "InvalidParameterValue"),
        ({"MultiAttachEnabled": True}, "InvalidParameterCombination"),
        ({"KmsKeyId": "alias/x"}, "InvalidParameterDependency"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
        ({"SnapshotId": "snap-00000000"}, "InvalidSnapshot.NotFound"),
        ({"VolumeInitializationRate": 100}, "UnknownParameter"),
        ({"DryRun": True}, "DryRunOperation"),
    ],
)
def test_a_volume_that_ec2_would_not_make_is_refused(client: Any, changes: dict[str, Any], expected: str) -> None:
    assert code(client.create_volume, **{**GIB3, **changes}) == expected
    assert client.describe_volumes()["Volumes"] == []


@pytest.mark.parametrize("tags", [{"aws:x": "y"}, {"k": 'a "quoted" word'}, {"k": "v" * 257}, {"k" * 129: "v"}])
def test_tags_that_ec2_would_not_take_are_refused(client: Any, tags: dict[str, str]) -> None:
    given = [{"ResourceType": "volume", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
    assert code(client.create_volume, **GIB3, TagSpecifications=given) == "InvalidParameterValue"


def test_a_client_token_makes_one_volume(client: Any) -> None:
    first, again = (client.create_volume(**GIB3, ClientToken="t")["VolumeId"] for _ in range(2))
    assert first == again
    assert code(client.create_volume, **{**GIB3, "Size": 2}, ClientToken="t") == "IdempotentParameterMismatch"
    assert len(client.describe_volumes()["Volumes"]) == 1


def test_a_quota_is_a_limit(client: Any, ec2: Ec2) -> None:
    ec2.cloud.quotas["gp3"] = 2
    client.create_volume(**{**GIB3, "Size": 2})
    assert code(client.create_volume, **GIB3) == "VolumeLimitExceeded"
    ec2.cloud.quotas["gp3"] = TIB


def test_attaching_has_rules(client: Any, ec2: Ec2) -> None:
    volumes = [client.create_volume(**GIB3)["VolumeId"] for _ in range(4)]
    other_zone = client.create_volume(**{**GIB3, "AvailabilityZone": "us-east-1b"})["VolumeId"]
    one, two = (ec2.instance(node).id for node in ("one", "two"))
    attach = client.attach_volume
    attach(VolumeId=volumes[0], InstanceId=one, Device="/dev/sdf")
    assert code(attach, VolumeId=volumes[0], InstanceId=one, Device="/dev/sdg") == "VolumeInUse"
    assert code(attach, VolumeId=volumes[0], InstanceId=two, Device="/dev/sdg") == "VolumeInUse"
    for taken in ("/dev/sdf", "/dev/xvdf", "/dev/nvme1n1", "/dev/sda1"):
        assert code(attach, VolumeId=volumes[1], InstanceId=one, Device=taken) == "InvalidParameterValue"
    assert code(attach, VolumeId=other_zone, InstanceId=one, Device="/dev/sdg") == "InvalidVolume.ZoneMismatch"
    assert code(attach, VolumeId=volumes[1], InstanceId="i-00000000", Device="/dev/sdg") == "InvalidInstanceID.NotFound"
    assert code(attach, VolumeId="vol-00000000", InstanceId=one, Device="/dev/sdg") == "InvalidVolume.NotFound"
    for number in (1, 2):
        attach(VolumeId=volumes[number], InstanceId=one, Device=f"/dev/xvdb{'ab'[number - 1]}")
    assert code(attach, VolumeId=volumes[3], InstanceId=one, Device="/dev/sdh") == "AttachmentLimitExceeded"
    ec2.cloud.stop_instance(two, "terminated")
    assert code(attach, VolumeId=volumes[3], InstanceId=two, Device="/dev/sdh") == "IncorrectState"


def test_a_volume_can_be_detached_without_naming_the_instance(client: Any, ec2: Ec2) -> None:
    volume = client.create_volume(**GIB3)["VolumeId"]
    assert code(client.detach_volume, VolumeId=volume) == "IncorrectState"
    client.attach_volume(VolumeId=volume, InstanceId=ec2.instance("one").id, Device="/dev/sdf")
    other = ec2.instance("two").id
    assert code(client.detach_volume, VolumeId=volume, InstanceId=other) == "InvalidAttachment.NotFound"
    assert code(client.delete_volume, VolumeId=volume) == "VolumeInUse"
    client.detach_volume(VolumeId=volume)
    assert client.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"


def test_states_take_their_time(client: Any, ec2: Ec2) -> None:
    for name in ("create", "attach", "detach", "delete", "snapshot"):
        setattr(ec2.delays, name, 60.0)
    volume, host = client.create_volume(**GIB3)["VolumeId"], ec2.instance("one").id

    def states() -> tuple[str, list[str]]:
        (found,) = client.describe_volumes(VolumeIds=[volume])["Volumes"]
        return found["State"], [attachment["State"] for attachment in found["Attachments"]]

    assert states() == ("creating", [])
    assert code(client.attach_volume, VolumeId=volume, InstanceId=host, Device="/dev/sdf") == "IncorrectState"
    ec2.cloud.advance(61.0)
    client.attach_volume(VolumeId=volume, InstanceId=host, Device="/dev/sdf")
    assert states() == ("in-use", ["attaching"])
    ec2.cloud.advance(61.0)
    assert states() == ("in-use", ["attached"])
    snapshot = client.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert client.describe_snapshots(OwnerIds=["self"])["Snapshots"][0]["State"] == "pending"
    assert code(client.create_volume, **GIB3, SnapshotId=snapshot) == "IncorrectState"
    client.detach_volume(VolumeId=volume)
    assert states() == ("in-use", ["detaching"])
    ec2.cloud.advance(61.0)
    client.delete_volume(VolumeId=volume)
    assert states() == ("deleting", [])
    ec2.cloud.advance(61.0)
    assert code(client.describe_volumes, VolumeIds=[volume]) == "InvalidVolume.NotFound"


def test_a_volume_changes_once_in_six_hours_and_never_shrinks(client: Any, ec2: Ec2) -> None:
    ec2.delays.modify, ec2.delays.optimize = 60.0, 3600.0
    volume = client.create_volume(**{**GIB3, "Size": 2})["VolumeId"]
    assert code(client.modify_volume, VolumeId=volume, Size=1) == "InvalidParameterValue"
    assert client.modify_volume(VolumeId=volume, Size=3)["VolumeModification"]["ModificationState"] == "modifying"
    assert client.describe_volumes()["Volumes"][0]["Size"] == 2
    for seconds, state in ((61.0, "optimizing"), (3601.0, "completed")):
        ec2.cloud.advance(seconds)
        found = client.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"][0]
        assert found["ModificationState"] == state
        assert client.describe_volumes()["Volumes"][0]["Size"] == 3
        expected = "VolumeModificationRateExceeded" if state == "completed" else "IncorrectModificationState"
        assert code(client.modify_volume, VolumeId=volume, Size=4) == expected
    ec2.cloud.advance(6 * 3600.0)
    client.modify_volume(VolumeId=volume, Size=4)


def test_pages_are_of_the_size_that_was_asked_for_and_miss_nothing(client: Any) -> None:
    made = {client.create_volume(**GIB3)["VolumeId"] for _ in range(12)}
    first = client.describe_volumes(MaxResults=5)
    assert len(first["Volumes"]) == 5
    client.delete_volume(VolumeId=first["Volumes"][0]["VolumeId"])
    second = client.describe_volumes(MaxResults=5, NextToken=first["NextToken"])
    third = client.describe_volumes(MaxResults=5, NextToken=second["NextToken"])
    assert "NextToken" not in third
    assert {one["VolumeId"] for page in (first, second, third) for one in page["Volumes"]} == made
    assert code(client.describe_volumes, MaxResults=4) == "InvalidParameterValue"
    assert code(client.describe_volumes, MaxResults=5, NextToken="forged") == "InvalidParameterValue"
    named = [third["Volumes"][0]["VolumeId"]]
    assert code(client.describe_volumes, MaxResults=5, VolumeIds=named) == "InvalidParameterCombination"


def test_what_a_key_may_not_do_is_refused(client: Any, ec2: Ec2) -> None:
    ec2.accounts[KEY] = Account(SECRET, policy=Policy.allowing("ec2:CreateVolume"))
    assert code(client.describe_volumes) == "UnauthorizedOperation"
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    assert code(client.create_volume, **GIB3, TagSpecifications=tags) == "UnauthorizedOperation"
    client.create_volume(**GIB3)


def test_calls_are_counted_and_throttled_by_a_bucket(client: Any, ec2: Ec2) -> None:
    ec2.faults.limit(0.001, 2)
    client.describe_volumes()
    client.describe_volumes()
    assert code(client.describe_volumes) == "RequestLimitExceeded"
    assert ec2.calls["DescribeVolumes"] == 3


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.HTML_AFTER, Fault.NONSENSE])
def test_a_fault_after_the_deed_leaves_the_deed(client: Any, ec2: Ec2, fault: Fault) -> None:
    ec2.faults.plan("CreateVolume", fault)
    with pytest.raises(Exception, match=r".+"):
        client.create_volume(**GIB3)
    assert len(client.describe_volumes()["Volumes"]) == 1


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.HTML, Fault.THROTTLED, Fault.UNAVAILABLE, Fault.INTERNAL])
def test_a_fault_instead_of_the_deed_leaves_nothing(client: Any, ec2: Ec2, fault: Fault) -> None:
    ec2.faults.plan("CreateVolume", fault)
    with pytest.raises(Exception, match=r".+"):
        client.create_volume(**GIB3)
    assert client.describe_volumes()["Volumes"] == []
