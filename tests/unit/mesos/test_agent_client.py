"""What the agent says reaches the caller as what it means; what goes wrong, as an error that says what."""

from __future__ import annotations

import base64
import socket
import threading

import pytest

from polly_mesos.errors import AgentUnreachable
from polly_mesos.mesos.agent_client import AgentClient, Container, process_of
from polly_mesos.mesos.http import MesosRefused
from polly_mesos.mesos.recordio import MalformedStream

from .http_server import serving

DISK = {
    "name": "disk",
    "type": "SCALAR",
    "scalar": {"value": 5},
    "provider_id": {"value": "rp"},
    "reservations": [{"type": "DYNAMIC", "role": "dev"}],
    "role": "dev",
    "disk": {"persistence": {"id": "v"}, "source": {"type": "PATH", "path": {"root": "/polly"}}},
}
SCRATCH = {**DISK, "disk": {"source": DISK["disk"]["source"]}}
PORTS = {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}}


def volume(name):
    return {**DISK, "disk": {**DISK["disk"], "persistence": {"id": name}}}


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def agent(server):
    client = AgentClient(server.endpoint)
    yield client
    client.close()


def test_the_agents_id(server, agent):
    server.answers["GET_AGENT"] = (200, {"get_agent": {"agent_info": {"id": {"value": "S0"}, "hostname": "h"}}})
    assert agent.agent_id() == "S0"
    assert server.calls[0][0] == "/slave(1)/api/v1"


@pytest.mark.parametrize("answer", [{"get_agent": {}}, {"get_agent": {"agent_info": {"hostname": "h"}}}])
def test_an_agent_without_id_is_not_ready(server, agent, answer):
    server.answers["GET_AGENT"] = (200, answer)
    with pytest.raises(AgentUnreachable, match="has not registered"):
        agent.agent_id()


def test_flags(server, agent):
    flags = [{"name": "work_dir", "value": "/var/lib/mesos"}, {"name": "switch_user"}]
    server.answers["GET_FLAGS"] = (200, {"get_flags": {"flags": flags}})
    assert agent.flags() == {"work_dir": "/var/lib/mesos", "switch_user": ""}


def test_subscribed_providers(server, agent):
    info = {"id": {"value": "rp"}, "type": "org.polly.mesos", "name": "test"}
    server.answers["GET_RESOURCE_PROVIDERS"] = (
        200,
        {"get_resource_providers": {"resource_providers": [{"resource_provider_info": info}]}},
    )
    (provider,) = agent.resource_providers()
    assert (provider.id, provider.type, provider.name, provider.resources) == ("rp", "org.polly.mesos", "test", ())


def test_what_is_in_use_is_what_unfinished_tasks_and_executors_hold(server, agent):
    tasks = {
        "pending_tasks": [{"resources": [volume("pending")]}],
        "queued_tasks": [{"resources": [volume("queued"), PORTS]}],
        "launched_tasks": [{"resources": [volume("launched"), SCRATCH, {**DISK, "provider_id": None}]}],
        "terminated_tasks": [{"resources": [volume("terminated")]}],
        "completed_tasks": [{"resources": [volume("completed")]}],
    }
    executors = {
        "executors": [{"executor_info": {"resources": [volume("executor")]}}],
        "completed_executors": [{"executor_info": {"resources": [volume("gone")]}}],
    }
    server.answers["GET_STATE"] = (200, {"get_state": {"get_tasks": tasks, "get_executors": executors}})
    server.answers["GET_TASKS"] = (200, {"get_tasks": tasks})
    server.answers["GET_EXECUTORS"] = (200, {"get_executors": executors})
    names = ("pending", "queued", "launched", "executor")
    assert agent.places_in_use() == {f"/polly/volumes/roles/dev/{name}" for name in names}
    assert len(agent.resources_in_use()) == 6
    assert len(agent.tasks()) == 3
    assert len(agent.executors()) == 1


def test_an_idle_agent_uses_nothing(server, agent):
    server.answers["GET_STATE"] = (200, {"get_state": {}})
    assert agent.places_in_use() == frozenset()


def using(name, **fields):
    return {"framework_id": {"value": "f"}, "resources": [volume(name)], **fields}


def test_the_containers_of_what_uses_a_volume(server, agent):
    tasks = {
        "launched_tasks": [
            using("v", task_id={"value": "command"}),
            using("v", task_id={"value": "t1"}, executor_id={"value": "e1"}),
            using("v", task_id={"value": "t2"}, executor_id={"value": "e1"}),
            using("another", task_id={"value": "t3"}, executor_id={"value": "e3"}),
        ],
        "queued_tasks": [using("v", task_id={"value": "not started"})],
        "terminated_tasks": [using("v", task_id={"value": "over"}, executor_id={"value": "e4"})],
    }
    executors = {"executors": [{"executor_info": using("v", executor_id={"value": "e2"})}]}
    containers = [
        {"framework_id": {"value": framework}, "executor_id": {"value": executor}, "container_id": {"value": executor}}
        for framework, executor in (
            *(("f", name) for name in ("command", "e1", "e2", "e3", "e4")),
            ("another framework", "e1"),
        )
    ]
    server.answers["GET_STATE"] = (200, {"get_state": {"get_tasks": tasks, "get_executors": executors}})
    server.answers["GET_CONTAINERS"] = (200, {"get_containers": {"containers": containers}})
    assert agent.containers_using("/polly/volumes/roles/dev/v") == (
        Container("command", "f", "command", ("command",)),
        Container("e1", "f", "e1", ("t1", "t2")),
        Container("e2", "f", "e2"),
    )
    assert agent.containers_using("/polly/volumes/roles/dev/unused") == ()


def test_a_container_is_killed(server, agent):
    server.answers["KILL_CONTAINER"] = (200, b"")
    agent.kill_container(Container("c", "f", "e"))
    _, call, _ = server.calls[0]
    assert call == {"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "c"}, "signal": 9}}


def test_a_container_that_is_gone_needs_no_killing(server, agent):
    server.answers["KILL_CONTAINER"] = (404, b"Container c cannot be found")
    agent.kill_container(Container("c", "f", "e"))


def test_not_being_allowed_to_kill_is_an_error(server, agent):
    server.answers["KILL_CONTAINER"] = (403, b"")
    with pytest.raises(MesosRefused):
        agent.kill_container(Container("c", "f", "e"))


@pytest.mark.parametrize(("status", "error"), [(503, AgentUnreachable), (500, AgentUnreachable), (400, MesosRefused)])
def test_an_error_names_the_agent_and_what_it_said(server, agent, status, error):
    server.answers["GET_AGENT"] = (status, b"Agent has not finished recovery")
    with pytest.raises(error, match=rf"agent {server.endpoint}, GET_AGENT: HTTP {status}: Agent has not finished"):
        agent.agent_id()


def test_missing_credentials_have_a_remedy(server, agent):
    server.answers["GET_AGENT"] = (401, b"")
    with pytest.raises(MesosRefused, match="give a principal and secret") as caught:
        agent.agent_id()
    assert caught.value.status == 401


def test_nobody_listening_is_unreachable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = AgentClient(f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(AgentUnreachable, match="GET_AGENT"):
            client.agent_id()
        client.close()


def test_an_answer_that_is_no_json_is_unreachable(server, agent):
    server.answers["GET_AGENT"] = (200, b"<html>")
    with pytest.raises(AgentUnreachable, match="not JSON"):
        agent.agent_id()


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"principal": "p", "secret": "s"}, f"Basic {base64.b64encode(b'p:s').decode()}"),
        ({}, None),
    ],
)
def test_credentials_are_sent(server, credentials, header):
    server.answers["GET_FLAGS"] = (200, {"get_flags": {}})
    client = AgentClient(server.endpoint, process="agent(2)", **credentials)
    client.flags()
    client.close()
    path, _, headers = server.calls[0]
    assert path == "/agent(2)/api/v1"
    assert headers.get("Authorization") == header


def test_provider_calls_carry_the_stream(server, agent):
    server.answers["UPDATE_STATE"] = (202, b"")
    agent.call_provider_api({"type": "UPDATE_STATE"}, "stream")
    path, _, headers = server.calls[0]
    assert path == "/slave(1)/api/v1/resource_provider"
    assert headers["Mesos-Stream-Id"] == "stream"


def test_a_stream_gives_events_until_another_thread_closes_it(server, agent):
    server.answers["SUBSCRIBE"] = (200, [{"type": "A"}, {"type": "B"}], {"Mesos-Stream-Id": "s"})
    with agent.subscribe_provider({"type": "SUBSCRIBE"}) as events:
        assert events.response.headers["Mesos-Stream-Id"] == "s"
        seen = []
        try:
            for event in events:
                seen.append(event["type"])
                if event["type"] == "B":
                    threading.Timer(0.05, events.close).start()
        except AgentUnreachable:
            pass
    assert seen == ["A", "B"]


def test_a_stream_that_the_server_ends_ends(server, agent):
    server.answers["SUBSCRIBE"] = (200, [{"type": "A"}])
    server.release.set()
    with agent.subscribe_provider({"type": "SUBSCRIBE"}) as events:
        assert [event["type"] for event in events] == ["A"]


def test_a_stream_that_is_no_recordio_is_malformed(server, agent):
    server.answers["SUBSCRIBE"] = (200, b"<html>")
    with agent.subscribe_provider({"type": "SUBSCRIBE"}) as events, pytest.raises(MalformedStream):
        list(events)


def test_a_stream_that_is_not_accepted_says_why(server, agent):
    server.answers["SUBSCRIBE"] = (503, b"Agent is recovering")
    with pytest.raises(AgentUnreachable, match="Agent is recovering"):
        agent.subscribe_provider({"type": "SUBSCRIBE"})


def test_the_process_of_a_pid():
    assert process_of("slave(1)@10.0.0.7:5051") == "slave(1)"
