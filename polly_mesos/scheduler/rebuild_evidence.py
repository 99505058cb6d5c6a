"""Where a ledger's contents can be read when the ledger is gone: the platforms' lists, the master, the agents.

Only reads. Sources: Mesos' GET_AGENTS and GET_FRAMEWORKS of the master, GET_RESOURCE_PROVIDERS and GET_EXECUTORS of the
agents: an agent keeps the totals of a provider, reservations and persistent volumes included, while it is subscribed,
whether or not the scheduler half lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drivers.base import ControllerDriver, PlatformVolume
from polly_mesos.config import Configuration
from polly_mesos.errors import Conflict, PollyError
from polly_mesos.mesos.agent_client import AgentClient
from polly_mesos.mesos.master_client import MasterClient, RegisteredAgent
from polly_mesos.model import Json, Pool
from polly_mesos.scheduler.half import PROVIDER_TYPE
from polly_mesos.scheduler.placement import EXECUTOR_ID
from polly_mesos.scheduler.services import Services

_AGENTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class AgentWord:
    """What one agent that is registered with the master says.

    :param provider: the id of our provider there, empty where none is subscribed
    :param resources: the provider's totals
    :param launched: whether Mesos launched the executor half there; a provider without that was started by hand
    :param frameworks: ids of the frameworks that launched it
    :param problem: why the agent could not be asked, empty where it answered; the totals are the master's then
    """

    id: str
    hostname: str
    endpoint: str
    attributes: Mapping[str, str]
    provider: str = ""
    resources: Sequence[Json] = ()
    launched: bool = True
    frameworks: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def tells(self) -> bool:
        """Whether it is known what the agent offers of ours."""
        return bool(self.provider)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was found.

    :param platforms: service -> its volumes that carry our cluster's tag
    :param pools: the pools whose capacity the platforms tell
    :param framework_id: ours, empty where it could not be told
    """

    platforms: Mapping[str, Sequence[PlatformVolume]]
    pools: Sequence[Pool]
    agents: Sequence[AgentWord]
    framework_id: str = ""


def gather(
    configuration: Configuration,
    services: Services,
    *,
    master: Callable[[str], MasterClient] = MasterClient,
    agent: Callable[..., AgentClient] = AgentClient,
) -> Evidence:
    """Ask everybody.

    An agent that does not answer is noted. A platform or a master that does not answer is an error: a ledger without
    its volumes or agents would be worse than none.

    :raises MasterUnreachable: no master answers
    :raises PlatformError: a platform does not answer
    :raises Conflict: a scheduler half of this name is connected to the master
    """
    leader = master(configuration.mesos.master)
    try:
        named = [known for known in leader.frameworks() if known.name == configuration.mesos.name]
        if any(known.connected for known in named):
            raise Conflict(
                f"a scheduler named {configuration.mesos.name!r} is connected to master {configuration.mesos.master}",
                remedy="stop polly serve first, on whatever machine it runs",
            )
        registered = leader.agents()
    finally:
        leader.close()
    with ThreadPoolExecutor(_AGENTS_AT_ONCE, thread_name_prefix="rebuild") as pool:
        words = list(pool.map(lambda known: _ask(known, configuration, agent), registered))
    return Evidence(
        platforms={name: list(list_volumes(services.controller(name))) for name in services.names},
        pools=services.pools(),
        agents=words,
        framework_id=_framework_id([known.id for known in named], words),
    )


def list_volumes(controller: ControllerDriver) -> Iterator[PlatformVolume]:
    """All volumes of our cluster on one platform."""
    page = controller.list()
    while True:
        yield from page.volumes
        if page.next is None:
            return
        page = controller.list(page.next)


def _ask(known: RegisteredAgent, configuration: Configuration, agent: Callable[..., AgentClient]) -> AgentWord:
    facts = (known.id, known.hostname, known.endpoint, known.attributes)
    client = agent(known.endpoint, process=known.process)
    try:
        providers = [(one.id, one.type, one.name, one.resources) for one in client.resource_providers()]
        executors = [one for one in client.executors() if _is_ours(one, configuration)]
        launched = bool(executors)
        frameworks = frozenset(one.get("framework_id", {}).get("value", "") for one in executors) - {""}
        problem = ""
    except PollyError as error:
        providers = [(one.id, one.type, one.name, one.resources) for one in known.providers]
        launched, frameworks, problem = True, frozenset(), str(error)
    finally:
        client.close()
    for provider, kind, name, resources in providers:
        if (kind, name) == (PROVIDER_TYPE, configuration.cluster):
            return AgentWord(*facts, provider, resources, launched, frameworks, problem)
    return AgentWord(*facts, problem=problem)


def _is_ours(executor: Json, configuration: Configuration) -> bool:
    return executor["executor_id"]["value"] == EXECUTOR_ID and executor.get("source") == configuration.mesos.name


def _framework_id(named: Sequence[str], words: Sequence[AgentWord]) -> str:
    """The framework whose executors serve our providers; where none runs, the only one of our name."""
    launchers = {framework for word in words if word.provider for framework in word.frameworks}
    known = launchers & set(named) or set(named)
    return known.pop() if len(known) == 1 else ""
