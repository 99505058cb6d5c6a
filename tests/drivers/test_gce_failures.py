"""What goes wrong with Google's disks, and what the driver makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.base import PlatformState, Tags
from drivers.gce import DRIVER
from drivers.gce.checks import PERMISSIONS
from drivers.gce.settings import GceSettings
from polly_mesos.config import load
from polly_mesos.errors import (
    AlreadyExists,
    ConfigurationError,
    InvalidRequest,
    NotSupported,
    PlatformDenied,
    PlatformError,
    PlatformFull,
    PlatformThrottled,
    PlatformUnavailable,
    PollyError,
    UnknownHost,
    UnknownVolume,
    VolumeInUse,
)
from polly_mesos.model import HostIdentity, Profile
from polly_mesos.testing.gce import Kind
from polly_mesos.testing.gce.errors import OperationError
from tests.drivers.gce_platform import GIB, REPLICAS, ZONE, Service, running

ROLE = Path(__file__).parents[2] / "examples/gce-role.yml"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


class TestRefusals:
    """Each has one error, with what to do."""

    def test_a_failed_operation_is_told_when_it_is_asked_again(self, service: Service) -> None:
        request = service.request()
        full = OperationError(503, "ZONE_RESOURCE_POOL_EXHAUSTED", "The zone has no room.")
        service.compute.operations.fail("insert", full, times=2)
        promised = service.controller.create(request)
        assert promised.state is PlatformState.CREATING
        service.settle()
        with pytest.raises(UnknownVolume):
            service.controller.get(promised.id)
        with pytest.raises(PlatformFull, match="no room") as caught:
            service.controller.create(request)
        assert caught.value.request_id.startswith("operation-")
        service.made(request)

    def test_a_name_that_somebody_else_took_is_told(self, service: Service) -> None:
        request = service.request()
        service.restart("theirs").create(replace(request, tags=Tags("theirs", "v", "p")))
        service.settle()
        with pytest.raises(AlreadyExists, match="this cluster did not make it"):
            service.controller.create(request)

    def test_a_token_cannot_be_used_again_with_another_type(self, service: Service) -> None:
        request = service.request(platform_type="pd-ssd")
        service.made(request)
        with pytest.raises(AlreadyExists, match="pd-ssd"):
            service.controller.create(replace(request, platform_type="pd-balanced"))

    def test_exhausted_quota_is_full(self, service: Service) -> None:
        service.compute.world.quotas.region["SSD_TOTAL_GB"] = 15.0
        service.made()
        with pytest.raises(PlatformFull, match="SSD_TOTAL_GB"):
            service.controller.create(service.request())
        capacity = service.controller.capacity(ZONE, "pd-balanced")
        assert (capacity.total, capacity.available) == (15 * GIB, 5 * GIB)

    def test_throttling_slows_the_service_down(self, service: Service) -> None:
        service.compute.faults.inject("disks.insert", Kind.THROTTLED)
        with pytest.raises(PlatformThrottled) as caught:
            service.controller.create(service.request())
        assert caught.value.retryable
        assert not caught.value.outcome_unknown
        assert service.controller._api._limiter.rate < 1000.0
        assert service.compute.faults.calls["disks.insert"] == 1, "the SDK tried again by itself"

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"size": 10 * GIB + 1}, InvalidRequest),
            ({"size": 5 * GIB}, InvalidRequest),
            ({"platform_type": "hyperdisk-unheard-of"}, NotSupported),
            ({"zone": "mars-north1-a"}, NotSupported),
            ({"platform_type": "pd-ssd", "iops": 5000}, InvalidRequest),
            ({"platform_type": "hyperdisk-balanced", "iops": 10}, InvalidRequest),
            ({"options": {"kms_key": "projects/p/locations/l/keyRings/r/cryptoKeys/none"}}, InvalidRequest),
            ({"options": {"replica_zones": ("europe-west3-a", "us-central1-a")}}, InvalidRequest),
        ],
    )
    def test_what_the_platform_cannot_make_is_refused(self, service: Service, fields: Any, error: type) -> None:
        with pytest.raises(error):
            service.controller.create(replace(service.request(), **fields))
        assert service.disks() == []

    def test_provisioned_performance_and_a_key_arrive(self, service: Service) -> None:
        key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
        service.compute.world.keys.add(key)
        options = {"throughput": 300, "kms_key": key}
        request = service.request(platform_type="hyperdisk-balanced", iops=4000, encryption=True, options=options)
        volume = service.made(request)
        disk = service.compute.world.resources[volume.id]
        assert (disk["provisionedIops"], disk["provisionedThroughput"]) == ("4000", "300")
        assert disk["diskEncryptionKey"] == {"kmsKeyName": key}

    def test_a_disk_that_is_being_made_again_cannot_be_attached_by_two(self, service: Service) -> None:
        volume, one, two = service.made(), service.host("one"), service.host("two")
        service.controller.attach(volume.id, one)
        with pytest.raises(VolumeInUse):
            service.controller.attach(volume.id, two)

    def test_an_instance_that_is_not_there_and_one_in_another_zone_are_told_apart(self, service: Service) -> None:
        volume, elsewhere = service.made(), service.host("far", "europe-west3-b")
        with pytest.raises(UnknownHost):
            service.controller.attach(volume.id, HostIdentity(f"zones/{ZONE}/instances/nobody"))
        with pytest.raises(InvalidRequest, match="europe-west3-b"):
            service.controller.attach(volume.id, elsewhere)

    def test_a_zone_that_is_silent_makes_no_list_that_looks_whole(self, service: Service) -> None:
        service.made()
        service.compute.world.down.add(ZONE)
        with pytest.raises(PlatformUnavailable, match="not whole"):
            service.controller.list()

    def test_a_volume_that_was_deleted_behind_our_back_is_unknown(self, service: Service) -> None:
        volume = service.made()
        with service.compute.world.lock:
            del service.compute.world.resources[volume.id]
        with pytest.raises(UnknownVolume):
            service.controller.attach(volume.id, service.host())
        service.controller.delete(volume.id)

    def test_revoked_credentials_are_denied_and_not_shown(self, service: Service) -> None:
        service.compute.access.tokens.revoke()
        with pytest.raises(PlatformDenied, match="credentials") as caught:
            service.restart().list()
        assert "Bearer" not in str(caught.value)
        (check,) = service.restart().check(())
        assert (check.name, check.passed) == ("credentials", False)

    def test_a_key_file_that_is_none_is_told_without_its_contents(self, service: Service, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.json"
        wrong.write_text('{"private_key": "hush"}')
        for name in (str(wrong), str(tmp_path / "absent")):
            with pytest.raises(ConfigurationError) as caught:
                service.restart(key_file=name)
            assert caught.value.field == "key_file"
            assert "hush" not in str(caught.value)


class TestPermissions:
    """The role in examples/ is enough, and no part of it can be left out."""

    def role(self) -> frozenset[str]:
        return frozenset(yaml.safe_load(ROLE.read_text())["includedPermissions"])

    def walk(self, service: Service) -> None:
        """Everything that the driver can do."""
        volume, host, regional = service.made(), service.host(), service.regional()
        service.controller.capacity(ZONE, "pd-balanced")
        service.controller.attach(volume.id, host)
        service.controller.expand(volume.id, 20 * GIB)
        service.controller.detach(volume.id, host)
        service.controller.detach(volume.id, host)
        snapshot = service.controller.snapshot(volume.id, "snap", volume.tags)
        service.settle()
        restored = service.controller.restore(snapshot.id, service.request(20 * GIB))
        cloned = service.controller.clone(volume.id, service.request(20 * GIB))
        service.settle()
        assert len(service.controller.list().volumes) == 4
        service.controller.list_snapshots()
        service.controller.delete_snapshot(snapshot.id)
        for one in (volume, regional, restored, cloned):
            service.controller.delete(one.id)

    def test_the_driver_does_everything_with_the_role_and_needs_all_of_it(self, service: Service) -> None:
        service.compute.access.permissions = self.role()
        self.walk(service)
        checks = service.controller.check((Profile("gold", "google", zone=ZONE, minimum_size=10 * GIB),))
        assert [check for check in checks if not check.passed] == []
        assert service.compute.access.used == self.role() == set(PERMISSIONS)

    @pytest.mark.parametrize("missing", ["compute.disks.create", "compute.disks.list", "compute.disks.setLabels"])
    def test_a_missing_permission_is_named(self, service: Service, missing: str) -> None:
        service.compute.access.permissions = self.role() - {missing}
        call = (
            service.controller.list
            if missing.endswith("list")
            else lambda: service.controller.create(service.request())
        )
        with pytest.raises(PlatformDenied, match=missing):
            call()
        checks = {check.name: check for check in service.controller.check(())}
        assert checks[f"permission {missing}"].passed is False


class TestPages:
    """Lists of many."""

    def test_more_than_a_page_is_listed_in_pages(self, service: Service) -> None:
        for _ in range(501):
            service.controller.create(service.request(10 * GIB, platform_type="pd-standard"))
            service.compute.world.quotas.region["DISKS_TOTAL_GB"] += 10
        service.settle()
        first = service.controller.list()
        assert first.next is not None
        second = service.controller.list(first.next)
        assert second.next is None
        assert len({volume.id for volume in (*first.volumes, *second.volumes)}) == 501


class TestSettings:
    """What polly.yml may say."""

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"platform_type": "pd-unheard"}, "type"),
            ({"platform_type": "pd-ssd", "iops": 100}, "iops"),
            ({"options": {"throughput": 100}}, "options.throughput"),
            ({"minimum_size": 1 * GIB}, "minimum_size"),
            ({"options": {"replica_zones": (ZONE,)}}, "options.replica_zones"),
            ({"options": {"kms_key": "k"}}, "options.kms_key"),
            ({"tags": {"Team": "x"}}, "tags"),
            ({"zone": ""}, "zone"),
        ],
    )
    def test_a_profile_that_no_disk_can_be_is_refused(self, fields: dict[str, Any], name: str) -> None:
        profile = Profile("gold", "google", **{"zone": ZONE, "minimum_size": 10 * GIB, **fields})
        with pytest.raises(ConfigurationError) as caught:
            GceSettings().check_profile(profile)
        assert caught.value.field == name
        assert caught.value.remedy

    def test_every_key_of_rex_ray_has_its_place(self) -> None:
        old = "keyfile zone defaultDiskType tag statusMaxAttempts statusInitialDelay statusTimeout convertUnderscores"
        known = {*DRIVER.old_settings, *DRIVER.dropped_settings, *GceSettings.__dataclass_fields__}
        assert set(old.split()) <= known
        assert set(DRIVER.old_settings.values()) <= set(GceSettings.__dataclass_fields__)
        assert "gcepd" in DRIVER.old_names

    def test_a_file_of_rex_ray_is_read_with_notes(self, tmp_path: Path) -> None:
        old = {"gcepd": {"keyfile": "/etc/key.json", "zone": ZONE, "defaultDiskType": "pd-ssd", "tag": "x"}}
        old["gcepd"] |= {"statusTimeout": "3m", "convertUnderscores": True, "statusMaxAttempts": 10}
        path = tmp_path / "polly.yml"
        text: dict[str, Any] = {"cluster": "c", "mesos": {"master": "m:5050"}, "http": {"listen": "127.0.0.1:7979"}}
        text |= {"ledger": {"path": "/l"}, "services": {"google": {"driver": "gcepd", "capacity": "1TiB", **old}}}
        options = {"replica_zones": list(REPLICAS)}
        text["profiles"] = {"gold": {"service": "google", "minimum_size": "10GiB", "zone": ZONE, "options": options}}
        path.write_text(yaml.safe_dump(text))
        configuration = load(path)
        settings = configuration.services["google"].settings
        assert (settings.key_file, settings.zone, settings.default_type) == ("/etc/key.json", ZONE, "pd-ssd")
        assert settings.operation_timeout == 180.0
        (profile,) = configuration.profiles.values()
        assert tuple(profile.options["replica_zones"]) == REPLICAS
        assert any("keyfile" in str(note) for note in configuration.notes)


def test_every_error_of_the_platform_is_one_of_ours(service: Service) -> None:
    for status, code in ((400, "INVALID"), (403, "FORBIDDEN"), (404, "NOT_FOUND"), (412, "X"), (500, "INTERNAL_ERROR")):
        service.compute.operations.fail("attachDisk", OperationError(status, code, "why it failed"))
        with pytest.raises(PollyError, match=r"why it failed|no instance") as caught:
            service.controller.attach(service.made().id, service.host(f"host{status}"))
        assert not isinstance(caught.value, PlatformError) or caught.value.request_id.startswith("operation-")
