"""Hosts that reach an iSCSI target with CHAP: real Cinder, real os-brick, and an initiator of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.cinder import GIB
from drivers.cinder.connections import VALUES
from polly_mesos.errors import HostError
from polly_mesos.testing.openstack.iscsi import DISK, IscsiHost
from tests.drivers.cinder_cloud import cloud
from tests.drivers.test_cinder_reaching import Given

pytestmark = [pytest.mark.root, pytest.mark.openstack, pytest.mark.timeout(600), pytest.mark.usefixtures("needs_cloud")]

PASSWORD = "chap-and-secret"


@pytest.fixture
def initiator(tmp_path: Path) -> Iterator[IscsiHost]:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(GIB)
    with IscsiHost(tmp_path / "host", cloud().bare_hosts.python, image, PASSWORD) as host:
        yield host


@pytest.fixture
def given(initiator: IscsiHost, tmp_path: Path) -> Iterator[Given]:
    cloud().proxy.connection = initiator.connection()
    made = Given(
        os_brick_python=initiator.python, host_root=str(initiator.root), host_directory=str(tmp_path / "state/{node}")
    )
    yield made
    made.end()


def test_a_volume_comes_with_its_password_and_goes_again(given: Given, initiator: IscsiHost) -> None:
    place = str(initiator.root / "dev" / DISK)
    assert given.host.locate(given.whole, 30.0) == place
    assert initiator.has_session
    with open(place, "r+b") as disk:
        disk.write(b"precious")
    asked = len(initiator.asked())
    assert given.host.locate(given.whole, 30.0) == place
    assert len(initiator.asked()) == asked, "what is connected is not connected again: it may be in use"
    assert given.host.held() == {place: given.attachment}
    given.host.release(given.attachment)
    assert not initiator.has_session
    assert not Path(place).exists()
    assert given.host.held() == {}
    given.host.release(given.attachment)
    assert given.host.locate(given.whole, 30.0) == place
    with open(place, "rb") as disk:
        assert disk.read(8) == b"precious"


def test_what_os_brick_calls_disconnected_is_believed_when_the_kernel_says_so_too(
    given: Given, initiator: IscsiHost
) -> None:
    place = given.host.locate(given.whole, 30.0)
    initiator.break_down()
    with pytest.raises(HostError, match="is still there"):
        given.host.release(given.attachment)
    assert given.host.held() == {place: given.attachment}
    initiator.break_down(broken=False)
    given.host.release(given.attachment)
    assert not initiator.has_session


def test_the_password_is_in_no_record_and_no_error(given: Given, initiator: IscsiHost) -> None:
    wrong = {**given.attachment, VALUES: {"auth_password": "not-the-secret"}}
    with pytest.raises(HostError) as caught:
        given.host.locate(wrong, 30.0)
    assert "not-the-secret" not in f"{caught.value} {caught.value!r}"
    assert not initiator.has_session
    given.host.locate(given.whole, 30.0)
    for path in given.directory.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_a_target_that_gives_a_smaller_disk_is_refused(given: Given, initiator: IscsiHost) -> None:
    with pytest.raises(HostError, match="bytes"):
        given.host.locate({**given.whole, "size": 2 * GIB}, 30.0)
    given.host.release(given.attachment)
    assert not initiator.has_session
