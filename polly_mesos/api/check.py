"""The admin API's routes for differences: looked for, repaired, and orphans of the platforms taken in."""

from __future__ import annotations

from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from polly_mesos.api.admin import Operator
from polly_mesos.api.agents import find_agent
from polly_mesos.api.context import Half
from polly_mesos.api.views import VolumeView
from polly_mesos.audit.adoption import Adoption
from polly_mesos.audit.auditing import PAUSE_SECONDS, Report
from polly_mesos.audit.findings import Finding
from polly_mesos.audit.orphans import Orphan
from polly_mesos.audit.repair import Repaired
from polly_mesos.audit.service import AuditService
from polly_mesos.model import Severity

router = APIRouter(tags=["operators"])

_LONGEST_PAUSE = 60.0


def audit_of(request: Request) -> AuditService:
    """The audit of the application that a request came to."""
    audit: AuditService = request.app.state.audit
    return audit


def turn_of(request: Request) -> CapacityLimiter:
    """By which audits take turns: one that waits for another must not keep a thread from the agents' requests."""
    turn: CapacityLimiter = request.app.state.audit_turn
    return turn


Turn = Annotated[CapacityLimiter, Depends(turn_of)]
Audits = Annotated[AuditService, Depends(audit_of)]
Pause = Annotated[float, Query(ge=0, le=_LONGEST_PAUSE, description="seconds between the two looks")]


class FindingView(BaseModel):
    """One difference. ``repairable``: whether a repair would do something about it."""

    code: str
    severity: Severity
    subject: str
    what: str
    remedy: str
    repairable: bool

    @classmethod
    def of(cls, finding: Finding) -> FindingView:
        """From what the audit found."""
        return cls(
            code=finding.code,
            severity=finding.severity,
            subject=finding.subject,
            what=finding.what,
            remedy=finding.remedy,
            repairable=finding.action is not None,
        )


class ReportView(BaseModel):
    """What an audit found. ``unseen``: what could not be looked at."""

    findings: list[FindingView]
    errors: int
    unseen: list[str]
    began: float
    seconds: float

    @classmethod
    def of(cls, report: Report) -> ReportView:
        """From the audit's report."""
        return cls(
            findings=[FindingView.of(finding) for finding in report.findings],
            errors=report.errors,
            unseen=list(report.unseen),
            began=report.began,
            seconds=report.seconds,
        )


class RepairedView(BaseModel):
    """What became of one finding. ``done``: whether something was done; ``result`` says what, or why nothing was."""

    finding: FindingView
    done: bool
    result: str

    @classmethod
    def of(cls, repaired: Repaired) -> RepairedView:
        """From the repair's own record."""
        return cls(finding=FindingView.of(repaired.finding), done=repaired.done, result=repaired.result)


class RepairView(BaseModel):
    """What a repair did, and what an audit found after it."""

    repaired: list[RepairedView]
    after: ReportView


class OrphanView(BaseModel):
    """A platform volume with our tag that the ledger lacks.

    ``known``: whether the ledger knows the volume that the tag names: ``unknown``, ``deleted`` or ``duplicate``. Only
    unknown ones can be adopted. ``role`` and ``persistence_id``: what they were when it was made, empty if not known.
    """

    service: str
    platform_id: str
    volume: str
    profile: str
    size: int
    state: str
    attached_to: list[str]
    known: str
    adoptable: bool
    role: str
    persistence_id: str

    @classmethod
    def of(cls, orphan: Orphan) -> OrphanView:
        """From what the platform says."""
        found = orphan.volume
        return cls(
            service=orphan.service,
            platform_id=found.id,
            volume=found.tags.volume,
            profile=found.tags.profile,
            size=found.size,
            state=found.state.value,
            attached_to=list(found.attached_to),
            known=orphan.known,
            adoptable=orphan.adoptable,
            role=orphan.role,
            persistence_id=orphan.persistence_id,
        )


class AdoptRequest(BaseModel):
    """A platform volume that the ledger is to take in.

    :param agent: the agent that is to offer it: its id, host name or address; by default the one that did, or any
    :param role: the role that has it, by default that of its tags; it stays retained where none is known
    :param persistence_id: by default that of its tags
    """

    service: str
    platform_id: str
    agent: str = ""
    role: str = Field(default="", pattern=r"^[^*\s]*$")
    persistence_id: str = Field(default="", pattern=r"^[^/\s]*$")


@router.get("/v1/check")
async def check(audit: Audits, turn: Turn, pause: Pause = PAUSE_SECONDS) -> ReportView:
    """Compare ledger, platforms, master and hosts. What only moves is not told: everything is looked at twice."""
    return ReportView.of(await to_thread.run_sync(lambda: audit.check(pause), limiter=turn))


@router.post("/v1/check/repair", dependencies=[Operator])
async def repair(audit: Audits, turn: Turn, pause: Pause = PAUSE_SECONDS) -> RepairView:
    """Put right what can be put right without danger to data: nothing is deleted, formatted or forced."""
    done = await to_thread.run_sync(lambda: audit.repair(pause), limiter=turn)
    return RepairView(
        repaired=[RepairedView.of(repaired) for repaired in done.repaired], after=ReportView.of(done.after)
    )


@router.get("/v1/orphans")
async def orphans(audit: Audits, turn: Turn) -> list[OrphanView]:
    """Platform volumes with our tags that the ledger lacks. They are never deleted by Polly itself."""
    return [OrphanView.of(orphan) for orphan in await to_thread.run_sync(audit.orphans, limiter=turn)]


@router.post("/v1/volumes/adopt", status_code=201, dependencies=[Operator])
def adopt_volume(request: AdoptRequest, half: Half, audit: Audits) -> VolumeView:
    """Take an orphan into the ledger, with its data: it is offered to its role, or retained where none is known."""
    agent = find_agent(half.ledger, request.agent).id if request.agent else ""
    adopted = audit.adopt(Adoption(request.service, request.platform_id, agent, request.role, request.persistence_id))
    return VolumeView.of(adopted, half.ledger.publication(adopted.id))
