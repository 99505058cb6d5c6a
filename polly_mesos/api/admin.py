"""The admin API: what operators and their programs see and do.

Reading is open to whoever reaches the port, as in Mesos' own master; changing needs the operator's token.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel, Field

from polly_mesos.api.context import Half
from polly_mesos.api.views import OperationView, PoolView, VolumeView
from polly_mesos.errors import Conflict, InvalidRequest, Unauthenticated, UnknownAgent, UnknownProfile
from polly_mesos.ledger.volumes import LIVE
from polly_mesos.model import MB, AgentState, Json, OperationState, Profile, Volume, VolumeKind, VolumeState
from polly_mesos.scheduler.disks import static_owner
from polly_mesos.scheduler.homes import choose, neighbours

router = APIRouter(tags=["operators"])


def operator(request: Request, authorization: Annotated[str, Header()] = "") -> None:
    """Refuse callers without the operator's token, before anything else is done."""
    shown = authorization.removeprefix("Bearer ").strip()
    if not secrets.compare_digest(shown.encode(), str(request.app.state.operator_token).encode()):
        raise Unauthenticated(
            "this needs the operator's token",
            remedy="send the contents of the file operator-token beside the ledger as a bearer token",
        )


Operator = Depends(operator)


class VolumeRequest(BaseModel):
    """A volume to be made ahead of its use, for one Mesos role.

    :param size: bytes, whole MB
    :param agent: the agent that is to offer it; by default one that is connected and has the profile's service
    """

    profile: str
    size: int = Field(gt=0)
    role: str = Field(min_length=1, pattern=r"^[^*\s]+$")
    agent: str = ""


@router.get("/health")
def health(half: Half) -> Json:
    """Whether the half is registered with Mesos. Always answered while the half lives."""
    return half.health()


@router.get("/v1/pools")
def pools(half: Half) -> list[PoolView]:
    """Every pool, and where its bytes are."""
    balances = half.ledger.balance()
    return [PoolView.of(pool, balances[name]) for name, pool in sorted(half.ledger.pools().items())]


@router.get("/v1/volumes")
def volumes(
    half: Half, agent: str | None = None, state: Annotated[list[VolumeState] | None, Query()] = None
) -> list[VolumeView]:
    """Volumes, those that were deleted left out unless asked for by state."""
    states = set(state) if state else set(VolumeState) - {VolumeState.DELETED}
    publications = {publication.volume: publication for publication in half.ledger.publications()}
    found = half.ledger.volumes(agent=agent, states=states)
    return [VolumeView.of(volume, publications.get(volume.id)) for volume in found]


@router.get("/v1/volumes/{volume_id}")
def volume(volume_id: str, half: Half) -> VolumeView:
    """One volume."""
    return VolumeView.of(half.ledger.volume(volume_id), half.ledger.publication(volume_id))


@router.post("/v1/volumes", status_code=201, dependencies=[Operator])
def create_volume(request: VolumeRequest, half: Half) -> VolumeView:
    """Make a volume ahead of its use: it is offered to one role as a MOUNT disk."""
    profiles = [profile for profile in half.profiles.values() if profile.name == request.profile]
    if not profiles:
        names = sorted({profile.name for profile in half.profiles.values()})
        raise UnknownProfile(f"no profile {request.profile!r}", remedy=f"one of {', '.join(names)}")
    profile = profiles[0]
    largest = profile.maximum_size or request.size
    if request.size % profile.granularity or not profile.minimum_size <= request.size <= largest:
        raise InvalidRequest(
            f"size {request.size} is not possible in profile {profile.name!r}",
            field="size",
            value=request.size,
            remedy=f"whole MB of {MB} bytes, from {profile.minimum_size}"
            + (f" to {profile.maximum_size}" if profile.maximum_size else ""),
        )
    wanted = Volume(
        id=str(uuid.uuid4()),
        pool=profile.pool,
        profile=profile.name,
        service=profile.service,
        kind=VolumeKind.MOUNT,
        size=request.size,
        state=VolumeState.CREATING,
        agent=request.agent,
        owner=static_owner(request.role),
        created=time.time(),
    )
    pool, agent = _pool_on(half, profiles, request.agent) if request.agent else _home(half, profiles, wanted)
    made = half.ledger.add_volume(replace(wanted, pool=pool, agent=agent))
    half.controller.look_at(made.id)
    return VolumeView.of(made, None)


def _pool_on(half: Half, profiles: Sequence[Profile], agent: str) -> tuple[str, str]:
    """The pool from which this agent can have volumes, with the agent."""
    identity = half.ledger.agent(agent).identities.get(profiles[0].service)
    reached = [profile.pool for profile in profiles if identity is None or profile.is_reached_from(identity.zone)]
    if not reached:
        zones = ", ".join(sorted({zone for profile in profiles for zone in profile.reach}))
        raise InvalidRequest(
            f"no volume of profile {profiles[0].name!r} can be on agent {agent}: it is in another zone",
            field="agent",
            value=agent,
            remedy=f"name an agent in {zones}",
        )
    return reached[0], agent


def _home(half: Half, profiles: Sequence[Profile], wanted: Volume) -> tuple[str, str]:
    """The pool and the agent with the fewest volumes of the service, of all that the volume could be on."""
    draining = half.roster.draining()
    agents = half.ledger.agents().values()
    hosts = [agent for agent in agents if agent.state is AgentState.CONNECTED and agent.id not in draining]
    around = neighbours(half.ledger.volumes(states=LIVE))
    found, refused = [], []
    for profile in profiles:
        agent, why = choose(wanted, profile.reach, hosts, around)
        if agent:
            found.append((around[agent].volumes[profile.service], profile.pool, agent))
        else:
            refused.append(why)
    if not found:
        why = "; ".join(sorted(set(refused)))
        raise UnknownAgent(
            f"no connected agent can have a volume of profile {wanted.profile!r} now: {why}",
            remedy="see `polly agent list` for what they lack, or wait",
        )
    return min(found)[1:]


@router.delete("/v1/volumes/{volume_id}", status_code=202, dependencies=[Operator])
def delete_volume(volume_id: str, half: Half) -> VolumeView:
    """Delete a volume for good: one that no framework holds, or that was released."""
    known = half.ledger.volume(volume_id)
    if known.persistence_id and known.state is not VolumeState.RELEASED:
        raise Conflict(
            f"volume {volume_id} is persistent volume {known.persistence_id!r} of a framework",
            remedy="have the framework destroy it, or use Mesos' DESTROY_VOLUMES",
        )
    deleted = half.ledger.delete_volume(volume_id)
    half.controller.look_at(volume_id)
    return VolumeView.of(deleted, half.ledger.publication(volume_id))


@router.get("/v1/operations")
def operations(
    half: Half,
    agent: str | None = None,
    subject: str | None = None,
    state: OperationState | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> list[OperationView]:
    """Journaled operations, the newest first."""
    found = half.ledger.operations(agent=agent, subject=subject, state=state, limit=limit)
    return [OperationView.of(operation) for operation in found]
