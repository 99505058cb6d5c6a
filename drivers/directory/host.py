"""The host side: the volume is where the controller side put it; there is no device."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from drivers.base import HostDriver
from drivers.hosts import announce, wait_until_held
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_POLL = 0.01


class DirectoryHost(HostDriver):
    """Gives the path of the volume's directory; the executor links it to where the task looks."""

    block = False

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._directory = str(settings["directory"])
        self._zone = str(settings.get("zone", ""))
        self._node = node

    def identify(self) -> HostIdentity:
        """The host is named by its agent's host and port.

        :raises HostError: this host does not see the directory
        """
        if not os.path.isdir(os.path.join(self._directory, "volumes")):
            raise HostError(
                f"this host does not see the directory service's directory {self._directory}",
                remedy="mount it here at the same path as on the scheduler's machine",
            )
        announce(self._directory, self._node)
        return HostIdentity(self._node, self._zone)

    def locate(self, attachment: Json, timeout: float) -> str:
        data = str(attachment["data"])
        deadline = time.monotonic() + timeout
        while not os.path.isdir(data):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"the volume's directory {data} is not on this host",
                    remedy=f"mount {self._directory} here at the same path as on the scheduler's machine",
                )
            time.sleep(_POLL)
        announce(self._directory, self._node)
        wait_until_held(f"{os.path.dirname(data)}.holder", self._node, deadline)
        return data

    def release(self, attachment: Json) -> None:
        """Nothing is bound, so there is nothing to let go of."""
