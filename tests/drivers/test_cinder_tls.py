"""Whom the driver trusts: a real Keystone and Cinder behind TLS, with certificates that are right, or wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.base import CreateRequest, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import ConfigurationError, PlatformError, PlatformUnavailable
from polly_mesos.model import HostIdentity
from polly_mesos.testing.openstack.authority import Authority
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from polly_mesos.testing.openstack.proxy import Proxy
from polly_mesos.testing.openstack.secured import SecuredRegion
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

NODE = "192.0.2.40:5051"


@dataclass(frozen=True)
class Regions:
    """One cloud behind TLS, several times.

    :param right: all certificates are right
    :param misnamed: Cinder's is for another host
    :param expired: Cinder's has expired
    :param strange: Cinder's is another authority's
    :param half: Nova's is another authority's
    """

    authority: Authority
    other: Authority
    right: SecuredRegion
    misnamed: SecuredRegion
    expired: SecuredRegion
    strange: SecuredRegion
    half: SecuredRegion


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory, needs_cloud: None) -> Iterator[Regions]:
    directory = tmp_path_factory.mktemp("certificates")
    known, other = Authority(directory, "known"), Authority(directory, "other")
    right = known.certified("127.0.0.1")
    strange = other.certified("127.0.0.1")
    wrong = {
        "misnamed": {"cinder": known.certified("cinder.example.org")},
        "expired": {"cinder": known.certified("127.0.0.1", expired=True)},
        "strange": {"cinder": strange, "nova": strange},
        "half": {"nova": strange},
    }
    with ExitStack() as stack:
        secured = {
            name: stack.enter_context(SecuredRegion(cloud(), name, right, **wrong.get(name, {})))
            for name in ("right", *wrong)
        }
        yield Regions(known, other, **secured)


def controller(region: SecuredRegion, **changes: Any) -> CinderController:
    return CinderController(CinderSettings(**region.login(cloud(), **changes)), "secured")


def request() -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, GIB, Tags("secured", token, "gold"))


def works(driver: CinderController) -> None:
    """A volume is made, attached by Nova, detached and deleted."""
    volume = available(driver.create(request()), driver)
    host = HostIdentity(cloud().nova.server_of(NODE).id)
    driver.attach(volume.id, host)
    driver.detach(volume.id, host)
    driver.delete(volume.id)


class TestTrusted:
    """What the settings trust is used, for the login, for Cinder and for Nova."""

    def test_the_authority_that_ca_cert_names(self, regions: Regions) -> None:
        driver = controller(regions.right, ca_cert=str(regions.authority.bundle))
        works(driver)
        assert driver._calls.microversion("") == (3, 44), "the versions were asked for by TLS, too"
        assert regions.right.keystone.calls["POST /v3/auth/tokens"] == 1
        assert regions.right.cinder.calls["POST /v3/{project}/volumes"] == 1
        assert regions.right.nova.calls["POST /v2.1/servers/{id}/os-volume_attachments"] == 1

    @pytest.mark.parametrize("name", ["right", "misnamed", "expired", "strange"])
    def test_anybody_where_insecure_says_so(self, regions: Regions, name: str) -> None:
        works(controller(getattr(regions, name), insecure=True))

    def test_insecure_goes_before_ca_cert(self, regions: Regions) -> None:
        works(controller(regions.right, insecure=True, ca_cert=str(regions.other.bundle)))

    def test_a_cloud_of_clouds_yaml_with_its_own_bundle_or_with_ours(self, regions: Regions, tmp_path: Path) -> None:
        login = {"auth_url": regions.right.identity_url, "username": USER, "password": cloud().password}
        login |= {"project_name": PROJECT, "user_domain_name": "Default", "project_domain_name": "Default"}
        mine: dict[str, Any] = {"auth": login, "region_name": "right", "cacert": str(regions.authority.bundle)}
        theirs = {**mine, "cacert": str(regions.other.bundle)}
        clouds = tmp_path / "clouds.yaml"
        clouds.write_text(yaml.safe_dump({"clouds": {"mine": mine, "theirs": theirs}}))
        from_file = {"clouds_file": str(clouds)}
        for settings in (
            {"cloud": "mine"},
            {"cloud": "theirs", "ca_cert": str(regions.authority.bundle)},
            {"cloud": "theirs", "insecure": True},
        ):
            CinderController(CinderSettings(**from_file, **settings), "secured").list()  # type: ignore[arg-type]
        with pytest.raises(PlatformError, match="not trusted"):
            CinderController(CinderSettings(**from_file, cloud="theirs"), "secured").list()
        regions.other.bundle.rename(tmp_path / "moved")
        try:
            with pytest.raises(ConfigurationError, match="No such file") as caught:
                CinderController(CinderSettings(**from_file, cloud="theirs"), "secured").list()
            assert caught.value.field == "cloud"
        finally:
            (tmp_path / "moved").rename(regions.other.bundle)

    def test_rackspace(self, regions: Regions) -> None:
        rackspace = cloud().rackspace
        front = Proxy(rackspace.url.removesuffix("/v2.0"), regions.authority.certified("127.0.0.1"))
        login = {"auth_url": f"{front.url}/v2.0", "user_name": USER, "api_key": rackspace.api_key}
        try:
            for trust in ({"ca_cert": str(regions.authority.bundle)}, {"insecure": True}):
                CinderController(CinderSettings(**login, **trust), "secured").list()  # type: ignore[arg-type]
            with pytest.raises(PlatformError, match="local issuer"):
                CinderController(CinderSettings(**login), "secured").list()  # type: ignore[arg-type]
        finally:
            front.close()


class TestRefused:
    """What is not trusted is asked nothing, and one error says which host it is, and what to do."""

    def test_an_unknown_authority_at_the_login(self, regions: Regions) -> None:
        before = regions.right.keystone.calls.copy()
        for changes in ({}, {"ca_cert": str(regions.other.bundle)}):
            with pytest.raises(PlatformError) as caught:
                controller(regions.right, **changes).create(request())
            assert regions.right.identity_url.removesuffix("/v3") in caught.value.message
            assert "ca_cert" in caught.value.remedy
            assert not caught.value.outcome_unknown
            assert not caught.value.retryable
            assert cloud().password not in str(caught.value)
        assert regions.right.keystone.calls == before, "nothing was sent, the password neither"

    @pytest.mark.parametrize(("name", "remedy"), [("strange", "ca_cert"), ("misnamed", "name"), ("expired", "renew")])
    def test_services_whose_certificates_are_not_right(self, regions: Regions, name: str, remedy: str) -> None:
        region: SecuredRegion = getattr(regions, name)
        region.cinder.clear()
        driver = controller(region, ca_cert=str(regions.authority.bundle))
        for _ in range(2):
            with pytest.raises(PlatformError) as caught:
                driver.create(request())
            assert region.cinder.url in caught.value.message
            assert remedy in caught.value.remedy
            assert not caught.value.outcome_unknown
        assert not region.cinder.calls, "no token was sent"

    def test_a_nova_whose_certificate_is_not_right(self, regions: Regions) -> None:
        driver = controller(regions.half, ca_cert=str(regions.authority.bundle))
        driver.list()
        with pytest.raises(PlatformError, match="local issuer") as caught:
            driver.fence(HostIdentity(cloud().nova.server_of(NODE).id))
        assert regions.half.nova.url in caught.value.message
        assert "ca_cert" in caught.value.remedy

    @pytest.mark.parametrize("content", [None, "no certificate\n"])
    def test_a_bundle_that_is_none(self, regions: Regions, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "bundle.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            controller(regions.right, ca_cert=str(path)).list()
        assert (caught.value.field, caught.value.value) == ("ca_cert", str(path))

    def test_the_check_of_a_service_tells_it(self, regions: Regions) -> None:
        (only,) = controller(regions.right).check(())
        assert (only.name, only.passed) == ("credentials", False)
        assert "ca_cert" in only.remedy


def test_an_answer_that_breaks_tls_is_no_certificate_and_may_have_been_given(regions: Regions) -> None:
    driver = controller(regions.right, ca_cert=str(regions.authority.bundle))
    asked = request()
    driver.list()
    regions.right.cinder.inject("garbled", "POST", "/volumes")
    with pytest.raises(PlatformUnavailable) as caught:
        driver.create(asked)
    assert caught.value.outcome_unknown
    made = available(driver.create(asked), driver)
    assert [volume.id for volume in driver.list().volumes] == [made.id]
    driver.delete(made.id)
