"""The real OpenStack that all tests of the Cinder driver share, and its instances as machines that can be stopped."""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from drivers.cinder import DRIVER
from drivers.declaration import load_class
from polly_mesos.errors import UnsupportedPlatform
from polly_mesos.mesos.local.progress import Step
from polly_mesos.model import HostIdentity, Json
from polly_mesos.testing.driver_suite import Machine
from polly_mesos.testing.openstack import OpenStack
from polly_mesos.testing.openstack.environment import check_possible


def tell(step: Step) -> None:
    """What is being installed, for whoever waits for it."""
    print(f"openstack: {step.text}", file=sys.__stderr__, flush=True)


@functools.cache
def cloud() -> OpenStack:
    """The cloud, started when it is first asked for and ended with the tests; skips where it cannot run."""
    try:
        check_possible()
    except UnsupportedPlatform as error:
        pytest.skip(str(error))
    stack = ExitStack()
    started = stack.enter_context(OpenStack(tell))
    atexit.register(stack.close)
    return started


class Instance(Machine):
    """An instance of the cloud's; its guest keeps a disk that it uses until it is stopped."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        known = {name: value for name, value in settings.items() if name in DRIVER.host_settings}
        self._host = load_class(DRIVER.host)(known, node)
        self.identity: HostIdentity = self._host.identify()
        self._server = cloud().nova.server_of(node)
        cloud().nova.start(self._server)

    def use(self, attachment: Json) -> None:
        self._host.locate(attachment, 30.0)
        self._server.held.add(str(attachment["volume"]))

    def stop(self) -> None:
        cloud().nova.stop(self._server)


@contextlib.contextmanager
def instance(settings: Mapping[str, Any], node: str) -> Iterator[Machine]:
    """A running instance, stopped and forgotten after the block."""
    machine = Instance(settings, node)
    try:
        yield machine
    finally:
        machine.stop()


@contextlib.contextmanager
def losing_an_answer(_settings: Mapping[str, Any]) -> Iterator[None]:
    """The answer to the next change does not arrive, whichever of the services it is asked of."""
    both = cloud().proxy, cloud().compute
    for one in both:
        one.inject("lost", "change", "")
    try:
        yield
    finally:
        for one in both:
            one.clear()
