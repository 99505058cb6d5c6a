"""Looks twice and tells what was the same both times: what differs for a moment is only on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from polly_mesos.audit.findings import ERROR, Finding
from polly_mesos.audit.gathering import Gathering
from polly_mesos.audit.hosts import compare_hosts
from polly_mesos.audit.masters import compare_master
from polly_mesos.audit.platforms import compare_platforms
from polly_mesos.audit.records import compare_records
from polly_mesos.audit.world import World
from polly_mesos.mesos.provider.steps import Timing
from polly_mesos.model import AgentState

PAUSE_SECONDS = 2.0
"""Between the two looks of an audit, where nothing else is said."""

_TOTALS_ON_THEIR_WAY = Timing().minimum_interval + 2.0
"""What an executor and its agent take at most, after the settle time, to tell the master of new totals."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    :param findings: the worst first
    :param unseen: what could not be looked at, in words
    :param began: seconds since the epoch
    :param seconds: how long it took
    """

    findings: tuple[Finding, ...]
    unseen: tuple[str, ...]
    began: float
    seconds: float

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity is ERROR for finding in self.findings)


def compare(world: World) -> list[Finding]:
    """All differences within one look. Pure."""
    return [*compare_records(world), *compare_platforms(world), *compare_hosts(world), *compare_master(world)]


def persisting(first: Iterable[Finding], second: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those of the second look that were there at the first, and rested on the same; errors first."""
    before = {(finding.identity, finding.evidence) for finding in first}
    kept = {finding.identity: finding for finding in second if (finding.identity, finding.evidence) in before}
    return tuple(sorted(kept.values(), key=lambda finding: (finding.severity is not ERROR, *finding.identity)))


class Audit:
    """Two looks, compared.

    :param settle: seconds without operations after which executors replace an agent's totals
    :param sleep: waits so many seconds
    """

    def __init__(
        self,
        gathering: Gathering,
        *,
        settle: float = 0.0,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gathering = gathering
        self._settle = settle
        self._sleep = sleep
        self._clock = clock

    def run(self, pause: float = PAUSE_SECONDS, *, thorough: bool = True) -> Report:
        """Look, wait, look again.

        :param pause: seconds between the looks; longer where totals differ, which may be on their way to the master
        :param thorough: as in :meth:`~polly_mesos.audit.gathering.Gathering.look`
        """
        began = self._clock()
        world = self._gathering.look(thorough=thorough)
        found: Iterable[Finding] = compare(world)
        if found:
            first = found
            on_their_way = any(finding.code == "provider.totals" for finding in first)
            self._sleep(max(pause, self._settle + _TOTALS_ON_THEIR_WAY) if on_their_way else pause)
            world = self._gathering.look(thorough=thorough)
            found = persisting(first, compare(world))
        return Report(tuple(found), tuple(unseen(world)), began, self._clock() - began)


def unseen(world: World) -> list[str]:
    """What a look did not see, in words. A platform or master that did not answer is a finding instead."""
    told = [] if world.master is not None else ["the master was not asked"]
    if world.hosts is None:
        return [*told, "the hosts were not asked"]
    for agent in world.records.agents.values():
        if agent.state is AgentState.CONNECTED and world.fresh(agent.id) is None:
            told.append(f"host {agent.hostname} ({agent.id}) did not report its mounts in time")
    return told
