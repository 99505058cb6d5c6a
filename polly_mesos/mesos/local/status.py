"""What a local cluster looks like at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AgentStatus:
    """An agent of the cluster.

    :param endpoint: ``host:port`` of its API
    :param alive: its process runs
    :param registered: the master knows it as active
    :param agent_id: Mesos' id of it; empty where the master does not know it
    """

    name: str
    endpoint: str
    pid: int
    alive: bool
    registered: bool
    agent_id: str
    log: Path


@dataclass(frozen=True)
class ClusterStatus:
    """What a cluster is at the moment; when it is not up, nothing of it has a value.

    :param up: it was started, and not taken down
    :param master: ``host:port``
    :param alive: the master's process runs
    """

    directory: Path
    up: bool
    master: str = ""
    pid: int = 0
    alive: bool = False
    isolation: str = ""
    isolation_reason: str = ""
    agents: tuple[AgentStatus, ...] = ()
