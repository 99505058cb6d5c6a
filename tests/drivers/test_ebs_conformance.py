"""The EBS driver against its strict counterpart, with disks on real loop devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.ebs import DRIVER
from polly_mesos.model import Json
from polly_mesos.testing import driver_suite
from polly_mesos.testing.driver_suite import Machine
from polly_mesos.testing.driver_suite.machines import ProcessMachine
from polly_mesos.testing.ec2 import Delays, Ec2, Fault
from polly_mesos.testing.ec2.faults import CHANGES
from polly_mesos.testing.ec2.wire import Wire
from tests.drivers.ebs_platform import wire

__all__ = ["wire"]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left", "platform")]

GIB = 1 << 30
_HERE: dict[str, Ec2] = {}
_DELAYS = Delays(create=0.02, attach=0.02, detach=0.02, delete=0.05, snapshot=0.02, modify=0.02, optimize=0.02)


@pytest.fixture(params=["m5.large", "m4.large"], ids=["nitro", "xen"])
def platform(
    nothing_left: None, wire: Wire, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ec2]:
    with Ec2(tmp_path / "ec2", wire=wire, delays=_DELAYS, default_type=request.param) as ec2:
        ec2.cloud.quotas["gp3"] = 1024
        # A hundred volumes are to come in pages.
        monkeypatch.setattr("drivers.ebs.controller._PAGE", 40)
        _HERE["ec2"] = ec2
        yield ec2


def settings(_: Path) -> Mapping[str, Any]:
    quick = {"status_first_delay": 0.02, "status_timeout": 20.0, "consistency_timeout": 0.2}
    return {**_HERE["ec2"].settings, **quick, "requests_per_second": 1000.0}


class InstanceMachine(Machine):
    """A process that has volumes open, as the programs of an instance, and the instance's own power."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        known = {name: value for name, value in settings.items() if name in DRIVER.host_settings}
        self._ec2 = _HERE["ec2"]
        self._process = ProcessMachine(DRIVER, known, node)
        self.identity = self._process.identity

    def use(self, attachment: Json) -> None:
        self._process.use(attachment)

    def stop(self) -> None:
        self._process.stop()
        self._ec2.cloud.stop_instance(self.identity.host)


@contextlib.contextmanager
def machine(settings: Mapping[str, Any], node: str) -> Iterator[Machine]:
    made = InstanceMachine(settings, node)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def lost_answers(settings: Mapping[str, Any]) -> Iterator[None]:
    faults = _HERE["ec2"].faults
    faults.plan(CHANGES, Fault.LOST)
    try:
        yield
    finally:
        faults.forget()


TestConformance = driver_suite(
    DRIVER, settings, size=GIB, timeout=20.0, machines=machine, many=100, lost_answers=lost_answers
)
