"""The HTTP of the scheduler half, over a whole half with the directory driver and without Mesos."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from polly_mesos.agent_api import Hello, HostReport, encode
from polly_mesos.api.server import ApiServer, operator_token
from polly_mesos.config import load
from polly_mesos.errors import ConfigurationError, LedgerLocked
from polly_mesos.model import MB, Agent, AgentState, HostIdentity
from polly_mesos.scheduler.half import SchedulerHalf

DEADLINE = 10.0

CONFIGURATION = """
cluster: test
mesos: {{master: "127.0.0.1:1"}}
http: {{listen: "127.0.0.1:{port}"}}
ledger: {{path: {directory}/ledger.db}}
agents: {{volume_root: {directory}/volumes}}
services:
  local: {{driver: directory, directory: {directory}/platform, capacity: 4GiB}}
profiles:
  {profile}: {{service: local, minimum_size: 16MiB}}
"""


def configuration(directory: Path, profile: str = "gold") -> Path:
    (directory / "platform").mkdir(exist_ok=True)
    file = directory / "polly.yml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file.write_text(CONFIGURATION.format(directory=directory, profile=profile, port=port))
    return file


@pytest.fixture
def half(tmp_path: Path) -> Iterator[SchedulerHalf]:
    made = SchedulerHalf(load(configuration(tmp_path)))
    made.start()
    yield made
    made.stop()


@contextlib.contextmanager
def served(half: SchedulerHalf) -> Iterator[httpx.Client]:
    server = ApiServer(half)
    server.start()
    try:
        with httpx.Client(base_url=half.configuration.http.url, trust_env=False, timeout=30.0) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture
def client(half: SchedulerHalf) -> Iterator[httpx.Client]:
    with served(half) as opened:
        yield opened


@pytest.fixture
def executor(half: SchedulerHalf) -> dict[str, str]:
    """The headers of an executor on agent a1 that has said who its host is."""
    half.ledger.put_agent(
        Agent(
            "a1",
            "host1",
            "127.0.0.1:5051",
            AgentState.CONNECTED,
            volume_root=str(half.configuration.agents.volume_root),
            identities={"local": HostIdentity("127.0.0.1:5051")},
        )
    )
    return {"Authorization": f"Bearer {half.tokens.issue('a1')}"}


@pytest.fixture
def operator(half: SchedulerHalf) -> dict[str, str]:
    return bearer(half)


def bearer(half: SchedulerHalf) -> dict[str, str]:
    return {"Authorization": f"Bearer {operator_token(half.configuration.ledger.path)}"}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)
    return found


def test_health_says_whether_mesos_has_us(client: httpx.Client) -> None:
    answer = client.get("/health").json()
    assert answer["status"] == "degraded"
    assert answer["cluster"] == "test"


def test_a_pool_shows_where_its_bytes_are(client: httpx.Client) -> None:
    (pool,) = client.get("/v1/pools").json()
    assert pool["capacity"] == 4096 * MB
    assert pool["capacity"] == pool["leased"] + pool["reserved"] + pool["volumes"] + pool["free"]


def test_openapi_describes_every_route(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/health", "/v1/pools", "/v1/volumes", "/v1/agents", "/v1/operations", "/agent/v1/hello"} <= set(paths)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/volumes"),
        ("DELETE", "/v1/volumes/x"),
        ("POST", "/v1/agents"),
        ("POST", "/agent/v1/hello"),
        ("POST", "/agent/v1/operations"),
        ("GET", "/agent/v1/assignment"),
        ("POST", "/agent/v1/publications"),
        ("POST", "/agent/v1/publications/v/formatting"),
    ],
)
def test_nothing_is_changed_or_given_without_a_token(
    client: httpx.Client, half: SchedulerHalf, method: str, path: str, headers: dict[str, str]
) -> None:
    body = {"profile": "gold", "size": 64 * MB, "role": "r", "endpoint": "127.0.0.1:1"}
    answer = client.request(method, path, headers=headers, json=body)
    assert answer.status_code == 401, answer.text
    assert answer.json()["remedy"]
    assert not half.ledger.volumes()


def test_an_executors_token_is_not_the_operators(
    client: httpx.Client, executor: dict[str, str], operator: dict[str, str]
) -> None:
    body = {"profile": "gold", "size": 64 * MB, "role": "r"}
    assert client.post("/v1/volumes", json=body, headers=executor).status_code == 401
    assert client.post("/agent/v1/hello", json={}, headers=operator).status_code == 401


def test_no_token_is_shown_by_any_route(client: httpx.Client, half: SchedulerHalf, executor: dict[str, str]) -> None:
    token = executor["Authorization"].removeprefix("Bearer ")
    hashed = half.ledger.agent("a1").token_hash
    for path in ("/health", "/v1/agents", "/v1/volumes", "/v1/operations", "/v1/pools"):
        text = client.get(path).text
        assert token not in text
        assert hashed not in text
        assert bearer(half)["Authorization"].split()[1] not in text


def test_hello_is_answered_with_what_the_executor_needs(client: httpx.Client, executor: dict[str, str]) -> None:
    hello = encode(Hello("a1", "host1", "127.0.0.1:5051", "0.1.0"))
    welcome = client.post("/agent/v1/hello", json=hello, headers=executor).json()
    assert welcome["provider_type"] == "org.polly.mesos"
    assert welcome["provider_name"] == "test"
    (service,) = welcome["services"]
    assert service["driver"] == "drivers.directory.host:DirectoryHost"


def test_hello_under_another_agents_token_is_refused(client: httpx.Client, executor: dict[str, str]) -> None:
    hello = encode(Hello("a2", "host2", "127.0.0.1:5052", "0.1.0"))
    answer = client.post("/agent/v1/hello", json=hello, headers=executor)
    assert answer.status_code == 400
    assert "a1" in answer.json()["message"]


@pytest.mark.parametrize("body", [{}, [], "x", {"agent": 1}, None])
def test_a_message_that_does_not_fit_is_refused_with_the_field(
    client: httpx.Client, executor: dict[str, str], body: Any
) -> None:
    answer = client.post("/agent/v1/hello", json=body, headers=executor)
    assert answer.status_code == 400, answer.text
    assert "Hello" in answer.text or "body" in answer.text or "Field" in answer.text


def test_a_connected_agent_is_given_a_lease_and_told_so(
    client: httpx.Client, half: SchedulerHalf, executor: dict[str, str]
) -> None:
    first = client.get("/agent/v1/assignment", headers=executor).json()
    report = HostReport({"local": HostIdentity("127.0.0.1:5051")})
    assert client.post("/agent/v1/host", json=encode(report), headers=executor).status_code == 204
    query = {"after": first["version"], "wait": DEADLINE}

    def leased() -> Any:
        answer = client.get("/agent/v1/assignment", params=query, headers=executor).json()
        query["after"] = answer["version"]
        return answer["resources"]

    (disk,) = until(leased)
    assert disk["disk"]["source"]["type"] == "PATH"
    assert disk["disk"]["source"]["profile"] == "gold"
    assert disk["scalar"]["value"] > 0
    assert "reservations" not in disk


def test_what_a_host_lacks_is_shown_and_it_gets_no_lease(
    client: httpx.Client, half: SchedulerHalf, executor: dict[str, str]
) -> None:
    report = HostReport({"local": HostIdentity("127.0.0.1:5051")}, problems={"local": "mkfs.xfs: install xfsprogs"})
    client.post("/agent/v1/host", json=encode(report), headers=executor)
    (agent,) = client.get("/v1/agents").json()
    assert agent["problems"] == {"local": "mkfs.xfs: install xfsprogs"}
    half.planning.once()
    assert not half.ledger.leases("a1")


def test_a_volume_is_made_ahead_of_its_use_and_offered_to_its_role(
    client: httpx.Client, half: SchedulerHalf, executor: dict[str, str], operator: dict[str, str]
) -> None:
    body = {"profile": "gold", "size": 64 * MB, "role": "marathon"}
    made = client.post("/v1/volumes", json=body, headers=operator)
    assert made.status_code == 201, made.text
    volume_id = made.json()["id"]
    until(lambda: client.get(f"/v1/volumes/{volume_id}").json()["state"] == "ready")
    resources = client.get("/agent/v1/assignment", headers=executor).json()["resources"]
    (mount,) = [disk for disk in resources if disk["disk"]["source"]["type"] == "MOUNT"]
    assert mount["reservations"] == [{"role": "marathon", "type": "STATIC"}]
    assert mount["scalar"]["value"] == 64.0
    assert client.delete(f"/v1/volumes/{volume_id}", headers=operator).status_code == 202
    until(lambda: not client.get("/v1/volumes").json())
    assert client.get("/v1/pools").json()[0]["volumes"] == 0


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"profile": "platinum"}, 404, "platinum"),
        ({"size": 0}, 400, "size"),
        ({"size": -5}, 400, "size"),
        ({"size": 64 * MB + 1}, 400, "size"),
        ({"size": MB}, 400, "size"),
        ({"size": 8192 * MB}, 507, ""),
        ({"role": "*"}, 400, "role"),
        ({"role": "a b"}, 400, "role"),
        ({"agent": "nobody"}, 404, "nobody"),
    ],
)
def test_a_wrong_volume_is_refused_and_nothing_is_made(
    client: httpx.Client,
    half: SchedulerHalf,
    executor: dict[str, str],
    change: dict[str, Any],
    status: int,
    says: str,
    operator: dict[str, str],
) -> None:
    body = {"profile": "gold", "size": 64 * MB, "role": "marathon", **change}
    answer = client.post("/v1/volumes", json=body, headers=operator)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["message"]
    assert not half.ledger.volumes()


def test_an_unknown_volume_is_not_found(client: httpx.Client) -> None:
    answer = client.get(f"/v1/volumes/{uuid.uuid4()}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown-volume"


def test_the_artifact_is_there_for_everybody_under_its_name(client: httpx.Client, half: SchedulerHalf) -> None:
    answer = client.get(f"/agent/v1/artifact/{half.artifact.name}")
    assert answer.content == half.artifact.data
    assert client.get("/agent/v1/artifact/other.pyz").status_code == 404


def test_a_second_scheduler_on_the_same_ledger_is_refused_naming_the_first(half: SchedulerHalf, tmp_path: Path) -> None:
    with pytest.raises(LedgerLocked, match=r"\d+"):
        SchedulerHalf(load(tmp_path / "polly.yml"))


def test_a_configuration_that_forgot_a_profile_with_data_is_refused(tmp_path: Path) -> None:
    first = SchedulerHalf(load(configuration(tmp_path)))
    first.start()
    first.ledger.put_agent(
        Agent("a1", "h", "h:1", AgentState.CONNECTED, identities={"local": HostIdentity("h:1")}, volume_root="/v")
    )
    with served(first) as client:
        body = {"profile": "gold", "size": 64 * MB, "role": "marathon"}
        assert client.post("/v1/volumes", json=body, headers=bearer(first)).status_code == 201
    first.stop()
    with pytest.raises(ConfigurationError, match="gold"):
        SchedulerHalf(load(configuration(tmp_path, profile="silver")))
