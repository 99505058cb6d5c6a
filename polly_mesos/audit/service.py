"""The audit over a scheduler half: asked for by operators, and by itself all the time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from polly_mesos.audit.adoption import Adoption, adopt
from polly_mesos.audit.auditing import Audit, Report
from polly_mesos.audit.drift import DriftLoop
from polly_mesos.audit.gathering import Gathering, Hosts
from polly_mesos.audit.orphans import Orphan, orphans_of
from polly_mesos.audit.repair import Repair, Repaired
from polly_mesos.mesos.master_client import MasterClient
from polly_mesos.model import Volume
from polly_mesos.scheduler.half import PROVIDER_TYPE, SchedulerHalf


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    :param repaired: what became of each finding
    :param after: what an audit found after it; controllers and hosts may still be at work on the rest
    """

    repaired: tuple[Repaired, ...]
    after: Report


class AuditService:
    """Audits, repairs, and lists orphans; one audit at a time."""

    def __init__(self, half: SchedulerHalf) -> None:
        self._half = half
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        configuration = half.configuration
        self._gathering = Gathering(
            half.ledger,
            half.services,
            half.profiles,
            provider_type=PROVIDER_TYPE,
            master=lambda: MasterClient(configuration.mesos.master),
            hosts=Hosts(half.hosts, self._ask_hosts),
            shared_view=half.planning.shared_view,
        )
        self._audit = Audit(self._gathering, settle=configuration.agents.settle, sleep=self._stopping.wait)
        self._repair = Repair(half.ledger, half.controller.look_at, half.board.changed)
        self.drift = DriftLoop(
            self._audit,
            half.ledger,
            interval=configuration.check.interval,
            retention=configuration.ledger.retention,
        )

    def start(self) -> None:
        """Begin to look for drift."""
        self.drift.start()

    def stop(self) -> None:
        """Cut short what runs, and end."""
        self._stopping.set()
        self.drift.stop()

    def check(self, pause: float) -> Report:
        """One audit; see :meth:`~polly_mesos.audit.auditing.Audit.run`."""
        with self._turn:
            return self._audit.run(pause)

    def repair(self, pause: float) -> RepairReport:
        """An audit, its repairs, and another audit."""
        with self._turn:
            repaired = tuple(self._repair.apply(self._audit.run(pause).findings))
            return RepairReport(repaired, self._audit.run(pause))

    def orphans(self) -> tuple[Orphan, ...]:
        """The platform volumes with our tags that the ledger lacks."""
        return tuple(orphans_of(self._gathering.platforms()))

    def adopt(self, wanted: Adoption) -> Volume:
        """Take an orphan into the ledger; see :func:`polly_mesos.audit.adoption.adopt`."""
        half = self._half
        adopted = adopt(half.ledger, half.services, half.profiles, wanted)
        half.failover.look()
        half.planning.look()
        return adopted

    def _ask_hosts(self, agents: Iterable[str]) -> None:
        agents = tuple(agents)
        self._half.hosts.ask(agents)
        self._half.board.changed(agents)
