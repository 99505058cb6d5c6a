"""What the ledger alone tells: its contradictions, what waits for somebody, and executors that are silent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from polly_mesos.audit.actions import Action, LookAgain, TakeBackLeases
from polly_mesos.audit.findings import Finding, finding
from polly_mesos.audit.world import World
from polly_mesos.ledger.check import Finding as LedgerFinding
from polly_mesos.ledger.volumes import LIVE
from polly_mesos.model import Agent, AgentState, Volume

SILENT_SECONDS = 90.0
"""An executor reports every half minute; this long means that three reports did not come."""

_SHOWN = 3
_TOLD_BETTER = frozenset({"agent.dead-with-volumes"})
"""What the ledger finds too, and is told here as agent.lost or agent.fenced with all that is known."""

_WAITING = {
    AgentState.UNREACHABLE: (
        "agent.unreachable",
        "the master cannot reach it, and it may still write",
        "bring it back; or, if it is dead for certain, `polly agent fence {name}`: its volumes are offered elsewhere",
    ),
    AgentState.LOST: (
        "agent.lost",
        "Mesos will never have it again, and its host may still write",
        "make sure that the host is dead, then `polly agent fence {name}`: its volumes are offered elsewhere",
    ),
    AgentState.FENCED: (
        "agent.fenced",
        "it is fenced, and no other agent has taken them yet",
        "see `polly agent list` for agents that have the volumes' service, zone and a free slot",
    ),
}


def compare_records(world: World) -> Iterator[Finding]:
    """What needs no second view to be seen."""
    for told in world.records.findings:
        if told.code not in _TOLD_BETTER:
            action, evidence = _action(world, told), _evidence(told)
            yield Finding(told.code, told.severity, told.subject, told.what, told.remedy, action, evidence)
    yield from _silent(world)
    yield from _waiting(world)


def _action(world: World, told: LedgerFinding) -> Action | None:
    if told.code == "operation.unfinished" and told.subject in world.records.volumes:
        return LookAgain(told.subject)
    if told.code == "pool.overcommitted" and told.subject in world.records.leased:
        return TakeBackLeases(told.subject)
    return None


def _evidence(told: LedgerFinding) -> tuple[object, ...]:
    # These say how long ago something was, which is longer at each look.
    return () if told.code in ("operation.unfinished", "clock.set-back") else (told.what,)


def _silent(world: World) -> Iterator[Finding]:
    for agent in world.records.agents.values():
        heard = world.heard.get(agent.id)
        if agent.state is AgentState.CONNECTED and heard is not None and world.now - heard > SILENT_SECONDS:
            yield finding(
                "agent.silent",
                agent.id,
                f"the executor on agent {agent.hostname} ({agent.id}) has not reported for"
                f" {world.now - heard:.0f} seconds",
                "see whether it runs there, what it logs, and whether it reaches the scheduler's http.advertise",
                evidence=(heard,),
            )


def _waiting(world: World) -> Iterator[Finding]:
    by_agent: defaultdict[str, list[Volume]] = defaultdict(list)
    for volume in world.records.volumes.values():
        if volume.state in LIVE:
            by_agent[volume.agent].append(volume)
    for volume in by_agent.pop("", ()):
        yield finding(
            "volume.parked",
            volume.id,
            f"volume {volume.id} of profile {volume.profile} is offered by no agent",
            "it is offered again as soon as a connected agent has its service and zone and a free slot:"
            " see `polly agent list`",
            evidence=(volume.updated,),
        )
    for agent in world.records.agents.values():
        if agent.state in _WAITING and by_agent.get(agent.id):
            yield _agent_waits(agent, by_agent[agent.id])


def _agent_waits(agent: Agent, volumes: list[Volume]) -> Finding:
    code, why, remedy = _WAITING[agent.state]
    shown = ", ".join(volume.id for volume in volumes[:_SHOWN]) + (", ..." if len(volumes) > _SHOWN else "")
    return finding(
        code,
        agent.id,
        f"{len(volumes)} volumes ({shown}) wait for agent {agent.hostname} ({agent.id}): {why}",
        remedy.format(name=agent.id),
        evidence=(len(volumes),),
    )
