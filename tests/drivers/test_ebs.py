"""What the EBS driver does when EC2 does what EC2 does: on the strict counterpart, without disks."""

from __future__ import annotations

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from drivers.ebs import DRIVER
from drivers.ebs.settings import EbsSettings
from polly_mesos.config import load as load_configuration
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
from polly_mesos.testing.ec2 import KEY, SECRET, Account, Ec2, Fault
from polly_mesos.testing.ec2.wire import Wire
from tests.drivers.ebs_platform import GIB, controller, ec2, request, wire

__all__ = ["ec2", "wire"]

HOUR = 3600.0
REQUEST_ID = re.compile(r"\[request [0-9a-f-]{36}\]")
EXAMPLES = Path(__file__).parents[2] / "examples"


class TestLostAnswers:
    """What may have happened is never treated as what did not."""

    @pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.HTML_AFTER, Fault.NONSENSE])
    def test_a_volume_whose_answer_was_lost_is_found_again(self, ec2: Ec2, fault: Fault) -> None:
        driver, asked = controller(ec2), request()
        ec2.faults.plan("CreateVolume", fault)
        with pytest.raises(PlatformUnavailable) as error:
            driver.create(asked)
        assert error.value.outcome_unknown
        assert ec2.calls["CreateVolume"] == 1
        made = controller(ec2).create(asked)
        assert [volume.id for volume in driver.list().volumes] == [made.id]

    def test_an_attachment_whose_answer_was_lost_is_found_again(self, ec2: Ec2) -> None:
        driver, host = controller(ec2), HostIdentity(ec2.instance("node").id)
        volume = driver.create(request())
        ec2.faults.plan("AttachVolume", Fault.LOST)
        with pytest.raises(PlatformUnavailable) as error:
            driver.attach(volume.id, host)
        assert error.value.outcome_unknown
        assert driver.attach(volume.id, host)["device"] == "/dev/sdf"
        assert ec2.calls["AttachVolume"] == 1

    def test_a_snapshot_whose_answer_was_lost_is_taken_once(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        volume = driver.create(request())
        ec2.faults.plan("CreateSnapshot", Fault.LOST)
        with pytest.raises(PlatformUnavailable):
            driver.snapshot(volume.id, "token", volume.tags)
        driver.snapshot(volume.id, "token", volume.tags)
        assert len(driver.list_snapshots()) == 1

    def test_an_answer_lost_before_a_question_that_changes_nothing_is_harmless(self, ec2: Ec2) -> None:
        ec2.faults.plan("DescribeVolumes", Fault.LOST)
        with pytest.raises(PlatformUnavailable) as error:
            controller(ec2).list()
        assert not error.value.outcome_unknown

    def test_a_token_finds_its_volume_also_after_amazon_forgot_it(self, ec2: Ec2) -> None:
        asked = request()
        made = controller(ec2).create(asked)
        ec2.cloud.tokens.clear()
        assert controller(ec2).create(asked).id == made.id

    def test_another_epoch_in_the_tags_finds_the_same_volume(self, ec2: Ec2) -> None:
        driver, asked = controller(ec2), request()
        made = driver.create(asked)
        later = dataclasses.replace(asked, tags=dataclasses.replace(asked.tags, epoch=2))
        assert driver.create(later).id == made.id
        with pytest.raises(AlreadyExists):
            driver.create(dataclasses.replace(asked, size=2 * GIB))


class TestErrors:
    """Each refusal is one error, with Amazon's request id."""

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("AuthFailure", PlatformDenied),
            ("UnauthorizedOperation", PlatformDenied),
            ("RequestExpired", PlatformDenied),
            ("RequestLimitExceeded", PlatformThrottled),
            ("VolumeLimitExceeded", PlatformFull),
            ("MaxIOPSLimitExceeded", PlatformFull),
            ("InsufficientVolumeCapacity", PlatformFull),
            ("InvalidZone.NotFound", NotSupported),
            ("InvalidParameterValue", InvalidRequest),
            ("IdempotentParameterMismatch", AlreadyExists),
            ("IncorrectState", PlatformUnavailable),
            ("SomethingNew", PlatformError),
        ],
    )
    def test_a_code_is_mapped(self, ec2: Ec2, code: str, kind: type[PollyError]) -> None:
        ec2.faults.plan("CreateVolume", (code, "because"))
        with pytest.raises(kind) as error:
            controller(ec2).create(request())
        assert type(error.value) is kind
        assert REQUEST_ID.search(str(error.value))
        assert controller(ec2).list().volumes == ()

    def test_a_wrong_secret_and_an_unknown_key_are_told_and_never_shown(self, ec2: Ec2) -> None:
        for change in ({"secret_key": "wrong-secret"}, {"access_key": "AKIAUNKNOWN"}):
            with pytest.raises(PlatformDenied, match="AuthFailure") as error:
                controller(ec2, **change).list()
            assert "wrong-secret" not in str(error.value)
            assert SECRET not in str(error.value)
        assert SECRET not in repr(EbsSettings(access_key=KEY, secret_key=SECRET))

    def test_expired_credentials_are_told(self, ec2: Ec2) -> None:
        ec2.accounts["ASIA"] = Account("secret", token="session", expired=True)
        with pytest.raises(PlatformDenied, match="renew the credentials"):
            controller(ec2, access_key="ASIA", secret_key="secret", session_token="session").list()

    def test_the_wrong_region_is_told(self, ec2: Ec2) -> None:
        with pytest.raises(PlatformDenied, match="region"):
            controller(ec2, region="eu-west-1", zone="").list()

    def test_an_unknown_zone_is_refused_and_nothing_is_made(self, ec2: Ec2) -> None:
        with pytest.raises(NotSupported):
            controller(ec2).create(request(zone="us-east-1z"))
        assert controller(ec2).list().volumes == ()

    def test_throttling_slows_all_calls_down(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        ec2.faults.plan("DescribeVolumes", Fault.THROTTLED)
        with pytest.raises(PlatformThrottled):
            driver.list()
        assert driver._api._limiter.rate < 1000.0
        assert driver.list().volumes == ()

    def test_a_full_quota_is_told_and_capacity_knows_it(self, ec2: Ec2) -> None:
        ec2.cloud.quotas["gp3"] = 3
        driver = controller(ec2)
        made = driver.create(request(2))
        assert driver.capacity("", "gp3").total == 3 * GIB
        assert driver.capacity("", "gp3").available == GIB
        with pytest.raises(PlatformFull):
            driver.create(request(2))
        driver.delete(made.id)
        assert driver.capacity("us-east-1a", "gp3").available == 3 * GIB

    def test_an_instance_that_is_gone_is_told(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        volume = driver.create(request())
        for host in ("i-00000000", "no-instance"):
            with pytest.raises(UnknownHost):
                driver.attach(volume.id, HostIdentity(host))
            assert not driver.fence(HostIdentity(host)).proven

    def test_a_volume_deleted_behind_our_back_is_unknown(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        volume = driver.create(request())
        del ec2.cloud.volumes[volume.id]
        with pytest.raises(UnknownVolume):
            driver.get(volume.id)
        driver.delete(volume.id)

    def test_a_new_volume_that_is_not_yet_known_is_unknown_and_then_there(self, ec2: Ec2) -> None:
        ec2.delays.visible = 60.0
        driver = controller(ec2)
        made = driver.create(request())
        with pytest.raises(UnknownVolume):
            driver.get(made.id)
        ec2.cloud.advance(61.0)
        assert driver.get(made.id).id == made.id


class TestShapes:
    """What a type cannot be is refused before EC2 is asked."""

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"platform_type": "st1"}, "size"),
            ({"platform_type": "io1"}, "iops"),
            ({"platform_type": "gp2", "iops": 3000}, "iops"),
            ({"platform_type": "gp3", "iops": 100000}, "iops"),
            ({"platform_type": "gp3", "options": {"throughput": 2000}}, "options.throughput"),
            ({"platform_type": "gp2", "options": {"throughput": 125}}, "options.throughput"),
            ({"platform_type": "gp3", "options": {"multi_attach": True}}, "options.multi_attach"),
            ({"platform_type": "gp2", "size": 16385 * GIB}, "size"),
        ],
    )
    def test_it_is_told_by_its_field(self, ec2: Ec2, changes: dict[str, Any], field: str) -> None:
        size = 4 if changes["platform_type"] == "io1" else 1
        with pytest.raises(InvalidRequest) as error:
            controller(ec2).create(dataclasses.replace(request(size), **changes))
        assert error.value.field == field
        assert not ec2.calls["CreateVolume"]

    @pytest.mark.parametrize(
        ("kind", "size", "iops", "options"),
        [
            ("gp2", 1, None, {}),
            ("gp3", 8, 4000, {"throughput": 1000}),
            ("io1", 4, 200, {}),
            ("io2", 4, 4000, {"multi_attach": True}),
            ("st1", 125, None, {}),
            ("sc1", 125, None, {}),
        ],
    )
    def test_what_a_type_can_be_ec2_takes(
        self, ec2: Ec2, kind: str, size: int, iops: int | None, options: dict[str, Any]
    ) -> None:
        made = controller(ec2).create(request(size, platform_type=kind, iops=iops, options=options))
        assert made.size == size * GIB

    def test_a_profile_is_refused_by_the_settings(self) -> None:
        settings = EbsSettings(region="us-east-1", zone="us-east-1a")
        settings.check_profile(Profile("gold", "aws", platform_type="gp3", minimum_size=GIB))
        for field, changes in {
            "minimum_size": {"platform_type": "st1", "minimum_size": GIB},
            "zone": {"zone": "eu-west-1a"},
            "tags": {"tags": {"aws:x": "y"}},
            "options.kms_key": {"options": {"kms_key": "alias/x"}},
        }.items():
            with pytest.raises(ConfigurationError) as error:
                settings.check_profile(Profile("gold", "aws", **changes))  # type: ignore[arg-type]
            assert error.value.field == field


class TestAttaching:
    """Names, limits, several hosts."""

    def test_threads_never_choose_one_name_twice(self, ec2: Ec2) -> None:
        driver, host = controller(ec2), HostIdentity(ec2.instance("node").id)
        volumes = [driver.create(request()) for _ in range(15)]
        with ThreadPoolExecutor(8) as pool:
            devices = list(pool.map(lambda volume: driver.attach(volume.id, host)["device"], volumes))
        assert len(set(devices)) == 15
        assert ec2.calls["AttachVolume"] >= 15

    def test_xen_has_eleven_names_unless_the_large_range_is_allowed(self, ec2: Ec2) -> None:
        driver, host = controller(ec2), HostIdentity(ec2.instance("xen", "t2.micro").id)
        volumes = [driver.create(request()) for _ in range(12)]
        devices = {driver.attach(volume.id, host)["device"] for volume in volumes[:11]}
        assert devices == {f"/dev/sd{letter}" for letter in "fghijklmnop"}
        with pytest.raises(PlatformFull, match="large_device_range"):
            driver.attach(volumes[11].id, host)
        assert controller(ec2, large_device_range=True).attach(volumes[11].id, host)["device"] == "/dev/xvdba"

    def test_the_instances_limit_is_told(self, wire: Wire) -> None:
        with Ec2(wire=wire, limit=2) as ec2:
            driver, host = controller(ec2), HostIdentity(ec2.instance("node").id)
            driver.attach(driver.create(request()).id, host)
            with pytest.raises(PlatformFull, match="AttachmentLimitExceeded"):
                driver.attach(driver.create(request()).id, host)

    def test_another_zones_instance_is_refused(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        with pytest.raises(NotSupported, match="zone"):
            driver.attach(driver.create(request()).id, HostIdentity(ec2.instance("b", zone="us-east-1b").id))

    def test_several_hosts_only_where_a_profile_declared_it(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        hosts = [HostIdentity(ec2.instance(node).id) for node in ("one", "two")]
        declared = request(4, platform_type="io2", iops=100, options={"multi_attach": True})
        volume = driver.create(declared)
        for host in hosts:
            driver.attach(volume.id, host)
        assert set(driver.get(volume.id).attached_to) == {host.host for host in hosts}
        other = driver.create(request(4, platform_type="io2", iops=100))
        ec2.cloud.volumes[other.id].multi_attach = True
        with pytest.raises(VolumeInUse, match="no profile"):
            driver.attach(other.id, hosts[0])

    def test_a_wait_ends_when_polly_does_and_can_be_taken_up(self, ec2: Ec2) -> None:
        ec2.delays.attach = 1000.0
        driver, host = controller(ec2, status_timeout=60.0), HostIdentity(ec2.instance("node").id)
        volume = driver.create(request())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(driver.attach, volume.id, host)
            while not ec2.calls["AttachVolume"]:
                pass
            driver.close()
            with pytest.raises(PlatformUnavailable) as error:
                waiting.result(30)
        assert error.value.outcome_unknown
        ec2.cloud.advance(1001.0)
        assert controller(ec2).attach(volume.id, host)["volume"] == volume.id


class TestExpanding:
    """One modification in six hours."""

    def test_the_second_change_waits_for_six_hours_and_says_so(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        volume = driver.create(request())
        assert driver.expand(volume.id, 2 * GIB).size == 2 * GIB
        with pytest.raises(PlatformThrottled, match="six hours"):
            driver.expand(volume.id, 3 * GIB)
        ec2.cloud.advance(6 * HOUR + 1)
        assert driver.expand(volume.id, 3 * GIB).size == 3 * GIB

    def test_the_size_counts_while_the_volume_is_still_optimizing(self, ec2: Ec2) -> None:
        ec2.delays.optimize = 1000.0
        driver = controller(ec2)
        volume = driver.create(request())
        assert driver.expand(volume.id, 2 * GIB).size == 2 * GIB


class TestLists:
    """Many volumes, few calls."""

    def test_concurrent_gets_share_calls(self, ec2: Ec2) -> None:
        driver = controller(ec2)
        volumes = [driver.create(request()) for _ in range(40)]
        before = ec2.calls["DescribeVolumes"]
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda volume: driver.get(volume.id).id, volumes))
        assert found == [volume.id for volume in volumes]
        assert ec2.calls["DescribeVolumes"] - before < 30

    @pytest.mark.slow
    def test_a_thousand_volumes_are_listed_with_three_calls(self, ec2: Ec2) -> None:
        driver = controller(ec2, requests_per_second=10000.0)
        ids = {driver.create(request()).id for _ in range(1000)}
        before, found, page = ec2.calls["DescribeVolumes"], set(), driver.list()
        found |= {volume.id for volume in page.volumes}
        while page.next is not None:
            page = driver.list(page.next)
            found |= {volume.id for volume in page.volumes}
        assert found == ids
        assert ec2.calls["DescribeVolumes"] - before <= 3


def test_the_old_settings_lead_to_settings_that_there_are() -> None:
    fields = {field.name for field in dataclasses.fields(EbsSettings)}
    assert set(DRIVER.old_settings.values()) <= fields
    assert set(DRIVER.host_settings) <= fields
    told = {*DRIVER.old_settings, *DRIVER.dropped_settings}
    assert told == {
        *("accessKey", "secretKey", "region", "endpoint", "maxRetries", "tag", "kmsKeyID", "useLargeDeviceRange"),
        *("statusMaxAttempts", "statusInitialDelay", "statusTimeout", "nvmeBinPath"),
    }
    assert DRIVER.old_names == ("ec2", "aws")


def calls_in_the_docs() -> dict[str, dict[str, int]]:
    text = (EXAMPLES.parent / "docs/drivers/ebs.md").read_text().partition("## Calls per operation")[2]
    found: dict[str, dict[str, int]] = {}
    for operation, calls in re.findall(r"^\| (\w+) \| (\w.*) \|$", text, re.MULTILINE)[1:]:
        words = [call.split() for call in calls.split(", ")]
        found[operation] = {name: int(times[0]) if times else 1 for name, *times in words}
    return found


def test_the_docs_tell_the_calls_of_each_operation(ec2: Ec2) -> None:
    driver, host = controller(ec2), HostIdentity(ec2.instance("node").id)
    volume, other = driver.create(request()), driver.create(request())
    snapshot = driver.snapshot(other.id, "before", other.tags)
    operations: dict[str, Any] = {
        "create": lambda: driver.create(request()),
        "get": lambda: driver.get(volume.id),
        "list": driver.list,
        "attach": lambda: driver.attach(volume.id, host),
        "fence": lambda: driver.fence(host),
        "known_host": lambda: driver.known_host(HostIdentity(host.host, details={"instance_type": "m5.large"})),
        "detach": lambda: driver.detach(volume.id, host),
        "snapshot": lambda: driver.snapshot(volume.id, "token", volume.tags),
        "restore": lambda: driver.restore(snapshot.id, request()),
        "clone": lambda: driver.clone(volume.id, request()),
        "expand": lambda: driver.expand(volume.id, 2 * GIB),
        "capacity": lambda: driver.capacity("", "gp3"),
        "delete": lambda: driver.delete(volume.id),
    }
    counted = {}
    for operation, call in operations.items():
        ec2.calls.clear()
        call()
        counted[operation] = dict(ec2.calls)
    assert counted == calls_in_the_docs()


def test_the_example_is_a_configuration_that_can_be_used() -> None:
    written = load_configuration(EXAMPLES / "ebs-polly.yml")
    settings = written.services["aws"].settings
    assert isinstance(settings, EbsSettings)
    assert settings.zone == "eu-west-1a"
    for profile in written.profiles.values():
        settings.check_profile(profile)


def test_a_rexray_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXRAY_SECRET", SECRET)
    text = (EXAMPLES / "ebs-polly.yml").read_text()
    old = "driver: ec2\n    accessKey: ${REXRAY_SECRET}\n    secretKey: ${REXRAY_SECRET}\n    kmsKeyID: alias/old\n"
    old += "    statusTimeout: 1m\n    useLargeDeviceRange: true\n    maxRetries: 10\n    nvmeBinPath: /usr/sbin/nvme"
    path = tmp_path / "polly.yml"
    path.write_text(text.replace("driver: ebs", old).replace("    status_timeout: 2m\n", ""))
    service = load_configuration(path).services["aws"]
    assert service.driver.name == "ebs"
    assert isinstance(service.settings, EbsSettings)
    assert (service.settings.secret_key, service.settings.kms_key) == (SECRET, "alias/old")
    assert (service.settings.status_timeout, service.settings.large_device_range) == (60.0, True)
