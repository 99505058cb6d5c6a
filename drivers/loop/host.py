"""The host side: the loop device of an image, found anew from the kernel's tables each time.

Nothing is remembered between calls, so a restarted executor finds what the one before it bound. The image itself is
locked while a device is looked for or bound, so that two processes never bind it twice. The requests to the kernel are
those of ``linux/loop.h``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Mapping
from typing import Any

from drivers.base import HostDriver
from drivers.hosts import announce, wait_until_held
from drivers.loop.devices import (
    SYSFS,
    bindings,
    bound_device,
    device_node,
    is_bound_to,
    keep_discarded,
    locked,
    opened,
    refused,
)
from polly_mesos.errors import DeviceNotFound, HostError
from polly_mesos.model import HostIdentity, Json

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CTL_GET_FREE = 0x4C82

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
            device = bound_device(image) or _bind(image, deadline)
            keep_discarded(device)
            return device

    def release(self, attachment: Json) -> None:
        image = _image(attachment)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(locked(image))
            deadline = time.monotonic() + _RELEASE_TIMEOUT
            while device := bound_device(image):
                _unbind(device)
                if not bound_device(image):
                    return
                if time.monotonic() >= deadline:
                    raise HostError(
                        f"{device} did not let go of {image} in {_RELEASE_TIMEOUT:.0f} seconds",
                        remedy=f"something holds it open: look with `fuser -v {device}` and in /proc/mounts",
                    )
                time.sleep(_POLL)

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
            with opened(device) as descriptor:
                fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)


def _image(attachment: Json) -> str:
    return str(attachment["image"])


def _holder(image: str) -> str:
    return f"{os.path.splitext(image)[0]}.holder"


def _bind(image: str, deadline: float) -> str:
    """Bind the image to a free device; others may take the one that the kernel calls free before we do."""
    while True:
        try:
            with opened("/dev/loop-control", os.O_RDWR) as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = device_node(SYSFS / f"loop{number}")
            with opened(device, os.O_RDWR) as descriptor, opened(image, os.O_RDWR) as image_descriptor:
                fcntl.ioctl(descriptor, _LOOP_SET_FD, image_descriptor)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise refused("a loop device", error) from error
            if time.monotonic() >= deadline:
                raise DeviceNotFound(
                    f"no free loop device for {image}: others took each one first", remedy="try again"
                ) from error
        else:
            return device


def _unbind(device: str) -> None:
    try:
        with opened(device) as descriptor:
            fcntl.ioctl(descriptor, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EBUSY):
            raise refused(device, error) from error
