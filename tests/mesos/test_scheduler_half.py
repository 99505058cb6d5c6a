"""The scheduler half and its executors on a real Mesos."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from polly_mesos.mesos.local.cluster import LocalCluster
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import POLLY, Polly, settings

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(180)]

ClusterFactory = Callable[..., LocalCluster]
Json = dict[str, Any]


@pytest.fixture
def two(cluster_factory: ClusterFactory) -> LocalCluster:
    return cluster_factory(agents=2)


def state_of(cluster: LocalCluster) -> Json:
    answer: Json = httpx.get(f"http://{cluster.master}/state", timeout=10, trust_env=False).json()
    return answer


def executors_of(endpoint: str) -> list[Json]:
    """Running executors named polly on one agent, from the agent's own state."""
    state = httpx.get(f"http://{endpoint}/state", timeout=10, trust_env=False).json()
    return [
        executor
        for framework in state["frameworks"]
        for executor in framework["executors"]
        if executor["id"] == "polly"
    ]


def executor_pids(cluster: LocalCluster) -> set[int]:
    """Process ids of the executors, found by the artifact that they run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                directory = os.readlink(entry / "cwd")
            except OSError:
                continue
            runs_artifact = any(word.startswith(b"./polly-executor-") for word in words)
            if runs_artifact and directory.startswith(str(cluster.directory)):
                found.add(int(entry.name))
    return found


def disks(framework: Framework, **source: str) -> tuple[Json, Json]:
    """An offer with a disk whose source has these fields, and that disk."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer()
        for resource in offer["resources"]:
            has = resource.get("disk", {}).get("source", {})
            if has and all(has.get(name) == value for name, value in source.items()):
                return offer, resource
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found


def test_every_agent_has_one_executor_and_its_pool_on_offer(two: LocalCluster, tmp_path: Path) -> None:
    with Polly(two, tmp_path) as polly:
        polly.connected(2)
        for agent in two.agents:
            assert len(executors_of(agent.endpoint)) == 1
        wait_until(lambda: polly.pool()["free"] == 0)
        with Framework(two.master, roles=["anybody"]) as framework:
            _, disk = disks(framework, type="PATH", profile="gold")
            assert disk["scalar"]["value"] > 0
        text = httpx.get(f"http://{two.master}/frameworks", trust_env=False).text
        assert polly.url in text


def test_constraints_choose_the_agents(two: LocalCluster, tmp_path: Path) -> None:
    constraint = {"attribute": "node", "equals": "agent-2"}
    with Polly(two, tmp_path, agents={"constraints": [constraint]}) as polly:
        (agent,) = polly.connected(1)
        assert agent["endpoint"] == two.agent("agent-2").endpoint
        assert agent["attributes"]["node"] == "agent-2"
        assert not executors_of(two.agent("agent-1").endpoint)


def test_an_agent_that_comes_while_offers_are_suppressed_gets_its_executor(two: LocalCluster, tmp_path: Path) -> None:
    late = two.agent("agent-2")
    late.stop()
    with Polly(two, tmp_path) as polly:
        polly.connected(1)

        def suppressed() -> bool:
            frameworks = state_of(two)["frameworks"]
            return any(one["name"] == "polly" and not one["offers"] for one in frameworks)

        wait_until(suppressed)
        late.start()
        polly.connected(2)


def test_a_killed_executor_comes_back_with_the_same_provider(two: LocalCluster, tmp_path: Path) -> None:
    with Polly(two, tmp_path) as polly:
        before = {agent["id"]: agent["provider"] for agent in polly.connected(2)}
        victims = executor_pids(two)
        assert len(victims) >= 2
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not victims & executor_pids(two) and len(executor_pids(two)) >= 2)

        def back() -> bool:
            providers = {agent["id"]: agent["provider"] for agent in polly.connected(2)}
            assert providers == before
            with Framework(two.master, roles=["anybody"]) as framework:
                disks(framework, type="PATH", profile="gold")
            return True

        wait_until(back)
        assert all(agent.alive() for agent in two.agents)


def test_a_killed_scheduler_comes_back_as_the_same_framework_to_the_same_executors(
    two: LocalCluster, tmp_path: Path
) -> None:
    with Polly(two, tmp_path) as polly:
        polly.connected(2)
        framework_id, executors = polly.get("/health")["framework_id"], executor_pids(two)
        polly.kill()
        polly.start()
        assert polly.get("/health")["framework_id"] == framework_id
        polly.connected(2)
        # Long enough for a mistaken second executor to have been launched: offers come, and are not needed.
        wait_until(lambda: all(not one["offers"] for one in state_of(two)["frameworks"] if one["name"] == "polly"))
        assert executor_pids(two) == executors


def test_no_secret_is_in_what_mesos_shows(two: LocalCluster, tmp_path: Path) -> None:
    with Polly(two, tmp_path) as polly:
        polly.connected(2)
        shown = httpx.get(f"http://{two.master}/state", trust_env=False).text
        for endpoint in (two.master, *(agent.endpoint for agent in two.agents)):
            for call in ("GET_STATE", "GET_FRAMEWORKS" if endpoint == two.master else "GET_CONTAINERS"):
                answer = httpx.post(
                    f"http://{endpoint}/api/v1",
                    json={"type": call},
                    headers={"Accept": "application/json"},
                    trust_env=False,
                )
                assert answer.status_code == 200
                shown += answer.text
        assert "polly-executor-" in shown
        assert (tmp_path / "operator-token").read_text().strip() not in shown
        # The executors' tokens are known to the executors alone; their environments and memory hold no other place.
        ledger = (tmp_path / "ledger.db").read_bytes() + (tmp_path / "ledger.db-wal").read_bytes()
        for pid in executor_pids(two):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"token" not in environment.lower() or b"MESOS_EXECUTOR_AUTHENTICATION_TOKEN" in environment
        assert b"Bearer" not in ledger


def test_a_refused_framework_id_is_told_with_the_way_out(two: LocalCluster, tmp_path: Path) -> None:
    with Polly(two, tmp_path) as polly:
        polly.connected(2)
        framework_id = polly.get("/health")["framework_id"]
        polly.kill()
        torn_down = httpx.post(
            f"http://{two.master}/teardown", data={"frameworkId": framework_id}, trust_env=False, timeout=10
        )
        assert torn_down.status_code == 200
        ran = subprocess.run(
            [*POLLY, "serve", "--config", str(polly.configuration)], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 11, ran.stderr
        assert framework_id in ran.stderr
        assert "--new-framework" in ran.stderr
        polly.start("--new-framework")
        assert polly.get("/health")["framework_id"] != framework_id
        polly.connected(2)


def test_an_unreachable_master_is_named_and_waited_for(two: LocalCluster, tmp_path: Path) -> None:
    made = settings(two, tmp_path, mesos={"master": "127.0.0.1:9"})
    (tmp_path / "polly.yml").write_text(yaml.safe_dump(made))
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*POLLY, "serve", "--config", str(tmp_path / "polly.yml")], stdout=output, stderr=output
        )
    try:
        wait_until(lambda: "127.0.0.1:9" in log.read_text())
        assert process.poll() is None
        health = wait_until(lambda: _health(made["http"]["listen"]))
        assert health["status"] == "degraded"
        assert health["master"] == "127.0.0.1:9"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _health(address: str) -> Json | None:
    try:
        answer: Json = httpx.get(f"http://{address}/health", trust_env=False).json()
    except httpx.TransportError:
        return None
    return answer


@pytest.fixture
def offered(two: LocalCluster, tmp_path: Path) -> Iterator[tuple[Polly, Framework]]:
    with Polly(two, tmp_path) as polly:
        polly.connected(2)
        with Framework(two.master, roles=["test"], principal="test") as framework:
            yield polly, framework


def task_on(offer: Json, name: str, disk: Json, command: str) -> Json:
    """A LAUNCH of a command task with a little of the offer's cpus and mem, and the disk."""
    little = [
        {**resource, "scalar": {"value": value}}
        for kind, value in (("cpus", 0.1), ("mem", 32.0))
        for resource in offer["resources"]
        if resource["name"] == kind
    ]
    task = {
        "name": name,
        "task_id": {"value": name},
        "agent_id": offer["agent_id"],
        "resources": [*little, disk],
        "command": {"value": command},
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [task]}}


def persistent(disk: Json, name: str) -> Json:
    """The disk as a persistent volume, mounted as ``data`` in the sandbox."""
    info = {"persistence": {"id": name, "principal": "test"}, "volume": {"mode": "RW", "container_path": "data"}}
    return {**disk, "disk": {**disk["disk"], **info}}


def test_a_task_that_takes_a_pool_as_scratch_space_is_refused_and_the_pool_stays_whole(
    offered: tuple[Polly, Framework],
) -> None:
    polly, framework = offered
    offer, disk = disks(framework, type="PATH", profile="gold")
    before = polly.pool()
    framework.accept(offer, task_on(offer, "scratch", {**disk, "scalar": {"value": 64.0}}, "true"))
    status = framework.wait_for("scratch", "TASK_FAILED")
    assert "publish" in status["message"]
    assert polly.pool() == before


def test_a_pre_created_volume_is_offered_to_its_role_as_a_mount_disk(offered: tuple[Polly, Framework]) -> None:
    polly, framework = offered
    polly.call("volume", "create", "--profile", "gold", "--size", "64MiB", "--role", "test")
    offer, disk = disks(framework, type="MOUNT")
    (volume,) = polly.get("/v1/volumes")
    assert disk["disk"]["source"]["id"] == volume["id"]
    volume_disk = persistent(disk, "pre#created")
    framework.accept(
        offer,
        {"type": "CREATE", "create": {"volumes": [volume_disk]}},
        task_on(offer, "writer", volume_disk, "echo hello > data/file && test -s data/file"),
    )
    framework.wait_for("writer", "TASK_FINISHED")
    message = polly.call("volume", "delete", volume["id"], "--yes", fails=5)
    assert "pre#created" in message
    wait_until(lambda: polly.get(f"/v1/volumes/{volume['id']}")["publication"] is None)


def test_raw_pools_serve_frameworks_that_create_disks(two: LocalCluster, tmp_path: Path) -> None:
    profile = {"service": "local", "offer": "raw", "minimum_size": "16MiB"}
    with Polly(two, tmp_path, profiles={"gold": profile}) as polly:
        polly.connected(2)
        refined = {"roles": ["test"], "principal": "test", "capabilities": [{"type": "RESERVATION_REFINEMENT"}]}
        with Framework(two.master, **refined) as framework:
            offer, raw = disks(framework, type="RAW", profile="gold")
            part = {**raw, "scalar": {"value": 64.0}}
            framework.accept(offer, {"type": "CREATE_DISK", "create_disk": {"source": part, "target_type": "MOUNT"}})
            offer, mount = disks(framework, type="MOUNT")
            assert mount["scalar"]["value"] == 64.0
            (volume,) = polly.get("/v1/volumes")
            assert mount["disk"]["source"]["id"] == volume["id"]
            reservation = {"type": "DYNAMIC", "role": "test", "principal": "test"}
            reserved = {**mount, "reservations": [reservation]}
            volume_disk = persistent(reserved, "db")
            framework.accept(
                offer,
                {"type": "RESERVE", "reserve": {"resources": [reserved]}},
                {"type": "CREATE", "create": {"volumes": [volume_disk]}},
                task_on(offer, "writer", volume_disk, "echo hello > data/file"),
            )
            framework.wait_for("writer", "TASK_FINISHED")
            offer, again = disks(framework, type="MOUNT")
            framework.accept(
                offer,
                {"type": "DESTROY", "destroy": {"volumes": [again]}},
            )
            wait_until(lambda: polly.pool()["volumes"] == 0)


def test_shared_pools_show_all_that_is_free_on_every_agent(two: LocalCluster, tmp_path: Path) -> None:
    with Polly(two, tmp_path, planner={"policy": "shared", "interval": "1s"}) as polly:
        polly.connected(2)
        with Framework(two.master, roles=["test"], principal="test") as framework:
            sizes = {}
            while len(sizes) < 2:
                offer, disk = disks(framework, type="PATH", profile="gold")
                sizes[offer["agent_id"]["value"]] = disk["scalar"]["value"]
            assert min(sizes.values()) >= 1024
            assert polly.pool()["leased"] == 0


def test_the_executor_half_runs_beside_an_agent_that_does_not_launch_it(two: LocalCluster, tmp_path: Path) -> None:
    nobody = {"attribute": "node", "equals": "nobody"}
    endpoint = two.agent("agent-1").endpoint
    with Polly(two, tmp_path, agents={"constraints": [nobody]}) as polly:
        token = tmp_path / "executor-token"
        token.touch(0o600)
        token.write_text(polly.call("agent", "register", endpoint))
        command = [*POLLY, "agent", "--agent", endpoint, "--scheduler", polly.url, "--token-file", str(token)]
        log = tmp_path / "agent.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            (agent,) = polly.connected(1)
            assert agent["standalone"]
            assert not executors_of(endpoint)
            with Framework(two.master, roles=["anybody"]) as framework:
                offer, _ = disks(framework, type="PATH", profile="gold")
                assert offer["agent_id"]["value"] == agent["id"]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        assert token.read_text().strip() not in log.read_text()
