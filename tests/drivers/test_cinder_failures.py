"""What can go wrong at a real Cinder, and what an operator hears of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from drivers.base import CreateRequest, PlatformState, PlatformVolume, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import (
    InvalidRequest,
    NotSupported,
    PlatformDenied,
    PlatformError,
    PlatformFull,
    PlatformThrottled,
    PlatformUnavailable,
    UnknownHost,
    UnknownVolume,
    VolumeInUse,
    WrongState,
)
from polly_mesos.model import HostIdentity, Profile
from polly_mesos.testing.openstack.cloud import OTHER_PROJECT, OTHER_USER, PROJECT
from tests.drivers.cinder_cloud import cloud

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

NODE = "192.0.2.9:5051"


def controller(cluster: str = "failures", **changes: Any) -> CinderController:
    return CinderController(CinderSettings(**cloud().login(**changes)), cluster)


def request(size: int = GIB, **changes: Any) -> CreateRequest:
    token = str(uuid.uuid4())
    return replace(CreateRequest(token, size, Tags("failures", token, "gold")), **changes)


def settled(made: PlatformVolume, driver: CinderController) -> PlatformVolume:
    """The volume when Cinder is done with making it."""
    deadline = time.monotonic() + 60
    while (seen := driver.get(made.id)).state is PlatformState.CREATING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return seen


def available(made: PlatformVolume, driver: CinderController) -> PlatformVolume:
    """The volume when it is made; what Cinder wrote in its logs, where it could not be."""
    seen = settled(made, driver)
    assert seen.state is PlatformState.AVAILABLE, cloud().told_of(seen.id)
    return seen


def instance() -> HostIdentity:
    return HostIdentity(cloud().nova.server_of(NODE).id)


@pytest.fixture
def driver() -> Iterator[CinderController]:
    made = controller()
    yield made
    cloud().proxy.clear()
    for snapshot in made.list_snapshots():
        made.delete_snapshot(snapshot.id)
    page = made.list()
    while page.volumes:
        for volume in page.volumes:
            for host in volume.attached_to:
                made.detach(volume.id, HostIdentity(host))
            made.delete(volume.id)
        page = made.list()


class TestLogin:
    """Wrong credentials change nothing and say so."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"password": "wrong-secret"},
            {"password": "", "token": "no-such-token"},
            {"user_name": "nobody"},
            {"project_name": "no-such-project"},
        ],
        ids=lambda wrong: next(iter(wrong)),
    )
    def test_wrong_credentials_are_denied_and_not_shown(self, wrong: dict[str, str]) -> None:
        with pytest.raises(PlatformDenied) as caught:
            controller(**wrong).create(request())
        assert "wrong-secret" not in str(caught.value)
        assert not caught.value.outcome_unknown

    def test_an_expired_token_is_denied(self) -> None:
        connection = cloud().connect("polly", PROJECT)
        token = connection.session.get_token()
        driver = controller(password="", token=token)
        driver.list()
        connection.identity.delete(f"{cloud().identity_url}/auth/tokens", headers={"X-Subject-Token": token})
        with pytest.raises(PlatformDenied):
            controller(password="", token=token).list()

    def test_a_wrong_region_is_told(self) -> None:
        with pytest.raises(PlatformError, match="nowhere"):
            controller(region_name="nowhere").list()

    def test_a_keystone_that_is_away_is_unavailable_and_nothing_has_happened(self) -> None:
        with pytest.raises(PlatformUnavailable) as caught:
            controller(auth_url="http://127.0.0.1:9/v3").create(request())
        assert not caught.value.outcome_unknown

    def test_a_role_without_a_permission_is_told_which(self) -> None:
        admin = cloud().connect()
        user = admin.identity.create_user(name="reader", password=cloud().password, domain_id="default")
        role = admin.identity.find_role("reader")
        project = admin.identity.find_project(PROJECT)
        admin.identity.assign_project_role_to_user(project, user, role)
        driver = controller(user_name="reader")
        assert driver.list().volumes == ()
        with pytest.raises(PlatformDenied, match="volume:create") as caught:
            driver.create(request())
        assert caught.value.request_id.startswith("req-")
        credentials = driver.check(())[0]
        assert "reader" in credentials.detail, "the operator sees with which roles"


class TestAnswers:
    """Answers that do not come, or are none of Cinder's."""

    @pytest.mark.parametrize("kind", ["lost", "cut", "html", "not-json"])
    def test_after_a_change_whose_answer_is_no_good_it_may_have_happened(
        self, driver: CinderController, kind: Any
    ) -> None:
        asked = request()
        driver.list()
        cloud().proxy.inject(kind, "POST", "/volumes")
        with pytest.raises(PlatformError) as caught:
            driver.create(asked)
        assert caught.value.outcome_unknown
        assert caught.value.retryable
        made = driver.create(asked)
        assert [volume.id for volume in driver.list().volumes] == [made.id]
        available(made, driver)

    @pytest.mark.parametrize("kind", ["lost", "cut", "html", "not-json", "unavailable"])
    def test_a_look_whose_answer_is_no_good_changes_nothing_and_may_be_repeated(
        self, driver: CinderController, kind: Any
    ) -> None:
        volume = available(driver.create(request()), driver)
        cloud().proxy.inject(kind, "GET", "/volumes/{id}")
        with pytest.raises(PlatformUnavailable) as caught:
            driver.get(volume.id)
        assert not caught.value.outcome_unknown
        assert driver.get(volume.id) == volume

    @pytest.mark.parametrize("kind", ["throttle", "overlimit"])
    def test_throttling_is_told_and_slows_the_whole_service_down(self, driver: CinderController, kind: Any) -> None:
        driver.list()
        rate = driver._calls._rate
        before = rate.rate
        cloud().proxy.inject(kind, "POST", "/volumes")
        with pytest.raises(PlatformThrottled) as caught:
            driver.create(request())
        assert caught.value.retryable
        assert not caught.value.outcome_unknown
        assert rate.rate < before
        assert cloud().proxy.calls["POST /v3/{project}/volumes"] == 1, "the SDK tried again by itself"

    def test_a_slow_answer_is_given_up_after_the_configured_time(self, driver: CinderController) -> None:
        hasty, asked = controller(request_timeout=0.5), request()
        hasty.list()
        cloud().proxy.inject("slow", "POST", "/volumes", seconds=2.0)
        with pytest.raises(PlatformUnavailable) as caught:
            hasty.create(asked)
        assert caught.value.outcome_unknown
        deadline = time.monotonic() + 30
        while not driver.list().volumes:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert available(driver.create(asked), driver).id == driver.list().volumes[0].id

    def test_of_two_volumes_with_one_token_the_same_one_is_always_meant(self, driver: CinderController) -> None:
        asked = request()
        first = available(driver.create(asked), driver)
        admin = cloud().connect("polly", PROJECT).block_storage
        metadata = admin.get_volume(first.id).metadata
        second = admin.create_volume(size=1, name="late", metadata=metadata)
        admin.wait_for_status(second, "available", interval=0.1)
        assert {controller().create(asked).id for _ in range(3)} == {first.id}
        assert {volume.id for volume in driver.list().volumes} == {first.id, second.id}, "both can be seen by the audit"


class TestRefusals:
    """What Cinder, or the profile, does not allow."""

    def test_an_exhausted_quota_is_told_with_the_request(self, driver: CinderController) -> None:
        admin = cloud().connect().block_storage
        admin.update_quota_set(cloud().project_id, gigabytes=2)
        try:
            assert driver.capacity("", "").total == 2 * GIB
            with pytest.raises(PlatformFull) as caught:
                driver.create(request(3 * GIB))
            assert caught.value.request_id.startswith("req-")
            assert driver.list().volumes == ()
        finally:
            admin.update_quota_set(cloud().project_id, gigabytes=400)

    def test_a_type_that_nothing_can_make_ends_in_an_error_that_can_be_deleted(self, driver: CinderController) -> None:
        made = settled(driver.create(request(platform_type="impossible")), driver)
        assert made.state is PlatformState.ERROR
        driver.delete(made.id)
        assert driver.list().volumes == ()

    def test_a_type_that_is_not_encrypted_is_refused_and_nothing_is_left(self, driver: CinderController) -> None:
        with pytest.raises(NotSupported, match="not encrypted"):
            driver.create(request(platform_type="standard", encryption=True))
        deadline = time.monotonic() + 30
        while [one for one in driver.list().volumes if one.state is not PlatformState.DELETING]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_a_type_for_several_hosts_must_be_declared(self, driver: CinderController) -> None:
        with pytest.raises(PlatformDenied, match="volume:multiattach"):
            driver.create(request(platform_type="shared"))
        member = controller(user_name=OTHER_USER, project_name=OTHER_PROJECT)
        with pytest.raises(NotSupported, match="several hosts"):
            member.create(request(platform_type="shared"))
        # It is let through. The NFS back end has no such volumes, so this Cinder does not come to make it.
        declared = settled(member.create(request(platform_type="shared", options={"multiattach": True})), member)
        member.delete(declared.id)

    def test_shrinking_and_smaller_copies_are_refused(self, driver: CinderController) -> None:
        volume = available(driver.create(request(2 * GIB)), driver)
        assert driver.expand(volume.id, GIB).size == 2 * GIB
        with pytest.raises(InvalidRequest, match="smaller"):
            driver.clone(volume.id, request(GIB))

    def test_what_is_still_being_made_is_deleted_when_it_is(self, driver: CinderController) -> None:
        volume = driver.create(request())
        driver.delete(volume.id)
        assert driver.list().volumes == ()

    def test_a_volume_that_was_deleted_behind_our_back_is_unknown(self, driver: CinderController) -> None:
        volume = available(driver.create(request()), driver)
        other = cloud().connect("polly", PROJECT).block_storage
        other.delete_volume(volume.id)
        other.wait_for_delete(other.get_volume(volume.id), interval=0.1)
        with pytest.raises(UnknownVolume):
            driver.attach(volume.id, instance())
        driver.detach(volume.id, instance())
        driver.delete(volume.id)

    def test_the_volumes_of_another_project_are_invisible(self, driver: CinderController) -> None:
        theirs = controller(user_name=OTHER_USER, project_name=OTHER_PROJECT)
        volume = available(theirs.create(request()), theirs)
        with pytest.raises(UnknownVolume):
            driver.get(volume.id)
        assert volume.id not in [one.id for one in driver.list().volumes]
        driver.delete(volume.id)
        theirs.delete(volume.id)

    def test_an_instance_that_is_gone_is_unknown_and_the_volume_stays_free(self, driver: CinderController) -> None:
        volume = available(driver.create(request()), driver)
        for gone in (str(uuid.uuid4()), "not-an-id"):
            with pytest.raises(UnknownHost):
                driver.attach(volume.id, HostIdentity(gone))
        assert driver.get(volume.id).attached_to == ()

    def test_a_volume_that_is_busy_is_refused_and_told(self, driver: CinderController) -> None:
        volume = available(driver.create(request()), driver)
        cloud().connect().block_storage.reset_volume_status(volume.id, "maintenance", None, None)
        with pytest.raises((WrongState, VolumeInUse, PlatformError)):
            driver.attach(volume.id, instance())
        cloud().connect().block_storage.reset_volume_status(volume.id, "available", None, None)

    def test_a_hypervisor_that_is_away_does_not_detach_and_the_outcome_is_unknown(
        self, driver: CinderController
    ) -> None:
        volume = available(driver.create(request()), driver)
        server = cloud().nova.server_of("192.0.2.10:5051")
        driver.attach(volume.id, HostIdentity(server.id))
        server.host_up = False
        with pytest.raises(PlatformUnavailable) as caught:
            controller(attach_timeout=0.5).detach(volume.id, HostIdentity(server.id), force=True)
        assert caught.value.outcome_unknown
        assert driver.get(volume.id).attached_to == (server.id,)
        cloud().connect().block_storage.reset_volume_status(volume.id, "in-use", None, None)
        server.host_up = True
        driver.detach(volume.id, HostIdentity(server.id))


class TestFences:
    """Only what a hypervisor has ended is proven."""

    def test_an_instance_that_its_hypervisor_deleted_is_proven(self, driver: CinderController) -> None:
        server = cloud().nova.server_of("192.0.2.20:1")
        assert not driver.fence(HostIdentity(server.id)).proven
        cloud().nova.delete(server)
        assert driver.fence(HostIdentity(server.id)).proven

    def test_an_instance_that_was_deleted_in_the_books_alone_is_not_proven(self, driver: CinderController) -> None:
        server = cloud().nova.server_of("192.0.2.21:1")
        server.host_up = False
        cloud().nova.delete(server)
        assert not driver.fence(HostIdentity(server.id)).proven

    def test_an_instance_that_runs_on_another_hypervisor_after_an_evacuation_runs(
        self, driver: CinderController
    ) -> None:
        server = cloud().nova.server_of("192.0.2.22:1")
        server.host = "hypervisor-2"
        assert not driver.fence(HostIdentity(server.id)).proven

    def test_an_instance_that_is_being_started_is_not_proven(self, driver: CinderController) -> None:
        server = cloud().nova.server_of("192.0.2.23:1")
        cloud().nova.stop(server)
        assert driver.fence(HostIdentity(server.id)).proven
        server.task = "powering-on"
        assert not driver.fence(HostIdentity(server.id)).proven

    def test_what_nova_never_knew_is_not_proven(self, driver: CinderController) -> None:
        assert not driver.fence(HostIdentity(str(uuid.uuid4()))).proven


class TestChecks:
    """``polly service check`` proves a configuration and changes nothing."""

    def test_a_right_configuration_passes(self, driver: CinderController) -> None:
        profiles = (Profile("gold", "cloud", platform_type="standard", zone="nova"),)
        checks = driver.check(profiles)
        assert [check.name for check in checks if check.passed is not True] == ["permission volume:create"]
        names = {check.name for check in checks}
        assert {"credentials", "quota", "zone nova", "type standard", "compute service"} <= names
        assert driver.list().volumes == ()

    def test_what_is_wrong_is_named(self, driver: CinderController) -> None:
        wrong = (Profile("gold", "cloud", platform_type="no-such-type", zone="no-such-zone"),)
        failed = {check.name: check for check in driver.check(wrong) if check.passed is False}
        assert set(failed) == {"zone no-such-zone", "type no-such-type"}
        assert "standard" in failed["type no-such-type"].remedy

    def test_a_wrong_password_ends_the_checks(self) -> None:
        (only,) = controller(password="wrong").check(())
        assert (only.name, only.passed) == ("credentials", False)
