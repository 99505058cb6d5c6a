"""The part of :mod:`bench.recovery` that needs a real Mesos: the scheduler half is killed, a host loses its power."""

from __future__ import annotations

import os
import signal
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.launch import Framework, is_volume, make_volume, task_on
from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.demo.environment import choose_storage, write_configuration
from polly_mesos.demo.run import end
from polly_mesos.demo.supervise import POLLY, Supervisor
from polly_mesos.ledger import Ledger
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.model import Event, Operation

_ROUNDS = 3
_QUICK_MASTER = {"MESOS_AGENT_PING_TIMEOUT": "1secs", "MESOS_MAX_AGENT_PING_TIMEOUTS": "2"}
Pair = tuple[float, float]


def killed_scheduler() -> Pair:
    """From SIGKILL of ``polly serve``, started again at once, to the next operation that is admitted; median.

    Beside it the same without a death: from an ACCEPT to the admission.
    """
    with _cluster(agents=1) as (directory, _, framework):
        supervisor = Supervisor(directory)
        killed, calm = [], []
        for _ in range(_ROUNDS):
            begun = time.time()
            framework.launch(volume=True)
            calm.append(_admitted(directory, begun) - begun)
            begun = time.time()
            loaded = directory.load()
            assert loaded is not None
            loaded.processes[POLLY].end(signal.SIGKILL)
            supervisor.start_polly(supervisor.polly)
            framework.launch(volume=True)
            killed.append(_admitted(directory, begun) - begun)
    return statistics.median(killed), statistics.median(calm)


def fenced_host() -> Pair | None:
    """From the fencing of a host without power to a task elsewhere that runs with its volume; None where not root.

    Beside it a launch with a new volume.
    """
    if os.geteuid() != 0:
        return None
    with _cluster(agents=2, environment=_QUICK_MASTER) as (directory, cluster, framework):
        fresh = framework.launch(volume=True)
        offer = framework.offer(lambda resource: bool(resource.get("disk", {}).get("source", {}).get("profile")))
        name = f"app#data#{uuid.uuid4()}"
        operations, disks = make_volume(offer, name)
        framework.accept(offer, *operations, task_on(offer, "holder", disks, "sleep 1000"))
        framework.wait_for("holder", "TASK_RUNNING")
        host = offer["agent_id"]["value"]
        with Ledger.open(directory.path / "ledger.db", None, read_only=True) as ledger:
            endpoint = ledger.agent(host).endpoint
        (node,) = [agent for agent in cluster.agents if agent.endpoint == endpoint]
        node.power_off()
        offer = framework.offer(is_volume)
        found = [resource for resource in offer["resources"] if is_volume(resource)]
        framework.accept(offer, task_on(offer, "elsewhere", found, "sleep 1000"))
        framework.wait_for("elsewhere", "TASK_RUNNING")
        return time.time() - _fenced(directory).time, fresh


def _admitted(directory: DemoDirectory, begun: float) -> float:
    """When the first operation after ``begun`` was admitted."""
    with Ledger.open(directory.path / "ledger.db", None, read_only=True) as ledger:
        found: list[Operation] = ledger.operations(limit=100)
    return min(one.finished for one in found if one.kind == "mesos.RESERVE" and one.finished > begun)


def _fenced(directory: DemoDirectory) -> Event:
    with Ledger.open(directory.path / "ledger.db", None, read_only=True) as ledger:
        (event,) = ledger.events(kinds=["agent.fenced"])
    return event


@contextmanager
def _cluster(
    *, agents: int, environment: dict[str, str] | None = None
) -> Iterator[tuple[DemoDirectory, LocalCluster, Framework]]:
    """A real Mesos with Polly on it, and a framework; all of it is ended."""
    directory = DemoDirectory.prepare()
    try:
        cluster = LocalCluster(directory.mesos, agents=agents, environment=environment or {})
        cluster.up()
        url = write_configuration(directory, cluster, choose_storage())
        _fence_at_once(directory.configuration)
        Supervisor(directory).start_polly(url)
        framework = Framework(cluster.master)
        try:
            yield directory, cluster, framework
        finally:
            framework.stop()
    finally:
        end(directory)
    directory.remove()


def _fence_at_once(configuration: Path) -> None:
    settings = yaml.safe_load(configuration.read_text())
    settings["agents"]["fence_after"] = "1s"
    configuration.write_text(yaml.safe_dump(settings))
