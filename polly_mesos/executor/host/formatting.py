"""Safe format: a device gets a file system once, and only if it is blank and the ledger says it never had one.

The volume's id becomes the file system's UUID, so that whatever is on a device can be told to be ours or not. The
device is locked (``flock``) from the look to the end of mkfs, and mkfs inherits the lock: after a crash of the executor
the next one waits for an mkfs that still runs, instead of starting a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator

from polly_mesos.errors import HostError, UnsafeFormat
from polly_mesos.executor.host import mounts, probing, programs, superblocks
from polly_mesos.model import Filesystem, FormatState

_FORMAT_TIMEOUT = 600.0
_LOCK_TIMEOUT = 60.0
_LOCK_POLL = 0.02


def prepare(
    device: str,
    filesystem: Filesystem,
    volume_id: str,
    format_state: FormatState,
    begin: Callable[[], None],
    done: Callable[[], None],
) -> None:
    """See to it that the device has the volume's file system, without ever destroying anything.

    ============  =================================================  ==================================================
    ledger says   device has                                         what is done
    ============  =================================================  ==================================================
    NEVER         nothing                                            ``begin``, mkfs, ``done``
    NEVER         our file system                                    ``done``: the ledger is older than the file system
    NEVER         anything else                                      refused
    FORMATTING    our file system, whole                             ``done``
    FORMATTING    nothing                                            mkfs, ``done``
    FORMATTING    what our own mkfs left when it was interrupted     that is zeroed, mkfs, ``done``
    FORMATTING    anything else that is recognised                   refused
    FORMATTED     our file system                                    nothing
    FORMATTED     anything else, or nothing                          refused
    ============  =================================================  ==================================================

    :param volume_id: a UUID
    :param begin: writes the ledger's FORMATTING; returns when that is durable, raises where it may not be formatted
    :param done: writes the ledger's FORMATTED
    :raises UnsafeFormat: naming what was found; nothing was changed
    :raises HostError: the device cannot be used, or mkfs failed
    """
    with _locked(device) as lock:
        if format_state is FormatState.FORMATTED:
            _verify(device, filesystem, volume_id)
        elif format_state is FormatState.NEVER:
            if not _is_ours(device, filesystem, volume_id):
                if not (found := probing.probe(device)).blank:
                    raise _unsafe(device, volume_id, found, "the ledger says that it was never formatted")
                begin()
                _make(device, filesystem, volume_id, lock)
            done()
        else:
            _finish(device, filesystem, volume_id, lock)
            done()


def grow(device: str, target: str, filesystem: Filesystem) -> None:
    """Let a mounted file system take all of its device, while it is in use. Succeeds where it does already.

    :raises HostError: it is not mounted, or cannot grow
    """
    if not mounts.is_mounted(target):
        raise HostError(f"{target} is not mounted, so its file system cannot grow", remedy="publish the volume first")
    if filesystem is Filesystem.EXT4:
        try:
            programs.run("resize2fs", device, timeout=_FORMAT_TIMEOUT)
        except HostError as error:
            if "Permission denied" not in error.message:
                raise
            raise HostError(
                f"the kernel does not let this process grow {device} while it is mounted: {error.message}",
                remedy="give the executor CAP_SYS_RESOURCE, or keep volumes that grow on XFS",
            ) from error
    elif filesystem is Filesystem.XFS:
        programs.run("xfs_growfs", target, timeout=_FORMAT_TIMEOUT)


@contextlib.contextmanager
def _locked(device: str) -> Iterator[int]:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{device} cannot be opened: {error}") from error
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise HostError(
                    f"{device} has been locked by another program for {_LOCK_TIMEOUT:.0f} seconds",
                    remedy="look which with `lslocks`",
                )
            time.sleep(_LOCK_POLL)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ours(device: str, filesystem: Filesystem, volume_id: str) -> bool:
    superblock = superblocks.read(device)
    return superblock is not None and (superblock.filesystem, superblock.uuid) == (filesystem, volume_id)


def _verify(device: str, filesystem: Filesystem, volume_id: str) -> None:
    if not _is_ours(device, filesystem, volume_id):
        wanted = f"the ledger says that it has the volume's {filesystem}, UUID {volume_id}"
        raise _unsafe(device, volume_id, probing.probe(device), wanted)


def _finish(device: str, filesystem: Filesystem, volume_id: str, lock: int) -> None:
    """Bring to its end a format that was begun; the ledger's intent proves that the device was blank before it."""
    if _has_whole(device, filesystem, volume_id):
        return
    found = probing.probe(device)
    foreign = [entry for entry in found.signatures if (entry.type, entry.uuid) != (filesystem.value, volume_id)]
    if foreign:
        raise _unsafe(device, volume_id, found, "the ledger says that its format was begun")
    if not found.blank:
        _zero_edges(device, lock)
        if not (rest := probing.probe(device)).blank:
            raise _unsafe(device, volume_id, rest, "what an interrupted format left could not be removed")
    _make(device, filesystem, volume_id, lock)


def _has_whole(device: str, filesystem: Filesystem, volume_id: str) -> bool:
    superblock = superblocks.read(device)
    if superblock is None or (superblock.filesystem, superblock.uuid) != (filesystem, volume_id):
        return False
    if superblock.complete is not None:
        return superblock.complete
    check = programs.start("e2fsck", "-n", "-f", device)
    check.communicate(timeout=_FORMAT_TIMEOUT)
    return check.returncode == 0


def _zero_edges(device: str, lock: int) -> None:
    size = os.lseek(lock, 0, os.SEEK_END)
    try:
        # Exclusive, so that the kernel refuses where the device is mounted or part of something.
        exclusive = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{device} is in use: {error}") from error
    try:
        for start in (0, max(0, size - probing.EDGE)):
            os.pwrite(exclusive, bytes(min(probing.EDGE, size)), start)
        os.fsync(exclusive)
    finally:
        os.close(exclusive)


def _make(device: str, filesystem: Filesystem, volume_id: str, lock: int) -> None:
    """Neither program is given its force option: each then looks for itself that nothing is there.

    The device was blank, so that nothing needs to be discarded, and ext4's tables and journal may be zeroed later: the
    journal's checksums are seeded with the new UUID, so that nothing older can be replayed.
    """
    identity = str(uuid.UUID(volume_id))
    if filesystem is Filesystem.EXT4:
        lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
        arguments: tuple[str, ...] = ("mkfs.ext4", "-q", "-m", "0", "-U", identity, "-E", lazy, device)
    elif filesystem is Filesystem.XFS:
        arguments = ("mkfs.xfs", "-q", "-K", "-m", f"uuid={identity}", device)
    else:
        raise HostError(f"a device cannot be formatted with {filesystem.value!r}")
    programs.run(*arguments, timeout=_FORMAT_TIMEOUT, keep_open=(lock,))
    _verify(device, filesystem, volume_id)


def _unsafe(device: str, volume_id: str, found: probing.Found, why: str) -> UnsafeFormat:
    return UnsafeFormat(
        f"{device} of volume {volume_id} holds {found}, and {why}",
        found=str(found),
        remedy="look whether it is the right device; if its data is worth nothing, delete the volume and make another",
    )
