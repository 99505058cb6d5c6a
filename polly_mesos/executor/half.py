"""The executor half's life on one agent, from the first word to the scheduler half until it is stopped.

Greet the scheduler half, find out who the host is, get the first assignment, only then subscribe as a resource provider
(its first words to the agent are its totals), and follow the assignments from there. It begins anew when the agent gets
another id, or when the scheduler half does not know this agent any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import polly_mesos
from polly_mesos.agent_api import Assignment, Hello, HostReport, Verdict, Welcome
from polly_mesos.errors import AgentUnreachable, PollyError, SchedulerUnreachable
from polly_mesos.executor.eviction import Evictions
from polly_mesos.executor.feed import AssignmentFeed, Received
from polly_mesos.executor.holdings import Holdings
from polly_mesos.executor.mapping import HostTools, Mapper
from polly_mesos.executor.provider_handler import ProviderHandler
from polly_mesos.executor.publisher import Publisher
from polly_mesos.executor.recovery import recover
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.executor.services import Findings, Services
from polly_mesos.executor.usage import UsageWatch
from polly_mesos.faults import fault_point
from polly_mesos.model import Filesystem, Json

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.2
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 5.0
_LASTING_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 20.0
_SHORTEST_BETWEEN_REPORTS = 1.0


class Provider(Protocol):
    """A resource provider on its agent: :class:`polly_mesos.mesos.provider.ResourceProvider`."""

    failed: bool
    """Whether it ended by itself, by a mistake, and a new one has to be made."""

    def start(self) -> None:
        """Subscribe, and stay subscribed."""

    def stop(self) -> None:
        """Close the stream; the agent takes the provider's disks out of the offers."""

    def set_desired(self, resources: Sequence[Json], *, version: int) -> None:
        """Replace the totals that the agent is to have; ``version`` is their assignment's."""

    def set_unacknowledged(self, verdicts: Sequence[Verdict]) -> None:
        """Name the operations whose status the agent has not acknowledged."""


class AgentView(Protocol):
    """What is asked of the Mesos agent."""

    def identity(self) -> tuple[str, str]:
        """The agent's id and host name; raises AgentUnreachable where it has none yet."""

    def draining(self) -> bool:
        """Whether an operator has the agent drained; raises AgentUnreachable where that cannot be told."""

    def places_in_use(self) -> AbstractSet[str]:
        """Paths of the volumes that tasks use or wait for; raises AgentUnreachable where that cannot be told."""

    def end_users(self, place: str, reason: str) -> int:
        """Kill all that uses the volume at this path, say how much that was; raises AgentUnreachable if it cannot."""


class HostView(HostTools, Protocol):
    """What is asked of the host."""

    def lacking(self, filesystems: Sequence[Filesystem], tools: Sequence[str]) -> str:
        """What programs the host lacks and how to get them, empty where it lacks none."""

    def mount_problem(self, volume_root: str) -> str:
        """Why a mount made below the volume root would not reach the tasks, empty where it would."""


ProviderFactory = Callable[[ProviderHandler, Welcome], Provider]


class ExecutorHalf:
    """The executor half of one agent, in threads of its own.

    :param node: ``host:port`` of the agent's API
    :param build: name of the artifact that runs, empty where this was not started by Mesos
    :param retry: seconds before the first new beginning; longer before later ones
    """

    def __init__(
        self,
        client: SchedulerClient,
        agent: AgentView,
        host: HostView,
        make_provider: ProviderFactory,
        *,
        node: str,
        build: str = "",
        retry: float = _FIRST_RETRY_SECONDS,
    ) -> None:
        self._client = client
        self._agent = agent
        self._host = host
        self._make_provider = make_provider
        self._node = node
        self._build = build
        self._retry = retry
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._service: _Service | None = None
        self._thread = threading.Thread(target=self._live, name="executor-half", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Leave the agent and end all threads; what is mounted stays mounted, for tasks may be using it."""
        self._stopping.set()
        self._client.close()
        self._thread.join(timeout)

    def let_go(self, seconds: float) -> None:
        """On an agent that an operator drains: unmount every volume as its tasks end, for ``seconds`` at most.

        Elsewhere nothing happens: tasks go on, and the next executor half finds what is mounted.
        """
        service = self._service
        try:
            draining = self._agent.draining()
        except AgentUnreachable as error:
            log.warning("the agent cannot be asked whether it is drained: %s", error)
            return
        if draining and service is not None:
            log.info("the agent is drained: volumes are let go of as their tasks end")
            service.let_go(time.monotonic() + seconds, self._stopping)

    @property
    def serving(self) -> bool:
        """Whether the provider has been started with what the scheduler half assigned."""
        return self._ready.is_set()

    def _live(self) -> None:
        pause = self._retry
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._serve()
            except SchedulerUnreachable as error:
                log.debug("%s", error)
            except PollyError as error:
                log.error("beginning anew: %s", error)
            except Exception:
                log.exception("beginning anew after a mistake in Polly")
            if time.monotonic() - begun > _LASTING_SECONDS:
                pause = self._retry
            self._stopping.wait(pause)
            pause = min(pause * 2, _LAST_RETRY_SECONDS)

    def _serve(self) -> None:
        try:
            agent_id, hostname = self._agent.identity()
        except AgentUnreachable as error:
            log.warning("the agent at %s cannot be asked who it is: %s", self._node, error)
            return
        fault_point("executor.hello.before-send")
        welcome = self._client.hello(Hello(agent_id, hostname, self._node, polly_mesos.__version__))
        fault_point("executor.hello.after-answer")
        log.info("welcomed as agent %s (%s), volume root %s", agent_id, hostname, welcome.volume_root)
        services = Services(
            welcome.services,
            self._node,
            lacking=self._host.lacking,
            mount_problem=lambda: self._host.mount_problem(welcome.volume_root),
        )
        self._service = _Service(self._client, self._agent, self._host, welcome, services, agent_id, self._build)
        try:
            self._service.run(self._make_provider, self._stopping, self._ready)
        finally:
            self._service = None


class _Service:
    """One stretch of a life: the time under one Welcome."""

    def __init__(
        self,
        client: SchedulerClient,
        agent: AgentView,
        host: HostView,
        welcome: Welcome,
        services: Services,
        agent_id: str,
        build: str,
    ) -> None:
        self._client = client
        self._host = host
        self._welcome = welcome
        self._services = services
        self._agent_id = agent_id
        self._build = build
        self._holdings = holdings = Holdings(welcome.volume_root)
        mapper = Mapper(client, services.drivers, host, holdings)
        self._publisher = Publisher(client, mapper, holdings, allow_scratch=welcome.allow_scratch)
        self._usage = UsageWatch(
            agent.places_in_use,
            mapper,
            holdings,
            self._publisher,
            host,
            volume_root=welcome.volume_root,
            grace=welcome.unpublish_grace,
        )
        self._evictions = Evictions(
            agent.end_users, mapper, holdings, self._publisher, host, volume_root=welcome.volume_root
        )
        self._provider: Provider | None = None
        self._assigned: Assignment | None = None
        self._findings: Findings | None = None
        self._looked = self._reported = 0.0
        self._reported_revision = -1

    def run(self, make_provider: ProviderFactory, stopping: threading.Event, ready: threading.Event) -> None:
        """Serve until stopped, or until the agent or the scheduler half needs a new beginning."""
        self._report_host(self._look_at_host())
        handler = ProviderHandler(self._client, self._publisher, self._agent_id, desire=self._desire)
        self._provider = make_provider(handler, self._welcome)
        watch = threading.Thread(target=self._usage.run, name="usage", daemon=True)
        feed = AssignmentFeed(self._client)
        try:
            while not (stopping.is_set() or handler.renewal_needed or self._provider.failed):
                received = feed.next(_TICK_SECONDS)
                if received is not None:
                    self._take(received)
                    if not ready.is_set():
                        # A provider's first words are its totals, so it waits for the first assignment.
                        self._provider.start()
                        watch.start()
                        ready.set()
                self._report_if_due()
        finally:
            ready.clear()
            feed.stop()
            self._usage.stop()
            self._evictions.stop()
            self._provider.stop()

    def let_go(self, deadline: float, stopping: threading.Event) -> None:
        """Unmount what no task uses, without any grace, until nothing is held or ``deadline`` (monotonic) has come."""
        self._usage.hurry()
        while self._holdings.all() and time.monotonic() < deadline and not stopping.wait(_TICK_SECONDS):
            self._usage.hurry()

    def _desire(self) -> None:
        if self._provider is not None and self._assigned is not None:
            self._provider.set_unacknowledged(self._assigned.operations)
            self._provider.set_desired(self._assigned.resources, version=self._assigned.version)

    def _take(self, received: Received) -> None:
        first = self._assigned is None
        if self._assigned is not None and self._assigned.look != received.assignment.look:
            # The scheduler half wants to hear now what this host has.
            self._looked = float("-inf")
        self._assigned = received.assignment
        if first:
            recover(self._holdings, self._services.drivers, self._host, self._welcome.volume_root, received.assignment)
        self._evictions.assigned(received.assignment.stop)
        self._usage.assigned(received.assignment, received.asked)
        self._desire()

    def _report_if_due(self) -> None:
        """Report the host now and then, which is its sign of life, and soon after what it holds has changed."""
        now = time.monotonic()
        if self._findings is None or now - self._looked >= _LOOK_AGAIN_SECONDS:
            self._report_host(self._look_at_host())
        elif self._holdings.revision != self._reported_revision and now - self._reported >= _SHORTEST_BETWEEN_REPORTS:
            self._report_host(self._findings)

    def _look_at_host(self) -> Findings:
        self._looked = time.monotonic()
        findings = self._services.look()
        if findings != self._findings:
            for service, problem in findings.problems.items():
                log.error("service %s cannot be used on this host: %s", service, problem)
        self._findings = findings
        return findings

    def _report_host(self, findings: Findings) -> None:
        self._reported, revision = time.monotonic(), self._holdings.revision
        report = HostReport(
            dict(findings.identities),
            dict(findings.problems),
            dict(self._host.mounted(self._welcome.volume_root)),
            {holding.volume: holding.generation for holding in self._holdings.all() if holding.generation},
            self._build,
        )
        fault_point("host.report.before-send")
        self._client.host(report)
        fault_point("host.report.after-answer")
        self._reported_revision = revision
