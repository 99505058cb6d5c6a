"""The agent API: what :mod:`polly_mesos.agent_api` describes, for executors that show their token.

Every route checks the token before anything else. The artifact alone is open: it holds no secret, and the agent's
fetcher has no token.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Any, TypeVar

import cattrs
from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Request, Response

from polly_mesos.agent_api import (
    Application,
    Hello,
    HostReport,
    Progress,
    ProviderReport,
    PublishRequest,
    PublishState,
    decode,
    encode,
)
from polly_mesos.api.context import Half
from polly_mesos.errors import InvalidRequest, NotFound, UnknownOperation
from polly_mesos.faults import fault_point
from polly_mesos.model import Agent, Json, Provider
from polly_mesos.scheduler.advertisement import assignment_of

router = APIRouter(prefix="/agent/v1", tags=["agents"])

_LONGEST_WAIT = 60.0
T = TypeVar("T")


def caller(half: Half, authorization: Annotated[str, Header()] = "") -> Agent:
    """The agent whose executor calls."""
    return half.tokens.check(authorization.removeprefix("Bearer ").strip())


Caller = Annotated[Agent, Depends(caller)]
Message = Annotated[Any, Body()]


def _decoded(kind: type[T], data: Any) -> T:
    try:
        return decode(kind, data)
    except (cattrs.BaseValidationError, ValueError, TypeError, KeyError) as error:
        problems = "; ".join(cattrs.transform_error(error))
        raise InvalidRequest(
            f"not a {kind.__name__}: {problems}", field=kind.__name__, remedy="use the same version in both halves"
        ) from error


@router.get("/artifact/{name}", summary="The executor's zipapp", response_class=Response)
def artifact(name: str, half: Half) -> Response:
    """One file of pure Python; fetched by Mesos' fetcher."""
    if name != half.artifact.name:
        raise NotFound(f"no artifact {name!r}", remedy=f"the current one is {half.artifact.name}")
    return Response(half.artifact.data, media_type="application/zip")


@router.post("/hello")
def hello(data: Message, agent: Caller, half: Half) -> Json:
    """An executor's first words."""
    words = _decoded(Hello, data)
    if words.agent != agent.id:
        raise InvalidRequest(
            f"the token is agent {agent.id}'s, not {words.agent}'s",
            field="agent",
            value=words.agent,
            remedy="ask for a new token: the agent registered anew with Mesos",
        )
    return encode(half.welcome(agent))


@router.post("/host", status_code=204)
def host(data: Message, agent: Caller, half: Half) -> None:
    """Who the host is to each service, and what it lacks."""
    report = _decoded(HostReport, data)
    half.arrivals.report(agent.id, report)
    half.renewal.reported(agent.id, report.build)


@router.post("/provider", status_code=204)
def provider(data: Message, agent: Caller, half: Half) -> None:
    """The id that the agent gave the provider."""
    report = _decoded(ProviderReport, data)
    welcome = half.welcome(agent)
    half.ledger.set_provider(Provider(agent.id, report.provider_id, welcome.provider_type, welcome.provider_name))


@router.get("/assignment")
async def assignment(agent: Caller, half: Half, after: int = 0, wait: float = 0.0) -> Json:
    """What to advertise and what to keep mounted; answers when it is another than ``after``, or after ``wait``."""
    version = await half.board.wait(agent.id, after, min(wait, _LONGEST_WAIT))
    shared = half.planning.shared_view(agent.id)
    current = await to_thread.run_sync(
        lambda: assignment_of(half.ledger, agent, half.profiles, version, shared, half.hosts.generations(agent.id))
    )
    return encode(dataclasses.replace(current, look=half.hosts.asked(agent.id)))


@router.post("/operations")
def operations(data: Message, agent: Caller, half: Half, request: Request) -> Json:
    """An operation of the resource provider API: judged once, answered the same ever after."""
    application = _decoded(Application, data)
    verdict = half.admission.apply(application, agent)
    request.app.state.metrics.decided(application, verdict)
    fault_point("operation.answer.before-send")
    return encode(dataclasses.replace(verdict, version=half.board.version(agent.id)))


@router.post("/operations/{operation_id}/acknowledged", status_code=204)
def acknowledged(operation_id: str, agent: Caller, half: Half) -> None:
    """Mesos has the operation's status."""
    if half.ledger.operation(operation_id).agent != agent.id:
        raise UnknownOperation(f"no operation {operation_id} on this agent")
    fault_point("operation.acknowledge.before-ledger")
    half.ledger.acknowledge(operation_id)
    fault_point("operation.acknowledge.after-ledger")


@router.post("/publications")
async def publications(data: Message, agent: Caller, half: Half) -> Json:
    """Which volumes the resources name, and whether this host may have them now."""
    request = _decoded(PublishRequest, data)
    deadline = time.monotonic() + min(request.wait, _LONGEST_WAIT)
    while True:
        version = half.board.version(agent.id)
        answer = await to_thread.run_sync(lambda: half.publications.answer(request, agent))
        left = deadline - time.monotonic()
        if left <= 0 or all(target.state is not PublishState.WAIT for target in answer.targets):
            return encode(answer)
        await half.board.wait(agent.id, version, left)


@router.post("/publications/{volume}/{step}", status_code=204)
def progress(volume: str, step: str, data: Message, agent: Caller, half: Half) -> None:
    """A step on the host: done, or (``formatting``) about to be done."""
    half.publications.progress(volume, step, _decoded(Progress, data), agent)
