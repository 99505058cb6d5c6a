"""Puts right what can be put right without any danger to data, and says what it left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from polly_mesos.audit.actions import (
    Action,
    AdoptPublication,
    DetachUnused,
    EndPublication,
    LookAgain,
    TakeBackLeases,
    TellHost,
)
from polly_mesos.audit.findings import Finding
from polly_mesos.errors import PollyError
from polly_mesos.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of one finding.

    :param done: whether something was done about it; what it led to, the next audit tells
    :param result: what was done, or why nothing was
    """

    finding: Finding
    done: bool
    result: str


class Repair:
    """Does what findings name as their action; never deletes, never formats, never forces.

    :param on_volume: has the volume controller look at a volume
    :param tell: has these agents' executors told again what they are to keep and to let go
    """

    def __init__(self, ledger: Ledger, on_volume: Callable[[str], None], tell: Callable[[Iterable[str]], None]) -> None:
        self._ledger = ledger
        self._on_volume = on_volume
        self._tell = tell

    def apply(self, findings: Iterable[Finding]) -> list[Repaired]:
        """Do what may be done, one finding after the other; an action that several share is done once."""
        done: dict[Action, Repaired] = {}
        results = []
        for finding in findings:
            action = finding.action
            if action is None:
                results.append(Repaired(finding, False, "left alone: a person has to decide"))
            elif action in done:
                results.append(Repaired(finding, done[action].done, done[action].result))
            else:
                done[action] = self._one(finding, action)
                results.append(done[action])
        return results

    def _one(self, finding: Finding, action: Action) -> Repaired:
        try:
            result = self._do(action)
        except PollyError as error:
            return Repaired(finding, False, f"left alone: {error}")
        log.warning("repairing %s of %s: %s", finding.code, finding.subject, result)
        return Repaired(finding, True, result)

    def _do(self, action: Action) -> str:
        match action:
            case LookAgain(volume):
                self._on_volume(volume)
                return f"the volume controller looks at volume {volume} again"
            case TellHost(agent):
                self._tell([agent])
                return f"agent {agent} is told again what to advertise, to keep and to let go"
            case TakeBackLeases(pool):
                # Setting a pool takes back leases where it has promised too much.
                self._ledger.set_pool(self._ledger.pools()[pool])
                return f"leases of pool {pool} are taken back as far as it has promised too much"
            case EndPublication(volume, generation):
                self._ledger.unpublished(volume, generation)
                self._on_volume(volume)
                return f"publication {generation} of volume {volume} is being detached"
            case AdoptPublication(volume, agent, host, generation, target):
                self._ledger.adopt_publication(volume, agent, host, generation, target)
                return f"volume {volume} is recorded as published on agent {agent}, generation {generation}"
            case DetachUnused(volume, agent, host):
                # A publication that ends at once: its last step is the detachment.
                publication = self._ledger.publish(volume, agent, host)
                self._ledger.unpublished(volume, publication.generation)
                self._on_volume(volume)
                return f"volume {volume} is being detached from {host}"
