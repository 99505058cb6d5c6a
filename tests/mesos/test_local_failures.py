"""What can be broken on a local Mesos, and mended: its processes, its hosts, its ZooKeeper, the links between them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from polly_mesos.errors import ConfigurationError, LocalMesosError, MasterUnreachable
from polly_mesos.mesos.local import zookeeper
from polly_mesos.mesos.local.agent import LocalAgent
from polly_mesos.mesos.local.cluster import QUICK_FAILURES, LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.local.network import inside
from polly_mesos.mesos.local.package import Mesos
from polly_mesos.mesos.local.record import load
from polly_mesos.mesos.master_detection import master_locator
from tests.leftovers import loop_devices_below, networks_of, require_root

from .conftest import ClusterFactory, make_cluster, require_namespaces, require_zookeeper
from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos


@pytest.fixture(scope="module")
def hosts(mesos: Mesos) -> Iterator[LocalCluster]:
    """Two agents, the master and a ZooKeeper, each in a namespace of its own."""
    require_zookeeper()
    require_namespaces()
    with ExitStack() as stack:
        yield make_cluster(stack, agents=2, zookeeper=True, network="namespaces", environment=QUICK_FAILURES)


@pytest.fixture
def whole(hosts: LocalCluster) -> Iterator[LocalCluster]:
    """The same, with all links and agents there before and after the test."""
    yield hosts
    hosts.heal_all()
    if not hosts.master_node.alive():
        hosts.master_node.start()
    for agent in hosts.agents:
        agent.start()
    hosts.wait_registered()


def ids(cluster: LocalCluster) -> list[str]:
    return [agent.agent_id for agent in cluster.status().agents]


def registered(cluster: LocalCluster) -> list[bool]:
    return [agent.registered for agent in cluster.status().agents]


def run_task(framework: Framework, agent: LocalAgent, name: str, script: str) -> None:
    agent_id = next(one.agent_id for one in agent.cluster.status().agents if one.name == agent.name)
    framework.run(name, script, agent_id)
    framework.wait_for(name, "TASK_RUNNING")


# ---- processes


def test_a_master_without_a_zookeeper_comes_back_with_the_same_agents(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(agents=1, isolation="posix", environment=QUICK_FAILURES)
    before = ids(cluster)
    cluster.master_node.kill()
    assert not cluster.master_node.alive()
    cluster.master_node.start()
    cluster.wait_registered()
    assert ids(cluster) == before


def test_a_paused_agent_is_there_and_answers_nothing_until_it_goes_on(cluster: LocalCluster) -> None:
    agent = cluster.agents[0]
    agent.pause()
    assert (agent.alive(), agent.paused()) == (True, True)
    assert cluster.status().agents[0].paused
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"http://{agent.endpoint}/health", timeout=0.5, trust_env=False)
    agent.resume()
    assert not agent.paused()
    assert httpx.get(f"http://{agent.endpoint}/health", timeout=10, trust_env=False).status_code == 200


def test_a_paused_agent_can_be_stopped(cluster: LocalCluster) -> None:
    agent = cluster.agents[0]
    agent.pause()
    agent.stop()
    assert not agent.alive()
    with pytest.raises(LocalMesosError, match="agent-1 does not run"):
        agent.resume()
    agent.start()


@pytest.mark.parametrize("isolation", [pytest.param("linux", marks=pytest.mark.root), "posix"])
def test_a_host_without_power_has_no_process_and_keeps_its_id(cluster_factory: ClusterFactory, isolation: str) -> None:
    cluster = cluster_factory(agents=2, isolation=isolation)
    first, second = cluster.agents
    before = ids(cluster)
    with Framework(cluster.master) as framework:
        for agent in (first, second):
            run_task(framework, agent, agent.name, "trap '' TERM; sleep 1000 & sleep 1000")
        assert first.processes()
        others = second.processes()
        first.power_off()
        assert (first.processes(), first.alive()) == ([], False)
        assert second.processes() == others
        assert second.alive()
        first.start()
        assert ids(cluster) == before
        framework.wait_for("agent-1", "TASK_FAILED")


@pytest.mark.root
def test_a_host_without_power_has_no_mount_and_no_loop_device(cluster: LocalCluster, tmp_path: Path) -> None:
    require_root()
    agent, other = cluster.agents
    for one in (agent, other):
        image = tmp_path / f"{one.name}.img"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        place = one.volumes / "pool" / "volume one"
        place.mkdir(parents=True)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        agent.power_off()
        assert mounts_below(agent.volumes) == []
        wait_until(lambda: len(loop_devices_below(tmp_path)) == 1)
        assert len(mounts_below(other.volumes)) == 1
        agent.start()
    finally:
        for mount in mounts_below(other.volumes):
            subprocess.run(["umount", mount.target], check=True)
    assert loop_devices_below(tmp_path) == []


def test_a_cleaned_up_agent_is_a_new_one_and_has_ended_its_tasks(cluster: LocalCluster) -> None:
    agent = cluster.agents[0]
    before = ids(cluster)
    with Framework(cluster.master) as framework:
        run_task(framework, agent, "ended", "sleep 1000")
        agent.stop()
        assert agent.processes()
        agent.start(cleanup=True)
        assert agent.processes() == []
        after = ids(cluster)
    assert after[0] not in before
    assert after[1] == before[1]


def test_an_agent_whose_work_directory_is_lost_is_a_new_one(cluster: LocalCluster) -> None:
    agent = cluster.agents[0]
    before = ids(cluster)
    with pytest.raises(LocalMesosError, match="agent-1 runs"):
        agent.wipe()
    agent.kill()
    agent.wipe()
    assert not agent.work_dir.exists()
    agent.start()
    assert ids(cluster)[0] not in before


# ---- ZooKeeper


@pytest.mark.root
def test_a_master_killed_alone_comes_back_through_zookeeper_with_the_same_agents(whole: LocalCluster) -> None:
    before = ids(whole)
    assert whole.master_url == f"zk://{whole.zookeeper_node.endpoint}/mesos"
    whole.master_node.kill()
    whole.master_node.start()
    whole.wait_registered()
    assert ids(whole) == before
    log = whole.master_log.read_text()
    assert "Recovered 2 agents from the registry" in log


@pytest.mark.root
def test_the_leader_is_followed_also_when_zookeeper_starts_again(whole: LocalCluster) -> None:
    locator = master_locator(whole.master_url)
    assert locator.locate(5.0) == whole.master
    whole.zookeeper_node.kill()
    with pytest.raises(MasterUnreachable, match=r"ZooKeeper at .* does not answer"):
        locator.locate(1.0)
    whole.zookeeper_node.start()
    if not whole.master_node.alive():  # ZooKeeper was away for longer than its session
        whole.master_node.start()
    wait_until(lambda: _leader(whole))
    whole.master_node.kill()
    whole.master_node.start()
    assert locator.locate(5.0) == whole.master


def _leader(cluster: LocalCluster) -> bool:
    try:
        return master_locator(cluster.master_url).locate(2.0) == cluster.master
    except MasterUnreachable:
        return False


def test_a_missing_zookeeper_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zookeeper, "_JARS", tmp_path)
    cluster = LocalCluster(tmp_path / "cluster", zookeeper=True)
    with pytest.raises(LocalMesosError, match=r"ZooKeeper is not installed.*apt-get install .*libzookeeper-java"):
        cluster.up()
    (tmp_path / "zookeeper.jar").touch()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalMesosError, match=r"no java is on the PATH.*default-jre-headless"):
        cluster.up()
    assert not cluster.status().up


def test_a_cluster_without_a_zookeeper_or_links_says_so(cluster: LocalCluster) -> None:
    assert cluster.master_url == cluster.master
    with pytest.raises(LocalMesosError, match="no ZooKeeper"):
        _ = cluster.zookeeper_node
    with pytest.raises(LocalMesosError, match="no links to cut"):
        cluster.cut("master", "agent-1")


# ---- links


def connect(cluster: LocalCluster, place: str, endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    namespace = "" if place == "scheduler" else cluster.node(place).namespace
    with inside(namespace):
        return socket.create_connection((host, int(port)), timeout=1.0)


def reaches(cluster: LocalCluster, place: str, endpoint: str) -> bool:
    try:
        with connect(cluster, place, endpoint):
            return True
    except TimeoutError:
        return False


@pytest.mark.root
def test_nodes_have_addresses_of_their_own_and_reach_each_other(whole: LocalCluster) -> None:
    endpoints = {node: whole.node(node).endpoint for node in whole.places[1:]}
    assert len({endpoint.rpartition(":")[0] for endpoint in endpoints.values()} | {whole.ip}) == 5
    for place in whole.places:
        for endpoint in endpoints.values():
            assert reaches(whole, place, endpoint), (place, endpoint)


@pytest.mark.root
def test_a_cut_link_loses_everything_silently_in_both_directions_and_nothing_else(whole: LocalCluster) -> None:
    first, second = whole.agents
    with connect(whole, "agent-2", first.endpoint) as before:
        whole.cut("agent-1", "agent-2")
        before.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(TimeoutError):
            before.recv(1)
        assert not reaches(whole, "agent-1", second.endpoint)
        assert not reaches(whole, "agent-2", first.endpoint)
        assert reaches(whole, "master", first.endpoint)
        assert reaches(whole, "scheduler", second.endpoint)
        assert whole.cuts() == [("agent-1", "agent-2")]
        whole.heal("agent-2", "agent-1")
        before.settimeout(20.0)
        assert before.recv(12) == b"HTTP/1.1 200"
    assert whole.cuts() == []


@pytest.mark.root
def test_an_agent_cut_from_its_master_is_unreachable_and_comes_back(whole: LocalCluster) -> None:
    before = ids(whole)
    whole.cut("master", "agent-1")
    whole.cut("scheduler", "master")
    wait_until(lambda: registered(whole) == [False, True])
    assert whole.agents[0].alive()
    whole.heal_all()
    wait_until(lambda: registered(whole) == [True, True])
    assert ids(whole) == before


@pytest.mark.root
def test_mounts_of_tasks_in_a_namespace_reach_the_host(whole: LocalCluster) -> None:
    path = str(whole.agents[0].volumes)
    host_path = {"path": path, "mount_propagation": {"mode": "BIDIRECTIONAL"}}
    volume = {"container_path": path, "mode": "RW", "source": {"type": "HOST_PATH", "host_path": host_path}}
    Path(path).mkdir(parents=True)
    script = f"mkdir {path}/inner && mount -t tmpfs none {path}/inner && echo hello > {path}/inner/said && sleep 1000"
    with Framework(whole.master) as framework:
        framework.run("mounts", script, ids(whole)[0], container={"type": "MESOS", "volumes": [volume]})
        wait_until((Path(path) / "inner/said").exists)
        assert os.path.ismount(f"{path}/inner")
        whole.agents[0].power_off()
        assert mounts_below(Path(path)) == []


@pytest.mark.root
def test_an_unknown_place_is_named_with_those_that_there_are(whole: LocalCluster) -> None:
    with pytest.raises(ConfigurationError, match=r"'agent-7'.*scheduler, zookeeper, master, agent-1, agent-2"):
        whole.cut("agent-7", "master")
    with pytest.raises(ConfigurationError, match="cannot be cut from itself"):
        whole.cut("master", "master")


def polly(cluster: LocalCluster, *arguments: str) -> str:
    run = "from polly_mesos.cli.main import main; main()"
    command = [sys.executable, "-c", run, "local", *arguments, "--dir", str(cluster.directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.root
def test_all_of_it_can_be_done_by_command(whole: LocalCluster) -> None:
    before = ids(whole)
    assert "Cut: scheduler - agent-1" in polly(whole, "cut", "agent-1", "scheduler")
    assert "All links are whole." in polly(whole, "heal", "agent-1", "scheduler")
    assert "All links are whole." in polly(whole, "heal")
    shown = polly(whole, "agent", "agent-1", "pause")
    assert f"pid {whole.agents[0].pid}, paused" in shown
    assert whole.master_url in shown
    polly(whole, "agent", "agent-1", "power-off")
    polly(whole, "agent", "agent-1", "wipe")
    polly(whole, "agent", "agent-1", "start")
    assert ids(whole)[0] != before[0]
    polly(whole, "agent", "agent-1", "stop")
    polly(whole, "agent", "agent-1", "cleanup")
    polly(whole, "master", "pause")
    polly(whole, "master", "resume")
    polly(whole, "zookeeper", "pause")
    polly(whole, "zookeeper", "resume")
    assert whole.zookeeper_node.alive()


@pytest.mark.root
def test_down_leaves_no_namespace_and_no_device(cluster_factory: ClusterFactory) -> None:
    require_namespaces()
    first, second = (cluster_factory(agents=1, network="namespaces") for _ in range(2))
    records = [load(cluster.layout.record) for cluster in (first, second)]
    kept, gone = (record.id for record in records if record is not None)
    assert len(networks_of(gone)) == 4
    second.down()
    assert networks_of(gone) == []
    assert networks_of(kept)
    assert registered(first) == [True]


def test_namespaces_are_refused_to_an_ordinary_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mesos: Mesos
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalMesosError, match="network namespaces need root"):
        LocalCluster(tmp_path, network="namespaces").up()
