"""The ways to log in, the least permissions, and hosts that attach without Nova; at a real Keystone and Cinder."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.base import Capability, CreateRequest, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import ConfigurationError, NotSupported, PlatformDenied, VolumeInUse
from polly_mesos.model import HostIdentity
from polly_mesos.testing.openstack.cloud import PROJECT, REGION, USER
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]


def works(**settings: Any) -> None:
    """A volume is made and deleted."""
    driver = CinderController(CinderSettings(**settings), "logins")
    token = str(uuid.uuid4())
    volume = available(driver.create(CreateRequest(token, GIB, Tags("logins", token, "gold"))), driver)
    driver.delete(volume.id)


class TestWaysToLogIn:
    """Each makes and deletes a volume."""

    def test_a_user_with_a_password(self) -> None:
        works(**cloud().login())

    def test_a_token(self) -> None:
        token = cloud().connect(USER, PROJECT).session.get_token()
        works(auth_url=cloud().identity_url, token=token, project_name=PROJECT, domain_name="Default")

    def test_an_application_credential(self) -> None:
        connection = cloud().connect(USER, PROJECT)
        made = connection.identity.create_application_credential(
            connection.current_user_id, f"polly-{uuid.uuid4()}", secret="a secret"
        )
        works(
            auth_url=cloud().identity_url,
            application_credential_id=made.id,
            application_credential_secret="a secret",
            project_name="ignored: the credential has its own",
        )

    def test_a_cloud_of_clouds_yaml(self, tmp_path: Path) -> None:
        login = {
            "auth_url": cloud().identity_url,
            "username": USER,
            "password": cloud().password,
            "project_name": PROJECT,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        clouds = tmp_path / "clouds.yaml"
        clouds.write_text(yaml.safe_dump({"clouds": {"mine": {"auth": login, "region_name": REGION}}}))
        works(cloud="mine", clouds_file=str(clouds))

    def test_a_cloud_that_the_file_does_not_have_is_told(self, tmp_path: Path) -> None:
        clouds = tmp_path / "clouds.yaml"
        clouds.write_text("clouds: {}\n")
        with pytest.raises(ConfigurationError, match="nobody's"):
            works(cloud="nobody's", clouds_file=str(clouds))

    def test_rackspace_by_api_key(self) -> None:
        rackspace = cloud().rackspace
        works(auth_url=rackspace.url, user_name=USER, api_key=rackspace.api_key, region_name=REGION)

    def test_rackspace_by_password(self) -> None:
        works(auth_url=cloud().rackspace.url, user_name=USER, password=cloud().password, region_name=REGION)

    def test_rackspace_with_a_wrong_key(self) -> None:
        with pytest.raises(PlatformDenied) as caught:
            works(auth_url=cloud().rackspace.url, user_name=USER, api_key="0123secret", region_name=REGION)
        assert "0123secret" not in str(caught.value)


def test_the_role_of_the_policy_file_can_do_nothing_that_the_driver_does_not_need() -> None:
    """That it can do all that is needed is what every other test here shows: they run with that role alone."""
    volumes = cloud().connect(USER, PROJECT).block_storage
    some = str(uuid.uuid4())
    driver = CinderController(CinderSettings(**cloud().login()), "logins")
    token = str(uuid.uuid4())
    made = available(driver.create(CreateRequest(token, GIB, Tags("logins", token, "gold"))), driver)
    action = f"/volumes/{made.id}/action"
    forbidden: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"/volumes/{made.id}", {"volume": {"name": "mine"}}),
        ("POST", action, {"os-force_delete": {}}),
        ("POST", action, {"os-reset_status": {"status": "error"}}),
        ("POST", action, {"os-retype": {"new_type": "shared", "migration_policy": "never"}}),
        ("POST", action, {"os-update_readonly_flag": {"readonly": True}}),
        ("POST", action, {"os-force_detach": {"attachment_id": some}}),
        ("POST", "/volume-transfers", {"transfer": {"volume_id": made.id}}),
        ("POST", "/types", {"volume_type": {"name": "mine"}}),
        ("GET", f"/os-quota-sets/{cloud().project_id}", {}),
        ("PUT", f"/os-quota-sets/{cloud().project_id}", {"quota_set": {"gigabytes": -1}}),
        ("GET", "/os-services", {}),
        ("GET", "/backups", {}),
        ("GET", "/messages", {}),
        ("DELETE", f"/volumes/{made.id}/metadata/polly:cluster", {}),
    ]
    allowed = []
    for method, path, body in forbidden:
        answer = volumes.request(path, method, json=body or None, raise_exc=False, microversion="3.44")
        if answer.status_code != 403:
            allowed.append((method, path, body, answer.status_code))
    driver.delete(made.id)
    assert allowed == []


class TestWithoutNova:
    """``attach_by: cinder``: Cinder's attachments with the host's connector."""

    def test_a_volume_goes_to_one_host_and_then_to_another(self) -> None:
        driver = CinderController(CinderSettings(**cloud().login(attach_by="cinder")), "bare-metal")
        token = str(uuid.uuid4())
        volume = available(driver.create(CreateRequest(token, GIB, Tags("bare-metal", token, "gold"))), driver)
        one, other = (
            HostIdentity(name, details={"connector": json.dumps({"initiator": f"iqn.2026-11.org.example:{name}"})})
            for name in ("rack-1", "rack-2")
        )
        attachment = driver.attach(volume.id, one)
        assert attachment["connection"]["export"] == "127.0.0.1:/export"
        assert driver.attach(volume.id, one) == attachment
        assert driver.get(volume.id).attached_to == ("rack-1",)
        with pytest.raises(VolumeInUse):
            driver.attach(volume.id, other)
        with pytest.raises(VolumeInUse):
            driver.delete(volume.id)
        driver.detach(volume.id, other)
        assert driver.get(volume.id).attached_to == ("rack-1",)
        for _ in range(2):
            driver.detach(volume.id, one, force=True)
        assert driver.get(volume.id).attached_to == ()
        driver.attach(volume.id, other)
        assert driver.get(volume.id).attached_to == ("rack-2",)
        with pytest.raises(NotSupported):
            driver.fence(other)
        assert Capability.FENCE not in driver.capabilities
        driver.detach(volume.id, other)
        driver.delete(volume.id)

    def test_an_attachment_whose_answers_were_lost_is_finished(self) -> None:
        driver = CinderController(CinderSettings(**cloud().login(attach_by="cinder")), "bare-metal")
        token = str(uuid.uuid4())
        volume = available(driver.create(CreateRequest(token, GIB, Tags("bare-metal", token, "gold"))), driver)
        host = HostIdentity("rack-1")
        for path in ("/attachments", "/attachments/{id}/action"):
            cloud().proxy.inject("lost", "POST", path)
            with pytest.raises(Exception, match="attaching") as caught:
                driver.attach(volume.id, host)
            assert caught.value.outcome_unknown  # type: ignore[attr-defined]
        driver.attach(volume.id, host)
        assert driver.get(volume.id).attached_to == ("rack-1",)
        driver.detach(volume.id, host)
        driver.delete(volume.id)


def test_no_secret_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    settings = CinderSettings(**cloud().login(token="t0ken", api_key="", application_credential_secret=""))
    assert cloud().password not in repr(settings)
    assert "t0ken" not in repr(settings)
    driver = CinderController(CinderSettings(**cloud().login()), "logins")
    driver.list()
    seen = json.dumps([repr(driver), repr(vars(driver)["_settings"])]) + "".join(capsys.readouterr())
    assert cloud().password not in seen
