"""What is to be started for a cluster: pure, nothing happens here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.mesos.local.isolation import Isolation, mesos_flags
from polly_mesos.mesos.local.launcher import NODE
from polly_mesos.mesos.local.layout import MASTER, Layout
from polly_mesos.mesos.local.processes import MARK
from polly_mesos.mesos.local.record import Node, Record

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Wishes:
    """What the caller asked for.

    :param ip: the address that all servers listen on
    :param resources: of each agent, in Mesos' notation; sizes in MiB
    :param environment: variables for master and agents, which win over the planned ones
    """

    ip: str
    resources: str
    environment: Mapping[str, str]


def plan(
    layout: Layout,
    library: Path,
    isolation: Isolation,
    wishes: Wishes,
    *,
    master_port: int,
    agent_ports: list[int],
    inherited: Mapping[str, str],
) -> Record:
    """The master and the agents with their whole commands and environments.

    :param library: ``libmesos.so``
    :param inherited: the environment to take the harmless part from: executors and tasks get it from their agent
    """
    identity = uuid.uuid4().hex[:12]
    common = {name: inherited[name] for name in _INHERITED if name in inherited}
    common |= {MARK: identity, "MESOS_HOSTNAME": wishes.ip}
    program = [str(layout.launcher / NODE), str(library)]
    # the registry is in memory: a master that is started again is a new cluster
    master_flags = {"MESOS_WORK_DIR": str(layout.work(MASTER)), "MESOS_REGISTRY": "in_memory"}
    master = Node(
        MASTER,
        master_port,
        [*program, "master", wishes.ip, str(master_port)],
        common | master_flags | dict(wishes.environment),
    )
    record = Record(identity, wishes.ip, isolation, master, [])
    address = f"{wishes.ip}:{master_port}"
    for number, port in enumerate(agent_ports, start=1):
        name = f"agent-{number}"
        flags = _agent_flags(layout, name, address, wishes.resources)
        flags |= mesos_flags(isolation, freezer=layout.freezer, cgroup=record.cgroup(name))
        command = [*program, "agent", wishes.ip, str(port), address]
        record.agents.append(Node(name, port, command, common | flags | dict(wishes.environment)))
    return record


def _agent_flags(layout: Layout, name: str, master: str, resources: str) -> dict[str, str]:
    run = layout.home(name) / "run"
    return {
        "MESOS_MASTER": master,
        "MESOS_WORK_DIR": str(layout.work(name)),
        "MESOS_RUNTIME_DIR": str(run),
        "MESOS_FETCHER_CACHE_DIR": str(run / "fetcher"),
        "MESOS_APPC_STORE_DIR": str(run / "appc"),
        "MESOS_DOCKER_STORE_DIR": str(run / "docker"),
        "MESOS_LAUNCHER_DIR": str(layout.launcher),
        "MESOS_RESOURCES": resources,
        "MESOS_ATTRIBUTES": f"node:{name}",
        # an agent waits a random part of this before it registers, lest thousands do so at once
        "MESOS_REGISTRATION_BACKOFF_FACTOR": "10ms",
    }
