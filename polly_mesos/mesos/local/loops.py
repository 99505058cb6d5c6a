"""Loop devices behind mounts, for a host that loses its power."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable

from polly_mesos.mesos.local.mounts import Mount

_LOOP_CLR_FD = 0x4C01  # linux/loop.h


def loop_devices(mounts: Iterable[Mount]) -> list[str]:
    """The loop devices that are mounted there, each once."""
    return list(dict.fromkeys(mount.source for mount in mounts if mount.source.startswith("/dev/loop")))


def release(device: str) -> None:
    """Let go of its file now, or when its last user does; one without a file is fine.

    :raises OSError: it is no loop device, or the kernel does not allow it
    """
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(descriptor)
