"""One process at a time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polly_mesos.errors import LocalMesosError


@contextmanager
def exclusive(path: Path, *, what: str, seconds: float) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it when this process ends, however it ends.

    :param path: the lock file; stays behind empty
    :param what: what another holder is doing, for the error
    :param seconds: how long to wait for it
    :raises LocalMesosError: the other holder did not let go in time
    """
    deadline = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalMesosError(
                        f"{what}, for more than {seconds:.0f} s ({path} is locked)", remedy="wait for it, or end it"
                    ) from None
                time.sleep(0.05)
        yield
