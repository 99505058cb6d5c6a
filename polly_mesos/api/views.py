"""What the admin API shows of the ledger's records. Sizes are bytes; no secret is among the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from polly_mesos.ledger import Balance
from polly_mesos.model import (
    Agent,
    AgentState,
    FormatState,
    HostIdentity,
    Json,
    Lease,
    Operation,
    OperationState,
    Pool,
    Provider,
    Publication,
    PublicationState,
    Volume,
    VolumeKind,
    VolumeState,
)


class PoolView(BaseModel):
    """A pool. ``capacity = leased + reserved + volumes + free``; ``unbacked`` waits for deletions."""

    name: str
    profile: str
    service: str
    zone: str
    capacity: int
    leased: int
    reserved: int
    unbacked: int
    volumes: int
    free: int

    @classmethod
    def of(cls, pool: Pool, balance: Balance) -> PoolView:
        """From the ledger's records."""
        return cls(
            name=pool.name,
            profile=pool.profile,
            service=pool.service,
            zone=pool.zone,
            capacity=balance.capacity,
            leased=balance.leased,
            reserved=balance.reserved,
            unbacked=balance.unbacked,
            volumes=balance.volumes,
            free=balance.free,
        )


class PublicationView(BaseModel):
    """Where a volume is mapped."""

    agent: str
    host: str
    generation: int
    state: PublicationState
    device: str
    target: str


class VolumeView(BaseModel):
    """A volume."""

    id: str
    pool: str
    profile: str
    service: str
    kind: VolumeKind
    size: int
    state: VolumeState
    agent: str
    framework: str
    persistence_id: str
    platform_id: str
    format_state: FormatState
    error: str
    created: float
    publication: PublicationView | None

    @classmethod
    def of(cls, volume: Volume, publication: Publication | None) -> VolumeView:
        """From the ledger's records."""
        return cls(
            **{name: getattr(volume, name) for name in cls.model_fields if name != "publication"},
            publication=None
            if publication is None
            else PublicationView(**{name: getattr(publication, name) for name in PublicationView.model_fields}),
        )


class AgentView(BaseModel):
    """An agent and its executor half. ``leases``: pool -> bytes.

    ``waits_for``: of an agent that is away, service -> why its host is not fenced there yet.
    """

    id: str
    hostname: str
    endpoint: str
    state: AgentState
    standalone: bool
    attributes: dict[str, str]
    identities: dict[str, HostIdentity]
    problems: dict[str, str]
    volume_root: str
    provider: str
    leases: dict[str, int]
    seen: float
    draining: bool
    waits_for: dict[str, str]

    @classmethod
    def of(
        cls,
        agent: Agent,
        provider: Provider | None,
        leases: Sequence[Lease],
        *,
        draining: bool = False,
        waits_for: Mapping[str, str] | None = None,
    ) -> AgentView:
        """From the ledger's records."""
        return cls(
            id=agent.id,
            hostname=agent.hostname,
            endpoint=agent.endpoint,
            state=agent.state,
            standalone=agent.standalone,
            attributes=dict(agent.attributes),
            identities=dict(agent.identities),
            problems=dict(agent.problems),
            volume_root=agent.volume_root,
            provider=provider.id if provider is not None else "",
            leases={lease.pool: lease.size for lease in leases},
            seen=agent.seen,
            draining=draining,
            waits_for=dict(waits_for or {}),
        )


class OperationView(BaseModel):
    """A journaled operation."""

    id: str
    kind: str
    subject: str
    state: OperationState
    agent: str
    framework: str
    detail: Json
    outcome: Json
    acknowledged: bool
    created: float
    finished: float

    @classmethod
    def of(cls, operation: Operation) -> OperationView:
        """From the ledger's record."""
        return cls(**{name: getattr(operation, name) for name in cls.model_fields})
