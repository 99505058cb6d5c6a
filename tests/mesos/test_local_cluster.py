"""The local Mesos as its user meets it: up, status, one agent ended and started, down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from polly_mesos.errors import ConfigurationError, LocalMesosError, UnknownAgent
from polly_mesos.mesos.local import cgroups
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.local.package import Mesos
from polly_mesos.mesos.local.record import load

from .conftest import ClusterFactory
from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos

ISOLATIONS = [pytest.param("linux", marks=pytest.mark.root), "posix"]


def leftovers(directory: Path, identity: str) -> list[str]:
    """Processes, mounts and control groups of a cluster."""
    mark = f"POLLY_LOCAL_CLUSTER={identity}".encode()
    found = [str(mount.target) for mount in mounts_below(directory)]
    found += [str(group) for hierarchy in cgroups.hierarchies() for group in hierarchy.glob(f"*{identity}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(f"{process.name}: {(process / 'cmdline').read_text()}")
        except OSError:
            continue  # it is gone, or is another user's
    return found


def identity_of(cluster: LocalCluster) -> str:
    record = load(cluster.layout.record)
    assert record is not None
    return record.id


def polly(*arguments: str) -> subprocess.CompletedProcess[str]:
    run = "from polly_mesos.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", run, *arguments], capture_output=True, text=True, check=False)


def test_all_agents_are_registered_once_it_is_up(cluster: LocalCluster) -> None:
    status = cluster.status()
    assert status.up
    assert status.alive
    assert [(agent.name, agent.alive, agent.registered) for agent in status.agents] == [
        ("agent-1", True, True),
        ("agent-2", True, True),
    ]
    assert all(agent.agent_id for agent in status.agents)


def test_agents_tell_frameworks_their_names_and_resources(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(agents=2, agent_resources="cpus:3;mem:1234;disk:10")
    with Framework(cluster.master) as framework:
        offers = [framework.offer(agent.agent_id) for agent in cluster.status().agents]
    for agent, offer in zip(cluster.agents, offers, strict=True):
        assert {"name": "node", "type": "TEXT", "text": {"value": agent.name}} in offer["attributes"]
        assert offer["hostname"] == "127.0.0.1"
        sizes = {
            resource["name"]: resource["scalar"]["value"] for resource in offer["resources"] if "scalar" in resource
        }
        assert sizes == {"cpus": 3, "mem": 1234, "disk": 10}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_down_leaves_no_process_no_mount_and_no_control_group(cluster_factory: ClusterFactory, isolation: str) -> None:
    cluster = cluster_factory(agents=2, isolation=isolation)
    identity = identity_of(cluster)
    assert cluster.isolation == isolation
    with Framework(cluster.master) as framework:
        framework.run("running", "trap '' TERM; sleep 1000 & sleep 1000")
        framework.wait_for("running", "TASK_RUNNING")
        cluster.agents[0].kill()
        assert leftovers(cluster.directory, identity)
        framework.leave()
        cluster.down()
    assert leftovers(cluster.directory, identity) == []
    assert not cluster.status().up
    cluster.down()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_an_agent_killed_and_started_alone_keeps_its_id_and_its_tasks(
    cluster_factory: ClusterFactory, isolation: str
) -> None:
    cluster = cluster_factory(agents=2, isolation=isolation)
    agent = cluster.agents[0]
    before = cluster.status()
    with Framework(cluster.master) as framework:
        framework.run("survivor", "while [ ! -e go ]; do sleep 0.05; done", before.agents[0].agent_id)
        framework.wait_for("survivor", "TASK_RUNNING")
        for end in (agent.kill, agent.stop):
            end()
            assert not agent.alive()
            assert cluster.agents[1].alive()
            agent.start()
            after = cluster.status().agents[0]
            assert (after.agent_id, after.endpoint) == (before.agents[0].agent_id, before.agents[0].endpoint)
            assert after.registered
        (place,) = agent.work_dir.glob("slaves/*/frameworks/*/executors/survivor/runs/latest")
        (place / "go").touch()
        framework.wait_for("survivor", "TASK_FINISHED")


def test_another_process_sees_and_ends_it(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(agents=1)
    identity = identity_of(cluster)
    where = ["--dir", str(cluster.directory), "--format", "json"]
    seen = json.loads(polly("local", "status", *where).stdout)
    assert (seen["master"], seen["agents"][0]["registered"]) == (cluster.master, True)
    assert json.loads(polly("local", "agent", "agent-1", "kill", *where).stdout)["agents"][0]["alive"] is False
    assert json.loads(polly("local", "agent", "agent-1", "start", *where).stdout)["agents"][0]["registered"] is True
    assert "is down" in polly("local", "down", *where[:2]).stdout
    assert leftovers(cluster.directory, identity) == []


def test_a_start_without_network_needs_none_once_mesos_is_there(
    mesos: Mesos, cluster_factory: ClusterFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PIP_INDEX_URL", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    assert cluster_factory(agents=0).status().alive


def test_clusters_live_side_by_side(cluster_factory: ClusterFactory) -> None:
    first, second = cluster_factory(), cluster_factory()
    with Framework(first.master) as framework:
        framework.run("beside", "sleep 1000")
        framework.wait_for("beside", "TASK_RUNNING")
        second.agents[0].kill()
        second.agents[0].start()
        second.down()
        assert [status["state"] for status in framework.updates("beside")] == ["TASK_STARTING", "TASK_RUNNING"]
        assert first.status().agents[0].registered


def test_a_second_start_in_the_same_directory_is_refused(cluster: LocalCluster) -> None:
    with pytest.raises(LocalMesosError, match=r"is up in .* already"):
        LocalCluster(cluster.directory).up()
    assert cluster.status().alive


def test_an_unknown_agent_is_named_with_those_that_there_are(cluster: LocalCluster) -> None:
    with pytest.raises(UnknownAgent, match=r"'agent-7'.*agent-1, agent-2"):
        cluster.agent("agent-7")


def test_a_port_in_use_is_told_and_nothing_stays(mesos: Mesos, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cluster = LocalCluster(tmp_path, agents=1, port=taken.getsockname()[1])
        with pytest.raises(LocalMesosError, match="Address already in use"):
            cluster.up()
    assert not cluster.status().up
    assert mounts_below(tmp_path) == []


def test_a_process_that_ends_at_once_is_told_with_its_own_words(mesos: Mesos, tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, agents=1, environment={"MESOS_ISOLATION": "no-such-isolator"})
    with pytest.raises(LocalMesosError, match=r"(?s)agent-1 ended.*Unknown or unsupported isolator 'no-such-isolator'"):
        cluster.up()
    assert not cluster.status().up
    assert mounts_below(tmp_path) == []


def test_down_also_cleans_up_after_a_start_that_was_killed(mesos: Mesos, tmp_path: Path) -> None:
    run = "import sys; from polly_mesos.cli.main import main; main()"
    command = [sys.executable, "-c", run, "local", "up", "--dir", str(tmp_path), "--port", "0", "--agents", "2"]
    cluster = LocalCluster(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starting:
        wait_until(cluster.layout.record.exists)
        starting.send_signal(signal.SIGKILL)
    identity = identity_of(cluster)
    cluster.down()
    assert leftovers(tmp_path, identity) == []


def test_servers_are_reached_from_this_machine_only(cluster: LocalCluster) -> None:
    ports = {int(endpoint.rpartition(":")[2]) for endpoint in [cluster.master, *(a.endpoint for a in cluster.agents)]}
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {
        fields[1].split(":")[0]
        for fields in listening
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) in ports
    }
    assert addresses == {"0100007F"}


@pytest.mark.parametrize(
    ("arguments", "field"), [({"agents": -1}, "agents"), ({"port": 70000}, "port"), ({"isolation": "x"}, "isolation")]
)
def test_an_argument_out_of_range_is_refused(tmp_path: Path, arguments: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        LocalCluster(tmp_path, **arguments)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_nothing_is_up_in_an_empty_directory(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "absent")
    assert not cluster.status().up
    cluster.down()
    assert not (tmp_path / "absent").exists()
    with pytest.raises(LocalMesosError, match="no local Mesos is up"):
        _ = cluster.master
    assert os.listdir(tmp_path) == []
