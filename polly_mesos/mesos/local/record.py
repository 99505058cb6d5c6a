"""What a running local cluster leaves in its directory, so that any other process can find and end it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.isolation import Isolation
from polly_mesos.mesos.local.processes import Process

_FORMAT = 1


@dataclass
class Node:
    """One master or agent.

    :param name: ``master`` or ``agent-<n>``
    :param port: where it listens
    :param command: the program and its arguments
    :param environment: its whole environment: Mesos' flags and little else
    :param process: the process that runs it, or ran it last; None before the first start
    """

    name: str
    port: int
    command: list[str]
    environment: dict[str, str]
    process: Process | None = None


@dataclass
class Record:
    """A cluster that is up, or was not taken down.

    :param id: of this very start of it
    :param ip: the address that all its servers listen on
    """

    id: str
    ip: str
    isolation: Isolation
    master: Node
    agents: list[Node]

    @property
    def nodes(self) -> list[Node]:
        """The master and all agents."""
        return [self.master, *self.agents]

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
            isolation=Isolation(**content["isolation"]),
            master=_node(content["master"]),
            agents=[_node(agent) for agent in content["agents"]],
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
