"""Platform volumes that carry our tags and that the ledger lacks: found, listed, never deleted by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.base import PlatformVolume
from polly_mesos.audit.platforms import orphan_candidates
from polly_mesos.audit.world import World
from polly_mesos.scheduler.tags import decode


@dataclass(frozen=True, slots=True)
class Orphan:
    """A platform volume that no volume of the ledger is.

    :param known: what the ledger has of the volume that its tag names: ``unknown``, ``deleted`` or ``duplicate``
    """

    service: str
    volume: PlatformVolume
    known: str

    @property
    def adoptable(self) -> bool:
        """Whether the ledger can take it in: the one whose volume it does not know."""
        return self.known == "unknown"

    @property
    def role(self) -> str:
        """The role that had it when it was made, empty where that is not known."""
        origin = decode(self.volume.tags.user)
        return origin.role if origin is not None else ""

    @property
    def persistence_id(self) -> str:
        """Its persistence id when it was made, empty where that is not known."""
        origin = decode(self.volume.tags.user)
        return origin.persistence_id if origin is not None else ""


def orphans_of(world: World) -> Iterator[Orphan]:
    """The orphans of one look, by service and platform id."""
    for service, found in sorted(orphan_candidates(world), key=lambda one: (one[0], one[1].id)):
        tag = found.tags.volume
        known = (
            "duplicate" if tag in world.records.volumes else "deleted" if tag in world.records.deleted else "unknown"
        )
        yield Orphan(service, found, known)
