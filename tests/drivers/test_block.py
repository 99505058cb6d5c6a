"""Disks are found by what the kernel says of them, on a made-up host with real block devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.block import BlockDevices, flush, only, wait_for
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import MB
from polly_mesos.testing.block_hosts import HostTree

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def tree(tmp_path: Path, nothing_left: None) -> Iterator[HostTree]:
    with HostTree(tmp_path / "host") as tree:
        yield tree


def image(tree: HostTree, name: str, size: int = 2 * MB) -> Path:
    path = tree.root / f"{name}.raw"
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def page(code: int, text: bytes) -> bytes:
    return bytes([0, code, 0, len(text)]) + text


@pytest.mark.parametrize(
    ("files", "serial"),
    [
        ({"serial": "0f1a2b3c-4d5e-6f70-8\n"}, "0f1a2b3c-4d5e-6f70-8"),
        ({"device/serial": "vol0123456789abcdef0 \n"}, "vol0123456789abcdef0"),
        ({"device/vpd_pg80": page(0x80, b"  disk-a ")}, "disk-a"),
        ({"device/vpd_pg83": page(0x83, bytes([2, 1, 0, 6]) + b"disk-b")}, "disk-b"),
        ({"wwid": "t10.Google.disk-c"}, "t10.Google.disk-c"),
    ],
    ids=["virtio", "NVMe", "SCSI page 80", "SCSI page 83", "wwid"],
)
def test_a_disk_is_found_by_its_serial_wherever_its_kind_has_it(
    tree: HostTree, files: dict[str, str | bytes], serial: str
) -> None:
    tree.plug("sda", image(tree, "other"), {"serial": "another"})
    tree.plug("sdb", image(tree, "wanted", 4 * MB), files)
    (found,) = BlockDevices(str(tree.root)).with_serial(serial.__eq__)
    assert (found.name, found.path, found.size) == ("sdb", str(tree.root / "dev/sdb"), 4 * MB)
    assert serial in found.serials
    assert os.makedev(*found.number) == os.stat(found.path).st_rdev


def test_a_beginning_is_not_the_whole_serial(tree: HostTree) -> None:
    tree.plug("sda", image(tree, "a"), {"serial": "vol-21"})
    assert BlockDevices(str(tree.root)).with_serial("vol-2".__eq__) == []


def test_a_node_that_leads_to_another_disk_is_refused(tree: HostTree) -> None:
    tree.plug("sda", image(tree, "a"), {"serial": "a"})
    tree.plug("sdb", image(tree, "b"), {"serial": "b"})
    (tree.root / "dev/sda").unlink()
    os.mknod(tree.root / "dev/sda", 0o060600, os.stat(tree.root / "dev/sdb").st_rdev)
    with pytest.raises(HostError, match="is not disk sda"):
        BlockDevices(str(tree.root)).with_serial("a".__eq__)


def test_a_node_that_is_a_file_is_refused(tree: HostTree) -> None:
    tree.plug("sda", image(tree, "a"), {"serial": "a"})
    (tree.root / "dev/sda").unlink()
    (tree.root / "dev/sda").write_bytes(b"")
    with pytest.raises(HostError, match="is not disk sda"):
        BlockDevices(str(tree.root)).named("sda")


def test_a_name_that_is_no_disk_is_none(tree: HostTree) -> None:
    assert BlockDevices(str(tree.root)).named("sdz") is None
    assert BlockDevices(str(tree.root)).named("../../etc") is None


def test_a_host_whose_disks_cannot_be_seen_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="host_root"):
        BlockDevices(str(tmp_path / "nothing")).with_serial(lambda serial: True)


def test_the_size_is_the_one_that_the_kernel_has_now(tree: HostTree) -> None:
    path = image(tree, "a")
    tree.plug("sda", path, {"serial": "a"})
    os.truncate(path, 6 * MB)
    tree.resize("sda")
    found = BlockDevices(str(tree.root)).named("sda")
    assert found is not None
    assert found.size == 6 * MB


def test_what_is_flushed_is_in_the_image(tree: HostTree) -> None:
    path = image(tree, "a")
    tree.plug("sda", path, {"serial": "a"})
    with open(tree.root / "dev/sda", "r+b") as disk:
        disk.write(b"precious")
        disk.flush()
        flush(disk.name)
    assert path.read_bytes()[:8] == b"precious"
    flush(str(tree.root / "dev/gone"))


def test_a_disk_that_goes_while_the_disks_are_looked_at_is_no_failure_of_another(tree: HostTree) -> None:
    for name in ("sda", "sdb"):
        tree.plug(name, image(tree, name), {"serial": name})

    def unplug_the_first(serial: str) -> bool:
        tree.unplug("sda")
        return True

    assert [device.name for device in BlockDevices(str(tree.root)).with_serial(unplug_the_first)] == ["sdb"]


def test_a_disk_that_comes_late_is_waited_for_and_one_that_does_not_is_missing() -> None:
    answers = iter([None, None, "/dev/sda"])
    assert wait_for(lambda: next(answers), 5.0, "no disk", "look") == "/dev/sda"
    with pytest.raises(DeviceNotFound, match="no disk"):
        wait_for(lambda: None, 0.0, "no disk", "look")


def test_of_several_disks_that_could_be_meant_none_is_taken(tree: HostTree) -> None:
    for name in ("sda", "sdb"):
        tree.plug(name, image(tree, name), {"serial": "twin"})
    found = BlockDevices(str(tree.root)).with_serial(lambda serial: serial == "twin")
    with pytest.raises(HostError, match=r"dev/sda, .*/dev/sdb all say that they are volume 7"):
        only(found, "volume 7")
    assert only(found[:1], "volume 7") == found[0]
    assert only([], "volume 7") is None
