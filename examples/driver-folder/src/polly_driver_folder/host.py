"""The host side. It travels to the agents: only the standard library, drivers.base, and Polly's model and errors."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from drivers.base import HostDriver
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

HELD = "held-by-"


def held_by(host: str) -> str:
    """The name of a volume's data while a host holds it. Any other host looks for another name, and finds nothing."""
    return HELD + quote(host, safe=":[]")


class FolderHost(HostDriver):
    """Finds a volume's data under this host's own name."""

    block = False

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._directory = str(settings["directory"])
        self._node = node

    def identify(self) -> HostIdentity:
        if not os.path.isdir(self._directory):
            raise HostError(f"{self._directory} is not on this host", remedy="mount the share here at the same path")
        return HostIdentity(self._node)

    def locate(self, attachment: Json, timeout: float) -> str:
        path = os.path.join(self._directory, attachment["volume"], held_by(self._node))
        deadline = time.monotonic() + timeout
        while not os.path.isdir(path):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(f"{path} is not on this host", remedy="see whether the share is mounted here")
            time.sleep(0.01)
        return path

    def release(self, attachment: Json) -> None:
        """Nothing is bound to this host, so there is nothing to let go of."""
