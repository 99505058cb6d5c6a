"""The leading master is found and asked, whoever it is."""

from __future__ import annotations

import json

import pytest
from kazoo.exceptions import NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from polly_mesos.errors import InvalidRequest, MasterUnreachable
from polly_mesos.mesos import master_client
from polly_mesos.mesos.master_client import MasterClient, leader_in_zookeeper

from .http_server import serving

AGENT = {
    "agent_info": {
        "id": {"value": "S0"},
        "hostname": "host",
        "port": 5051,
        "attributes": [
            {"name": "zone", "type": "TEXT", "text": {"value": "a"}},
            {"name": "rack", "type": "SCALAR", "scalar": {"value": 7}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}, {"begin": 4, "end": 4}]}},
        ],
    },
    "active": True,
    "pid": "slave(3)@10.0.0.7:5052",
}


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def master(server):
    client = MasterClient(server.endpoint)
    yield client
    client.close()


def test_agents(server, master):
    server.answers["GET_AGENTS"] = (200, {"get_agents": {"agents": [AGENT]}})
    (agent,) = master.agents()
    assert (agent.id, agent.hostname, agent.endpoint, agent.process) == ("S0", "host", "10.0.0.7:5052", "slave(3)")
    assert agent.active
    assert agent.attributes == {"zone": "a", "rack": "7", "ports": "[1-2,4-4]"}


def test_frameworks(server, master):
    info = {"id": {"value": "F"}, "name": "polly", "user": "root"}
    frameworks = [{"framework_info": info, "active": True, "connected": True}]
    server.answers["GET_FRAMEWORKS"] = (200, {"get_frameworks": {"frameworks": frameworks}})
    (framework,) = master.frameworks()
    assert (framework.id, framework.name, framework.active, framework.connected) == ("F", "polly", True, True)


def test_events_until_they_are_closed(server, master):
    server.answers["SUBSCRIBE"] = (200, [{"type": "SUBSCRIBED"}, {"type": "AGENT_ADDED"}])
    with master.events() as events:
        stream = iter(events)
        assert [next(stream)["type"], next(stream)["type"]] == ["SUBSCRIBED", "AGENT_ADDED"]


def test_a_master_that_does_not_lead_sends_us_on_and_the_leader_is_remembered(server, master):
    with serving() as leader:
        server.answers["GET_AGENTS"] = (307, b"", {"Location": f"//{leader.endpoint}/api/v1"})
        leader.answers["GET_AGENTS"] = (200, {"get_agents": {}})
        assert master.agents() == []
        assert master.agents() == []
        assert (len(server.calls), len(leader.calls)) == (1, 2)
        leader.answers["GET_AGENTS"] = (503, b"")
        server.answers["GET_AGENTS"] = (200, {"get_agents": {"agents": [AGENT]}})
        assert len(master.agents()) == 1


def test_masters_that_send_us_in_circles(server, master):
    server.answers["GET_AGENTS"] = (307, b"", {"Location": f"//{server.endpoint}/api/v1"})
    with pytest.raises(MasterUnreachable, match="does not lead"):
        master.agents()


def test_no_master_says_which():
    client = MasterClient("127.0.0.1:1")
    with pytest.raises(MasterUnreachable, match=r"127\.0\.0\.1:1/api/v1, GET_AGENTS"):
        client.agents()
    client.close()


def test_an_answer_that_is_no_json(server, master):
    server.answers["GET_AGENTS"] = (200, b"<html>")
    with pytest.raises(MasterUnreachable, match="not JSON"):
        master.agents()


class ZooKeeper:
    """Stands in for kazoo's client."""

    nodes: dict[str, bytes] = {}  # noqa: RUF012
    error: Exception | None = None
    asked: list[dict] = []  # noqa: RUF012

    def __init__(self, **arguments):
        self.asked.append(arguments)

    def start(self, timeout):
        if self.error:
            raise self.error

    def get_children(self, path):
        assert path == "/mesos"
        return list(self.nodes)

    def get(self, path):
        return self.nodes[path.rpartition("/")[2]], None

    def stop(self):
        """Nothing was started."""

    close = stop


@pytest.fixture
def zookeeper(monkeypatch):
    monkeypatch.setattr(ZooKeeper, "nodes", {})
    monkeypatch.setattr(ZooKeeper, "error", None)
    monkeypatch.setattr(ZooKeeper, "asked", [])
    monkeypatch.setattr(master_client, "KazooClient", ZooKeeper)
    return ZooKeeper


def test_the_lowest_master_in_zookeeper_leads(zookeeper):
    zookeeper.nodes = {
        f"json.info_{number:010}": json.dumps({"address": {"ip": "10.0.0.1", "port": 5050 + number}}).encode()
        for number in (12, 7, 9)
    } | {"log_replicas": b"", "info_0000000001": b""}
    assert leader_in_zookeeper("zk://user:secret@a:2181,b:2181/mesos") == "10.0.0.1:5057"
    assert zookeeper.asked[0]["hosts"] == "a:2181,b:2181"
    assert zookeeper.asked[0]["auth_data"] == [("digest", "user:secret")]


@pytest.mark.parametrize("error", [KazooTimeoutError("timed out"), NoNodeError()])
def test_zookeeper_that_does_not_answer(zookeeper, error):
    zookeeper.error = error
    with pytest.raises(MasterUnreachable, match="cannot read /mesos in ZooKeeper at a:2181"):
        leader_in_zookeeper("zk://a:2181/mesos")


def test_no_master_in_zookeeper(zookeeper):
    with pytest.raises(MasterUnreachable, match="no master is announced at /mesos"):
        leader_in_zookeeper("zk://a:2181/mesos")


@pytest.mark.parametrize("address", ["zk://a:2181", "zk://a:2181/"])
def test_a_zookeeper_address_needs_a_path(address):
    with pytest.raises(InvalidRequest, match="has no path"):
        MasterClient(address)


def test_providers_of_an_agent_have_what_the_master_counts_for_them(server, master):
    def disk(provider, size):
        return {"name": "disk", "type": "SCALAR", "scalar": {"value": size}, "provider_id": {"value": provider}}

    def info(provider, name):
        return {"resource_provider_info": {"id": {"value": provider}, "type": "org.polly.mesos", "name": name}}

    agent = {
        **AGENT,
        "total_resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}},
            disk("P1", 64),
            disk("P2", 32),
            disk("P1", 16),
        ],
        "resource_providers": [info("P1", "one"), info("P3", "three")],
    }
    server.answers["GET_AGENTS"] = (200, {"get_agents": {"agents": [agent]}})
    first, second = master.agents()[0].providers
    assert (first.id, first.type, first.name) == ("P1", "org.polly.mesos", "one")
    assert [one["scalar"]["value"] for one in first.resources] == [64, 16]
    assert all("provider_id" not in one for one in first.resources)
    assert (second.id, second.resources) == ("P3", ())
