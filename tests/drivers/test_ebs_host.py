"""Which disk is which volume, on made-up host trees; and who an instance is, by its metadata service."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moto
import pytest

from drivers.ebs.attach_limits import attach_limit, is_nitro
from drivers.ebs.host import EbsHost
from drivers.ebs.xen import is_plugged_at, numbers_of
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.testing.block_hosts import HostTree
from polly_mesos.testing.ec2 import Ec2
from polly_mesos.testing.ec2.disks import xen_number
from polly_mesos.testing.ec2.wire import Wire

MIB = 1 << 20
VOLUME = "vol-0123456789abcdef0"
ATTACHMENT = {"volume": VOLUME, "device": "/dev/sdf", "size": MIB}


@pytest.fixture
def tree(nothing_left: None, tmp_path: Path) -> Iterator[HostTree]:
    with HostTree(tmp_path / "host") as tree:
        yield tree
    for image in tmp_path.glob("*.img"):
        image.unlink()


def plug(tree: HostTree, name: str, size: int = MIB, **files: str) -> None:
    image = tree.root.parent / f"{name}.img"
    with image.open("wb") as file:
        file.truncate(size)
    tree.plug(name, image, {f"device/{key}": value for key, value in files.items()})


def host(tree: HostTree) -> EbsHost:
    return EbsHost({"host_root": str(tree.root)}, "node:1")


@pytest.mark.root
class TestDisks:
    def test_a_volume_is_the_nvme_disk_with_its_serial_number_whatever_its_name(self, tree: HostTree) -> None:
        plug(tree, "nvme0n1", serial="vol0123456789abcdef1\n")
        plug(tree, "nvme7n1", serial="vol0123456789abcdef0\n")
        assert host(tree).locate(ATTACHMENT, 0.0) == str(tree.root / "dev/nvme7n1")

    def test_a_serial_number_that_only_begins_alike_is_another_volume(self, tree: HostTree) -> None:
        plug(tree, "nvme1n1", serial="vol0123456789abcdef00\n")
        plug(tree, "nvme2n1", serial="vol0123456789abcdef\n")
        with pytest.raises(DeviceNotFound):
            host(tree).locate(ATTACHMENT, 0.0)

    def test_a_disk_with_the_right_name_and_another_serial_number_is_not_taken(self, tree: HostTree) -> None:
        plug(tree, "xvdf", serial="vol0aaaaaaaaaaaaaaaa\n", nodename="device/vbd/51792\n")
        with pytest.raises(DeviceNotFound):
            host(tree).locate(ATTACHMENT, 0.0)

    def test_a_name_alone_is_no_proof(self, tree: HostTree) -> None:
        for name in ("xvdf", "sdf"):
            plug(tree, name)
        with pytest.raises(DeviceNotFound):
            host(tree).locate(ATTACHMENT, 0.0)

    def test_on_xen_the_place_counts_and_not_the_kernels_name(self, tree: HostTree) -> None:
        plug(tree, "xvdf", nodename="device/vbd/51808\n")
        plug(tree, "xvdj", nodename="device/vbd/51792\n")
        assert host(tree).locate(ATTACHMENT, 0.0) == str(tree.root / "dev/xvdj")

    def test_on_xen_a_disk_that_is_too_small_is_another(self, tree: HostTree) -> None:
        plug(tree, "xvdf", size=MIB // 2, nodename="device/vbd/51792\n")
        with pytest.raises(DeviceNotFound):
            host(tree).locate(ATTACHMENT, 0.0)

    def test_two_disks_with_one_serial_number_are_refused(self, tree: HostTree) -> None:
        for name in ("nvme1n1", "nvme2n1"):
            plug(tree, name, serial="vol0123456789abcdef0")
        with pytest.raises(HostError, match="all say that they are"):
            host(tree).locate(ATTACHMENT, 0.0)

    def test_what_a_host_holds_is_told_from_the_kernel(self, tree: HostTree) -> None:
        plug(tree, "nvme0n1", serial="vol0123456789abcdef1", **{"../nvme0n1p1/partition": "1"})
        plug(tree, "nvme1n1", serial="vol0123456789abcdef0")
        plug(tree, "nvme2n1", serial="AWS22222222222222222")
        held = host(tree).held()
        assert {path.rpartition("/")[2]: found["volume"] for path, found in held.items()} == {"nvme1n1": VOLUME}


class TestXen:
    @pytest.mark.parametrize("name", ["/dev/sdf", "/dev/xvdf", "/dev/sdp", "/dev/xvdba", "/dev/xvdcz", "/dev/xvdaa"])
    def test_the_driver_and_the_counterpart_number_places_alike(self, name: str) -> None:
        assert xen_number(name) in numbers_of(name)

    def test_known_numbers(self) -> None:
        assert 51792 in numbers_of("/dev/sdf")
        assert numbers_of("/dev/xvdba") == {(1 << 28) | 52 << 8}
        assert numbers_of("/dev/nvme1n1") == set()

    def test_a_disk_without_a_place_is_plugged_in_nowhere(self, tmp_path: Path) -> None:
        assert not is_plugged_at(tmp_path, "/dev/sdf")


def what_ec2_says() -> dict[str, Any]:
    """DescribeInstanceTypes of Amazon's own, as moto keeps it."""
    path = Path(moto.__file__).parent / "ec2/resources/instance_types.json.gz"
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    assert len(found) > 1000
    return {name: {"Hypervisor": "", **told} for name, told in found.items()}


class TestLimits:
    @pytest.mark.parametrize(
        ("kind", "interfaces", "stores", "limit"),
        [
            ("t2.micro", 1, 0, 39),
            ("i3.large", 1, 1, 39),
            ("m5.large", 1, 0, 27),
            ("m5d.large", 2, 1, 25),
            ("m5.metal", 1, 0, 30),
            ("m7i.large", 3, 0, 32),
            ("m7i.16xlarge", 1, 0, 48),
            ("c8g.24xlarge", 1, 0, 64),
            ("r7a.48xlarge", 1, 0, 128),
            ("d3.8xlarge", 1, 24, 3),
        ],
    )
    def test_they_come_with_the_type(self, kind: str, interfaces: int, stores: int, limit: int) -> None:
        assert attach_limit(kind, interfaces, stores) == limit

    def test_no_host_says_more_of_itself_than_ec2_says_of_its_type(self) -> None:
        for name, told in what_ec2_says().items():
            storage = told.get("InstanceStorageInfo", {})
            on_bus = storage.get("NvmeSupport") != "unsupported"
            stores = sum(disk["Count"] for disk in storage.get("Disks", [])) if on_bus else 0
            most = told["EbsInfo"]["MaximumEbsAttachments"]
            assert attach_limit(name, 1, stores) <= most, name
            # EC2 tells it of metal types too, with numbers that do not fit.
            if told["EbsInfo"]["AttachmentLimitType"] == "shared" and is_nitro(name) and "metal" not in name:
                assert attach_limit(name, 3, stores) <= max(1, most - 2), name

    def test_a_host_knows_whether_its_type_is_nitro(self) -> None:
        for name, told in what_ec2_says().items():
            assert is_nitro(name) == (told["Hypervisor"] != "xen"), name

    def test_nitro_is_told_by_the_type(self) -> None:
        assert [is_nitro(kind) for kind in ("m5.large", "t2.nano", "i3.large", "i3.metal")] == [
            True,
            False,
            False,
            True,
        ]


class TestIdentity:
    @pytest.fixture
    def ec2(self) -> Iterator[Ec2]:
        with Wire("us-east-1") as wire, Ec2(wire=wire) as ec2:
            yield ec2

    def test_a_host_is_its_instance(self, ec2: Ec2, tmp_path: Path) -> None:
        settings = {"metadata_endpoint": ec2.settings["metadata_endpoint"], "host_root": str(tmp_path)}
        instance = ec2.instance("node:1", "m5.large")
        instance.mapping = ("ebs1", "ephemeral0")
        found = EbsHost(settings, "node:1").identify()
        assert (found.host, found.zone, found.attach_limit) == (instance.id, "us-east-1a", 25)
        assert EbsHost({**settings, "reserved_attachments": 5}, "node:1").identify().attach_limit == 22

    def test_version_one_of_the_metadata_service_is_refused(self, ec2: Ec2) -> None:
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{ec2.metadata.server.url}/node/latest/meta-data/instance-id")
        assert error.value.code == 401
        error.value.close()

    def test_a_metadata_service_that_is_switched_off_is_told(self, ec2: Ec2) -> None:
        ec2.metadata.enabled = False
        with pytest.raises(HostError, match="metadata_endpoint"):
            EbsHost({"metadata_endpoint": ec2.settings["metadata_endpoint"]}, "node").identify()
