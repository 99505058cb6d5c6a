"""The conformance suite: what every driver must do, as tests that a third party calls on a driver of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.declaration import Driver
from polly_mesos.model import MB
from polly_mesos.testing.driver_suite.attachments import AttachmentTests
from polly_mesos.testing.driver_suite.copies import CopyTests
from polly_mesos.testing.driver_suite.fencing import FencingTests
from polly_mesos.testing.driver_suite.harness import Harness, LostAnswers, Settings
from polly_mesos.testing.driver_suite.host import HostTests
from polly_mesos.testing.driver_suite.machines import Machine, Machines
from polly_mesos.testing.driver_suite.networks import NetworkTests
from polly_mesos.testing.driver_suite.volumes import VolumeTests

__all__ = ["LostAnswers", "Machine", "Machines", "driver_suite"]


def driver_suite(
    driver: Driver,
    settings: Settings,
    *,
    size: int = 16 * MB,
    timeout: float = 60.0,
    machines: Machines | None = None,
    many: int = 12,
    lost_answers: LostAnswers | None = None,
    platform_sees_hosts: bool = False,
) -> type:
    """A class of tests for one driver. Give it a name that begins with ``Test`` in a module that pytest collects.

    Both sides run on the machine of the test, the host side as two hosts. Each test begins with fresh settings and
    ends with everything deleted. What a driver does not declare among its capabilities it must refuse.

    :param settings: called with an empty directory, gives the service's settings as polly.yml would have them; leave
        room for 12 volumes of ``size``, and for ``many``
    :param size: bytes of the volumes that are made, a multiple of what the platform allocates
    :param timeout: seconds that the platform may take for one step
    :param machines: for drivers that tell whether a host is stopped: starts hosts that the tests stop. Without it they
        are processes on the machine of the test, which a driver of network storage knows nothing of
    :param many: how many volumes are listed together: more than the platform gives on one page
    :param lost_answers: for drivers of platforms beyond a network: given the settings, a context in which the platform
        does what it is asked and the answer to the next change is lost
    :param platform_sees_hosts: whether the platform itself knows that a host runs, used or not: then nobody's word
        takes a volume from a host that does; otherwise an operator's word is enough where no use of the volume is seen
    """

    class ConformanceTests(VolumeTests, NetworkTests, AttachmentTests, CopyTests, HostTests, FencingTests):
        @pytest.fixture
        def harness(self, tmp_path: Path) -> Iterator[Harness]:
            harness = Harness(driver, settings(tmp_path), size, timeout, machines)
            harness.many, harness.lost_answers = many, lost_answers
            harness.platform_sees_hosts = platform_sees_hosts
            try:
                yield harness
            finally:
                harness.clean()

    return ConformanceTests
