"""The Cinder driver on hosts that are no instances: real Keystone, real Cinder with NFS, and real os-brick."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from drivers.base import CreateRequest, HostDriver, PlatformVolume, Tags
from drivers.cinder import DRIVER, GIB, image_files
from drivers.cinder.connections import VALUES, WITHHELD
from drivers.cinder.controller import CinderController
from drivers.cinder.settings import CinderSettings
from drivers.declaration import load_class
from polly_mesos.agent_api import Assignment, PublishState, PublishTarget
from polly_mesos.errors import HostError, NotSupported, PlatformUnavailable, UnknownVolume
from polly_mesos.executor.holdings import Holdings
from polly_mesos.executor.mapping import HostTools
from polly_mesos.executor.recovery import recover
from polly_mesos.model import HostIdentity, Json
from polly_mesos.testing import driver_suite
from polly_mesos.testing.driver_suite.harness import MACHINE, NODE, OTHER_NODE, Harness
from tests.drivers.cinder_cloud import cloud, losing_an_answer
from tests.drivers.test_cinder_failures import available

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

_DATA = b"what was written before the copy"


CHAP = {"auth_method": "CHAP", "auth_username": "polly", "auth_password": "chap-and-secret"}


def settings(**changes: Any) -> dict[str, Any]:
    cloud().bare_hosts.add(NODE, OTHER_NODE, MACHINE)
    return cloud().login(**cloud().bare_hosts.settings(**changes))


def host_of(settings: dict[str, Any], node: str = NODE) -> HostDriver:
    known = {name: value for name, value in settings.items() if name in DRIVER.host_settings}
    host: HostDriver = load_class(DRIVER.host)(known, node)
    return host


class Given:
    """A volume that is attached to a host."""

    def __init__(self, **changes: Any) -> None:
        self.settings = settings(**changes)
        self.controller = CinderController(CinderSettings(**self.settings), "reaching")
        self.identity: HostIdentity = self.host.identify()
        request = CreateRequest(str(uuid.uuid4()), GIB, Tags("reaching", "volume", "gold"))
        self.volume = available(self.controller.create(request), self.controller).id
        self.attachment: Json = self.controller.attach(self.volume, self.identity)

    @property
    def host(self) -> HostDriver:
        """A fresh object of the host side, as after a restart of the executor."""
        return host_of(self.settings)

    @property
    def whole(self) -> Json:
        """The attachment with its secrets, as the host side gets it once."""
        return {**self.attachment, **self.controller.secrets(self.volume, self.attachment)}

    @property
    def directory(self) -> Path:
        """Where the host keeps its own."""
        return Path(str(self.settings["host_directory"]).replace("{node}", NODE))

    def end(self) -> None:
        cloud().proxy.clear()
        self.host.release({"volume": self.volume})
        self.controller.detach(self.volume, self.identity)
        self.controller.delete(self.volume)


class Unmounted:
    """A host on which nothing is mounted."""

    def mounted(self, _volume_root: str) -> dict[str, str]:
        return {}

    def is_device_mounted(self, _device: str) -> bool:
        return False


@pytest.fixture
def given() -> Iterator[Given]:
    made = Given()
    yield made
    made.end()


class TestConformance(  # type: ignore[misc]
    driver_suite(DRIVER, lambda _: settings(), size=GIB, many=20, lost_answers=losing_an_answer)
):
    """The whole suite, but for two things that Cinder's NFS driver does to its files, which the host side refuses."""

    def test_a_snapshot_keeps_what_was_there(self, harness: Harness) -> None:
        """A volume of which a snapshot was taken is a qcow2 file on NFS, until the snapshot is deleted."""
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        snapshot = harness.snapshot(volume)
        self._is_refused(harness, volume, "qcow2", "delete the snapshots")
        restored = harness.when_available(harness.controller.restore(snapshot.id, harness.request()))
        with harness.on_host(restored) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA
        harness.controller.delete_snapshot(snapshot.id)
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def test_a_clone_is_larger_where_asked_and_independent(self, harness: Harness) -> None:
        """Of a larger copy Cinder's NFS driver makes a file that is as small as its source."""
        volume = harness.create()
        with harness.on_host(volume) as attached:
            harness.write(attached.path, _DATA)
        clone = harness.when_available(harness.controller.clone(volume.id, harness.request(2 * harness.size)))
        self._is_refused(harness, clone, f"{harness.size} bytes", "expand it")
        harness.controller.expand(clone.id, 3 * harness.size)
        with harness.on_host(clone) as attached:
            assert harness.device_size(attached.path) == 3 * harness.size
            assert harness.read(attached.path, len(_DATA)) == _DATA
            harness.write(attached.path, b"only the clone has this")
        with harness.on_host(volume) as attached:
            assert harness.read(attached.path, len(_DATA)) == _DATA

    def _is_refused(self, harness: Harness, volume: PlatformVolume, why: str, remedy: str) -> None:
        with pytest.raises(HostError, match=why) as caught:
            harness.attach(volume)
        assert remedy in caught.value.remedy
        harness.new_host().release({"volume": volume.id})
        harness.controller.detach(volume.id, harness.identity())


class TestLettingGo:
    """What an executor has forgotten is found and let go of."""

    def test_an_executor_without_records_finds_what_its_host_holds(self, given: Given) -> None:
        device = given.host.locate(given.whole, 10.0)
        assert given.host.held() == {device: given.attachment}
        assert host_of(given.settings, OTHER_NODE).held() == {}
        given.host.release(given.host.held()[device])
        assert given.host.held() == {}
        assert device not in [f"/dev/{entry.name}" for entry in cloud().bare_hosts.bound()]

    def test_a_new_executor_lets_go_of_what_nothing_mounts(self, given: Given, tmp_path: Path) -> None:
        device = given.host.locate(given.whole, 10.0)
        assignment = Assignment(1, (), (), {})
        tools = cast(HostTools, Unmounted())
        recover(Holdings(str(tmp_path)), {"cloud": given.host}, tools, str(tmp_path), assignment)
        assert given.host.held() == {}
        assert device not in [f"/dev/{entry.name}" for entry in cloud().bare_hosts.bound()]

    def test_the_kernel_knows_what_is_bound_when_the_hosts_own_records_are_lost_too(self, given: Given) -> None:
        device = given.host.locate(given.whole, 10.0)
        shutil.rmtree(given.directory / "records")
        assert given.host.held() == {device: {"volume": given.volume}}
        given.host.release({"volume": given.volume})
        assert given.host.held() == {}

    def test_a_host_that_ended_just_after_binding_lets_go_of_what_it_bound(
        self, given: Given, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ends(image: str, deadline: float) -> str:
            device_of(image, deadline)
            raise KeyboardInterrupt

        device_of = image_files.device_of
        with monkeypatch.context() as patch:
            patch.setattr(image_files, "device_of", ends)
            with pytest.raises(KeyboardInterrupt):
                given.host.locate(given.whole, 10.0)
        assert len(cloud().bare_hosts.bound()) == 1
        assert list(given.host.held().values()) == [given.attachment]
        given.host.release(given.attachment)
        assert cloud().bare_hosts.bound() == []

    def test_a_device_in_use_is_not_let_go_of(self, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("drivers.cinder.image_files._UNBIND_SECONDS", 0.05)
        device = given.host.locate(given.whole, 10.0)
        with open(device, "rb"), pytest.raises(HostError, match="did not let go"):
            given.host.release(given.attachment)
        given.host.release(given.attachment)
        assert given.host.held() == {}

    def test_a_raw_volume_that_begins_like_qcow2_is_refused_whatever_cinder_says(self, given: Given) -> None:
        device = given.host.locate(given.whole, 10.0)
        with open(device, "r+b") as disk:
            disk.write(b"QFI\xfb" + bytes(508))
        given.host.release(given.attachment)
        with pytest.raises(HostError, match="is raw by Cinder's word, and begins like qcow2"):
            given.host.locate(given.whole, 10.0)

    def test_a_host_is_not_proven_stopped(self, given: Given) -> None:
        with pytest.raises(NotSupported):
            given.controller.fence(given.identity)


class TestSecrets:
    """A password of CHAP reaches the call that connects, and nothing that stays."""

    @pytest.fixture
    def chap(self, tmp_path: Path) -> Iterator[Given]:
        listening = tmp_path / "python"
        listening.write_text(f'#!/bin/sh\ntee -a {tmp_path}/asked | "{cloud().bare_hosts.python}" "$@"\n')
        listening.chmod(0o755)
        cloud().proxy.connection = dict(CHAP)
        made = Given(os_brick_python=str(listening))
        yield made
        made.end()

    def test_it_is_in_what_os_brick_is_asked_and_in_nothing_else(self, chap: Given, tmp_path: Path) -> None:
        assert chap.attachment[WITHHELD] == ["auth_password"]
        assert "chap-and-secret" not in json.dumps(chap.attachment)
        assert chap.attachment == chap.controller.attach(chap.volume, chap.identity)
        chap.host.locate(chap.whole, 10.0)
        asked = (tmp_path / "asked").read_text()
        assert "chap-and-secret" in asked
        for path in (path for path in chap.directory.rglob("*") if path.is_file() and "mounts" not in path.parts):
            assert b"chap-and-secret" not in path.read_bytes(), path
        assert list(chap.host.held().values()) == [chap.attachment]
        target = PublishTarget(
            "volume", PublishState.READY, secrets=chap.controller.secrets(chap.volume, chap.attachment)
        )
        assert "chap-and-secret" not in repr(target)

    def test_without_it_nothing_is_connected(self, chap: Given) -> None:
        with pytest.raises(HostError, match="auth_password"):
            chap.host.locate(chap.attachment, 10.0)
        assert chap.host.held() == {}

    def test_a_cinder_that_is_away_may_be_asked_again(self, chap: Given) -> None:
        cloud().proxy.inject("unavailable", "GET", "/attachments/{id}")
        with pytest.raises(PlatformUnavailable) as caught:
            chap.controller.secrets(chap.volume, chap.attachment)
        assert caught.value.retryable
        assert chap.controller.secrets(chap.volume, chap.attachment) == {VALUES: {"auth_password": "chap-and-secret"}}

    def test_an_attachment_that_was_deleted_behind_our_back_is_unknown(self, chap: Given) -> None:
        chap.controller.detach(chap.volume, chap.identity)
        with pytest.raises(UnknownVolume):
            chap.controller.secrets(chap.volume, chap.attachment)

    def test_nothing_is_asked_where_nothing_was_withheld(self, given: Given) -> None:
        cloud().proxy.clear()
        assert given.controller.secrets(given.volume, given.attachment) == {}
        assert not cloud().proxy.calls


def test_a_host_without_os_brick_is_told_before_any_volume_is_given_to_it() -> None:
    with pytest.raises(HostError) as caught:
        host_of(settings(os_brick_python=sys.executable)).identify()
    assert "python3-os-brick" in caught.value.remedy


def test_what_cinder_encrypts_is_refused_before_it_is_attached(given: Given) -> None:
    request = CreateRequest(
        str(uuid.uuid4()), GIB, Tags("reaching", "encrypted", "gold"), platform_type="encrypted", encryption=True
    )
    made = available(given.controller.create(request), given.controller)
    try:
        with pytest.raises(NotSupported, match="encrypted"):
            given.controller.attach(made.id, given.identity)
        assert given.controller.get(made.id).attached_to == ()
    finally:
        given.controller.delete(made.id)
