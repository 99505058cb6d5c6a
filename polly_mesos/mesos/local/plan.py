"""What is to be started for a cluster: pure, nothing happens here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.mesos.local.isolation import Isolation, mesos_flags
from polly_mesos.mesos.local.launcher import NODE
from polly_mesos.mesos.local.layout import MASTER, ZOOKEEPER, Layout
from polly_mesos.mesos.local.network import SCHEDULER, Network
from polly_mesos.mesos.local.processes import MARK, NODE_MARK
from polly_mesos.mesos.local.record import Node, Record
from polly_mesos.mesos.local.zookeeper import master_url, zookeeper_command

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Wishes:
    """What the caller asked for.

    :param ip: the address that all servers listen on, without namespaces
    :param resources: of each agent, in Mesos' notation; sizes in MiB
    :param environment: variables for master and agents, which win over the planned ones
    :param java: the program for a ZooKeeper; empty where none is wanted
    :param subnet: the first three numbers of the addresses of network namespaces; empty where none are wanted
    """

    ip: str
    resources: str
    environment: Mapping[str, str]
    java: str = ""
    subnet: str = ""


class _Planner:
    """Where each node of one cluster runs, and what all of them are started with."""

    def __init__(self, layout: Layout, library: Path, wishes: Wishes, inherited: Mapping[str, str]) -> None:
        self.identity = uuid.uuid4().hex[:12]
        self.layout, self.wishes = layout, wishes
        self.program = [str(layout.launcher / NODE), str(library)]
        self.network = Network(self.identity, wishes.subnet) if wishes.subnet else None
        self.inherited = {name: inherited[name] for name in _INHERITED if name in inherited}

    def ip(self, place: str) -> str:
        return self.network.address(place) if self.network else self.wishes.ip

    def node(self, name: str, port: int, command: list[str], environment: Mapping[str, str]) -> Node:
        namespace = self.network.namespace(name) if self.network else ""
        marks = {MARK: self.identity, NODE_MARK: f"{self.identity}/{name}"}
        return Node(name, self.ip(name), port, namespace, command, {**marks, **environment})

    def mesos_node(self, name: str, port: int, role: str, master: str, flags: Mapping[str, str]) -> Node:
        ip = self.ip(name)
        command = [*self.program, role, ip, str(port), *([master] if master else [])]
        common = {**self.inherited, "MESOS_HOSTNAME": ip, "MESOS_WORK_DIR": str(self.layout.work(name))}
        return self.node(name, port, command, {**common, **flags, **self.wishes.environment})


def plan(
    layout: Layout,
    library: Path,
    isolation: Isolation,
    wishes: Wishes,
    *,
    master_port: int,
    zookeeper_port: int,
    agent_ports: list[int],
    inherited: Mapping[str, str],
) -> Record:
    """The nodes with their whole commands and environments.

    :param library: ``libmesos.so``
    :param inherited: the environment to take the harmless part from: executors and tasks get it from their agent
    """
    planner = _Planner(layout, library, wishes, inherited)
    zookeeper = None
    # the registry is in memory: a master that is started again learns from its agents what there is
    election, flags = "", {"MESOS_REGISTRY": "in_memory"}
    if wishes.java:
        command = zookeeper_command(wishes.java, layout.home(ZOOKEEPER))
        path = {"PATH": inherited.get("PATH", os.defpath)}
        zookeeper = planner.node(ZOOKEEPER, zookeeper_port, command, path)
        election = master_url(zookeeper.endpoint)
        flags = {"MESOS_REGISTRY": "replicated_log", "MESOS_QUORUM": "1"}
    master = planner.mesos_node(MASTER, master_port, "master", election, flags)
    record = Record(planner.identity, planner.ip(SCHEDULER), wishes.subnet, isolation, master, [], zookeeper)
    address = election or master.endpoint
    for number, port in enumerate(agent_ports, start=1):
        name = f"agent-{number}"
        flags = _agent_flags(layout, name, address, wishes.resources)
        flags |= mesos_flags(isolation, freezer=layout.freezer, cgroup=record.cgroup(name))
        record.agents.append(planner.mesos_node(name, port, "agent", address, flags))
    return record


def _agent_flags(layout: Layout, name: str, master: str, resources: str) -> dict[str, str]:
    run = layout.run(name)
    return {
        "MESOS_MASTER": master,
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
