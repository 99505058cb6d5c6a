"""The whole way of a volume on the real Mesos and a real Cinder, on an agent that is no instance: with os-brick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster
from tests.drivers.cinder_cloud import cloud
from tests.leftovers import require_root
from tests.mesos.test_cinder import volume_of_cinder_is_used

pytestmark = [
    pytest.mark.mesos,
    pytest.mark.root,
    pytest.mark.openstack,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

SECRET = "chap-and-secret"


LISTENING = """#!/bin/sh
tee -a {asked} | "{python}" "$@"
grep -rlFs -D skip --exclude-dir=mounts {secret} {places} >> {leaked}
grep -rlFs -D skip --exclude-dir=mounts auth_password {places} >> {known}
true
"""
"""A Python that notes what it is asked, and what of it is in a file by then: the holding and the ledger are written."""


def test_a_task_finds_its_data_again_on_a_volume_that_its_host_reached_by_itself(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way to the volume has a password, which reaches os-brick and is in no file and no log."""
    require_root()
    hosts = cloud().bare_hosts
    cluster = cluster_factory(agents=1)
    hosts.add(*(agent.endpoint for agent in cluster.agents))
    listening, directory = tmp_path / "python", tmp_path / "polly"
    asked, leaked, known = (tmp_path / name for name in ("asked", "leaked", "known"))
    places = f"{directory} {cluster.directory} {cluster.volumes} {hosts.root}"
    listening.write_text(
        LISTENING.format(asked=asked, python=hosts.python, secret=SECRET, places=places, leaked=leaked, known=known)
    )
    listening.chmod(0o755)
    directory.mkdir()
    monkeypatch.setenv("CINDER_PASSWORD", cloud().password)
    cloud().proxy.connection = {"auth_method": "CHAP", "auth_username": "polly", "auth_password": SECRET}
    try:
        service = cloud().login(password="${CINDER_PASSWORD}", **hosts.settings(os_brick_python=str(listening)))
        volume_of_cinder_is_used(cluster, directory, service)
    finally:
        cloud().proxy.clear()
    assert SECRET in asked.read_text()
    assert '"do": "disconnect"' in asked.read_text()
    assert leaked.read_text() == ""
    for name in ("/ledger.db", "/.polly/", "/records/"):
        assert name in known.read_text()
    assert hosts.bound() == []
