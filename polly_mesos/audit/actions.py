"""What a repair may do: nothing here can lose data. There is no action that deletes, formats or forces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Have the volume controller do the volume's next step, if it has one."""

    volume: str


@dataclass(frozen=True, slots=True)
class TellHost:
    """Tell an agent's executor again what it is to advertise, to keep and to let go."""

    agent: str


@dataclass(frozen=True, slots=True)
class TakeBackLeases:
    """Shrink the leases of a pool that has promised more than it has; reservations and volumes stay."""

    pool: str


@dataclass(frozen=True, slots=True)
class EndPublication:
    """Take back a publication that neither the platform nor the host has: it is detached in the ordinary way."""

    volume: str
    generation: int


@dataclass(frozen=True, slots=True)
class AdoptPublication:
    """Record that a host holds a volume of which a restored ledger does not know."""

    volume: str
    agent: str
    host: str
    generation: int
    target: str


@dataclass(frozen=True, slots=True)
class DetachUnused:
    """Have the platform take a volume from a host that says it does not hold it, in the ordinary way."""

    volume: str
    agent: str
    host: str


Action = LookAgain | TellHost | TakeBackLeases | EndPublication | AdoptPublication | DetachUnused
