"""Disks with a replica in a second zone: where they go, also when a zone is lost, and what polly.yml says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.gce.settings import GceSettings
from polly_mesos.errors import (
    ConfigurationError,
    InvalidRequest,
    NotSupported,
    PlatformFull,
    PlatformUnavailable,
    VolumeInUse,
)
from polly_mesos.model import Profile
from polly_mesos.testing.gce import Kind
from tests.drivers.gce_platform import GIB, REPLICAS, ZONE, Service, running

HIGHLY_AVAILABLE = "hyperdisk-balanced-high-availability"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


class TestDisks:
    """What a regional disk can do."""

    def test_it_goes_to_either_zone_and_nowhere_else(self, service: Service) -> None:
        volume = service.regional()
        assert volume.id.startswith("regions/europe-west3/disks/polly-")
        for number, zone in enumerate(REPLICAS):
            host = service.host(f"host{number}", zone)
            service.controller.attach(volume.id, host)
            service.controller.detach(volume.id, host)
        with pytest.raises(InvalidRequest):
            service.controller.attach(volume.id, service.host("far", "europe-west3-c"))
        assert service.controller.expand(volume.id, 20 * GIB).size == 20 * GIB
        service.controller.delete(volume.id)
        assert service.disks() == []

    @pytest.mark.parametrize("platform_type", ["pd-balanced", "pd-ssd", HIGHLY_AVAILABLE])
    def test_every_type_that_has_replicas_is_made_copied_and_grown(self, service: Service, platform_type: str) -> None:
        volume = service.regional(platform_type=platform_type)
        kept = service.compute.world.resources[volume.id]
        assert [url.rpartition("/")[2] for url in kept["replicaZones"]] == list(REPLICAS)
        snapshot = service.controller.snapshot(volume.id, "snap", volume.tags)
        service.settle()
        copies = service.request(20 * GIB, platform_type=platform_type, options={"replica_zones": REPLICAS})
        for make in (service.controller.restore, service.controller.clone):
            source = snapshot.id if make == service.controller.restore else volume.id
            made = make(source, replace(copies, token=f"copy-{make.__name__}"))
            service.settle()
            assert service.controller.get(made.id).id.startswith("regions/europe-west3/")
        assert service.controller.expand(volume.id, 30 * GIB).size == 30 * GIB

    def test_a_highly_available_hyperdisk_has_its_performance_and_goes_where_hyperdisks_go(
        self, service: Service
    ) -> None:
        options = {"replica_zones": REPLICAS, "throughput": 300}
        volume = service.made(service.request(platform_type=HIGHLY_AVAILABLE, iops=5000, options=options))
        kept = service.compute.world.resources[volume.id]
        assert (kept["provisionedIops"], kept["provisionedThroughput"]) == ("5000", "300")
        with pytest.raises(InvalidRequest, match="not compatible"):
            service.controller.attach(volume.id, service.host("old", machine_type="e2-standard-4"))
        host = service.host("new", REPLICAS[1], machine_type="c4-standard-8")
        service.controller.attach(volume.id, host)
        assert service.controller.get(volume.id).attached_to == (host.host,)

    def test_it_takes_its_size_twice_of_the_quota(self, service: Service) -> None:
        service.compute.world.quotas.region["SSD_TOTAL_GB"] = 30.0
        service.regional()
        capacity = service.controller.capacity(ZONE, "pd-balanced")
        assert (capacity.total, capacity.available) == (30 * GIB, 10 * GIB)
        with pytest.raises(PlatformFull, match="SSD_TOTAL_GB"):
            service.regional()

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"platform_type": "pd-extreme", "size": 500 * GIB}, NotSupported),
            ({"platform_type": "hyperdisk-balanced"}, NotSupported),
            ({"platform_type": "pd-standard"}, InvalidRequest),
            ({"options": {"replica_zones": ("europe-west3-a", "europe-west3-z")}}, InvalidRequest),
            ({"platform_type": HIGHLY_AVAILABLE, "options": {}}, NotSupported),
        ],
    )
    def test_what_google_does_not_replicate_is_refused(
        self, service: Service, fields: dict[str, Any], error: type[Exception]
    ) -> None:
        request = replace(service.request(options={"replica_zones": REPLICAS}), **fields)
        with pytest.raises(error):
            service.controller.create(request)
        assert service.disks() == []


class TestLostZone:
    """An instance whose zone is gone: its disk goes to the other zone by force once it is known not to write."""

    def test_it_is_taken_by_force_only_from_an_instance_that_is_stopped(self, service: Service) -> None:
        volume, dead, other = service.regional(), service.host("dead"), service.host("other", REPLICAS[1])
        service.controller.attach(volume.id, dead)
        with pytest.raises(VolumeInUse):
            service.controller.attach(volume.id, other)
        with pytest.raises(VolumeInUse):
            service.controller.detach(volume.id, dead, force=True)
        service.compute.instances.set_status("dead", ZONE, "TERMINATED")
        service.compute.faults.inject("instances.detachDisk", Kind.HTML)
        service.controller.detach(volume.id, dead, force=True)
        service.controller.attach(volume.id, other)
        assert service.controller.get(volume.id).attached_to == (other.host,)

    def test_a_zone_in_which_nothing_goes_on_does_not_keep_it(self, service: Service) -> None:
        volume, dead, other = service.regional(), service.host("dead"), service.host("other", REPLICAS[1])
        service.controller.attach(volume.id, dead)
        service.compute.world.lost.add(ZONE)
        service.compute.instances.set_status("dead", ZONE, "TERMINATED")
        service.compute.operations.wait_limit = 0.05
        controller = service.restart(operation_timeout=0.2)
        controller.detach(volume.id, dead, force=True)
        assert service.controller.get(volume.id).attached_to == (dead.host,), "Google could not take it yet"
        service.controller.attach(volume.id, other)
        assert service.controller.get(volume.id).attached_to == (other.host,)
        service.compute.world.lost.clear()
        service.compute.operations.pause(False)
        service.settle()
        assert service.controller.get(volume.id).attached_to == (other.host,), "the late detach took it from another"

    def test_by_force_again_after_a_lost_answer_gives_the_same(self, service: Service) -> None:
        volume, dead, other = service.regional(), service.host("dead"), service.host("other", REPLICAS[1])
        service.controller.attach(volume.id, dead)
        service.compute.instances.set_status("dead", ZONE, "STOPPED")
        service.compute.faults.inject("instances.attachDisk", Kind.LOST)
        with pytest.raises(PlatformUnavailable) as caught:
            service.controller.attach(volume.id, other)
        assert caught.value.outcome_unknown
        service.settle()
        assert service.restart().attach(volume.id, other) == {"device_name": volume.id.rpartition("/")[2]}
        assert service.controller.get(volume.id).attached_to == (other.host,)

    def test_an_instance_of_which_nothing_is_known_keeps_it(self, service: Service) -> None:
        volume, silent, other = service.regional(), service.host("silent"), service.host("other", REPLICAS[1])
        service.controller.attach(volume.id, silent)
        service.compute.world.lost.add(ZONE)
        before = service.compute.faults.calls["instances.attachDisk"]
        for call in (
            lambda: service.controller.fence(silent),
            lambda: service.controller.attach(volume.id, other),
            lambda: service.controller.detach(volume.id, silent, force=True),
        ):
            service.compute.faults.inject("instances.get", Kind.HTML)
            with pytest.raises(PlatformUnavailable):
                call()
        assert service.controller.get(volume.id).attached_to == (silent.host,)
        assert service.compute.faults.calls["instances.attachDisk"] == before

    def test_an_instance_that_still_counts_as_running_keeps_it(self, service: Service) -> None:
        volume, runs, other = service.regional(), service.host("runs"), service.host("other", REPLICAS[1])
        service.controller.attach(volume.id, runs)
        service.compute.world.lost.add(ZONE)
        assert not service.controller.fence(runs).proven
        with pytest.raises(VolumeInUse, match="is attached to"):
            service.controller.attach(volume.id, other)
        with pytest.raises(VolumeInUse, match="is RUNNING"):
            service.controller.detach(volume.id, runs, force=True)
        assert service.controller.get(volume.id).attached_to == (runs.host,)

    def test_a_zonal_disk_is_never_attached_by_force(self, service: Service) -> None:
        volume, dead, other = service.made(), service.host("dead"), service.host("other")
        service.controller.attach(volume.id, dead)
        service.compute.instances.set_status("dead", ZONE, "TERMINATED")
        before = service.compute.faults.calls["instances.attachDisk"]
        with pytest.raises(VolumeInUse):
            service.controller.attach(volume.id, other)
        assert service.compute.faults.calls["instances.attachDisk"] == before

    def test_a_zonal_disk_whose_zone_does_nothing_is_not_called_detached(self, service: Service) -> None:
        volume, dead = service.made(), service.host("dead")
        service.controller.attach(volume.id, dead)
        service.compute.instances.set_status("dead", ZONE, "TERMINATED")
        service.compute.world.lost.add(ZONE)
        service.compute.operations.wait_limit = 0.05
        with pytest.raises(PlatformUnavailable) as caught:
            service.restart(operation_timeout=0.2).detach(volume.id, dead, force=True)
        assert caught.value.outcome_unknown
        service.compute.world.lost.clear()


class TestSettings:
    """What polly.yml may say of replicas."""

    def profile(self, **fields: Any) -> Profile:
        known = {"zone": "", "minimum_size": 10 * GIB, "options": {"replica_zones": REPLICAS}}
        return Profile("gold", "google", **{**known, **fields})

    @pytest.mark.parametrize("platform_type", ["", "pd-ssd", "pd-balanced", HIGHLY_AVAILABLE])
    @pytest.mark.parametrize("zone", ["", *REPLICAS])
    def test_two_zones_of_one_region_are_right(self, platform_type: str, zone: str) -> None:
        profile = self.profile(platform_type=platform_type, zone=zone)
        settings = GceSettings(zone="us-central1-a")
        settings.check_profile(profile)
        assert settings.zone_of(profile) == (zone or REPLICAS[0]), "the zone of the service is none of this profile's"

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"options": {"replica_zones": (ZONE,)}}, "options.replica_zones"),
            ({"options": {"replica_zones": (ZONE, ZONE)}}, "options.replica_zones"),
            ({"options": {"replica_zones": (*REPLICAS, "europe-west3-c")}}, "options.replica_zones"),
            ({"options": {"replica_zones": (ZONE, "us-central1-a")}}, "options.replica_zones"),
            ({"options": {"replica_zones": ("Frankfurt-1", "Frankfurt-2")}}, "options.replica_zones"),
            ({"platform_type": "pd-extreme", "minimum_size": 500 * GIB}, "options.replica_zones"),
            ({"platform_type": "hyperdisk-balanced"}, "options.replica_zones"),
            ({"platform_type": HIGHLY_AVAILABLE, "options": {}, "zone": ZONE}, "options.replica_zones"),
            ({"zone": "europe-west3-c"}, "zone"),
            ({"platform_type": "pd-standard"}, "minimum_size"),
        ],
    )
    def test_what_no_regional_disk_can_be_is_refused_with_a_remedy(self, fields: dict[str, Any], name: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            GceSettings().check_profile(self.profile(**fields))
        assert caught.value.field == name
        assert caught.value.remedy

    def test_service_check_looks_at_both_zones_and_at_twice_the_size(self, service: Service) -> None:
        def checks(**fields: Any) -> dict[str, bool | None]:
            told = service.controller.check((self.profile(**fields),))
            return {check.name: check.passed for check in told}

        found = checks()
        assert [found[f"zone {zone}"] for zone in REPLICAS] == [True, True]
        assert checks(options={"replica_zones": (ZONE, "europe-west3-z")})["zone europe-west3-z"] is False
        service.compute.world.quotas.region["SSD_TOTAL_GB"] = 15.0
        assert checks()["quota of profile gold"] is False
        service.compute.world.quotas.region["SSD_TOTAL_GB"] = 20.0
        assert checks()["quota of profile gold"] is True
