"""The host as the executor half sees it: :mod:`polly_mesos.executor.host` behind the methods that the rest asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence

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

    def unpublish(self, target: str) -> None:
        """Unmount, or unlink."""
        host.unpublish(target)

    def volume_at(self, target: str) -> str | None:
        """By the mount table and the UUID on the device; for a directory by its link, where that leads somewhere."""
        if os.path.islink(target):
            return links.volume_at(target) if os.path.isdir(target) else None
        mount = mounts.mount_at(target)
        if mount is None or mount.root != "/" or not os.path.isabs(mount.source):
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
        if _namespace_of("self") == _namespace_of("1"):
            return ""
        found = host.shared_mount_of(volume_root)
        if found.shared:
            return ""
        return (
            f"{volume_root} lies on {found.mount_point}, which is not a shared mount, so what is mounted here does not "
            f"reach the tasks; on the host, before the agent starts: {found.remedy}"
        )


def _namespace_of(process: str) -> str | None:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except PermissionError:
        # Only root may look, and only root may mount.
        return os.readlink("/proc/self/ns/mnt")
