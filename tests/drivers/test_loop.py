"""The loop driver, on real loop devices."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.base import CreateRequest, PlatformState, PlatformVolume, Tags
from drivers.loop import DRIVER
from drivers.loop.controller import LoopController
from drivers.loop.host import LoopHost
from drivers.loop.settings import LoopSettings
from drivers.loop_devices import device_node
from polly_mesos.errors import (
    AlreadyExists,
    HostError,
    InvalidRequest,
    NotSupported,
    PlatformError,
    PlatformFull,
    VolumeInUse,
    WrongState,
)
from polly_mesos.executor.host import mounts
from polly_mesos.model import MB, Filesystem, HostIdentity
from polly_mesos.testing import driver_suite
from tests.drivers.crashes import crash_in_every_state
from tests.leftovers import loop_devices_below

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

TestConformance = driver_suite(
    DRIVER, lambda tmp_path: {"directory": str(tmp_path / "platform"), "capacity": 512 * MB}, many=25
)

SIZE = 16 * MB
NODE = "192.0.2.1:5051"


def loop(directory: Path, capacity: int | None = None, cluster: str = "test") -> LoopController:
    return LoopController(LoopSettings(str(directory), capacity), cluster)


def request(size: int = SIZE, filesystem: Filesystem = Filesystem.EXT4) -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, size, Tags("test", token, "gold"), filesystem=filesystem)


def fill(directory: Path, volume: PlatformVolume, size: int) -> None:
    """Write to a volume's image as its host would."""
    with open(directory / "volumes" / f"{volume.id}.img", "r+b") as image:
        image.write(os.urandom(size))
        os.fsync(image.fileno())


def takes(directory: Path, volume: PlatformVolume) -> int:
    """The bytes that a volume's image takes on the file system below."""
    return (directory / "volumes" / f"{volume.id}.img").stat().st_blocks * 512


def delete_all(controller: LoopController) -> None:
    for snapshot in controller.list_snapshots():
        controller.delete_snapshot(snapshot.id)
    for volume in controller.list().volumes:
        controller.delete(volume.id)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 64 MB of its own."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounts.mount("small", str(directory), "tmpfs", [f"size={64 * MB}"])
    yield directory
    mounts.unmount(str(directory))


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A directory on an XFS, where copies are made by reference."""
    directory, image = tmp_path / "xfs", tmp_path / "xfs-below"
    directory.mkdir()
    with open(image, "wb") as file:
        file.truncate(512 * MB)
    subprocess.run(["/sbin/mkfs.xfs", "-q", str(image)], check=True)
    (tmp_path / "xfs-below.holder").symlink_to(NODE)
    host, attachment = LoopHost({"directory": str(tmp_path)}, NODE), {"image": str(image)}
    mounts.mount(host.locate(attachment, 5.0), str(directory), "xfs")
    yield directory
    mounts.unmount(str(directory))
    host.release(attachment)
    (tmp_path / "xfs-below.holder").unlink()


class TestRoom:
    """What was created can be filled; what could not be is refused."""

    def test_a_new_volume_takes_all_its_space_at_once(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        volume = controller.create(request(64 * MB))
        assert takes(tmp_path / "platform", volume) >= 64 * MB
        controller.expand(volume.id, 96 * MB)
        assert takes(tmp_path / "platform", volume) >= 96 * MB
        delete_all(controller)

    def test_a_copy_takes_all_its_space_before_it_is_attached(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        snapshot = controller.snapshot(
            controller.create(request(64 * MB)).id, str(uuid.uuid4()), Tags("test", "", "gold")
        )
        volume = controller.restore(snapshot.id, request(64 * MB))
        controller.attach(volume.id, HostIdentity(NODE))
        assert takes(tmp_path / "platform", volume) >= 64 * MB
        controller.detach(volume.id, HostIdentity(NODE))
        delete_all(controller)

    @pytest.mark.parametrize("left", range(0, 12, 3))
    def test_nothing_that_was_synced_is_lost_when_the_file_system_below_is_full(self, small: Path, left: int) -> None:
        """A write of which only a part finds space there is called done by the kernel's loop device."""
        controller, host = loop(small), HostIdentity(NODE)
        volume = controller.create(request(24 * MB))
        attachment = controller.attach(volume.id, host)
        device = LoopHost({"directory": str(small)}, NODE)
        subprocess.run(["/sbin/mkfs.ext4", "-q", device.locate(attachment, 5.0)], check=True)
        below = os.statvfs(small)
        with open(small / "balloon", "wb") as balloon:
            os.posix_fallocate(balloon.fileno(), 0, (below.f_bavail - left) * below.f_frsize)
        assert takes(small, volume) >= 24 * MB, "mkfs has discarded the blocks"
        where = small.parent / "mounted"
        where.mkdir()
        mounts.mount(device.locate(attachment, 5.0), str(where), "ext4")
        for number in range(8):
            with open(where / str(number), "wb") as file:
                file.write(bytes([number + 1]) * 32 * 1024)
                file.flush()
                os.fsync(file.fileno())
        mounts.unmount(str(where))
        device.release(attachment)
        mounts.mount(device.locate(attachment, 5.0), str(where), "ext4")
        for number in range(8):
            assert (where / str(number)).read_bytes() == bytes([number + 1]) * 32 * 1024
        mounts.unmount(str(where))
        device.release(attachment)
        controller.detach(volume.id, host)
        delete_all(controller)

    def test_the_file_system_below_is_promised_once(self, small: Path) -> None:
        controller = loop(small)
        first = controller.create(request(40 * MB))
        with pytest.raises(PlatformFull, match="that no volume was promised"):
            controller.create(request(40 * MB))
        assert [volume.id for volume in controller.list().volumes] == [first.id]
        assert len(list((small / "volumes").iterdir())) == 2
        controller.delete(first.id)
        controller.delete(controller.create(request(40 * MB)).id)

    def test_every_promise_can_be_kept(self, small: Path) -> None:
        controller = loop(small)
        available = controller.capacity("", "").available
        assert available is not None
        volumes = [controller.create(request(available // 3 // MB * MB)) for _ in range(3)]
        for volume in volumes:
            fill(small, volume, volume.size)
        delete_all(controller)

    def test_written_bytes_are_not_counted_twice(self, small: Path) -> None:
        controller = loop(small)
        before = controller.capacity("", "")
        fill(small, controller.create(request(24 * MB)), 24 * MB)
        after = controller.capacity("", "")
        assert before.total is not None
        assert after.total is not None
        assert abs(before.total - after.total) <= MB
        delete_all(controller)

    def test_a_full_disk_is_an_error_and_leaves_nothing(self, small: Path) -> None:
        controller = loop(small)
        volume = controller.create(request())
        (small / "somebody's").write_bytes(bytes(46 * MB))
        for make in (
            lambda: controller.create(request()),
            lambda: controller.expand(volume.id, 4 * SIZE),
            lambda: controller.clone(volume.id, request()),
        ):
            with pytest.raises(PlatformFull):
                make()
        assert controller.list().volumes == (volume,)
        assert sorted(path.name for path in (small / "volumes").iterdir()) == [f"{volume.id}.img", f"{volume.id}.json"]
        delete_all(controller)

    def test_a_disk_that_fills_while_a_copy_is_made_leaves_nothing(
        self, small: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        controller = loop(small)
        volume = controller.create(request(24 * MB))
        fill(small, volume, 24 * MB)
        monkeypatch.setattr(LoopController, "_refuse_if_full", lambda *arguments, **named: None)
        controller.clone(volume.id, request(24 * MB))
        with pytest.raises(PlatformFull, match="no space left while copying"):
            controller.clone(volume.id, request(24 * MB))
        assert all(found.state is PlatformState.AVAILABLE for found in controller.list().volumes)
        assert list((small / "volumes").glob("*.part")) == []
        delete_all(controller)

    def test_the_configured_capacity_is_the_limit(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform", 3 * SIZE)
        volume = controller.create(request(2 * SIZE))
        assert controller.capacity("", "").total == 3 * SIZE
        assert controller.capacity("", "").available == SIZE
        with pytest.raises(PlatformFull, match=f"{SIZE} of the {3 * SIZE} configured"):
            controller.create(request(2 * SIZE))
        with pytest.raises(PlatformFull):
            controller.expand(volume.id, 4 * SIZE)
        delete_all(controller)

    def test_another_clusters_volumes_take_the_disk_and_not_the_limit(self, small: Path) -> None:
        theirs, ours = loop(small, cluster="theirs"), loop(small, 48 * MB)
        theirs.create(request(32 * MB))
        capacity = ours.capacity("", "")
        assert capacity.total is not None
        assert capacity.total < 32 * MB
        delete_all(theirs)


class TestCopies:
    """By reference where the file system can, else of the data alone."""

    def test_a_copy_by_reference_takes_no_space(self, xfs: Path) -> None:
        controller = loop(xfs)
        volume = controller.create(request(100 * MB))
        fill(xfs, volume, 100 * MB)
        free = os.statvfs(xfs).f_bavail * os.statvfs(xfs).f_frsize
        controller.snapshot(volume.id, "snapshot", volume.tags)
        controller.clone(volume.id, request(100 * MB))
        assert os.statvfs(xfs).f_bavail * os.statvfs(xfs).f_frsize > free - 4 * MB
        delete_all(controller)

    def test_what_copies_share_is_promised_to_each(self, xfs: Path) -> None:
        controller = loop(xfs)
        volume = controller.create(request(100 * MB))
        fill(xfs, volume, 100 * MB)
        before = controller.capacity("", "").available
        clone = controller.clone(volume.id, request(100 * MB))
        after = controller.capacity("", "").available
        assert before is not None
        assert after is not None
        assert abs(before - after - 100 * MB) < 4 * MB
        fill(xfs, clone, 60 * MB)
        written = controller.capacity("", "").available
        assert written is not None
        assert abs(after - written) < 4 * MB
        delete_all(controller)

    def test_an_attached_volume_is_copied_at_one_moment_or_not_at_all(self, tmp_path: Path, xfs: Path) -> None:
        for directory, can in ((xfs, True), (tmp_path / "platform", False)):
            controller = loop(directory)
            volume = controller.create(request())
            controller.attach(volume.id, HostIdentity(NODE))
            reflinks = can or os.statvfs(directory).f_fsid == os.statvfs(xfs).f_fsid
            if reflinks:
                controller.snapshot(volume.id, "snapshot", volume.tags)
            else:
                with pytest.raises(VolumeInUse, match="as it is at one moment"):
                    controller.snapshot(volume.id, "snapshot", volume.tags)
                with pytest.raises(VolumeInUse):
                    controller.clone(volume.id, request())
                assert len(list((directory / "snapshots").iterdir())) == 0
            controller.detach(volume.id, HostIdentity(NODE))
            delete_all(controller)

    def test_holes_stay_holes(self, small: Path) -> None:
        controller = loop(small)
        volume = controller.create(request(24 * MB))
        with open(small / "volumes" / f"{volume.id}.img", "r+b") as image:
            image.seek(20 * MB)
            image.write(b"at the end")
        clone = controller.clone(volume.id, request(24 * MB))
        copied = (small / "volumes" / f"{clone.id}.img").stat()
        assert copied.st_size == 24 * MB
        assert copied.st_blocks * 512 < MB
        delete_all(controller)


class TestRefusals:
    """What cannot be is said before anything is made."""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"iops": 100}, "no iops"),
            ({"encryption": True}, "no encryption"),
            ({"options": {"throughput": "5"}}, "no throughput"),
            ({"zone": "b"}, "no zones"),
            ({"platform_type": "ssd"}, "no platform_type"),
            ({"filesystem": Filesystem.NONE}, "needs a file system"),
        ],
    )
    def test_what_it_does_not_have_is_not_ignored(self, tmp_path: Path, change: dict[str, object], said: str) -> None:
        controller = loop(tmp_path / "platform")
        with pytest.raises(NotSupported, match=said):
            controller.create(replace(request(), **change))  # type: ignore[arg-type]
        assert controller.list().volumes == ()

    def test_xfs_below_its_least_size_is_refused(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        with pytest.raises(InvalidRequest, match=r"cannot hold xfs.*at least 300 MB"):
            controller.create(request(299 * MB, Filesystem.XFS))
        assert controller.list().volumes == ()

    def test_a_token_that_is_no_name_is_refused(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        for token in ("", "../outside", "a/b", "x" * 129, ".hidden"):
            with pytest.raises(InvalidRequest):
                controller.create(replace(request(), token=token))

    def test_a_token_of_another_cluster_is_taken(self, tmp_path: Path) -> None:
        asked = request()
        theirs = loop(tmp_path / "platform", cluster="theirs")
        theirs.create(asked)
        with pytest.raises(AlreadyExists):
            loop(tmp_path / "platform").create(asked)
        delete_all(theirs)

    def test_a_lost_image_is_an_error_and_not_a_new_volume(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        asked = request()
        volume = controller.create(asked)
        (tmp_path / "platform" / "volumes" / f"{volume.id}.img").unlink()
        assert controller.create(asked).state is PlatformState.ERROR
        with pytest.raises(WrongState, match="is gone"):
            controller.attach(volume.id, HostIdentity(NODE))
        controller.delete(volume.id)

    def test_a_record_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        volume = controller.create(request())
        record = tmp_path / "platform" / "volumes" / f"{volume.id}.json"
        text = record.read_text()
        record.write_text("{")
        with pytest.raises(PlatformError, match=str(record)):
            controller.list()
        record.write_text(text)
        delete_all(controller)


class TestCrashes:
    """The process dies between any two lines; the next one finds a volume or none, and can always go on."""

    def test_create(self, tmp_path: Path) -> None:
        directory, asked = tmp_path / "platform", request()
        crashing = loop(directory)
        for _ in crash_in_every_state(directory, lambda: crashing.create(asked)):
            controller = loop(directory)
            assert len(controller.list().volumes) <= 1
            volume = controller.create(asked)
            assert (volume.state, volume.size) == (PlatformState.AVAILABLE, SIZE)
            controller.delete(volume.id)
            assert list((directory / "volumes").iterdir()) == []

    def test_delete(self, tmp_path: Path) -> None:
        directory, asked = tmp_path / "platform", request()
        crashing = loop(directory)
        crashing.create(asked)
        for _ in crash_in_every_state(directory, lambda: crashing.delete(asked.token)):
            controller = loop(directory)
            for volume in controller.list().volumes:
                assert volume.state in (PlatformState.AVAILABLE, PlatformState.DELETING)
            controller.delete(asked.token)
            assert list((directory / "volumes").iterdir()) == []
            controller.create(asked)
        loop(directory).delete(asked.token)

    def test_clone(self, tmp_path: Path) -> None:
        directory, asked = tmp_path / "platform", request(2 * MB)
        crashing = loop(directory)
        source = crashing.create(request(2 * MB))
        fill(directory, source, MB)
        original = (directory / "volumes" / f"{source.id}.img").read_bytes()
        for _ in crash_in_every_state(directory, lambda: crashing.clone(source.id, asked)):
            controller = loop(directory)
            for volume in controller.list().volumes:
                if volume.id == asked.token and volume.state is PlatformState.AVAILABLE:
                    assert (directory / "volumes" / f"{asked.token}.img").read_bytes() == original
            controller.clone(source.id, asked)
            assert (directory / "volumes" / f"{asked.token}.img").read_bytes() == original
            controller.delete(asked.token)
            assert len(list((directory / "volumes").iterdir())) == 2
        loop(directory).delete(source.id)

    def test_attach(self, tmp_path: Path) -> None:
        directory, asked = tmp_path / "platform", request()
        crashing = loop(directory)
        crashing.create(asked)
        first, other = HostIdentity(NODE), HostIdentity("192.0.2.2:5051")
        for _ in crash_in_every_state(directory, lambda: crashing.attach(asked.token, first)):
            controller = loop(directory)
            if controller.get(asked.token).attached_to:
                with pytest.raises(VolumeInUse):
                    controller.attach(asked.token, other)
            controller.attach(asked.token, first)
            assert controller.get(asked.token).attached_to == (NODE,)
            controller.detach(asked.token, first)
        loop(directory).delete(asked.token)

    def test_what_a_crash_left_is_removed_unless_it_was_ever_written(self, tmp_path: Path) -> None:
        volumes = tmp_path / "platform" / "volumes"
        loop(tmp_path / "platform")
        (volumes / "blank.img").touch()
        with open(volumes / "allocated.img", "wb") as allocated:
            os.posix_fallocate(allocated.fileno(), 0, MB)
        (volumes / "torn.new").touch()
        (volumes / "written.img").write_bytes(b"data" * 4096)
        loop(tmp_path / "platform")
        assert [path.name for path in volumes.iterdir()] == ["written.img"]
        (volumes / "written.img").unlink()


class TestHost:
    """Which loop device is which, as the kernel says."""

    def test_two_images_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        asked, devices = request(), []
        for name in ("one", "two"):
            controller = loop(tmp_path / name)
            controller.create(asked)
            attachment = controller.attach(asked.token, HostIdentity(NODE))
            host = LoopHost({"directory": str(tmp_path / name)}, NODE)
            devices.append(host.locate(attachment, 5.0))
            assert host.locate(attachment, 5.0) == devices[-1]
        assert devices[0] != devices[1]
        for name in ("one", "two"):
            controller = loop(tmp_path / name)
            attachment = controller.attach(asked.token, HostIdentity(NODE))
            LoopHost({"directory": str(tmp_path / name)}, NODE).release(attachment)
            controller.detach(asked.token, HostIdentity(NODE))
            controller.delete(asked.token)

    def test_an_image_that_was_deleted_below_its_device_is_let_go_of(self, tmp_path: Path) -> None:
        controller = loop(tmp_path / "platform")
        volume = controller.create(request())
        attachment = controller.attach(volume.id, HostIdentity(NODE))
        host = LoopHost({"directory": str(tmp_path / "platform")}, NODE)
        host.locate(attachment, 5.0)
        Path(attachment["image"]).unlink()
        assert len(loop_devices_below(tmp_path)) == 1
        host.release(attachment)
        assert loop_devices_below(tmp_path) == []
        controller.detach(volume.id, HostIdentity(NODE))
        controller.delete(volume.id)

    def test_a_device_in_use_is_not_let_go_of_silently(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("drivers.loop.host._RELEASE_TIMEOUT", 0.05)
        controller = loop(tmp_path / "platform")
        volume = controller.create(request())
        attachment = controller.attach(volume.id, HostIdentity(NODE))
        host = LoopHost({"directory": str(tmp_path / "platform")}, NODE)
        descriptor = os.open(host.locate(attachment, 5.0), os.O_RDONLY)
        with pytest.raises(HostError, match="did not let go"):
            host.release(attachment)
        os.close(descriptor)
        host.release(attachment)
        controller.detach(volume.id, HostIdentity(NODE))
        controller.delete(volume.id)

    def test_a_missing_device_node_is_made(self, tmp_path: Path) -> None:
        entry = tmp_path / "loop-polly-test"
        entry.mkdir()
        (entry / "dev").write_text("7:1048000\n")
        device = Path(device_node(entry))
        try:
            assert device.is_block_device()
            assert device.stat().st_rdev == os.makedev(7, 1048000)
            assert Path(device_node(entry)) == device
        finally:
            device.unlink()

    def test_a_host_without_the_directory_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match=f"does not see.*{tmp_path / 'missing'}"):
            LoopHost({"directory": str(tmp_path / "missing")}, NODE).identify()
