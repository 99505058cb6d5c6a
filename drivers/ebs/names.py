"""Device names: which are free on an instance, so that no two threads choose the same.

Source: the EC2 user guide, "Device names for volumes on Amazon EC2 instances".
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from string import ascii_lowercase

from polly_mesos.errors import PlatformFull

_USUAL = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")
_LARGE = tuple(f"/dev/xvd{first}{second}" for first in "bcda" for second in ascii_lowercase)


class DeviceNames:
    """The names that calls of this process are using now, by instance."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, set[str]] = {}

    @contextlib.contextmanager
    def free(self, instance: str, used: Iterable[str], *, large: bool) -> Iterator[str]:
        """A name that neither the platform nor another thread uses, kept for the length of a block.

        :param used: names that the platform says are used
        :param large: whether the names beyond /dev/sdp can be used
        :raises PlatformFull: there is none
        """
        places = {place_of(name) for name in used}
        with self._lock:
            taken = self._taken.setdefault(instance, set())
            candidates = (*_USUAL, *_LARGE) if large else _USUAL
            name = next((name for name in candidates if place_of(name) not in places | taken), None)
            if name is None:
                raise PlatformFull(
                    f"instance {instance} has no free device name",
                    remedy="detach volumes from it"
                    if large
                    else "detach volumes from it, or write large_device_range: true",
                )
            taken.add(place_of(name))
        try:
            yield name
        finally:
            with self._lock:
                taken.discard(place_of(name))


def place_of(name: str) -> str:
    """What is left of a name when its beginning is not looked at: /dev/sdf and xvdf are one place."""
    return re.sub(r"^(/dev/)?(sd|xvd|hd)", "", name)
