"""What a test on real devices needs, and must not leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.disks import loop_devices


def require_root() -> None:
    """Skip the test for anybody else."""
    if os.geteuid() != 0 or not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        pytest.skip("needs root and /dev/loop-control: it works on real loop devices and mounts")


def loop_devices_below(directory: Path) -> list[str]:
    """The loop devices that are bound to a file below the directory."""
    return [str(device) for device in loop_devices(directory)]


def mounts_below(directory: Path) -> list[str]:
    """What is mounted at or below the directory, as the kernel says."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split(" ")[4].startswith(str(directory))]


def assert_nothing_left(directory: Path) -> None:
    """No mount, no loop device and no image of the test remains."""
    assert mounts_below(directory) == []
    assert loop_devices_below(directory) == []
    assert [*directory.rglob("*.img"), *directory.rglob("*.part"), *directory.rglob("*.holder")] == []


def networks_of(cluster_id: str) -> list[str]:
    """The network namespaces and devices of a local cluster."""
    namespaces = Path("/run/netns").glob(f"polly-{cluster_id}-*")
    return [str(found) for found in (*namespaces, *Path("/sys/class/net").glob(f"polly{cluster_id[:10]}"))]
