"""The admin API's routes about agents: what is known of them, registering one by hand, and fencing one."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from polly_mesos.api.admin import Operator
from polly_mesos.api.context import Half
from polly_mesos.api.views import AgentView
from polly_mesos.errors import InvalidRequest, UnknownAgent
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, Json

router = APIRouter(tags=["operators"])


class RegistrationRequest(BaseModel):
    """An agent whose executor half is started by hand, as ``host:port`` of the agent's API."""

    endpoint: str = Field(pattern=r"^[^\s:]+:\d+$")


class FenceRequest(BaseModel):
    """An operator's word that a host cannot write any more: to these services, or to all where none is named."""

    services: tuple[str, ...] = ()


@router.get("/v1/agents")
def agents(half: Half) -> list[AgentView]:
    """The agents that Polly has chosen, what they lack, and what those that are away wait for."""
    return [_view(half, agent) for agent in half.ledger.agents().values()]


@router.post("/v1/agents", status_code=201, dependencies=[Operator])
def register_agent(request: RegistrationRequest, half: Half) -> Json:
    """Make an agent known whose executor half is started by hand; the answer has its token."""
    agent = half.register(request.endpoint)
    return {"agent": agent.id, "token": half.tokens.issue(agent.id)}


@router.post("/v1/agents/{name}/fence", dependencies=[Operator])
def fence_agent(name: str, request: FenceRequest, half: Half) -> AgentView:
    """Take an operator's word that the host of an agent which is away is stopped or cut off from its storage.

    Its volumes are taken from it by force and offered by other agents. Refused while the agent is there.
    """
    agent = find_agent(half.ledger, name)
    fenced = half.fencing.by_operator(agent, request.services)
    half.failover.look()
    return _view(half, fenced)


def find_agent(ledger: Ledger, name: str) -> Agent:
    """An agent by its Mesos id, its address or its host name.

    :raises UnknownAgent: there is none
    :raises InvalidRequest: there are several
    """
    known = ledger.agents()
    if name in known:
        return known[name]
    found = [agent for agent in known.values() if name in (agent.endpoint, agent.hostname)]
    if not found:
        raise UnknownAgent(f"there is no agent {name!r}", remedy="see `polly agent list`")
    if len(found) > 1:
        raise InvalidRequest(
            f"{name!r} names {len(found)} agents",
            field="name",
            value=name,
            remedy=f"name one by its id: {', '.join(agent.id for agent in found)}",
        )
    return found[0]


def _view(half: Half, agent: Agent) -> AgentView:
    return AgentView.of(
        agent,
        half.ledger.provider(agent.id),
        half.ledger.leases(agent.id),
        draining=agent.id in half.roster.draining(),
        waits_for=half.fencing.waits_for(agent),
    )
