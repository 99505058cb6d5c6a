"""A Mesos agent's HTTP API, as far as Polly asks it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from polly_mesos.errors import AgentUnreachable, InvalidRequest
from polly_mesos.mesos.http import EventStream, MesosRefused, base_url, check_answer, client
from polly_mesos.mesos.resources import normalise, provider_of, volume_path
from polly_mesos.model import Json

_UNFINISHED_TASKS = ("pending_tasks", "queued_tasks", "launched_tasks")

STREAM_ID = "Mesos-Stream-Id"


@dataclass(frozen=True, slots=True)
class SubscribedProvider:
    """A resource provider that is subscribed with the agent now."""

    id: str
    type: str
    name: str
    resources: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """A container that one executor of the agent's runs in, with all its tasks.

    :param tasks: ids of the unfinished tasks in it
    """

    id: str
    framework: str
    executor: str
    tasks: tuple[str, ...] = ()


def process_of(pid: str) -> str:
    """The libprocess id of a Mesos pid such as MESOS_SLAVE_PID: ``slave(1)`` of ``slave(1)@10.0.0.7:5051``."""
    return pid.partition("@")[0]


class AgentClient:
    """Calls to one agent. May be used from several threads.

    Every method raises :class:`~polly_mesos.errors.AgentUnreachable` where the agent does not answer or is still
    starting, and :class:`~polly_mesos.mesos.http.MesosRefused` where it refuses.

    :param endpoint: ``host:port``, or a URL for an agent with TLS
    :param token: the executor's or operator's authentication token
    :param process: the agent's libprocess id, see :func:`process_of`
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        principal: str | None = None,
        secret: str | None = None,
        process: str = "slave(1)",
    ) -> None:
        self.endpoint = endpoint
        self._url = f"{base_url(endpoint)}/{process}/api/v1"
        self._http = client(token=token, principal=principal, secret=secret)

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def info(self) -> Json:
        """The agent's AgentInfo (GET_AGENT); it has no ``id`` before the agent has registered for the first time."""
        answer: Json = self._call("GET_AGENT")["get_agent"].get("agent_info", {})
        return answer

    def draining(self) -> bool:
        """Whether an operator has the agent drained: its tasks end, and it is not offered any more (GET_AGENT)."""
        return "drain_config" in self._call("GET_AGENT")["get_agent"]

    def agent_id(self) -> str:
        """The agent's id.

        :raises AgentUnreachable: also while the agent has none
        """
        value = self.info().get("id", {}).get("value", "")
        if not value:
            raise AgentUnreachable(f"agent {self.endpoint} has not registered with a master yet")
        return str(value)

    def flags(self) -> dict[str, str]:
        """The agent's flags (GET_FLAGS)."""
        return {flag["name"]: flag.get("value", "") for flag in self._call("GET_FLAGS")["get_flags"].get("flags", ())}

    def resource_providers(self) -> list[SubscribedProvider]:
        """The providers that are subscribed now (GET_RESOURCE_PROVIDERS)."""
        answer = self._call("GET_RESOURCE_PROVIDERS")["get_resource_providers"]
        return [
            SubscribedProvider(
                id=provider["resource_provider_info"]["id"]["value"],
                type=provider["resource_provider_info"]["type"],
                name=provider["resource_provider_info"]["name"],
                resources=tuple(provider.get("total_resources", ())),
            )
            for provider in answer.get("resource_providers", ())
        ]

    def tasks(self) -> list[Json]:
        """Tasks that are pending, queued or launched and not terminal (GET_TASKS)."""
        return _unfinished_tasks(self._call("GET_TASKS")["get_tasks"])

    def executors(self) -> list[Json]:
        """ExecutorInfos of the executors that have not terminated (GET_EXECUTORS)."""
        return _executors(self._call("GET_EXECUTORS")["get_executors"])

    def resources_in_use(self) -> list[Json]:
        """Resources of all such tasks and executors, of one moment (GET_STATE), in normal form."""
        state = self._call("GET_STATE")["get_state"]
        holders = [*_unfinished_tasks(state.get("get_tasks", {})), *_executors(state.get("get_executors", {}))]
        return [resource for holder in holders for resource in _scalars(holder)]

    def places_in_use(self) -> frozenset[str]:
        """Host paths of the resource providers' volumes that a task or executor uses or waits for."""
        return frozenset(_places(self.resources_in_use()))

    def containers_using(self, place: str) -> tuple[Container, ...]:
        """The containers of the executors and tasks that use a volume (GET_STATE, then GET_CONTAINERS).

        One that waits for its volumes to be published has no container yet, and is not among them.

        :param place: host path of the volume, as :func:`~polly_mesos.mesos.resources.volume_path` gives it
        """
        state = self._call("GET_STATE")["get_state"]
        users: dict[tuple[str, str], list[str]] = {}
        for task in _unfinished_tasks(state.get("get_tasks", {})):
            if place in _places(_scalars(task)):
                users.setdefault(_executor_of(task), []).append(task["task_id"]["value"])
        for executor in _executors(state.get("get_executors", {})):
            if place in _places(_scalars(executor)):
                users.setdefault(_executor_of(executor), [])
        if not users:
            return ()
        return tuple(
            Container(container["container_id"]["value"], *key, tuple(users[key]))
            for container in self._call("GET_CONTAINERS")["get_containers"].get("containers", ())
            if (key := _executor_of(container)) in users
        )

    def kill_container(self, container: Container) -> None:
        """End a container and all processes in it with SIGKILL (KILL_CONTAINER); succeeds where it is gone.

        :raises MesosRefused: the caller may not, or the container's containerizer cannot be told to
        """
        call = {"container_id": {"value": container.id}, "signal": signal.SIGKILL.value}
        try:
            self._call("KILL_CONTAINER", kill_container=call)
        except MesosRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def call_provider_api(self, call: Json, stream_id: str) -> None:
        """A call of the resource provider API other than SUBSCRIBE."""
        self._post("/resource_provider", call, {STREAM_ID: stream_id})

    def subscribe_provider(self, call: Json) -> EventStream:
        """SUBSCRIBE of the resource provider API. Nothing is sent on the stream while nothing happens."""
        url = f"{self._url}/resource_provider"
        return EventStream(self._http, url, call, unreachable=AgentUnreachable, read_timeout=None)

    def _call(self, kind: str, **content: Json) -> Any:
        response = self._post("", {"type": kind, **content}, {})
        try:
            return response.json() if response.content else {}
        except ValueError as error:
            raise AgentUnreachable(f"agent {self.endpoint} answers {kind} with something that is not JSON") from error

    def _post(self, path: str, call: Json, headers: dict[str, str]) -> httpx.Response:
        what = f"agent {self.endpoint}, {call['type']}"
        try:
            response = self._http.post(self._url + path, json=call, headers=headers)
        except httpx.HTTPError as error:
            raise AgentUnreachable(f"{what}: {error or type(error).__name__}") from error
        check_answer(response, what, AgentUnreachable)
        return response


def _unfinished_tasks(answer: Json) -> list[Json]:
    return [task for kind in _UNFINISHED_TASKS for task in answer.get(kind, ())]


def _executors(answer: Json) -> list[Json]:
    return [executor["executor_info"] for executor in answer.get("executors", ())]


def _executor_of(found: Json) -> tuple[str, str]:
    """Framework and executor of a task, an ExecutorInfo or a container. A command task's executor has the task's id."""
    executor = found.get("executor_id") or found.get("task_id") or {}
    return str(found.get("framework_id", {}).get("value", "")), str(executor.get("value", ""))


def _scalars(holder: Json) -> list[Json]:
    return [normalise(resource) for resource in holder.get("resources", ()) if resource.get("type") == "SCALAR"]


def _places(resources: list[Json]) -> Iterator[str]:
    for resource in resources:
        if provider_of(resource):
            try:
                yield volume_path(resource)
            except InvalidRequest:
                continue  # a part of a pool that is no volume has no place
