"""What a local cluster starts, and how its processes are known again; without starting Mesos."""

from __future__ import annotations

import signal
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.isolation import Isolation
from polly_mesos.mesos.local.launcher import write_launcher
from polly_mesos.mesos.local.layout import Layout
from polly_mesos.mesos.local.locking import exclusive
from polly_mesos.mesos.local.plan import Wishes, plan
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.processes import MARK, Process, kill_marked, spawn
from polly_mesos.mesos.local.record import Record, load, save


def planned(kind: str = "linux", java: str = "", subnet: str = "", **environment: str) -> Record:
    return plan(
        Layout(Path("/place")),
        Path("/lib/libmesos.so"),
        Isolation(kind, "because"),  # type: ignore[arg-type]
        Wishes("127.0.0.1", "cpus:1", environment, java, subnet),
        master_port=5050,
        zookeeper_port=2181,
        agent_ports=[5051, 5052],
        inherited={"PATH": "/bin", "LD_LIBRARY_PATH": "/x", "MESOS_WORK_DIR": "/mine", "SECRET_KEY": "s"},
    )


def test_agents_share_nothing_that_an_agent_clears() -> None:
    first, second = (agent.environment for agent in planned().agents)
    for flag in ("WORK_DIR", "RUNTIME_DIR", "CGROUPS_ROOT", "FETCHER_CACHE_DIR", "ATTRIBUTES"):
        assert first[f"MESOS_{flag}"] != second[f"MESOS_{flag}"], flag
    assert planned().agents[0].environment["MESOS_CGROUPS_ROOT"] != first["MESOS_CGROUPS_ROOT"]


def test_only_the_harmless_part_of_our_environment_reaches_agents_and_tasks() -> None:
    for node in planned().nodes:
        assert node.environment["PATH"] == "/bin"
        assert "SECRET_KEY" not in node.environment
        assert "LD_LIBRARY_PATH" not in node.environment
        assert node.environment["MESOS_WORK_DIR"].startswith("/place/")


def test_wished_flags_win() -> None:
    assert {node.environment["MESOS_WORK_DIR"] for node in planned(MESOS_WORK_DIR="/wished").nodes} == {"/wished"}


def test_isolations_ask_mesos_for_what_they_are() -> None:
    linux, posix = (planned(kind).agents[0].environment for kind in ("linux", "posix"))
    assert (linux["MESOS_LAUNCHER"], linux["MESOS_ISOLATION"]) == ("linux", "filesystem/linux,volume/host_path")
    assert (posix["MESOS_LAUNCHER"], posix["MESOS_ISOLATION"]) == ("posix", "posix/cpu,posix/mem,filesystem/posix")
    assert "MESOS_CGROUPS_ROOT" not in posix


def test_without_a_zookeeper_agents_are_told_the_master_itself() -> None:
    record = planned()
    assert record.zookeeper is None
    assert {agent.command[-1] for agent in record.agents} == {"127.0.0.1:5050"}
    assert record.master.environment["MESOS_REGISTRY"] == "in_memory"


def test_with_a_zookeeper_it_is_started_first_and_elects_a_master_that_keeps_its_registry() -> None:
    record = planned(java="/bin/java")
    assert [node.name for node in record.nodes] == ["zookeeper", "master", "agent-1", "agent-2"]
    assert {node.command[-1] for node in record.nodes[1:]} == {"zk://127.0.0.1:2181/mesos"}
    assert record.master.environment["MESOS_REGISTRY"] == "replicated_log"


def test_in_namespaces_every_node_has_an_address_of_its_own() -> None:
    record = planned(java="/bin/java", subnet="10.77.3")
    assert record.ip == "10.77.3.1"
    assert [node.ip for node in record.nodes] == ["10.77.3.3", "10.77.3.2", "10.77.3.11", "10.77.3.12"]
    assert [node.namespace for node in record.nodes] == [f"polly-{record.id}-{node.name}" for node in record.nodes]
    for node in record.nodes[1:]:
        assert node.environment["MESOS_HOSTNAME"] == node.ip
        assert node.ip in node.command


@pytest.mark.parametrize("java", ["", "/bin/java"])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, java: str) -> None:
    record = planned(java=java)
    record.master.process = Process(12, 345)
    save(record, tmp_path / "cluster.json")
    assert load(tmp_path / "cluster.json") == record
    assert (tmp_path / "cluster.json").stat().st_mode & 0o077 == 0


def test_no_record_is_no_cluster(tmp_path: Path) -> None:
    assert load(tmp_path / "cluster.json") is None


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', '{"format": 2, "id": "x"}'])
def test_a_record_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)
    with pytest.raises(LocalMesosError, match=r"cluster\.json cannot be read"):
        load(tmp_path / "cluster.json")


def test_helpers_are_there_under_the_names_that_mesos_looks_for(tmp_path: Path) -> None:
    write_launcher(tmp_path, Path("/a place/lib"))
    for name in ("mesos-containerizer", "mesos-fetcher", "mesos-executor", "mesos-docker-executor"):
        assert (tmp_path / name).stat().st_mode & 0o111 == 0o111
    refusing = spawn([str(tmp_path / "mesos-docker-executor")], {}, tmp_path / "log")
    refusing.wait(seconds=10)
    assert "MESOS containers only" in (tmp_path / "log").read_text()


def sleeper(tmp_path: Path, **environment: str) -> Process:
    """A process that sleeps; right after it was spawned, the kernel does not show its environment yet."""
    log = tmp_path / f"log-{uuid.uuid4()}"
    program = "import time; print('here', flush=True); time.sleep(100)"
    process = spawn([sys.executable, "-S", "-c", program], environment, log)
    deadline = time.monotonic() + 30
    while not log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    assert process.alive()
    other = replace(process, started=process.started - 1)
    assert not other.alive()
    other.end(signal.SIGKILL)
    assert process.alive()
    process.end(signal.SIGTERM)
    assert not process.alive()
    process.end(signal.SIGTERM)


def test_what_carries_the_mark_is_killed_and_nothing_else(tmp_path: Path) -> None:
    marked, other, unmarked = sleeper(tmp_path, **{MARK: "a"}), sleeper(tmp_path, **{MARK: "ab"}), sleeper(tmp_path)
    kill_marked(f"{MARK}=a", tmp_path / "cluster")
    marked.wait(seconds=10)
    assert (marked.alive(), other.alive(), unmarked.alive()) == (False, True, True)
    for process in (other, unmarked):
        process.end(signal.SIGKILL)


def test_what_has_its_sandbox_in_the_cluster_is_killed(tmp_path: Path) -> None:
    mine = sleeper(tmp_path, MESOS_DIRECTORY=str(tmp_path / "cluster" / "runs" / "1"))
    other = sleeper(tmp_path, MESOS_DIRECTORY=str(tmp_path / "cluster-2" / "runs" / "1"))
    kill_marked(f"{MARK}=a", tmp_path / "cluster")
    mine.wait(seconds=10)
    assert (mine.alive(), other.alive()) == (False, True)
    other.end(signal.SIGKILL)


def test_a_lock_that_is_held_is_told_after_a_while(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock", what="somebody works", seconds=1),
        pytest.raises(LocalMesosError, match="somebody works"),
        exclusive(tmp_path / "lock", what="somebody works", seconds=0.1),
    ):
        pass


def test_free_ports_are_distinct_and_not_those_of_outgoing_connections() -> None:
    ports = free_ports("127.0.0.1", 20)
    assert len(set(ports)) == 20
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < max(highest, 16000)
