"""The leading Mesos master's operator API, as far as Polly asks it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from polly_mesos.errors import InvalidRequest, MasterUnreachable
from polly_mesos.mesos.agent_client import process_of
from polly_mesos.mesos.http import EventStream, Redirected, base_url, check_answer, client
from polly_mesos.mesos.resources import normalise, provider_of
from polly_mesos.model import Json

log = logging.getLogger(__name__)

T = TypeVar("T")

_API = "/api/v1"
_REDIRECTS = 3
_HEARTBEATS_MISSED = 4
_HEARTBEAT_SECONDS = 15.0
_ZOOKEEPER_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class RegisteredProvider:
    """A resource provider as the master knows it.

    :param resources: its totals as the master counts them, in normal form, without the provider's id
    """

    id: str
    type: str
    name: str
    resources: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class RegisteredAgent:
    """An agent as the master knows it.

    :param endpoint: ``host:port`` of its HTTP API
    :param process: its libprocess id
    :param active: whether the master offers its resources; False for agents that are disconnected or drained
    :param draining: whether an operator had it drained (DRAIN_AGENT): its tasks end and it is not offered any more
    :param attributes: text, number and range attributes as text
    :param providers: the resource providers that it told the master of
    """

    id: str
    hostname: str
    endpoint: str
    process: str
    active: bool
    attributes: Mapping[str, str]
    draining: bool = False
    providers: tuple[RegisteredProvider, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentRoll:
    """All agents that a master has.

    :param awaited: ids that a new leader knows from its registry and that have not come back yet
    """

    registered: tuple[RegisteredAgent, ...]
    awaited: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RegisteredFramework:
    """A framework that has not completed."""

    id: str
    name: str
    active: bool
    connected: bool


class MasterClient:
    """Calls to whichever master leads. May be used from several threads.

    Every method raises :class:`~polly_mesos.errors.MasterUnreachable` where no leading master answers, and
    :class:`~polly_mesos.mesos.http.MesosRefused` where it refuses.

    :param master: ``host:port`` or URL of any master, or ``zk://host:port[,host:port...]/path``
    :raises InvalidRequest: a zk:// address without a path
    """

    def __init__(
        self, master: str, *, token: str | None = None, principal: str | None = None, secret: str | None = None
    ) -> None:
        if master.startswith("zk://") and not master.removeprefix("zk://").partition("/")[2].strip("/"):
            raise InvalidRequest(
                f"{master} has no path", remedy="write zk://host:port/mesos", field="master", value=master
            )
        self._master = master
        self._leader: str | None = None
        self._http = client(token=token, principal=principal, secret=secret)

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def agents(self) -> list[RegisteredAgent]:
        """All agents that are registered (GET_AGENTS)."""
        return list(self.roll().registered)

    def roll(self) -> AgentRoll:
        """The agents that are registered, and those that a new leader still waits for (GET_AGENTS)."""
        answer = self._call("GET_AGENTS")["get_agents"]
        return AgentRoll(
            tuple(registered_agent(agent) for agent in answer.get("agents", ())),
            frozenset(agent["id"]["value"] for agent in answer.get("recovered_agents", ())),
        )

    def machines_in_maintenance(self, now: float) -> frozenset[str]:
        """Host names and addresses of machines whose maintenance window has begun (GET_MAINTENANCE_SCHEDULE).

        :param now: seconds since the epoch
        """
        schedule = self._call("GET_MAINTENANCE_SCHEDULE").get("get_maintenance_schedule", {}).get("schedule", {})
        found: set[str] = set()
        for window in schedule.get("windows", ()):
            unavailable = window["unavailability"]
            start = unavailable["start"]["nanoseconds"] / 1e9
            end = start + unavailable.get("duration", {}).get("nanoseconds", float("inf")) / 1e9
            if start <= now < end:
                for machine in window["machine_ids"]:
                    found |= {machine.get("hostname", ""), machine.get("ip", "")} - {""}
        return frozenset(found)

    def frameworks(self) -> list[RegisteredFramework]:
        """All frameworks that have not completed (GET_FRAMEWORKS)."""
        return [
            RegisteredFramework(
                id=framework["framework_info"].get("id", {}).get("value", ""),
                name=framework["framework_info"].get("name", ""),
                active=framework.get("active", False),
                connected=framework.get("connected", False),
            )
            for framework in self._call("GET_FRAMEWORKS")["get_frameworks"].get("frameworks", ())
        ]

    def events(self) -> EventStream:
        """The operator SUBSCRIBE stream: SUBSCRIBED with the whole state, AGENT_ADDED, AGENT_REMOVED, HEARTBEAT, ...

        It breaks off with MasterUnreachable where no heartbeat comes for a minute. To go on, ask for a new one.
        """
        call = {"type": "SUBSCRIBE"}
        silence = _HEARTBEATS_MISSED * _HEARTBEAT_SECONDS
        return self._ask_leader(
            lambda url: EventStream(self._http, url, call, unreachable=MasterUnreachable, read_timeout=silence)
        )

    def _call(self, kind: str) -> Any:
        response = self._ask_leader(lambda url: self._post(url, {"type": kind}))
        try:
            return response.json()
        except ValueError as error:
            raise MasterUnreachable(f"master {self._master} answers {kind} with something that is not JSON") from error

    def _post(self, url: str, call: Json) -> httpx.Response:
        what = f"master {url}, {call['type']}"
        try:
            response = self._http.post(url, json=call)
        except httpx.HTTPError as error:
            raise MasterUnreachable(f"{what}: {error or type(error).__name__}") from error
        check_answer(response, what, MasterUnreachable)
        return response

    def _ask_leader(self, ask: Callable[[str], T]) -> T:
        """Ask the master that led last time, or the one that is found; follow where it sends us."""
        base = self._leader
        if base is not None:
            try:
                return ask(base + _API)
            except (MasterUnreachable, Redirected) as error:
                self._leader = None
                log.info("looking for the leading master again: %s", error)
        base = self._find()
        for _ in range(_REDIRECTS):
            try:
                answer = ask(base + _API)
            except Redirected as redirect:
                base = redirect.base
            else:
                self._leader = base
                return answer
        raise MasterUnreachable(f"master {self._master} does not lead, and those that it names do not either")

    def _find(self) -> str:
        return base_url(leader_in_zookeeper(self._master) if self._master.startswith("zk://") else self._master)


def leader_in_zookeeper(address: str) -> str:
    """``host:port`` of the leading master, from ``zk://[user:password@]host:port[,...]/path``.

    Masters announce themselves in sequential nodes ``json.info_...``; the lowest leads (src/master/detector).

    :raises MasterUnreachable: ZooKeeper does not answer, or no master is announced there
    """
    hosts, _, path = address.removeprefix("zk://").partition("/")
    credentials, _, hosts = hosts.rpartition("@")
    zookeeper = KazooClient(
        hosts=hosts,
        timeout=_ZOOKEEPER_TIMEOUT,
        auth_data=[("digest", credentials)] if credentials else None,
        read_only=True,
    )
    try:
        zookeeper.start(timeout=_ZOOKEEPER_TIMEOUT)
        masters = sorted(node for node in zookeeper.get_children(f"/{path}") if node.startswith("json.info_"))
        info = json.loads(zookeeper.get(f"/{path}/{masters[0]}")[0]) if masters else None
    except (KazooException, KazooTimeoutError) as error:
        where = f"/{path} in ZooKeeper at {hosts}"
        raise MasterUnreachable(f"cannot read {where}: {error or type(error).__name__}") from error
    finally:
        zookeeper.stop()
        zookeeper.close()
    if info is None:
        raise MasterUnreachable(f"no master is announced at /{path} in ZooKeeper at {hosts}")
    return f"{info['address'].get('ip') or info['address']['hostname']}:{info['address']['port']}"


def registered_agent(agent: Mapping[str, Any]) -> RegisteredAgent:
    """An agent of GET_AGENTS or of an AGENT_ADDED event (``GetAgents.Agent``)."""
    info = agent["agent_info"]
    pid = agent.get("pid", "")
    return RegisteredAgent(
        id=info["id"]["value"],
        hostname=info["hostname"],
        endpoint=pid.partition("@")[2] or f"{info['hostname']}:{info.get('port', 5051)}",
        process=process_of(pid),
        active=agent.get("active", False),
        attributes=attributes_as_text(info.get("attributes", ())),
        draining="drain_info" in agent,
        providers=tuple(_providers(agent)),
    )


def _providers(agent: Mapping[str, Any]) -> Iterator[RegisteredProvider]:
    """The agent's totals by provider: there the master applies operations at once, in a provider's own it does not."""
    totals: dict[str, list[Json]] = {}
    for resource in agent.get("total_resources", ()):
        if provider := provider_of(resource):
            totals.setdefault(provider, []).append(resource)
    for known in agent.get("resource_providers", ()):
        info = known["resource_provider_info"]
        provider = info.get("id", {}).get("value", "")
        own = ({name: part for name, part in one.items() if name != "provider_id"} for one in totals.get(provider, ()))
        yield RegisteredProvider(provider, info["type"], info["name"], tuple(map(normalise, own)))


def attributes_as_text(attributes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Mesos attributes by name, as operators write them in ``--attributes``."""
    return {attribute["name"]: _attribute_text(attribute) for attribute in attributes}


def _attribute_text(attribute: Mapping[str, Any]) -> str:
    if "text" in attribute:
        return str(attribute["text"]["value"])
    if "scalar" in attribute:
        return f"{attribute['scalar']['value']:g}"
    if "set" in attribute:
        return ",".join(attribute["set"].get("item", ()))
    ranges = (attribute.get("ranges") or {}).get("range", ())
    return "[" + ",".join(f"{one['begin']}-{one['end']}" for one in ranges) + "]"
