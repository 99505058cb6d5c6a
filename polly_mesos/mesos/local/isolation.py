"""Which of Mesos' two ways to isolate containers this machine allows.

``linux``: the linux launcher (a control group per container) with ``filesystem/linux`` (a mount namespace per
container, volumes are bind mounts) and ``volume/host_path`` (mounts made inside a container can reach the host). Needs
root, mounts and a cgroup v1 freezer hierarchy. ``posix``: plain processes, volumes are symbolic links; any user.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from polly_mesos.errors import ConfigurationError, LocalMesosError
from polly_mesos.mesos.local import cgroups
from polly_mesos.mesos.local.mounts import mount_freezer, mount_shared

Kind = Literal["linux", "posix"]
Wanted = Literal["auto", "linux", "posix"]


@dataclass(frozen=True)
class Isolation:
    """The isolation chosen.

    :param kind: which
    :param reason: one sentence: which, and why
    """

    kind: Kind
    reason: str


def check_wanted(wanted: str) -> None:
    """Refuse an unknown name.

    :raises ConfigurationError: it is none of ``auto``, ``linux`` and ``posix``
    """
    if wanted not in get_args(Wanted):
        raise ConfigurationError(
            f"there is no isolation {wanted!r}",
            remedy=f"choose one of {', '.join(get_args(Wanted))}",
            field="isolation",
            value=wanted,
        )


def prepare_isolation(wanted: Wanted, *, volumes: Path, freezer: Path) -> Isolation:
    """Choose the isolation and mount what it needs; what was mounted stays mounted, also after a failure.

    :param volumes: an existing directory that is made a shared mount, for volumes that are mounted inside a container
    :param freezer: an existing directory for a freezer hierarchy, used where the host has none mounted
    :raises LocalMesosError: ``linux`` was asked for, and this machine does not allow it
    """
    if wanted == "posix":
        return Isolation("posix", "The posix isolation, because it was asked for.")
    if os.geteuid() != 0:
        if wanted == "linux":
            raise LocalMesosError("the linux isolation needs root", remedy="run as root, or use --isolation auto")
        return Isolation("posix", "The posix isolation, because the linux isolation needs root.")
    try:
        where = _prepare_linux(volumes, freezer)
    except OSError as error:
        obstacle = f"this machine does not allow what the linux isolation needs: {error}"
        if wanted == "linux":
            raise LocalMesosError(obstacle, remedy="use --isolation auto, which then takes posix") from error
        return Isolation("posix", f"The posix isolation, although this is root, because {obstacle}.")
    return Isolation("linux", f"The linux isolation, because this is root, on {where}.")


def _prepare_linux(volumes: Path, freezer: Path) -> str:
    """Mount what is missing; returns in words which freezer hierarchy is used."""
    mount_shared(volumes)
    found = cgroups.freezer_hierarchy()
    if found is not None:
        cgroups.check_writable(found)
        return f"the host's cgroup v1 freezer hierarchy at {found}"
    mount_freezer(freezer)
    cgroups.check_writable(freezer)
    return f"a cgroup v1 freezer hierarchy of its own at {freezer}, since the host has mounted none"


def mesos_flags(isolation: Isolation, *, freezer: Path, cgroup: str) -> dict[str, str]:
    """The agent's flags for an isolation, as environment.

    :param cgroup: the group below which one agent keeps its containers. An agent destroys every container there that it
        does not know, so no two agents may share it
    """
    flags = {"MESOS_SYSTEMD_ENABLE_SUPPORT": "false"}
    if os.geteuid() != 0:
        flags["MESOS_SWITCH_USER"] = "false"
    if isolation.kind == "posix":
        return flags | {"MESOS_LAUNCHER": "posix", "MESOS_ISOLATION": "posix/cpu,posix/mem,filesystem/posix"}
    return flags | {
        "MESOS_LAUNCHER": "linux",
        "MESOS_ISOLATION": "filesystem/linux,volume/host_path",
        "MESOS_CGROUPS_HIERARCHY": str(freezer.parent),
        "MESOS_CGROUPS_ROOT": cgroup,
    }
