"""The host as the executor half sees it: :mod:`polly_mesos.executor.host` behind the methods that the rest asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

from polly_mesos.executor import host
from polly_mesos.executor.host import links, mounts, superblocks
from polly_mesos.model import Filesystem, FormatState

_ADMIN_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class LinuxHost:
    """This host; see :class:`polly_mesos.executor.half.HostView` for the methods' meaning. Keeps nothing in memory."""

    def publish(
        self,
        target: str,
        volume: str,
        located: str,
        filesystem: Filesystem,
        options: Sequence[str],
        *,
        format_state: FormatState,
        begin: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        """Format where that is needed and safe, then mount; a directory is linked."""
        host.publish(target, volume, located, filesystem, options, format_state=format_state, begin=begin, done=done)

    def unpublish(self, target: str, *, lazily: bool = False) -> None:
        """Unmount, or unlink."""
        host.unpublish(target, lazily=lazily)

    def device_at(self, target: str) -> str:
        """The source of the topmost mount, as the kernel's table has it."""
        mount = mounts.mount_at(target)
        return mount.source if mount is not None else ""

    def is_device_mounted(self, device: str) -> bool:
        """By device number, as one device has many names."""
        try:
            number = os.stat(device).st_rdev
        except OSError:
            return False
        return any(mount.device == number for mount in mounts.mounts())

    def volume_at(self, target: str) -> str | None:
        """By the mount table and the UUID on the device; for a directory by its link, where that leads somewhere."""
        if os.path.islink(target):
            return links.volume_at(target) if os.path.isdir(target) else None
        mount = mounts.mount_at(target)
        if mount is None or mount.failed or mount.root != "/" or not os.path.isabs(mount.source):
            return None
        try:
            superblock = superblocks.read(mount.source)
        except OSError:
            return None
        return superblock.uuid if superblock is not None else None

    def mounted(self, volume_root: str) -> Mapping[str, str]:
        """Volume id -> target, with targets below ``volume_root`` as it was given, as the agent names them."""
        resolved = os.path.realpath(volume_root)
        return {
            volume: os.path.join(volume_root, os.path.relpath(target, resolved))
            for volume, target in host.mounted(volume_root).items()
        }

    def lacking(self, filesystems: Sequence[Filesystem], tools: Sequence[str]) -> str:
        """Programs of the file systems and of the driver."""
        lacking = {tool: f"package {package}" for tool, package in host.missing_tools(filesystems).items()}
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ADMIN_DIRECTORIES))
        lacking.update({tool: "see the driver's documentation" for tool in tools if not shutil.which(tool, path=path)})
        if not lacking:
            return ""
        return "install on this host: " + ", ".join(f"{tool} ({where})" for tool, where in lacking.items())

    def mount_problem(self, volume_root: str) -> str:
        """In a mount namespace of our own, mounts reach the host only below a shared mount."""
        if not _in_a_mount_namespace_of_its_own():
            return ""
        found = host.shared_mount_of(volume_root)
        if found.shared:
            return ""
        return (
            f"{volume_root} lies on {found.mount_point}, which is not a shared mount, so what is mounted here does not "
            f"reach the tasks; on the host, before the agent starts: {found.remedy}"
        )


def _in_a_mount_namespace_of_its_own() -> bool:
    """Whether an ancestor of this process (its agent is one) sees other mounts than this process."""
    ours = _namespace_of("self")
    return any(theirs not in (None, ours) for theirs in map(_namespace_of, _ancestors()))


def _ancestors() -> Iterator[str]:
    process = "self"
    while process not in ("0", "1"):
        try:
            with open(f"/proc/{process}/stat") as file:
                # The program's name, in parentheses, may hold anything; state and parent follow it.
                process = file.read().rpartition(")")[2].split()[1]
        except OSError:
            return
        yield process


def _namespace_of(process: str) -> str | None:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return None
