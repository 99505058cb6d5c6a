"""Check, repair, orphans, events and metrics, over HTTP and by the command line, on a whole half without Mesos."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from drivers.base import CreateRequest, Tags
from polly_mesos.agent_api import Application, HostReport, encode
from polly_mesos.api.server import ApiServer
from polly_mesos.cli.main import polly
from polly_mesos.config import load
from polly_mesos.errors import SchedulerUnreachable
from polly_mesos.model import (
    MB,
    Agent,
    AgentState,
    Event,
    Filesystem,
    FormatState,
    HostIdentity,
    Severity,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.half import SchedulerHalf
from polly_mesos.scheduler.tags import Origin
from polly_mesos.scheduler.tags import encode as encode_origin
from tests.unit.api.test_api import bearer, configuration, until

OWNER = '[{"labels":{"labels":[{"key":"app","value":"db"}]},"principal":"p","role":"eng","type":"DYNAMIC"}]'
SIZE = 64 * MB


@pytest.fixture
def half(tmp_path: Path) -> Iterator[SchedulerHalf]:
    made = SchedulerHalf(load(configuration(tmp_path)))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def server(half: SchedulerHalf) -> Iterator[ApiServer]:
    made = ApiServer(half)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(half: SchedulerHalf, server: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=half.configuration.http.url, trust_env=False, timeout=30.0) as opened:
        yield opened


@pytest.fixture
def agent(half: SchedulerHalf) -> Agent:
    """An agent that was connected long ago and is lost, so that nobody expects a report of it."""
    made = Agent("a1", "host1", "host1:5051", AgentState.LOST, identities={"local": HostIdentity("host1:5051")})
    half.ledger.put_agent(made)
    return made


Run = Callable[..., Result]


@pytest.fixture
def run(client: httpx.Client, half: SchedulerHalf, tmp_path: Path) -> Run:
    """Run ``polly WORDS`` against the half."""
    environment = {
        "POLLY_SCHEDULER": half.configuration.http.url,
        "POLLY_TOKEN_FILE": str(tmp_path / "operator-token"),
    }
    return lambda *words: CliRunner().invoke(polly, list(words), env=environment)


def platform_volume(half: SchedulerHalf, tag: str = "", profile: str = "gold", origin: Origin | None = None) -> str:
    """A volume on the platform with our tag; returns its id there."""
    tags = Tags("test", tag or str(uuid.uuid4()), profile, user=encode_origin(origin) if origin else {})
    controller = half.services.controller("local")
    return controller.create(CreateRequest(tags.volume, SIZE, tags, filesystem=Filesystem.NONE)).id


def codes(report: Any) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


# Check and repair

AWAY = ["master.unreachable"]
"""What is always found here: there is no Mesos."""


def test_a_check_names_each_difference_with_its_remedy(client: httpx.Client, half: SchedulerHalf) -> None:
    made = platform_volume(half)
    report = client.get("/v1/check", params={"pause": 0}).json()
    assert codes(report) == [*AWAY, "volume.orphan"]
    orphan = report["findings"][1]
    assert orphan["subject"] == f"local/{made}"
    assert orphan["severity"] == "warning"
    assert orphan["remedy"]
    assert orphan["repairable"] is False
    assert report["errors"] == 0


def test_a_wrong_pause_is_refused(client: httpx.Client) -> None:
    assert client.get("/v1/check", params={"pause": -1}).status_code == 400
    assert client.get("/v1/check", params={"pause": 3600}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/check/repair", "/v1/volumes/adopt"])
def test_only_operators_repair_and_adopt(client: httpx.Client, half: SchedulerHalf, path: str) -> None:
    made = platform_volume(half)
    answer = client.post(path, json={"service": "local", "platform_id": made})
    assert answer.status_code == 401
    assert not half.ledger.volumes()


def test_a_repair_does_what_is_safe_and_says_what_it_left(
    client: httpx.Client, half: SchedulerHalf, agent: Agent
) -> None:
    volume = adopted(half, agent)
    half.ledger.put_agent(dataclasses.replace(agent, state=AgentState.CONNECTED))
    half.ledger.publish(volume.id, agent.id, "host1:5051")
    half.controller.look_at(volume.id)
    until(lambda: half.services.controller("local").get(volume.platform_id).attached_to)
    until(lambda: (found := half.ledger.publication(volume.id)) and found.state == "attached")
    half.services.controller("local").detach(volume.platform_id, HostIdentity("host1:5051"))
    platform_volume(half)
    with reporting(half, agent, HostReport(agent.identities)):
        answer = client.post("/v1/check/repair", params={"pause": 0}, headers=bearer(half)).json()
    done = {one["finding"]["code"]: one["done"] for one in answer["repaired"]}
    assert done["attachment.missing"] is True
    assert done["volume.orphan"] is False
    until(lambda: half.ledger.publication(volume.id) is None)
    assert "volume.orphan" in codes(answer["after"])


def adopted(half: SchedulerHalf, agent: Agent) -> Volume:
    """A volume of the ledger's that an agent is to offer."""
    made = platform_volume(half, origin=Origin(VolumeKind.PATH, SIZE, agent.id, "", "eng", "data", "f", OWNER, {}))
    found = half.services.controller("local").get(made)
    return half.ledger.adopt_volume(
        Volume(
            found.tags.volume,
            "gold",
            "gold",
            "local",
            VolumeKind.PATH,
            SIZE,
            VolumeState.READY,
            agent=agent.id,
            owner=OWNER,
            persistence_id="data",
            platform_id=made,
            format_state=FormatState.FORMATTED,
        )
    )


@contextlib.contextmanager
def reporting(half: SchedulerHalf, agent: Agent, report: HostReport) -> Iterator[None]:
    """Inside, the agent's host reports whenever it is asked to."""
    stopping = threading.Event()

    def answer() -> None:
        answered = 0
        while not stopping.wait(0.01):
            asked = half.hosts.asked(agent.id)
            if asked != answered:
                half.hosts.put(agent.id, report)
                answered = asked

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_an_executor_is_told_when_its_report_is_wanted(client: httpx.Client, half: SchedulerHalf, agent: Agent) -> None:
    headers = {"Authorization": f"Bearer {half.tokens.issue(agent.id)}"}
    first = client.get("/agent/v1/assignment", headers=headers).json()
    half.hosts.ask([agent.id])
    half.board.changed([agent.id])
    second = client.get("/agent/v1/assignment", params={"after": first["version"], "wait": 10}, headers=headers).json()
    assert second["look"] == first["look"] + 1


def test_the_command_tells_findings_and_leaves_with_0_on_warnings(run: Run, half: SchedulerHalf) -> None:
    made = platform_volume(half)
    result = run("check", "--pause", "0")
    assert result.exit_code == 0, result.output
    assert f"volume.orphan  local/{made}" in result.output
    assert f"polly volume adopt local {made}" in result.output
    assert "0 errors, 2 warnings." in result.output


def test_the_command_leaves_with_3_on_errors_also_as_json(run: Run, half: SchedulerHalf, agent: Agent) -> None:
    volume = adopted(half, agent)
    half.services.controller("local").delete(volume.platform_id)
    result = run("check", "--pause", "0", "--format", "json")
    assert result.exit_code == 3
    assert "volume.missing" in codes(json.loads(result.output))


def test_the_command_repairs_and_tells_what_it_left(run: Run, half: SchedulerHalf) -> None:
    made = platform_volume(half)
    result = run("check", "--repair", "--pause", "0")
    assert result.exit_code == 0, result.output
    assert f"LEFT    volume.orphan  local/{made}" in result.output
    assert "After that:" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--offline",), "--config"),
        (("--config", "polly.yml"), "--offline"),
        (("--repair", "--offline", "--config", "polly.yml"), "--repair"),
        (("--pause", "-1"), "--pause"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(polly, ["check", *words])
    assert result.exit_code == 2
    assert says in result.output


def test_a_repair_without_a_token_is_refused_before_anything_is_asked() -> None:
    result = CliRunner().invoke(polly, ["check", "--repair"], env={"POLLY_TOKEN_FILE": ""})
    assert result.exit_code == 2
    assert "--token-file" in result.output


def test_without_a_scheduler_the_offline_check_is_named() -> None:
    result = CliRunner().invoke(polly, ["check", "--scheduler", "http://127.0.0.1:9"])
    assert isinstance(result.exception, SchedulerUnreachable)
    assert "polly check --offline" in result.exception.remedy


def test_ledger_and_platforms_are_checked_without_a_scheduler(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    first = SchedulerHalf(load(config))
    first.start()
    first.ledger.put_agent(Agent("a1", "host1", "host1:5051", AgentState.LOST))
    volume = adopted(first, first.ledger.agent("a1"))
    first.services.controller("local").delete(volume.platform_id)
    first.stop()
    result = CliRunner().invoke(polly, ["check", "--offline", "--config", str(config), "--pause", "0"])
    assert result.exit_code == 3, result.output
    assert "volume.missing" in result.output
    assert "NOT SEEN  the hosts were not asked" in result.output


# Orphans


def test_orphans_are_listed_with_what_their_tags_say(run: Run, half: SchedulerHalf) -> None:
    made = platform_volume(half, origin=Origin(VolumeKind.PATH, SIZE, "a1", "h:1", "eng", "data", "f", OWNER, {}))
    (orphan,) = json.loads(run("volume", "orphans", "--format", "json").output)
    assert (orphan["platform_id"], orphan["role"], orphan["persistence_id"]) == (made, "eng", "data")
    assert orphan["adoptable"] is True
    assert made in run("volume", "orphans").output
    assert half.services.controller("local").get(made), "it is still there"


def test_no_orphans_is_said(run: Run) -> None:
    assert "No orphans" in run("volume", "orphans").output


def test_an_orphan_becomes_the_disk_that_its_framework_had(run: Run, half: SchedulerHalf, agent: Agent) -> None:
    disk = {"persistence": {"id": "data", "principal": "p"}, "volume": {"mode": "RW", "container_path": "d"}}
    origin = Origin(VolumeKind.PATH, SIZE, agent.id, agent.endpoint, "eng", "data", "f1", OWNER, disk)
    made = platform_volume(half, origin=origin)
    half.ledger.put_agent(dataclasses.replace(agent, state=AgentState.CONNECTED))
    (shown,) = json.loads(run("volume", "adopt", "local", made, "--format", "json").output)
    volume = half.ledger.volume(shown["id"])
    assert (volume.state, volume.agent, volume.owner, volume.persistence) == ("ready", "a1", OWNER, disk)
    assert (volume.platform_id, volume.framework, volume.format_state) == (made, "f1", "formatted")
    assert json.loads(run("volume", "orphans", "--format", "json").output) == []
    assert [event.kind for event in half.ledger.events(kinds=["volume.adopted"])] == ["volume.adopted"]


def test_an_orphan_can_be_given_to_a_role_under_a_name(run: Run, half: SchedulerHalf, agent: Agent) -> None:
    made = platform_volume(half)
    half.ledger.put_agent(dataclasses.replace(agent, state=AgentState.CONNECTED))
    words = ("--agent", "host1", "--role", "eng", "--persistence-id", "pg", "--format", "json")
    (shown,) = json.loads(run("volume", "adopt", "local", made, *words).output)
    volume = half.ledger.volume(shown["id"])
    assert volume.owner == '[{"role":"eng","type":"DYNAMIC"}]'
    assert volume.persistence["persistence"] == {"id": "pg"}
    assert volume.agent == "a1"


def test_an_orphan_can_be_given_to_a_role_as_a_disk_of_its_own(run: Run, half: SchedulerHalf) -> None:
    made = platform_volume(half)
    (shown,) = json.loads(run("volume", "adopt", "local", made, "--role", "eng", "--format", "json").output)
    volume = half.ledger.volume(shown["id"])
    assert volume.kind is VolumeKind.MOUNT
    assert volume.owner == '[{"role":"eng","type":"STATIC"}]'


def test_an_orphan_of_nobody_is_kept_and_offered_to_nobody(run: Run, half: SchedulerHalf) -> None:
    made = platform_volume(half)
    (shown,) = json.loads(run("volume", "adopt", "local", made, "--format", "json").output)
    assert half.ledger.volume(shown["id"]).state == "released"


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"service": "rack"}, 404, "rack"),
        ({"platform_id": "nothing"}, 404, "nothing"),
        ({"agent": "nobody"}, 404, "nobody"),
        ({"persistence_id": "pg"}, 400, "pg"),
        ({"role": "*"}, 400, "role"),
        ({"persistence_id": "a/b", "role": "eng"}, 400, "persistence_id"),
    ],
)
def test_a_wrong_adoption_is_refused_and_nothing_is_kept(
    client: httpx.Client, half: SchedulerHalf, change: dict[str, str], status: int, says: str
) -> None:
    body = {"service": "local", "platform_id": platform_volume(half), **change}
    answer = client.post("/v1/volumes/adopt", json=body, headers=bearer(half))
    assert answer.status_code == status, answer.text
    assert says in answer.json()["message"]
    assert not half.ledger.volumes()


def test_an_orphan_of_a_profile_that_is_gone_is_refused(client: httpx.Client, half: SchedulerHalf) -> None:
    body = {"service": "local", "platform_id": platform_volume(half, profile="silver")}
    answer = client.post("/v1/volumes/adopt", json=body, headers=bearer(half))
    assert answer.status_code == 404
    assert "silver" in answer.json()["message"]


def test_what_the_ledger_has_or_had_is_not_adopted(client: httpx.Client, half: SchedulerHalf, agent: Agent) -> None:
    volume = adopted(half, agent)
    controller = half.services.controller("local")
    twin = controller.create(CreateRequest("twin", SIZE, Tags("test", volume.id, "gold"), filesystem=Filesystem.NONE))
    body = {"service": "local", "platform_id": twin.id}
    answer = client.post("/v1/volumes/adopt", json=body, headers=bearer(half))
    assert answer.status_code == 409
    assert volume.platform_id in answer.json()["message"]
    half.ledger.delete_volume(volume.id)
    half.controller.look_at(volume.id)
    until(lambda: half.ledger.volume(volume.id).state == "deleted")
    answer = client.post("/v1/volumes/adopt", json=body, headers=bearer(half))
    assert answer.status_code == 409
    assert "deleted" in answer.json()["message"]


# Events


def test_events_are_read_by_kind_and_subject(client: httpx.Client, half: SchedulerHalf) -> None:
    for number in range(3):
        half.ledger.record_event(Event("test.one", f"v{number}", "one"))
    half.ledger.record_event(Event("test.two", "v0", "two", Severity.ERROR, {"why": "because"}))
    found = client.get("/v1/events", params={"kind": ["test.one", "test.two"], "subject": "v0"}).json()
    assert [(event["kind"], event["severity"]) for event in found] == [("test.one", "info"), ("test.two", "error")]
    assert found[1]["detail"] == {"why": "because"}
    later = client.get("/v1/events", params={"after": found[0]["number"], "limit": 1}).json()
    assert [event["subject"] for event in later] == ["v1"]


def test_an_event_that_comes_later_is_waited_for(client: httpx.Client, half: SchedulerHalf) -> None:
    newest = half.ledger.record_event(Event("test.one", "v", "one")).number
    later = threading.Timer(0.3, half.ledger.record_event, [Event("test.two", "v", "two")])
    later.start()
    found = client.get("/v1/events", params={"after": newest, "wait": 20, "kind": "test.two"}).json()
    later.join()
    assert [event["kind"] for event in found] == ["test.two"]


def test_the_command_shows_events(run: Run, half: SchedulerHalf) -> None:
    assert run("events", "--kind", "test.one").output.strip() == "No events."
    half.ledger.record_event(Event("test.one", "v1", "something happened"))
    assert "something happened" in run("events", "--subject", "v1").output
    (event,) = json.loads(run("events", "--kind", "test.one", "--format", "json").output)
    assert event["subject"] == "v1"


def test_the_command_follows_events(half: SchedulerHalf, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from polly_mesos.cli import events

    half.ledger.record_event(Event("test.one", "v1", "one"))
    following = events._following(half.configuration.http.url, [("kind", "test.one")], 0)
    first = next(following)
    half.ledger.record_event(Event("test.other", "v1", "not asked for"))
    half.ledger.record_event(Event("test.one", "v2", "two"))
    second = next(following)
    assert [event["subject"] for event in (*first, *second)] == ["v1", "v2"]


# Metrics


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    for family in families:
        assert family.documentation, family.name
        assert family.name.startswith("polly_"), family.name
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(client: httpx.Client, name: str, **labels: str) -> float | None:
    return samples(client).get((name, frozenset(labels.items())))


def test_metrics_tell_where_bytes_and_volumes_are(client: httpx.Client, half: SchedulerHalf, agent: Agent) -> None:
    adopted(half, agent)
    found = samples(client)
    capacity = found["polly_pool_capacity_bytes", frozenset({("pool", "gold")})]
    kinds = ("leased", "reserved", "volumes", "free")
    parts = [found["polly_pool_bytes", frozenset({("pool", "gold"), ("kind", kind)})] for kind in kinds]
    assert capacity == sum(parts) == 4096 * MB
    assert value(client, "polly_volumes", service="local", state="ready") == 1
    assert value(client, "polly_volumes", service="local", state="failed") == 0
    assert value(client, "polly_agents", state="lost") == 1
    assert value(client, "polly_publications", state="published") == 0
    assert value(client, "polly_registered") == 0


def test_metrics_time_the_calls_of_platforms_by_their_outcome(
    client: httpx.Client, half: SchedulerHalf, agent: Agent
) -> None:
    half.ledger.put_agent(dataclasses.replace(agent, state=AgentState.CONNECTED))
    body = {"profile": "gold", "size": SIZE, "role": "eng"}
    assert client.post("/v1/volumes", json=body, headers=bearer(half)).status_code == 201
    labels = {"service": "local", "call": "create", "outcome": "ok"}
    until(lambda: value(client, "polly_platform_call_seconds_count", **labels) == 1)
    assert value(client, "polly_platform_call_seconds_bucket", **labels, le="+Inf") == 1


def test_metrics_count_a_failing_platform_by_its_error(client: httpx.Client, half: SchedulerHalf, agent: Agent) -> None:
    volume = adopted(half, agent)
    half.services.controller("local").attach(volume.platform_id, HostIdentity("stranger"))
    half.ledger.delete_volume(volume.id)
    half.controller.look_at(volume.id)
    labels = {"service": "local", "call": "delete", "outcome": "volume-in-use"}
    until(lambda: (value(client, "polly_platform_call_seconds_count", **labels) or 0) >= 1)


def test_metrics_count_a_verdict_once_however_often_it_is_asked_for(
    client: httpx.Client, half: SchedulerHalf, agent: Agent
) -> None:
    headers = {"Authorization": f"Bearer {half.tokens.issue(agent.id)}"}
    application = encode(Application(str(uuid.uuid4()), {"type": "SHRINK_VOLUME"}))
    for _ in range(2):
        assert client.post("/agent/v1/operations", json=application, headers=headers).status_code == 200
    assert value(client, "polly_operations_total", kind="SHRINK_VOLUME", state="failed") == 1
    assert value(client, "polly_operations_pending", kind="SHRINK_VOLUME") == 1
    client.post(f"/agent/v1/operations/{application['id']}/acknowledged", headers=headers)
    assert value(client, "polly_operations_pending", kind="SHRINK_VOLUME") is None


def test_metrics_count_events_and_how_long_recovery_takes(
    client: httpx.Client, half: SchedulerHalf, agent: Agent
) -> None:
    before = time.time() - 30
    half.ledger.record_event(Event("agent.fenced", "a1", "fenced", Severity.WARNING, time=before))
    half.ledger.record_event(Event("volume.moved", "v", "moved", detail={"from": "a1", "to": "a2"}, time=before + 7))
    half.ledger.record_event(Event("volume.moved", "w", "moved", detail={"from": "a9", "to": "a2"}))
    assert value(client, "polly_events_total", kind="volume.moved", severity="info") == 2
    assert value(client, "polly_events_total", kind="agent.fenced", severity="warning") == 1
    assert value(client, "polly_failover_seconds_count") == 1
    assert value(client, "polly_failover_seconds_sum") == pytest.approx(7)


def test_metrics_tell_every_kind_of_difference(client: httpx.Client, half: SchedulerHalf, server: ApiServer) -> None:
    assert value(client, "polly_findings", code="volume.orphan", severity="warning") == 0
    platform_volume(half)
    server._audit.drift.once()
    assert value(client, "polly_findings", code="volume.orphan", severity="warning") == 1
    assert value(client, "polly_audits_total") == 1
