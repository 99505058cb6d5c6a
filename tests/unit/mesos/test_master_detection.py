"""Finding the leading master, by address and in ZooKeeper."""

from __future__ import annotations

from typing import Any

import pytest
from kazoo.exceptions import NoNodeError

from polly_mesos.errors import ConfigurationError, MasterUnreachable
from polly_mesos.mesos.master_detection import master_locator


@pytest.mark.parametrize(
    "master", ["", "host:port", "host:99999", "http://host:5050", "zk://", "zk://host:2181", "a b"]
)
def test_a_malformed_master_is_refused_at_once(master: str, recorder: Any, hardened: Any) -> None:
    with pytest.raises(ConfigurationError, match="Mesos master"):
        hardened(recorder, master)


class FakeZooKeeper:
    """kazoo's client as far as it is used, over a dictionary of paths."""

    def __init__(self, nodes: dict[str, bytes]) -> None:
        self.nodes = nodes
        self.options: dict[str, Any] = {}
        self.stopped = False

    def __call__(self, **options: Any) -> FakeZooKeeper:
        self.options = options
        return self

    def start(self, timeout: float) -> None:
        pass

    def get_children(self, path: str) -> list[str]:
        if path not in self.nodes:
            raise NoNodeError
        return [node.removeprefix(f"{path}/") for node in self.nodes if node.startswith(f"{path}/")]

    def get(self, path: str) -> tuple[bytes, None]:
        return self.nodes[path], None

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        pass


def zookeeper(monkeypatch: pytest.MonkeyPatch, nodes: dict[str, bytes]) -> FakeZooKeeper:
    fake = FakeZooKeeper(nodes)
    monkeypatch.setattr("kazoo.client.KazooClient", fake)
    return fake


def test_the_master_with_the_lowest_number_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = zookeeper(
        monkeypatch,
        {
            "/mesos": b"",
            "/mesos/log_replicas": b"",
            "/mesos/json.info_0000000012": b'{"address": {"hostname": "b", "ip": "10.0.0.2", "port": 5050}}',
            "/mesos/json.info_0000000009": b'{"address": {"hostname": "a", "ip": "10.0.0.1", "port": 5051}}',
        },
    )
    assert master_locator("zk://zk1:2181,zk2:2181/mesos").locate(1.0) == "10.0.0.1:5051"
    assert fake.options["hosts"] == "zk1:2181,zk2:2181"
    assert fake.options["auth_data"] is None
    assert fake.stopped


def test_the_password_goes_to_zookeeper_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = zookeeper(monkeypatch, {})
    locator = master_locator("zk://polly:s3cret@zk1:2181/mesos")
    with pytest.raises(MasterUnreachable) as caught:
        locator.locate(1.0)
    assert fake.options["auth_data"] == [("digest", "polly:s3cret")]
    assert "zk://zk1:2181/mesos" in str(caught.value)
    assert "s3cret" not in f"{caught.value} {locator}"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({}, "no Mesos master has announced itself at zk://zk1:2181/mesos"),
        ({"/mesos": b""}, "no Mesos master has announced itself at zk://zk1:2181/mesos"),
        ({"/mesos": b"", "/mesos/json.info_1": b"{}"}, "lacks an address"),
        ({"/mesos": b"", "/mesos/json.info_1": b"\xff"}, "lacks an address"),
    ],
)
def test_where_nobody_leads_it_is_said(nodes: dict[str, bytes], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = zookeeper(monkeypatch, nodes)
    with pytest.raises(MasterUnreachable, match=said):
        master_locator("zk://zk1:2181/mesos").locate(1.0)
    assert fake.stopped


def test_a_zookeeper_that_does_not_answer_is_named() -> None:
    with pytest.raises(MasterUnreachable, match=r"ZooKeeper at 127\.0\.0\.1:1 does not answer"):
        master_locator("zk://127.0.0.1:1/mesos").locate(0.2)


@pytest.mark.parametrize(
    ("written", "address"),
    [("host", "host:5050"), ("10.0.0.1:5060", "10.0.0.1:5060"), ("[::1]", "[::1]:5050"), ("[::1]:5060", "[::1]:5060")],
)
def test_a_fixed_master_may_come_without_its_port(written: str, address: str) -> None:
    assert master_locator(written).locate(1.0) == address


def test_a_malformed_address_with_a_password_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        master_locator("zookeeper://polly:s3cret@zk1/mesos")
    assert "s3cret" not in str(caught.value)
