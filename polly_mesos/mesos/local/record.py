"""What a running local cluster leaves in its directory, so that any other process can find and end it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polly_mesos.errors import LocalMesosError, UnknownAgent
from polly_mesos.mesos.local.isolation import Isolation
from polly_mesos.mesos.local.processes import Process

_FORMAT = 2


@dataclass
class Node:
    """One master, agent or ZooKeeper.

    :param name: ``master``, ``zookeeper`` or ``agent-<n>``
    :param ip: where it listens
    :param port: where it listens
    :param namespace: the network namespace that it runs in; empty for this machine's own
    :param command: the program and its arguments
    :param environment: its whole environment: Mesos' flags and little else
    :param process: the process that runs it, or ran it last; None before the first start
    """

    name: str
    ip: str
    port: int
    namespace: str
    command: list[str]
    environment: dict[str, str]
    process: Process | None = None

    @property
    def endpoint(self) -> str:
        """``host:port``."""
        return f"{self.ip}:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether its process is there; a paused one is."""
        return self.process is not None and self.process.alive()


@dataclass
class Record:
    """A cluster that is up, or was not taken down.

    :param id: of this very start of it
    :param ip: this machine's address, as the nodes see it
    :param subnet: the first three numbers of the addresses of its namespaces; empty where it has none
    """

    id: str
    ip: str
    subnet: str
    isolation: Isolation
    master: Node
    agents: list[Node]
    zookeeper: Node | None = None

    @property
    def nodes(self) -> list[Node]:
        """All, in the order in which they are started."""
        return [*([self.zookeeper] if self.zookeeper else []), self.master, *self.agents]

    def node(self, name: str) -> Node:
        """A node by name.

        :raises UnknownAgent: there is none of that name
        """
        for node in self.nodes:
            if node.name == name:
                return node
        return self.agent(name)

    def agent(self, name: str) -> Node:
        """An agent by name.

        :raises UnknownAgent: there is none of that name
        """
        for node in self.agents:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.agents)
        raise UnknownAgent(f"the local Mesos has no agent {name!r}", remedy=f"its agents are {names or 'none'}")

    def cgroup(self, agent: str) -> str:
        """The control group of an agent's containers."""
        return f"polly-{self.id}-{agent}"


def save(record: Record, path: Path) -> None:
    """Write it, whole or not at all."""
    temporary = path.with_suffix(".new")
    # flags may hold a credential's path or an attribute that is nobody else's business
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"format": _FORMAT, **asdict(record)}, file, indent=1)
    temporary.rename(path)


def load(path: Path) -> Record | None:
    """Read it; None where there is none.

    :raises LocalMesosError: the file is not one that this Polly wrote
    """
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        return Record(
            id=content["id"],
            ip=content["ip"],
            subnet=content["subnet"],
            isolation=Isolation(**content["isolation"]),
            master=_node(content["master"]),
            agents=[_node(agent) for agent in content["agents"]],
            zookeeper=_node(content["zookeeper"]) if content["zookeeper"] else None,
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LocalMesosError(
            f"{path} cannot be read: {error}",
            remedy="run `polly local down` of the version of Polly that wrote it, or remove the file",
        ) from error


def _node(content: dict[str, Any]) -> Node:
    process = content.pop("process")
    return Node(**content, process=Process(**process) if process else None)
