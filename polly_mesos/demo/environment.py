"""What the demo needs of this machine: a driver that works here, polly.yml, and what must be gone when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.executor.host.programs import missing_tools
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below, unmount
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.model import Filesystem

PROFILE = "gold"
VOLUME_MB = 256
_CAPACITY = "4GiB"


@dataclass(frozen=True)
class Storage:
    """The driver that stands in for a storage platform.

    :param reason: one sentence: which, and why
    """

    driver: str
    reason: str


def choose_storage() -> Storage:
    """``loop`` where this process may use loop devices, else ``directory``."""
    if os.geteuid() != 0:
        return Storage("directory", "The directory driver, because loop devices need root.")
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return Storage(
            "directory", "The directory driver, although this is root, because there is no /dev/loop-control."
        )
    missing = missing_tools([Filesystem.EXT4])
    if missing:
        obstacle = f"{next(iter(missing))} is missing (package {next(iter(missing.values()))})"
        return Storage("directory", f"The directory driver, although this is root, because {obstacle}.")
    return Storage("loop", "The loop driver, because this is root: image files, loop devices and a real ext4.")


def write_configuration(directory: DemoDirectory, cluster: LocalCluster, storage: Storage) -> str:
    """Write polly.yml, make the volume roots, and return the URL that Polly will have."""
    address = f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}"
    for agent in cluster.agents:
        (cluster.volumes / agent.endpoint.rpartition(":")[2]).mkdir(parents=True, exist_ok=True)
    settings = {
        "cluster": "demo",
        "mesos": {"master": cluster.master, "failover_timeout": "1h"},
        "http": {"listen": address},
        "ledger": {"path": "ledger.db"},
        "agents": {
            "volume_root": f"{cluster.volumes}/{{port}}",
            "python": sys.executable,
            "isolation": cluster.isolation,
            # short, so that the demo shows volumes being unmounted
            "unpublish_grace": "1s",
            "settle": "1s",
        },
        "services": {
            "local": {"driver": storage.driver, "directory": str(directory.platform), "capacity": _CAPACITY},
        },
        "profiles": {PROFILE: {"service": "local"}},
        "planner": {"interval": "1s"},
    }
    heading = "# Written by `polly demo`. Each setting is explained in examples/polly.yml.\n"
    directory.configuration.write_text(heading + yaml.safe_dump(settings, sort_keys=False))
    return f"http://{address}"


@dataclass(frozen=True)
class Remains:
    """What is there of volumes: each must be empty once all are deleted."""

    mounts: list[str]
    loop_devices: list[str]
    files: list[str]

    def __bool__(self) -> bool:
        return bool(self.mounts or self.loop_devices or self.files)

    def __str__(self) -> str:
        return ", ".join(
            f"{kind} {item}"
            for kind, items in (("mount", self.mounts), ("loop device", self.loop_devices), ("file", self.files))
            for item in items
        )


def remains(directory: DemoDirectory, volumes: Path) -> Remains:
    """Look for mounts, loop devices and image files of volumes.

    :param volumes: the parent of the agents' volume roots; it may itself be a mount
    """
    mounts = [str(mount.target) for mount in mounts_below(volumes) if mount.target != volumes]
    kept = directory.platform / "volumes"
    files = [str(path) for path in kept.glob("*") if not path.name.startswith(".")] if kept.exists() else []
    return Remains(mounts, [str(device) for device in _loop_devices(directory.platform)], files)


def clear_remains(directory: DemoDirectory) -> None:
    """Unmount and let go of all that a failed demo may have left; files stay for whoever wants to look."""
    for mount in mounts_below(directory.path):
        unmount(mount.target)
    for device in _loop_devices(directory.platform):
        subprocess.run(["losetup", "--detach", str(device)], check=False, capture_output=True)


def _loop_devices(below: Path) -> list[Path]:
    """The loop devices whose image lies below a directory."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            image = Path(backing.read_text().rstrip("\n").removesuffix(" (deleted)"))
        except OSError:
            continue  # it was detached meanwhile
        if image.is_relative_to(below):
            found.append(Path("/dev") / backing.parent.parent.name)
    return found
