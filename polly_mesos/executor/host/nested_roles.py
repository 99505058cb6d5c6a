"""Volumes of nested roles, which the agent looks for at a path with blanks, are mounted at one without.

The agent writes the role ``team/db`` as ``team db`` (Mesos: ``slave/paths.cpp``), the kernel writes a blank in its
table of mounts as ``\\040``, and Mesos 1.11 does not read that back (``linux/fs.cpp``): as long as such a mount exists,
no container whose mounts are to reach the host can start there, and Polly's executor is one. So the role's directory
is a symbolic link, and what is mounted below it stands in the table at the path that the link leads to.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import PurePath

_ROLES, _NESTED = ("volumes", "roles"), ("volumes", "nested")


def make_way(target: str) -> None:
    """Make a nested role's directory, in which ``target`` is to be, a link; does nothing for other targets.

    A directory in which an earlier version of Polly has volumes mounted stays one.

    :raises OSError: the directories or the link cannot be made
    """
    directory = PurePath(target).parent
    if directory.parent.parts[-2:] != _ROLES or " " not in directory.name:
        return
    real = directory.parent.parent / _NESTED[1] / _without_blanks(directory.name)
    os.makedirs(real, exist_ok=True)
    os.makedirs(directory.parent, exist_ok=True)
    if not os.path.islink(directory):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    with contextlib.suppress(FileExistsError):
        os.symlink(os.path.relpath(real, directory.parent), directory)


def as_agent_sees(mount_point: str) -> str:
    """The agent's path of what is mounted at ``mount_point``; the same for volumes of roles that are not nested."""
    path = PurePath(mount_point)
    directory = path.parent
    if directory.parent.parts[-2:] != _NESTED:
        return mount_point
    return str(directory.parent.parent / _ROLES[1] / _with_blanks(directory.name) / path.name)


def _without_blanks(name: str) -> str:
    return name.replace("%", "%25").replace(" ", "%20")


def _with_blanks(name: str) -> str:
    return name.replace("%20", " ").replace("%25", "%")
