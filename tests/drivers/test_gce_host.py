"""Which disk of a Google instance is which volume: on SCSI and NVMe, with all that may be mistaken for it around."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.gce import nvme
from drivers.gce.host import GceHost
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import MB, Json
from polly_mesos.testing.gce import nvme_ioctl
from polly_mesos.testing.gce.guest_disks import GuestDisks

OURS, OTHER = "polly-0c1d", "polly-0c1e"


@pytest.fixture
def disks(nothing_left: None, tmp_path: Path) -> Iterator[GuestDisks]:
    disks = GuestDisks(tmp_path / "host")
    nvme_ioctl.install()
    try:
        yield disks
    finally:
        nvme_ioctl.uninstall()
        disks.tree.close()
        for image in tmp_path.glob("*.img"):
            image.unlink()


@pytest.fixture
def host(disks: GuestDisks) -> GceHost:
    return GceHost({"host_root": str(disks.tree.root)}, "node:1")


def image(disks: GuestDisks, name: str) -> Path:
    path = disks.tree.root.parent / f"{name}.img"
    path.write_bytes(bytes(MB))
    return path


def plug(disks: GuestDisks, name: str, interface: str, index: int = 1) -> str:
    attached: Json = {"deviceName": name, "interface": interface, "type": "PERSISTENT", "index": index}
    before = set(disks.tree.names())
    # as by udev, whose newest link of a name replaces the one before
    (disks.tree.root / "dev/disk/by-id" / f"google-{name}").unlink(missing_ok=True)
    disks.plug(attached, image(disks, f"{name}-{index}"))
    (device,) = set(disks.tree.names()) - before
    return str(disks.tree.root / "dev" / device)


def link(disks: GuestDisks, name: str, target: str) -> None:
    """What udev made, and nobody removed."""
    place = disks.tree.root / "dev/disk/by-id" / f"google-{name}"
    place.unlink(missing_ok=True)
    place.symlink_to(f"../../{target}")


@pytest.mark.root
@pytest.mark.parametrize("interface", ["SCSI", "NVME"])
class TestBoth:
    """What holds for SCSI and for NVMe."""

    def test_a_volume_is_found_by_its_name_among_others(self, disks: GuestDisks, host: GceHost, interface: str) -> None:
        paths = {name: plug(disks, name, interface, index) for index, name in enumerate(("data", OTHER, OURS), 1)}
        assert host.locate({"device_name": OURS}, 0.0) == paths[OURS]
        assert host.held() == {paths[OTHER]: {"device_name": OTHER}, paths[OURS]: {"device_name": OURS}}

    def test_a_name_that_only_begins_alike_is_another_volume(
        self, disks: GuestDisks, host: GceHost, interface: str
    ) -> None:
        for index, name in enumerate((f"{OURS}x", f"{OURS}-part1", OURS[:-1], f"x{OURS}"), 1):
            plug(disks, name, interface, index)
        with pytest.raises(DeviceNotFound):
            host.locate({"device_name": OURS}, 0.0)

    def test_a_link_that_udev_left_behind_leads_nobody_to_another_disk(
        self, disks: GuestDisks, host: GceHost, interface: str
    ) -> None:
        path = plug(disks, OTHER, interface)
        link(disks, OURS, Path(path).name)
        with pytest.raises(DeviceNotFound):
            host.locate({"device_name": OURS}, 0.0)
        host.release({"device_name": OURS})
        link(disks, OTHER, "gone")
        assert host.locate({"device_name": OTHER}, 0.0) == path

    def test_a_link_to_a_partition_and_a_partition_itself_are_not_the_disk(
        self, disks: GuestDisks, host: GceHost, interface: str
    ) -> None:
        path = Path(plug(disks, OURS, interface))
        part = path.name + ("p1" if interface == "NVME" else "1")
        entry = disks.tree.root / "sys/block" / path.name / part
        entry.mkdir()
        (entry / "partition").write_text("1\n")
        link(disks, OURS, part)
        link(disks, f"{OURS}-part1", part)
        assert host.locate({"device_name": OURS}, 0.0) == str(path)
        with pytest.raises(DeviceNotFound):
            host.locate({"device_name": f"{OURS}-part1"}, 0.0)

    def test_of_two_disks_that_claim_one_name_neither_is_taken(
        self, disks: GuestDisks, host: GceHost, interface: str
    ) -> None:
        first = plug(disks, OURS, interface, 1)
        second = plug(disks, OURS, interface, 2)
        with pytest.raises(HostError, match="all say that they are") as caught:
            host.locate({"device_name": OURS}, 0.0)
        assert first in str(caught.value)
        assert second in str(caught.value)
        assert caught.value.remedy

    def test_an_attachment_without_a_name_fits_no_disk(self, disks: GuestDisks, host: GceHost, interface: str) -> None:
        plug(disks, OURS, interface)
        with pytest.raises(HostError, match="without a device name"):
            host.locate({"device_name": ""}, 0.0)

    def test_a_disk_that_goes_while_disks_are_asked_for_their_names_is_no_failure_of_another(
        self, disks: GuestDisks, host: GceHost, interface: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plug(disks, OTHER, interface, 1)
        path = plug(disks, OURS, interface, 2)
        answer = fcntl.ioctl

        def vanish(file: int, request: int, *rest: object) -> object:
            if OTHER in disks._devices:
                disks.unplug(OTHER)
            return answer(file, request, *rest)  # type: ignore[call-overload]

        monkeypatch.setattr(fcntl, "ioctl", vanish)
        assert host.locate({"device_name": OURS}, 0.0) == path


@pytest.mark.root
class TestNvme:
    """What only NVMe has: a name that the kernel's files do not tell."""

    def test_the_number_in_a_disks_name_is_not_that_of_its_namespace(self, disks: GuestDisks, host: GceHost) -> None:
        plug(disks, "data", "NVME")
        other = plug(disks, OTHER, "NVME")
        disks.unplug("data")
        path = plug(disks, OURS, "NVME", 3)
        assert path.endswith("nvme0n2")
        assert (disks.tree.root / "sys/block/nvme0n2/nsid").read_text() == "4\n"
        assert host.locate({"device_name": OURS}, 0.0) == path
        assert host.locate({"device_name": OTHER}, 0.0) == other

    def test_a_node_that_is_not_the_namespace_of_which_sys_tells_is_not_taken(
        self, disks: GuestDisks, host: GceHost
    ) -> None:
        path = plug(disks, OURS, "NVME")
        (disks.tree.root / "sys/block" / Path(path).name / "nsid").write_text("7\n")
        with pytest.raises(HostError, match="namespace 2, and /sys says 7"):
            host.locate({"device_name": OURS}, 0.0)

    def test_a_kernel_that_does_not_tell_the_namespace_is_not_needed_for_it(
        self, disks: GuestDisks, host: GceHost
    ) -> None:
        path = plug(disks, OURS, "NVME")
        (disks.tree.root / "sys/block" / Path(path).name / "nsid").unlink()
        assert host.locate({"device_name": OURS}, 0.0) == path

    def test_a_refused_command_is_told_and_is_no_disk_without_a_name(self, disks: GuestDisks, host: GceHost) -> None:
        path = plug(disks, OURS, "NVME")
        (disks.tree.root / "nvme/nodes" / Path(path).name).write_text("0")
        (disks.tree.root / "sys/block" / Path(path).name / "nsid").unlink()
        with pytest.raises(HostError, match="NVMe status 0x400b") as caught:
            host.locate({"device_name": OURS}, 0.0)
        assert path in str(caught.value)

    def test_a_disk_that_cannot_be_asked_is_told_with_a_remedy(self, disks: GuestDisks, host: GceHost) -> None:
        plug(disks, OURS, "NVME")
        nvme_ioctl.uninstall()  # a loop device, which knows no NVMe command
        with pytest.raises(HostError, match="does not say which disk it is") as caught:
            host.locate({"device_name": OURS}, 0.0)
        assert "root" in caught.value.remedy

    def test_a_local_ssd_is_nobodys_volume(self, disks: GuestDisks, host: GceHost) -> None:
        files: dict[str, str | bytes] = {"device/serial": "nvme_card\n", "device/model": "nvme_card\n", "nsid": "1\n"}
        disks.tree.plug("nvme1n1", image(disks, "ssd"), files)
        with pytest.raises(DeviceNotFound):
            host.locate({"device_name": OURS}, 0.0)
        assert host.held() == {}

    def test_a_size_that_changed_is_asked_of_the_controller(self, disks: GuestDisks, host: GceHost) -> None:
        path = plug(disks, OURS, "NVME")
        switch = disks.tree.root / "sys/block" / Path(path).name / "device/rescan_controller"
        switch.write_text("")
        host.rescan({"device_name": OURS})
        assert switch.read_text() == "1"


def test_what_google_writes_in_a_namespaces_description_is_read() -> None:
    page = bytes(384) + b'{"device_name":"polly-1","disk_type":"PERSISTENT"}' + bytes(3000)
    assert nvme.parse(page) == "polly-1"
    for text in (b"", b"polly-1", b'["device_name"]', b'{"name":"polly-1"}', b"\xff\xfe"):
        assert nvme.parse(bytes(384) + text + bytes(3000)) == ""
    assert nvme.parse(b'{"device_name":"polly-1"}' + bytes(4000)) == ""
