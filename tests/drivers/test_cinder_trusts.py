"""A trust of Keystone's in place of a project: who logs in with it works for its trustor, until it ends."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from drivers.base import CreateRequest, Tags
from drivers.cinder import GIB
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from polly_mesos.errors import PlatformDenied
from polly_mesos.model import HostIdentity
from polly_mesos.testing.openstack.cloud import PROJECT, USER
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]


@dataclass
class Delegation:
    """Someone with no role anywhere, and the trusts that the user with the project makes for them."""

    trustee: Any
    trustor: Any

    def trust(self, **changes: Any) -> str:
        """A new trust, its id."""
        asked = {
            "trustor_user_id": self.trustor.current_user_id,
            "trustee_user_id": self.trustee.id,
            "project_id": cloud().project_id,
            "impersonation": False,
            "roles": [{"name": USER}],
            **changes,
        }
        return str(self.trustor.identity.create_trust(**asked).id)

    def revoke(self, trust: str) -> None:
        """End a trust."""
        self.trustor.identity.delete_trust(trust)

    def driver(self, trust: str, **changes: Any) -> CinderController:
        """The driver as the trustee."""
        login = cloud().login(user_name=self.trustee.name, trust_id=trust, **changes)
        return CinderController(CinderSettings(**login), "trusts")


@pytest.fixture
def delegation(needs_cloud: None) -> Iterator[Delegation]:
    admin = cloud().connect().identity
    trustee = admin.create_user(name=f"trustee-{uuid.uuid4()}", password=cloud().password, domain_id="default")
    yield Delegation(trustee, cloud().connect(USER, PROJECT))
    admin.delete_user(trustee)


def request() -> CreateRequest:
    token = str(uuid.uuid4())
    return CreateRequest(token, GIB, Tags("trusts", token, "gold"))


@pytest.mark.parametrize("impersonation", [False, True])
@pytest.mark.parametrize("project", [PROJECT, ""])
def test_volumes_are_made_in_the_project_of_the_trustor(
    delegation: Delegation, impersonation: bool, project: str
) -> None:
    driver = delegation.driver(delegation.trust(impersonation=impersonation), project_name=project)
    volume = available(driver.create(request()), driver)
    (shown,) = [one for one in delegation.trustor.block_storage.volumes() if one.id == volume.id]
    assert shown.metadata["polly:cluster"] == "trusts"
    host = HostIdentity(cloud().nova.server_of("192.0.2.50:5051").id)
    driver.attach(volume.id, host)
    driver.detach(volume.id, host)
    driver.delete(volume.id)


def test_without_the_trust_the_trustee_may_nothing(delegation: Delegation) -> None:
    with pytest.raises(PlatformDenied):
        delegation.driver("", project_name=PROJECT).create(request())


def test_a_trust_that_is_none_or_is_for_somebody_else_is_told(delegation: Delegation) -> None:
    theirs = delegation.trust(trustee_user_id=delegation.trustor.current_user_id)
    for trust in (uuid.uuid4().hex, theirs):
        with pytest.raises(PlatformDenied) as caught:
            delegation.driver(trust).create(request())
        assert "trust" in caught.value.remedy
        assert caught.value.request_id.startswith("req-")


def test_a_trust_that_was_ended_is_told(delegation: Delegation) -> None:
    trust = delegation.trust()
    delegation.driver(trust).list()
    delegation.revoke(trust)
    with pytest.raises(PlatformDenied) as caught:
        delegation.driver(trust).create(request())
    assert "trust_id" in caught.value.remedy
    assert not caught.value.outcome_unknown


def test_a_trust_that_has_expired_is_told_to_those_who_are_logged_in_and_to_others(delegation: Delegation) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    trust = delegation.trust(expires_at=soon.strftime("%Y-%m-%dT%H:%M:%S.000000Z"))
    running, deadline = delegation.driver(trust), time.monotonic() + 60
    refusal = None
    while refusal is None and time.monotonic() < deadline:
        try:
            running.list()
        except PlatformDenied as error:
            refusal = error
    assert refusal is not None
    assert "trust_id" in refusal.remedy
    with pytest.raises(PlatformDenied, match="401"):
        delegation.driver(trust).list()
