"""What the campaign finds of loop devices, on real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.disks import SmallDisk, detach, loop_devices
from polly_mesos.mesos.local.mounts import unmount
from tests.leftovers import require_root

pytestmark = pytest.mark.root


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Path]:
    require_root()
    disk = SmallDisk(tmp_path / "platform")
    disk.mount(8)
    (disk.directory / "volumes").mkdir()
    yield disk.directory
    for device in loop_devices(disk.directory):
        detach(device)
    unmount(disk.directory)


@pytest.mark.parametrize("alone", [[], ["unshare", "--mount"]])
def test_a_device_is_found_though_the_mount_namespace_that_bound_it_is_gone(platform: Path, alone: list[str]) -> None:
    for name in ("one.img", "other.img"):
        (platform / "volumes" / name).write_bytes(b"x" * 65536)
    image = platform / "volumes" / "one.img"
    bind = [*alone, "losetup", "--show", "--find", str(image)]
    device = Path(subprocess.run(bind, check=True, capture_output=True, text=True).stdout.strip())
    assert loop_devices(platform) == {device: image}
    assert loop_devices(platform / "volumes") == {device: image}
    assert loop_devices(platform.parent / "elsewhere") == {}
    detach(device)
    assert loop_devices(platform) == {}
