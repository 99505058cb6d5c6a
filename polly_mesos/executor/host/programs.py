"""The host's own programs: where they are, what package has them, and running them within a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from polly_mesos.errors import HostError, MissingTool
from polly_mesos.model import Filesystem

_PROBING = ("blkid", "wipefs")
_BY_FILESYSTEM: dict[Filesystem, tuple[str, ...]] = {
    Filesystem.EXT4: (*_PROBING, "mkfs.ext4", "e2fsck", "resize2fs"),
    Filesystem.XFS: (*_PROBING, "mkfs.xfs", "xfs_growfs"),
    Filesystem.NONE: (),
}
_PACKAGES = {
    "blkid": "util-linux",
    "wipefs": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
}
_ADMIN_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")

Running = subprocess.Popen[str]
"""A program that was started, its output still to be read."""


def missing_tools(filesystems: Iterable[Filesystem]) -> dict[str, str]:
    """The programs that these file systems need and this host lacks, each with the Debian package that has it."""
    needed = {program for filesystem in filesystems for program in _BY_FILESYSTEM[filesystem]}
    return {program: _PACKAGES[program] for program in sorted(needed) if _which(program) is None}


def start(program: str, *arguments: str, keep_open: Sequence[int] = ()) -> Running:
    """Start a program that asks no questions and speaks English.

    :param keep_open: descriptors that the program inherits, such as one that holds a lock
    :raises MissingTool: it is not installed
    """
    path = _which(program)
    if path is None:
        package = _PACKAGES.get(program, "")
        raise MissingTool(
            f"the program {program} is not on this host",
            remedy=f"apt-get install {package}" if package else "install it",
        )
    return subprocess.Popen(
        [path, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
        pass_fds=keep_open,
    )


def finish(running: Running, timeout: float, success: Sequence[int] = (0,)) -> str:
    """Wait for a program and return what it printed.

    :param timeout: seconds after which it is killed
    :raises HostError: it took longer, or ended with an exit status that is not among ``success``
    """
    name = os.path.basename(str(running.args[0])) if isinstance(running.args, list) else str(running.args)
    try:
        output, complaint = running.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        raise HostError(f"{name} did not end within {timeout:.0f} seconds, and was stopped") from None
    if running.returncode not in success:
        said = " ".join((complaint or output).split())
        raise HostError(f"{name} failed with exit status {running.returncode}: {said[:500]}")
    return output


def run(program: str, *arguments: str, timeout: float, keep_open: Sequence[int] = ()) -> str:
    """Run a program to its end and return what it printed; raises as :func:`start` and :func:`finish` do."""
    return finish(start(program, *arguments, keep_open=keep_open), timeout)


def _which(program: str) -> str | None:
    """Where a program is; a user's PATH often lacks the administrator's directories."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ADMIN_PATH))
    return shutil.which(program, path=path)
