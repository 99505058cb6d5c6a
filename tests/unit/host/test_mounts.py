"""Reading the kernel's table of mounts, and its options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polly_mesos.errors import MountFailed
from polly_mesos.executor.host import mounts, shared_mount_of

TABLE = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 7:3 / /var/lib/polly/gold/volumes/roles/a\040b/db\134one rw,noatime shared:7 master:2 - ext4 /dev/loop3 rw
41 27 0:44 /sub /srv/private rw unbindable - tmpfs tmp\040fs rw
42 41 7:4 / /srv/private rw - xfs /dev/loop4 rw
43 27 7:5 / /srv/stopped rw,noatime - ext4 /dev/loop5 ro
44 27 7:6 / /srv/emergency rw - ext4 /dev/loop6 rw,emergency_ro
45 27 7:7 / /srv/wanted ro,relatime - ext4 /dev/loop7 ro
""".strip()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says this."""
    file = tmp_path / "mountinfo"
    file.write_text(TABLE + "\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", str(file))


@pytest.mark.usefixtures("table")
class TestTable:
    """What is read out of one table."""

    def test_every_column_is_read(self) -> None:
        assert mounts.mounts()[2] == mounts.Mount(
            os.makedev(7, 3), "/", "/var/lib/polly/gold/volumes/roles/a b/db\\one", "ext4", "/dev/loop3", True
        )
        assert mounts.mounts()[3] == mounts.Mount(os.makedev(0, 44), "/sub", "/srv/private", "tmpfs", "tmp fs", False)

    def test_a_target_with_blanks_and_backslashes_is_found(self) -> None:
        found = mounts.mount_at("/var/lib/polly/gold/volumes/roles/a b/db\\one")
        assert found is not None
        assert found.source == "/dev/loop3"
        assert not mounts.is_mounted("/var/lib/polly/gold/volumes/roles/a b")

    def test_of_two_mounts_at_one_place_the_upper_counts(self) -> None:
        found = mounts.mount_at("/srv/private")
        assert found is not None
        assert found.source == "/dev/loop4"

    def test_a_file_system_that_the_kernel_has_stopped_is_told_from_one_that_is_read_only_by_wish(self) -> None:
        failed = {mount.mount_point for mount in mounts.mounts() if mount.failed}
        assert failed == {"/srv/stopped", "/srv/emergency"}

    def test_a_path_under_a_shared_mount_needs_nothing(self) -> None:
        assert shared_mount_of("/var/lib/polly") == mounts.Propagation("/", True, "")

    def test_a_path_under_a_private_mount_is_told_how_to_share_it(self) -> None:
        assert shared_mount_of("/srv/private/polly") == mounts.Propagation(
            "/srv/private",
            False,
            "mount --bind /srv/private/polly /srv/private/polly && mount --make-shared /srv/private/polly",
        )
        assert not shared_mount_of("/srv/private").shared
        assert shared_mount_of("/srv/privateer").mount_point == "/"


def test_options_become_flags_and_the_rest_goes_to_the_file_system() -> None:
    assert mounts._flags_and_data(["ro", "noatime", "data=ordered", "nodev", "discard"]) == (
        0x1 | 0x400 | 0x4,
        "data=ordered,discard",
    )
    assert mounts._flags_and_data(["defaults", "ro", "rw"]) == (0, "")


def test_the_kernels_own_table_is_understood() -> None:
    assert any(mount.mount_point == "/" for mount in mounts.mounts())
    assert mounts.is_mounted("/proc")


def test_unmounting_what_is_not_mounted_succeeds(tmp_path: Path) -> None:
    mounts.unmount(str(tmp_path))
    mounts.unmount(str(tmp_path / "missing"))


def test_a_refused_mount_names_the_device_the_place_and_the_options(tmp_path: Path) -> None:
    with pytest.raises(MountFailed, match=r"/dev/nothing \(ext4\) at .* with options ro,nodev failed"):
        mounts.mount("/dev/nothing", str(tmp_path), "ext4", ["ro", "nodev"])
