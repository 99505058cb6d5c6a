"""What a platform knows of a host counts for the planner, not what the host says of itself."""

from __future__ import annotations

import dataclasses

from polly_mesos.agent_api import HostReport
from polly_mesos.config import PlannerSettings
from polly_mesos.ledger import Ledger
from polly_mesos.model import HostIdentity
from polly_mesos.scheduler.arrivals import Arrivals
from polly_mesos.scheduler.hosts import HostViews
from polly_mesos.scheduler.planning import Planning
from polly_mesos.scheduler.roster import Roster
from tests.unit.scheduler.conftest import AGENT, GOLD


def test_the_limit_that_the_platform_tells_is_the_planners(ledger: Ledger) -> None:
    asked: list[str] = []

    def known(service: str, host: HostIdentity) -> HostIdentity:
        asked.append(service)
        return dataclasses.replace(host, attach_limit=3)

    planned: list[None] = []
    arrivals = Arrivals(
        ledger,
        Roster(),
        HostViews(),
        changed=lambda agents: None,
        plan=lambda: planned.append(None),
        known_host=known,
    )
    said = HostReport(identities={"local": HostIdentity("127.0.0.1:5051", attach_limit=99)})
    for _ in range(3):
        arrivals.report(AGENT.id, said)
    assert asked == ["local"] * 3
    assert len(planned) == 1, "nothing changed since the first report"
    planning = Planning(ledger, PlannerSettings(), {GOLD.name: GOLD}, list, lambda agents: None)
    (agent,) = planning.snapshot().agents
    assert agent.slots == {"local": 3}
