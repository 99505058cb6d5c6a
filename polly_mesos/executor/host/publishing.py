"""Publishing: the volume's file system is at exactly the path where the Mesos agent looks for it, or there is an error.

Below the volume root a volume is at ``POOL/volumes/roles/ROLE/PERSISTENCE_ID`` or, where it is a disk of its own, at
``POOL/VOLUME/target`` (Mesos: ``slave/paths.cpp`` and ``csi/paths.cpp``).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polly_mesos.errors import MountFailed, PollyError
from polly_mesos.executor.host import formatting, links, mounts, nested_roles, superblocks
from polly_mesos.model import Filesystem, FormatState

_SHAPES = ("*/volumes/roles/*/*", "*/*/target")
_log = logging.getLogger(__name__)


def publish(
    target: str,
    volume_id: str,
    located: str,
    filesystem: Filesystem,
    options: Sequence[str] = (),
    *,
    format_state: FormatState,
    begin: Callable[[], None],
    done: Callable[[], None],
) -> None:
    """Bring the volume to ``target``: format it if that is safe and needed, then mount it. Succeeds where it is there.

    A file system that the kernel has stopped writing to after an error, such as a full disk below the device, is
    mounted anew, unless somebody still uses it.

    :param located: what the driver's host side located: a device or, where ``filesystem`` is NONE, a directory
    :param begin: see :func:`polly_mesos.executor.host.formatting.prepare`, as is ``done``
    :raises UnsafeFormat: the device holds something else; nothing was changed
    :raises MountFailed: something else is at the target, or the kernel refused
    """
    if filesystem is Filesystem.NONE:
        links.publish(target, volume_id, located)
        return
    if (mounted_there := mounts.mount_at(target)) is not None:
        if (there := _volume_on(mounted_there.source)) != volume_id:
            raise MountFailed(
                f"{mounted_there.source} ({there or 'no volume of ours'}) is mounted at {target}, so volume "
                f"{volume_id} cannot be",
                remedy=f"unmount it with `umount {target}`",
            )
        if not mounted_there.failed:
            return
        _log.warning("the file system at %s has stopped after an error of its device, and is mounted anew", target)
        mounts.unmount(target)
    _make_target(target)
    try:
        formatting.prepare(located, filesystem, volume_id, format_state, begin, done)
        mounts.mount(located, target, filesystem.value, options)
    except PollyError:
        with contextlib.suppress(OSError):
            os.rmdir(target)
        raise


def unpublish(target: str, *, lazily: bool = False) -> None:
    """Take away what :func:`publish` brought to ``target``, and its empty directory. Succeeds where nothing is.

    :param lazily: as in :func:`polly_mesos.executor.host.mounts.unmount`
    :raises MountFailed: it is in use, or it is not ours
    """
    if os.path.islink(target):
        links.unpublish(target)
        return
    mounts.unmount(target, lazily=lazily)
    try:
        os.rmdir(target)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("%s stays after unmounting: %s", target, error)


def mounted(volume_root: str) -> dict[str, str]:
    """The volumes that are published below the volume root, by id, with their targets: from the kernel and the disk.

    A mount there whose device cannot be read any more is left out and logged.
    """
    root = Path(os.path.realpath(volume_root))
    found = {volume: target for target in _targets(root) if (volume := links.volume_at(target)) is not None}
    for mount in mounts.mounts():
        target = nested_roles.as_agent_sees(mount.mount_point)
        if _is_target(root, target) and (volume := _volume_on(mount.source)) is not None:
            found[volume] = target
    return found


def _targets(root: Path) -> Iterator[str]:
    for shape in _SHAPES:
        yield from (str(path) for path in root.glob(shape))


def _is_target(root: Path, target: str) -> bool:
    path = Path(target)
    return path.is_relative_to(root) and any(
        len(path.relative_to(root).parts) == shape.count("/") + 1 and path.match(shape) for shape in _SHAPES
    )


def _volume_on(device: str) -> str | None:
    if not os.path.isabs(device):
        return None
    try:
        superblock = superblocks.read(device)
    except OSError as error:
        _log.warning("%s is mounted, and its superblock cannot be read: %s", device, error)
        return None
    return superblock.uuid if superblock else None


def _make_target(target: str) -> None:
    if os.path.islink(target):
        raise MountFailed(f"{target} is a symbolic link, so nothing is mounted there", remedy="remove the link")
    try:
        nested_roles.make_way(target)
        os.makedirs(target, exist_ok=True)
        entries = os.listdir(target)
    except OSError as error:
        raise MountFailed(f"{target} cannot be made: {error}") from error
    if entries:
        raise MountFailed(
            f"{target} is not empty ({entries[0]}, ...): a volume mounted there would hide it",
            remedy="move away what is there",
        )
