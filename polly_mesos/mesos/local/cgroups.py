"""The control groups (version 1) in which Mesos' linux launcher keeps its containers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.mounts import mounts


def hierarchies() -> list[Path]:
    """Where the cgroup v1 hierarchies are mounted."""
    return [mount.target for mount in mounts() if mount.kind == "cgroup"]


def freezer_hierarchy() -> Path | None:
    """A mounted hierarchy that has the freezer and no other controller, which is what Mesos asks for."""
    controllers = _controllers()
    for mount in mounts():
        if mount.kind == "cgroup" and mount.options & controllers == {"freezer"}:
            return mount.target
    return None


def _controllers() -> set[str]:
    lines = Path("/proc/cgroups").read_text().splitlines()
    return {line.split()[0] for line in lines if not line.startswith("#")}


def check_writable(hierarchy: Path) -> None:
    """Make a group there and remove it again.

    :raises OSError: groups cannot be made there
    """
    probe = hierarchy / f"polly-probe-{os.getpid()}"
    probe.mkdir()
    probe.rmdir()


def processes(name: str) -> list[int]:
    """The processes in a group and the groups below it, in any hierarchy; none where it is absent."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for directory in _deepest_first(hierarchy / name):
            found.update(_members(directory))
    return sorted(found)


def remove(name: str, *, seconds: float = 10.0) -> None:
    """Kill what runs in a group and the groups below it, in every hierarchy, and remove them. Absent is fine.

    :raises LocalMesosError: a process did not die in time
    """
    deadline = time.monotonic() + seconds
    for hierarchy in hierarchies():
        group = hierarchy / name
        while group.exists():
            for directory in _deepest_first(group):
                _empty(directory)
            if group.exists():
                if time.monotonic() > deadline:
                    raise LocalMesosError(
                        f"the control group {group} could not be emptied in {seconds:.0f} s",
                        remedy=f"look at the processes in {group}/cgroup.procs and run `polly local down` again",
                    )
                time.sleep(0.01)


def _deepest_first(group: Path) -> Iterator[Path]:
    for directory, _directories, _files in os.walk(group, topdown=False):
        yield Path(directory)


def _empty(group: Path) -> None:
    members = _members(group)
    for process in members:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with suppress(FileNotFoundError):
        state = group / "freezer.state"
        if members and state.exists():
            state.write_text("THAWED")  # the frozen do not die
    with suppress(OSError):  # busy until the last process is gone: the caller comes again
        group.rmdir()


def _members(group: Path) -> list[int]:
    # a group vanishes under our hands where Mesos or the kernel was quicker
    with suppress(OSError):
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return []
