"""Which agents get an executor, and how it is launched. Pure: offers in, tasks out.

Sources: Mesos ``TaskInfo``, ``ExecutorInfo`` and ``ContainerInfo`` (mesos.proto); the bidirectional volume is checked
in Mesos' ``src/slave/containerizer/mesos/isolators/volume/host_path.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polly_mesos.mesos.master_client import attributes_as_text
from polly_mesos.model import MB, Json

EXECUTOR_ID = "polly"
"""One executor per agent: Mesos itself refuses a second one of the same id."""

_TASK_CPUS = 0.01
_TASK_MEM_MB = 1.0


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What an offer, or the master's list of agents, tells about an agent."""

    id: str
    hostname: str
    endpoint: str
    attributes: Mapping[str, str]

    @property
    def port(self) -> int:
        """The port of the agent's API."""
        return int(self.endpoint.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How executors are launched.

    :param memory: bytes
    :param artifact: URL of the executor's zipapp
    :param environment: what the executor finds in its environment beside what its agent sets
    """

    name: str
    cpus: float
    memory: int
    python: str
    user: str
    artifact: str
    environment: Mapping[str, str] = field(default_factory=dict)


def facts_of_offer(offer: Json) -> AgentFacts:
    """The agent that made an offer."""
    address = offer.get("url", {}).get("address", {})
    host = address.get("ip") or address.get("hostname") or offer["hostname"]
    return AgentFacts(
        id=offer["agent_id"]["value"],
        hostname=offer["hostname"],
        endpoint=f"{host}:{address.get('port', 5051)}",
        attributes=attributes_as_text(offer.get("attributes", ())),
    )


def fits(offer: Json, settings: ExecutorSettings) -> bool:
    """Whether an offer has the executor's cpus and memory, unreserved."""
    available = {"cpus": 0.0, "mem": 0.0}
    for resource in offer.get("resources", ()):
        if resource["name"] in available and not resource.get("reservations") and "revocable" not in resource:
            available[resource["name"]] += resource["scalar"]["value"]
    needed_mem = settings.memory / MB + _TASK_MEM_MB
    return available["cpus"] >= settings.cpus + _TASK_CPUS and available["mem"] >= needed_mem


def launch(agent: AgentFacts, settings: ExecutorSettings, task_id: str, role: str, volume_root: str | None) -> Json:
    """The LAUNCH operation that starts an executor.

    :param volume_root: directory whose mounts must reach the host, where the agent isolates file systems; else None
    """
    file_name = settings.artifact.rpartition("/")[2]
    executor: Json = {
        "type": "CUSTOM",
        "executor_id": {"value": EXECUTOR_ID},
        "name": f"{settings.name} executor",
        "source": settings.name,
        "command": {
            "shell": True,
            "value": f"exec {settings.python} ./{file_name}",
            "uris": [{"value": settings.artifact, "executable": False, "extract": False, "cache": False}],
            "user": settings.user,
        },
        "resources": [
            _scalar("cpus", settings.cpus, role),
            _scalar("mem", settings.memory / MB, role),
        ],
    }
    if settings.environment:
        variables = [{"name": name, "value": value} for name, value in settings.environment.items()]
        executor["command"]["environment"] = {"variables": variables}
    if volume_root is not None:
        executor["container"] = {"type": "MESOS", "volumes": [_bidirectional(volume_root)]}
    task = {
        "name": settings.name,
        "task_id": {"value": task_id},
        "agent_id": {"value": agent.id},
        "resources": [_scalar("cpus", _TASK_CPUS, role), _scalar("mem", _TASK_MEM_MB, role)],
        "executor": executor,
    }
    return {"type": "LAUNCH", "launch": {"task_infos": [task]}}


def _scalar(name: str, value: float, role: str) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": role}}


def _bidirectional(path: str) -> Json:
    return {
        "container_path": path,
        "mode": "RW",
        "source": {
            "type": "HOST_PATH",
            "host_path": {"path": path, "mount_propagation": {"mode": "BIDIRECTIONAL"}},
        },
    }
