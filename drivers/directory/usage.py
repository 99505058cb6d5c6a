"""Which processes of this machine use a directory: by open files, mapped files, places and mounts.

A directory has no device whose users the kernel counts, so every process is looked at. One that only knows the path is
not found so: the controller side changes the path when it takes a directory from a host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from drivers.fencing import CannotLook, processes, status_of
from drivers.hosts import Lease, start_of

_GONE = (FileNotFoundError, ProcessLookupError)


def user_of(directories: Sequence[Path], lease: Lease) -> str:
    """One process that uses one of the volumes' directories, in words; empty where there is none.

    :param lease: of the host that holds them
    :raises CannotLook: this process may not look at one that could
    """
    marks = [f"{directory.parent}/" for directory in directories]
    # Seen from another root, or through a mount of the directory itself, only the end of its path is the same.
    marks += [f"/{directory.parent.name}/{directory.name}" for directory in directories]
    return _find(lease, lambda pid: _marked(_places(pid), marks) or _hidden(pid, directories)) if directories else ""


def task_of(lease: Lease) -> str:
    """One task of a host's agent, in words; empty where there is none, or where its sandboxes are not known.

    :raises CannotLook: this process may not look at one that could be
    """
    return _find(lease, lambda pid: _in_sandbox(pid, lease.sandboxes)) if lease.sandboxes else ""


def _find(lease: Lease, use: Callable[[int], str]) -> str:
    for pid in processes():
        thread = _living_thread(pid)
        if pid == os.getpid() or not _concerns(thread, lease.user):
            continue
        try:
            used = use(thread)
        except _GONE as error:
            if start_of(pid) is None:
                continue
            raise CannotLook(f"process {pid} changed while it was looked at: {error}") from error
        except PermissionError as error:
            if (start_of(pid) or 0) < lease.since:
                continue
            raise CannotLook(f"process {pid} is another user's and may not be looked at") from error
        if used:
            return f"process {pid} uses {used}"
    return ""


def _living_thread(pid: int) -> int:
    """The process, or another thread of it where its first one has ended: what it has open is seen at that one."""
    if status_of(pid, "State")[:1] != "Z":
        return pid
    with contextlib.suppress(*_GONE):
        threads = map(int, os.listdir(f"/proc/{pid}/task"))
        return next((thread for thread in threads if status_of(thread, "State")[:1] not in ("Z", "X", "")), pid)
    return pid


def _concerns(pid: int, user: int) -> bool:
    """Whether it is a program, not a thread of the kernel or what is left of one, and may be one of the host's.

    :param user: whom the host's processes run as; only root's tasks may be anybody's
    """
    if not status_of(pid, "VmSize"):
        return False
    return user == 0 or str(user) in status_of(pid, "Uid").split()


def _marked(texts: Iterator[str], marks: Sequence[str]) -> str:
    """The line of a text in which one of the marks is; empty where none is."""
    for text in texts:
        for mark in marks:
            if mark in text:
                return next(line for line in text.splitlines() if mark in line)
    return ""


def _places(pid: int) -> Iterator[str]:
    """Paths of what a process has open, where it is, what it has mapped, and what is mounted where it is."""
    process = Path(f"/proc/{pid}")
    for link in ("cwd", "root", "exe"):
        yield _target(process / link)
    for descriptor in os.listdir(process / "fd"):
        yield _target(process / "fd" / descriptor)
    yield (process / "maps").read_text(errors="surrogateescape")
    yield (process / "mountinfo").read_text(errors="surrogateescape")


def _hidden(pid: int, directories: Sequence[Path]) -> str:
    """A file that is open through a mount that was hidden by a lazy unmount: its path does not say where it is."""
    process = Path(f"/proc/{pid}")
    mounts = {line.partition(" ")[0] for line in (process / "mountinfo").read_text().splitlines()}
    for descriptor in os.listdir(process / "fd"):
        with contextlib.suppress(*_GONE):
            path = process / "fd" / descriptor
            if not _target(path).startswith("/") or _mount_of(process / "fdinfo" / descriptor) in mounts:
                continue
            opened = path.stat()
            if any(_contains(directory, (opened.st_dev, opened.st_ino)) for directory in directories):
                return "a file of the volume whose mount was hidden"
    return ""


def _contains(directory: Path, file: tuple[int, int]) -> bool:
    """Whether a file, named by device and inode, is the directory or somewhere below it."""
    with contextlib.suppress(*_GONE):
        top = directory.stat()
        if top.st_dev != file[0] or top.st_ino == file[1]:
            return top.st_dev == file[0]
    waiting = [directory]
    while waiting:
        with contextlib.suppress(*_GONE), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.inode() == file[1]:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return False


def _in_sandbox(pid: int, sandboxes: str) -> str:
    """Mesos tells its tasks their sandboxes, and has their output there."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    told = any(variable.partition(b"=")[2].startswith(os.fsencode(f"{sandboxes}/")) for variable in environment)
    return f"a sandbox below {sandboxes}" if told else _marked(_places(pid), [f"{sandboxes}/"])


def _mount_of(fdinfo: Path) -> str:
    lines = fdinfo.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("mnt_id:")), "")


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except _GONE:
        return ""
