"""What an audit can find: each kind once, with its code, how bad it is and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polly_mesos.audit.actions import Action
from polly_mesos.model import Severity

ERROR, WARNING = Severity.ERROR, Severity.WARNING

KINDS: Mapping[str, tuple[Severity, str]] = {
    "platform.unreachable": (WARNING, "a platform does not answer, so its volumes were not looked at"),
    "service.unknown": (ERROR, "volumes are on a service that is not configured"),
    "volume.missing": (ERROR, "a volume of the ledger is not on its platform"),
    "volume.broken": (ERROR, "the platform says that a volume is in error"),
    "volume.shrunk": (ERROR, "a volume is smaller on its platform than was recorded"),
    "volume.orphan": (WARNING, "the platform has a volume with our tag that the ledger does not know"),
    "volume.orphan-deleted": (WARNING, "the platform has a volume that the ledger knows as deleted"),
    "volume.duplicate": (ERROR, "two volumes on the platform carry one volume's tag"),
    "volume.parked": (WARNING, "no agent offers a volume"),
    "attachment.unexpected": (ERROR, "a platform volume is attached to a host without publication"),
    "attachment.missing": (ERROR, "a publication is attached, and the platform says that it is not"),
    "mount.unexpected": (ERROR, "a host holds a volume that is not published there"),
    "mount.stale": (ERROR, "a host holds a volume under another generation than the ledger's"),
    "mount.missing": (ERROR, "a publication is mounted, and the host says that it is not"),
    "mount.elsewhere": (ERROR, "a volume is mounted at another path than was recorded"),
    "mount.twice": (ERROR, "two hosts have mounted one volume"),
    "mount.impossible": (ERROR, "a host reports a volume that it cannot have"),
    "agent.silent": (WARNING, "a connected agent's executor has not reported for long"),
    "agent.unregistered": (WARNING, "a connected agent is not known to the master"),
    "agent.unreachable": (WARNING, "volumes wait for an agent that the master cannot reach"),
    "agent.lost": (ERROR, "volumes wait for an agent that is gone and not fenced"),
    "agent.fenced": (WARNING, "volumes of a fenced agent wait for another that fits"),
    "agent.dead-with-space": (WARNING, "an agent that is gone still has leases or reservations"),
    "clock.set-back": (WARNING, "records are of a later time than now"),
    "master.unreachable": (WARNING, "no master answers, so its view was not compared"),
    "provider.totals": (ERROR, "the master has other disks of our provider than the ledger would advertise"),
    "provider.unknown": (ERROR, "a provider of ours offers disks, and the ledger does not know it"),
    "operation.unfinished": (WARNING, "a step was begun long ago and has no outcome"),
    "operation.recorded-twice": (ERROR, "one operation is recorded more than once"),
    "pool.overcommitted": (ERROR, "a pool has promised more than it has"),
    "pool.space-lost": (ERROR, "an agent waits for bytes that nobody will free"),
    "publication.wrong-generation": (ERROR, "a publication and its volume have different generations"),
    "publication.elsewhere": (ERROR, "a volume is published on another agent than the one that offers it"),
    "publication.fenced-in-use": (ERROR, "a publication is fenced and in use"),
    "publication.of-deleted": (ERROR, "a deleted volume is published"),
    "publication.of-unmade": (ERROR, "a volume that was never made is published"),
    "volume.parked-in-use": (ERROR, "a host has a volume that no agent offers"),
    "volume.format-interrupted": (WARNING, "a host let go of a volume while formatting it"),
    "volume.without-platform-id": (ERROR, "a ready volume has no name on its platform"),
    "volume.ownerless": (ERROR, "a volume belongs to nobody"),
    "volume.namesakes": (ERROR, "two volumes of one role and agent have one persistence id"),
    "ledger.damaged": (ERROR, "the ledger's file is damaged"),
    "ledger.broken-reference": (ERROR, "a record of the ledger names another that is not there"),
}
"""Code -> severity and meaning. Codes stay the same from version to version."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    :param subject: the id of what it is about: a volume, an agent, a pool, a service, SERVICE/PLATFORM-ID
    :param action: what a repair would do about it; None where a person has to decide
    :param evidence: what it rests on; seen differently a moment later, it was something that moves
    """

    code: str
    severity: Severity
    subject: str
    what: str
    remedy: str
    action: Action | None = None
    evidence: tuple[object, ...] = field(default=(), repr=False)

    @property
    def identity(self) -> tuple[str, str]:
        """By what it is known again later."""
        return self.code, self.subject


def finding(
    code: str, subject: str, what: str, remedy: str, *, action: Action | None = None, evidence: tuple[object, ...] = ()
) -> Finding:
    """A finding of one of :data:`KINDS`."""
    return Finding(code, KINDS[code][0], subject, what, remedy, action, evidence)
