"""The audit all the time: what it finds becomes events and metrics, once when it comes and once when it goes."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from polly_mesos.audit.auditing import Audit, Report
from polly_mesos.audit.findings import Finding
from polly_mesos.errors import PollyError
from polly_mesos.ledger import Ledger
from polly_mesos.model import Event, Severity

log = logging.getLogger(__name__)

_PRUNE_EVERY = 3600.0


def _hidden(report: Report) -> tuple[str, ...]:
    """How the codes begin that an audit could not find because a witness was away: those findings are not gone."""
    codes = {finding.code for finding in report.findings}
    hidden = ["volume.", "attachment."] if "platform.unreachable" in codes else []
    hidden += ["provider.", "agent.unregistered"] if "master.unreachable" in codes else []
    return (*hidden, "mount.") if report.unseen else tuple(hidden)


class DriftLoop:
    """Audits in a thread of its own, and prunes the ledger's history.

    :param interval: seconds between two audits; 0 for none at all
    :param retention: seconds that the ledger keeps what is over and done
    """

    def __init__(
        self,
        audit: Audit,
        ledger: Ledger,
        *,
        interval: float,
        retention: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audit = audit
        self._ledger = ledger
        self._interval = interval
        self._retention = retention
        self._clock = clock
        self._prune_due = 0.0
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Finding] = {}
        self._rounds = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Begin, one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the audit that runs."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30.0)

    def codes(self) -> Mapping[str, int]:
        """How many findings of each code the newest audit had."""
        with self._lock:
            return Counter(finding.code for finding in self._known.values())

    @property
    def rounds(self) -> int:
        """How many audits were made."""
        with self._lock:
            return self._rounds

    def once(self) -> None:
        """One audit; tells what is new and what is gone, and prunes when that is due."""
        if self._clock() >= self._prune_due:
            self._prune_due = self._clock() + _PRUNE_EVERY
            pruned = self._ledger.prune(self._clock() - self._retention)
            if pruned:
                log.info("%d records older than %g days are pruned", pruned, self._retention / 86400)
        report = self._audit.run(thorough=False)
        found = {finding.identity: finding for finding in report.findings}
        hidden = _hidden(report)
        for identity, finding in found.items():
            if identity not in self._known:
                self._tell_found(finding)
            with self._lock:
                self._known[identity] = finding
        for identity in self._known.keys() - found.keys():
            if not identity[0].startswith(hidden):
                self._tell_gone(self._known[identity])
                with self._lock:
                    del self._known[identity]
        with self._lock:
            self._rounds += 1

    def _tell_found(self, finding: Finding) -> None:
        log.log(
            logging.ERROR if finding.severity is Severity.ERROR else logging.WARNING,
            "%s: %s; %s",
            finding.code,
            finding.what,
            finding.remedy,
        )
        self._record("drift.found", finding, finding.what, finding.severity)

    def _tell_gone(self, finding: Finding) -> None:
        log.info("%s of %s is gone", finding.code, finding.subject)
        self._record("drift.gone", finding, f"no more: {finding.what}", Severity.INFO)

    def _record(self, kind: str, finding: Finding, message: str, severity: Severity) -> None:
        detail = {"code": finding.code, "remedy": finding.remedy}
        self._ledger.record_event(Event(kind, finding.subject, message, severity, detail))

    def _run(self) -> None:
        while self._interval and not self._stopping.wait(self._interval):
            try:
                self.once()
            except PollyError as error:
                log.warning("looking for drift: %s; trying again in %g s", error, self._interval)
            except Exception:
                log.exception("looking for drift failed; trying again in %g s", self._interval)
