"""A new ledger when the old one and all its copies are lost: from the platforms' tags, the master and the agents.

Gathering (:mod:`.rebuild_evidence`) only reads, planning (:mod:`.rebuild_plan`) is pure, and the ledger is written
whole or not at all (:mod:`polly_mesos.ledger.rebuilding`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polly_mesos.config import Configuration
from polly_mesos.errors import AlreadyExists
from polly_mesos.ledger.rebuilding import write
from polly_mesos.model import Json
from polly_mesos.scheduler.rebuild_evidence import Evidence, gather
from polly_mesos.scheduler.rebuild_plan import Plan, Recovered, plan
from polly_mesos.scheduler.services import Services


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of it.

    :param written: False where it was only to be shown
    :param kept: where the ledger is that was there before; None where there was none
    """

    path: Path
    plan: Plan
    written: bool
    kept: Path | None = None

    def as_json(self) -> Json:
        """The whole of it for programs."""
        ledger = self.plan.ledger
        return {
            "ledger": str(self.path),
            "written": self.written,
            "kept": str(self.kept) if self.kept is not None else None,
            "cluster": ledger.cluster,
            "epoch": ledger.epoch,
            "framework_id": ledger.framework_id,
            "agents": len(ledger.agents),
            "reservations": len(ledger.reservations),
            "publications": len(ledger.publications),
            "volumes": [_as_json(one) for one in self.plan.volumes],
            "statements": list(self.plan.statements),
        }


def rebuild(
    configuration: Configuration,
    *,
    force: bool = False,
    dry_run: bool = False,
    ask: Callable[[Configuration, Services], Evidence] = gather,
) -> Rebuilt:
    """Make a new ledger where ``configuration`` wants it.

    :param force: whether a ledger that is there is kept aside
    :param dry_run: only say what the ledger would hold
    :param ask: gathers the evidence
    :raises AlreadyExists: there is a ledger, and it may not be kept aside
    :raises LedgerLocked: a scheduler half has it open
    :raises Conflict: a scheduler half is connected to the master
    :raises MasterUnreachable, PlatformError: somebody does not answer without whom the ledger would not be whole
    :raises ConfigurationError, UnknownProfile: a profile that is used is not configured
    """
    path = configuration.ledger.path
    if path.exists() and not (force or dry_run):
        raise AlreadyExists(
            f"there is a ledger at {path}; nothing was changed",
            remedy="restore a copy of it (polly ledger restore), or give --force: it is kept aside then",
        )
    evidence = ask(configuration, Services(configuration))
    made = plan(
        evidence,
        cluster=configuration.cluster,
        profiles=configuration.profiles,
        root_on=configuration.agents.root_on,
    )
    if dry_run:
        return Rebuilt(path, made, written=False)
    return Rebuilt(path, made, written=True, kept=write(made.ledger, path, force=force).kept)


def _as_json(one: Recovered) -> Json:
    volume = one.volume
    return {
        "volume": volume.id,
        "platform_id": volume.platform_id,
        "service": volume.service,
        "profile": volume.profile,
        "kind": volume.kind.value,
        "size": volume.size,
        "state": volume.state.value,
        "agent": volume.agent,
        "owner": volume.owner,
        "persistence_id": volume.persistence_id,
        "said_by": one.said_by,
        "unknown": list(one.unknown),
        "remark": one.remark,
    }
