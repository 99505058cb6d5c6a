"""How many volumes an instance can have: never more than Google attaches to it, whatever else it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.gce.attach_limits import disks_of
from drivers.gce.host import GceHost
from drivers.gce.settings import GceSettings
from polly_mesos.errors import HostError, PlatformFull
from polly_mesos.model import HostIdentity
from polly_mesos.testing.gce.catalogue import MACHINE_TYPES
from tests.drivers.gce_platform import ZONE, Service, running

NODE, INSTANCE = "192.0.2.1:5051", "node-192-0-2-1-5051"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


def host(service: Service, **settings: Any) -> GceHost:
    return GceHost({"metadata_endpoint": f"{service.compute.endpoint}/node/{{node}}", **settings}, NODE)


def identity(service: Service, machine_type: str, **launch: Any) -> HostIdentity:
    service.compute.instances.launch(INSTANCE, ZONE, machine_type, **launch)
    return host(service).identify()


def attach_theirs(service: Service, disk_type: str) -> None:
    """Somebody attaches a disk by hand, under a name that is not one of ours."""
    here = HostIdentity(f"zones/{ZONE}/instances/{INSTANCE}")
    service.controller.attach(service.made(service.request(platform_type=disk_type)).id, here)
    attached = service.compute.world.resources[here.host]["disks"][-1]
    attached["deviceName"] = f"data-{attached['index']}"


@pytest.mark.parametrize(
    ("machine_type", "disks"),
    [
        ("e2-micro", 16),
        ("f1-micro", 16),
        ("e2-custom-small-4096", 16),
        ("e2-standard-2", 128),
        ("custom-4-8192", 128),
        ("n2-custom-8-16384-ext", 128),
        ("a2-highgpu-1g", 128),
        ("c3-standard-4", 16),
        ("c3-standard-192-metal", 16),
        ("c3d-highmem-360-lssd", 16),
        ("c4-standard-2", 8),
        ("c4-standard-4", 16),
        ("c4-highmem-24-lssd", 32),
        ("c4-highcpu-48", 64),
        ("c4-standard-288", 128),
        ("c4-standard-288-metal", 16),
        ("c4a-standard-1", 8),
        ("c4a-highmem-72", 64),
        ("c4d-standard-2", 4),
        ("c4d-standard-384", 128),
        ("n4-standard-2", 16),
        ("n4-custom-10-20480", 32),
        ("n4d-standard-16", 32),
        ("n4a-standard-4", 16),
    ],
)
def test_the_disks_of_a_machine_type_are_those_of_googles_page(machine_type: str, disks: int) -> None:
    assert disks_of(machine_type) == disks


@pytest.mark.parametrize("machine_type", ["x9-standard-2", "c5a-highgpu-4g", "c4-unheard-of", "n4", "", "c4d-standard"])
def test_what_is_not_known_is_taken_low(machine_type: str) -> None:
    assert disks_of(machine_type) <= 16
    assert disks_of(machine_type) <= {"c4-unheard-of": 8, "n4": 16}.get(machine_type, 4)


def test_an_unknown_machine_type_with_many_cpus_is_not_taken_for_a_large_one() -> None:
    assert disks_of("x9-standard-384") == 16


def test_the_catalogue_and_the_driver_agree_or_the_driver_has_less() -> None:
    for name, machine in MACHINE_TYPES.items():
        least = min(machine.disks, machine.hyperdisks or machine.disks)
        assert disks_of(name) <= (machine.disks if name.startswith("n2-") else least)


def test_the_boot_disk_and_disks_of_others_take_places_and_local_ssds_do_not(service: Service) -> None:
    assert identity(service, "e2-micro", local_ssds=2).attach_limit == 15
    for _ in range(3):
        attach_theirs(service, "pd-balanced")
    assert host(service).identify().attach_limit == 12


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [
        ("e2-micro", "pd-balanced"),
        ("c4-standard-2", "hyperdisk-balanced"),
        ("c4d-standard-2", "hyperdisk-balanced"),
        ("c3-standard-4", "pd-balanced"),
        ("c3-standard-4", "hyperdisk-balanced"),
    ],
)
def test_an_instance_takes_as_many_volumes_as_it_says_also_beside_disks_of_others(
    service: Service, machine_type: str, disk_type: str
) -> None:
    identity(service, machine_type)
    if machine_type != "c4d-standard-2":
        attach_theirs(service, disk_type)
    here = host(service).identify()
    assert here.attach_limit is not None
    for _ in range(here.attach_limit):
        service.controller.attach(service.made(service.request(platform_type=disk_type)).id, here)
    assert host(service).identify() == here, "our own volumes take no places from themselves"


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [("c4d-standard-2", "hyperdisk-balanced"), ("c3-standard-4", "hyperdisk-balanced"), ("e2-micro", "pd-balanced")],
)
def test_more_than_the_instance_takes_is_full_with_a_remedy_of_its_own(
    service: Service, machine_type: str, disk_type: str
) -> None:
    here = identity(service, machine_type)

    def fill() -> None:
        for _ in range(32):
            service.controller.attach(service.made(service.request(platform_type=disk_type)).id, here)

    with pytest.raises(PlatformFull) as caught:
        fill()
    assert "machine type" in caught.value.remedy
    assert not caught.value.outcome_unknown


def test_the_limit_can_be_written(service: Service) -> None:
    assert host(service, attach_limit=40).identify().attach_limit == 40
    assert host(service, attach_limit=None).identify().attach_limit == 127
    with pytest.raises(ValueError, match="attach_limit"):
        GceSettings(attach_limit=0)


def test_a_list_of_disks_that_is_none_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = service.compute.guests.metadata.answer

    def garbled(node: str, path: str, query: dict[str, str], flavour: str) -> tuple[int, str, str]:
        return (200, "application/json", '{"a": 1}') if "disks" in path else answer(node, path, query, flavour)

    monkeypatch.setattr(service.compute.guests.metadata, "answer", garbled)
    with pytest.raises(HostError, match="list of disks") as caught:
        host(service).identify()
    assert "attach_limit" in caught.value.remedy
