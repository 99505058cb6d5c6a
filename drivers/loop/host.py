"""The host side: the loop device of an image, found anew from the kernel's tables each time.

Nothing is remembered between calls, so a restarted executor finds what the one before it bound. The image itself is
locked while a device is looked for or bound, so that two processes never bind it twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from drivers.base import HostDriver
from drivers.hosts import announce, wait_until_held
from drivers.loop_devices import (
    bind,
    bindings,
    bound_device,
    device_node,
    is_bound_to,
    keep_discarded,
    locked,
    take_size_of_image,
    unbind,
)
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_POLL = 0.01
_RELEASE_TIMEOUT = 10.0


class LoopHost(HostDriver):
    """Binds images to loop devices and lets go of them. Needs root and /dev/loop-control."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        self._directory = str(settings["directory"])
        self._zone = str(settings.get("zone", ""))
        self._node = node

    def identify(self) -> HostIdentity:
        """The host is named by its agent's host and port.

        :raises HostError: this host does not see the directory, or its user may not use loop devices
        """
        if not os.path.isdir(os.path.join(self._directory, "volumes")):
            raise HostError(
                f"this host does not see the loop service's directory {self._directory}",
                remedy="mount it here at the same path as on the scheduler's machine",
            )
        if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
            raise HostError(
                "/dev/loop-control cannot be used",
                remedy="run the executor as root, load the kernel's module with `modprobe loop`, and let Mesos' "
                "cgroups/devices isolator allow it",
            )
        announce(self._directory, self._node)
        return HostIdentity(self._node, self._zone)

    def locate(self, attachment: Json, timeout: float) -> str:
        image = _image(attachment)
        deadline = time.monotonic() + timeout
        while not os.path.exists(image):
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"the image {image} is not on this host",
                    remedy=f"mount {self._directory} here at the same path as on the scheduler's machine",
                )
            time.sleep(_POLL)
        announce(self._directory, self._node)
        with locked(image):
            wait_until_held(_holder(image), self._node, deadline)
            device = bound_device(image) or bind(image, deadline)
            keep_discarded(device)
            return device

    def release(self, attachment: Json) -> None:
        image = _image(attachment)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(locked(image))
            unbind(image, _RELEASE_TIMEOUT)

    def held(self) -> Mapping[str, Json]:
        """The loop devices that are bound to images of which this host is the holder."""
        volumes = os.path.join(self._directory, "volumes")
        found: dict[str, Json] = {}
        for binding in bindings():
            image = os.path.join(volumes, binding.name)
            if self._holds(image) and is_bound_to(binding, image):
                found[device_node(binding.entry)] = {"image": image}
        return found

    def _holds(self, image: str) -> bool:
        try:
            return os.readlink(_holder(image)) == self._node
        except OSError:
            return False

    def rescan(self, attachment: Json) -> None:
        if device := bound_device(_image(attachment)):
            take_size_of_image(device)


def _image(attachment: Json) -> str:
    return str(attachment["image"])


def _holder(image: str) -> str:
    return f"{os.path.splitext(image)[0]}.holder"
