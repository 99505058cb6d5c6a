"""The driver for Google's disks, against its counterpart, on real block devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.gce import DRIVER
from drivers.gce.host import GceHost
from polly_mesos.model import Json
from polly_mesos.testing import driver_suite
from polly_mesos.testing.driver_suite import Machine
from polly_mesos.testing.gce import FakeCompute, Kind, nvme_ioctl
from polly_mesos.testing.gce.faults import CHANGE
from polly_mesos.testing.gce.guests import instance_name

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("platform")]

GIB = 1 << 30
ZONE = "europe-west3-a"
_platforms: list[FakeCompute] = []


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, nothing_left: None, request: pytest.FixtureRequest) -> Iterator[FakeCompute]:
    with FakeCompute(tmp_path / "platform", plug=True) as compute:
        compute.world.quotas.region.update(SSD_TOTAL_GB=2000.0, HDB_TOTAL_GB=2000.0)
        compute.world.page = 40
        compute.guests.machine_type = request.cls.machine_type
        _platforms.append(compute)
        nvme_ioctl.install()
        try:
            yield compute
        finally:
            nvme_ioctl.uninstall()
            _platforms.remove(compute)
    for image in (tmp_path / "platform").glob("*.img"):
        image.unlink()
    assert compute.violations == []


def settings_of(tmp_path: Path) -> dict[str, Any]:
    compute = _platforms[-1]
    return {
        "key_file": str(compute.key_file(tmp_path / "key.json")),
        "zone": ZONE,
        "default_type": "hyperdisk-balanced" if compute.guests.machine_type.startswith("c4-") else "pd-balanced",
        "endpoint": compute.endpoint,
        "requests_per_second": 1000.0,
        "metadata_endpoint": f"{compute.endpoint}/node/{{node}}",
        "host_root": f"{compute.guests.root}/{{node}}",
    }


class Instance(Machine):
    """An instance of the counterpart, which the test stops."""

    def __init__(self, settings: Mapping[str, Any], node: str) -> None:
        known = {name: value for name, value in settings.items() if name in DRIVER.host_settings}
        self._host = GceHost(known, node)
        self._name = instance_name(node)
        self.identity = self._host.identify()

    def use(self, attachment: Json) -> None:
        assert Path(self._host.locate(attachment, 10.0)).is_block_device()

    def stop(self) -> None:
        _platforms[-1].instances.set_status(self._name, ZONE, "TERMINATED")


@contextlib.contextmanager
def machines(settings: Mapping[str, Any], node: str) -> Iterator[Machine]:
    machine = Instance(settings, node)
    yield machine
    machine.stop()


@contextlib.contextmanager
def lost_answers(settings: Mapping[str, Any]) -> Iterator[None]:
    _platforms[-1].faults.inject(CHANGE, Kind.LOST)
    yield


Suite: Any = driver_suite(
    DRIVER,
    settings_of,
    size=10 * GIB,
    machines=machines,
    many=100,
    lost_answers=lost_answers,
    platform_sees_hosts=True,
)


class TestConformance(Suite):  # type: ignore[misc]
    """The suite, with instances that have their disks as SCSI."""

    machine_type = "n2-standard-4"


class TestConformanceOnNvme(Suite):  # type: ignore[misc]
    """The suite, with instances that have their disks as NVMe, and hyperdisks alone."""

    machine_type = "c4-standard-8"
