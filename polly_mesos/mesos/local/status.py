"""What a local cluster looks like at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polly_mesos.mesos.local.layout import Layout
from polly_mesos.mesos.local.master_api import registration
from polly_mesos.mesos.local.record import Record
from polly_mesos.mesos.local.zookeeper import master_url


@dataclass(frozen=True)
class AgentStatus:
    """An agent of the cluster.

    :param endpoint: ``host:port`` of its API
    :param alive: its process is there
    :param paused: its process is stopped by SIGSTOP
    :param registered: the master knows it as active
    :param agent_id: Mesos' id of it; empty where the master does not know it
    """

    name: str
    endpoint: str
    pid: int
    alive: bool
    paused: bool
    registered: bool
    agent_id: str
    log: Path


@dataclass(frozen=True)
class ClusterStatus:
    """What a cluster is at the moment; when it is not up, nothing of it has a value.

    :param up: it was started, and not taken down
    :param master: ``host:port``
    :param master_url: where schedulers find the master: ``zk://...`` with a ZooKeeper
    :param alive: the master's process runs
    """

    directory: Path
    up: bool
    master: str = ""
    master_url: str = ""
    pid: int = 0
    alive: bool = False
    isolation: str = ""
    isolation_reason: str = ""
    agents: tuple[AgentStatus, ...] = ()


def status_of(record: Record, layout: Layout, known: Mapping[int, dict[str, Any]]) -> ClusterStatus:
    """The status of a recorded cluster.

    :param known: what the master says of its agents, by their port
    """
    return ClusterStatus(
        layout.directory,
        up=True,
        master=record.master.endpoint,
        master_url=master_url(record.zookeeper.endpoint) if record.zookeeper else record.master.endpoint,
        pid=record.master.process.pid if record.master.process else 0,
        alive=record.master.runs,
        isolation=record.isolation.kind,
        isolation_reason=record.isolation.reason,
        agents=tuple(
            AgentStatus(
                name=node.name,
                endpoint=node.endpoint,
                pid=node.process.pid if node.process else 0,
                alive=node.runs,
                paused=node.process is not None and node.process.paused(),
                registered=registration(known.get(node.port)) is not None,
                agent_id=known[node.port]["id"] if node.port in known else "",
                log=layout.log(node.name),
            )
            for node in record.agents
        ),
    )
