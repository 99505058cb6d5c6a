"""``GET /metrics`` for Prometheus: what the ledger holds, what platforms and frameworks were answered, what drifts.

Names follow Prometheus' conventions: base units, ``_total`` on counters. Counters begin at zero with the process.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Count
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from polly_mesos import __version__
from polly_mesos.agent_api import Application, Verdict
from polly_mesos.audit.drift import DriftLoop
from polly_mesos.audit.findings import KINDS
from polly_mesos.model import AgentState, Event, PublicationState, VolumeState
from polly_mesos.scheduler.half import SchedulerHalf

router = APIRouter(tags=["operators"])

_CALL_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_RECOVERY_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_REMEMBERED = 10_000
_EVENTS_AT_ONCE = 1000


class Metrics:
    """All metrics of one scheduler half."""

    def __init__(self, half: SchedulerHalf, drift: DriftLoop) -> None:
        self._registry = CollectorRegistry()
        self._calls = Histogram(
            "polly_platform_call_seconds",
            "Time that calls of the storage platforms took, by how they ended.",
            ["service", "call", "outcome"],
            buckets=_CALL_SECONDS,
            registry=self._registry,
        )
        self._decided = Count(
            "polly_operations",
            "Mesos operations that were decided.",
            ["kind", "state"],
            registry=self._registry,
        )
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._events = _Events(half, self._registry)
        self._registry.register(_State(half, drift))
        half.controller.on_call(self._called)

    def _called(self, service: str, call: str, outcome: str, seconds: float) -> None:
        self._calls.labels(service, call, outcome).observe(seconds)

    def decided(self, application: Application, verdict: Verdict) -> None:
        """Count an operation's verdict, once however often it is asked for."""
        with self._lock:
            if application.id in self._seen:
                return
            self._seen[application.id] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        kind = str(application.info.get("type", "")) or "NONE"
        self._decided.labels(kind, verdict.state.removeprefix("OPERATION_").lower()).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self._events.follow()
        return generate_latest(self._registry)


class _Events:
    """Counts events as they are read from the ledger, and how long volumes of fenced hosts took to move."""

    def __init__(self, half: SchedulerHalf, registry: CollectorRegistry) -> None:
        self._half = half
        self._lock = threading.Lock()
        newest = half.ledger.events(limit=1)
        self._after = newest[-1].number if newest else 0
        self._fenced: dict[str, float] = {}
        self._count = Count("polly_events", "Events recorded.", ["kind", "severity"], registry=registry)
        self._recovery = Histogram(
            "polly_failover_seconds",
            "Time from an agent's fencing to each of its volumes being offered by another agent.",
            buckets=_RECOVERY_SECONDS,
            registry=registry,
        )

    def follow(self) -> None:
        """Read what has happened since."""
        with self._lock:
            while found := self._half.ledger.events(after=self._after, limit=_EVENTS_AT_ONCE):
                for event in found:
                    self._take(event)
                self._after = found[-1].number

    def _take(self, event: Event) -> None:
        self._count.labels(event.kind, event.severity.value).inc()
        if event.kind == "agent.fenced":
            self._fenced.setdefault(event.subject, event.time)
        elif event.kind == "volume.moved" and event.detail.get("from") in self._fenced:
            self._recovery.observe(max(event.time - self._fenced[event.detail["from"]], 0.0))


class _State(Collector):
    """What is so at the moment of the question."""

    def __init__(self, half: SchedulerHalf, drift: DriftLoop) -> None:
        self._half = half
        self._drift = drift

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the names need not be looked up when this is registered."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """All gauges, from one moment of the ledger."""
        with self._half.ledger.snapshot():
            yield from self._pools()
            yield self._volumes()
            yield from self._publications()
            yield self._agents()
            yield self._unacknowledged()
        yield from self._findings()
        yield from self._process()

    def _pools(self) -> Iterator[GaugeMetricFamily]:
        capacity = GaugeMetricFamily("polly_pool_capacity_bytes", "What a pool may promise in all.", labels=["pool"])
        promised = GaugeMetricFamily(
            "polly_pool_bytes", "Where a pool's bytes are; together its capacity.", labels=["pool", "kind"]
        )
        waiting = GaugeMetricFamily(
            "polly_pool_unbacked_bytes", "Reserved bytes that wait for volumes to be deleted.", labels=["pool"]
        )
        for name, balance in self._half.ledger.balance().items():
            capacity.add_metric([name], balance.capacity)
            waiting.add_metric([name], balance.unbacked)
            for kind in ("leased", "reserved", "volumes", "free"):
                promised.add_metric([name, kind], getattr(balance, kind))
        yield from (capacity, promised, waiting)

    def _volumes(self) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily("polly_volumes", "Volumes that are not deleted.", labels=["service", "state"])
        states = [state for state in VolumeState if state is not VolumeState.DELETED]
        counts = Counter((volume.service, volume.state) for volume in self._half.ledger.volumes(states=states))
        for service in sorted({*self._half.services.names, *(service for service, _ in counts)}):
            for state in states:
                gauge.add_metric([service, state.value], counts[service, state])
        return gauge

    def _publications(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily("polly_publications", "Volumes mapped to hosts.", labels=["state"])
        found = self._half.ledger.publications()
        counts = Counter(publication.state for publication in found)
        for state in PublicationState:
            gauge.add_metric([state.value], counts[state])
        fenced = GaugeMetricFamily("polly_publications_fenced", "Volumes being taken from fenced hosts.")
        fenced.add_metric([], sum(publication.fenced for publication in found))
        yield from (gauge, fenced)

    def _agents(self) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily("polly_agents", "Agents that Polly has chosen.", labels=["state"])
        counts = Counter(agent.state for agent in self._half.ledger.agents().values())
        for state in AgentState:
            gauge.add_metric([state.value], counts[state])
        return gauge

    def _unacknowledged(self) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(
            "polly_operations_pending",
            "Mesos operations that are decided and whose status is not acknowledged.",
            labels=["kind"],
        )
        ledger = self._half.ledger
        waiting = Counter(one.kind for agent in ledger.agents() for one in ledger.unacknowledged(agent))
        for kind, count in sorted(waiting.items()):
            gauge.add_metric([kind.removeprefix("mesos.")], count)
        return gauge

    def _findings(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        gauge = GaugeMetricFamily(
            "polly_findings", "Differences that the newest audit found.", labels=["code", "severity"]
        )
        found = self._drift.codes()
        for code, (severity, _) in KINDS.items():
            gauge.add_metric([code, severity.value], found.get(code, 0))
        yield gauge
        audits = CounterMetricFamily("polly_audits", "Audits that the drift loop made.")
        audits.add_metric([], self._drift.rounds)
        yield audits

    def _process(self) -> Iterator[GaugeMetricFamily]:
        registered = GaugeMetricFamily("polly_registered", "1 while the master has Polly's framework.")
        registered.add_metric([], self._half.framework.connected.is_set())
        silent = GaugeMetricFamily(
            "polly_host_report_age_seconds", "Time since each host's newest report.", labels=["agent"]
        )
        for agent, view in self._half.hosts.all().items():
            silent.add_metric([agent], max(time.time() - view.time, 0.0))
        build = GaugeMetricFamily("polly_build_info", "1, with the version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield from (registered, silent, build)


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """All metrics, in Prometheus' text format."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE_LATEST)
