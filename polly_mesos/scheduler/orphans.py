"""Volumes that their framework has given up although their data is there, and the CREATE that gets them back.

Marathon names a persistent volume ``<app>#<path>#<uuid>``. When an agent is marked gone it abandons the reservations
there, and later creates a volume with a new UUID for the same app and path: by the profile's setting ``adopt`` it gets
the volume that it had.

Source: Marathon's ``LocalVolumeId`` (core/instance/LocalVolume.scala).
"""

from __future__ import annotations

from collections.abc import Iterable

from polly_mesos.ledger.volumes import role_of
from polly_mesos.model import Volume, VolumeState

_PARTS = 3


def is_adoptable(persistence_id: str) -> bool:
    """Whether a persistence id has the form from which its successor can be told."""
    return len(persistence_id.rsplit("#", 2)) == _PARTS


def stem(persistence_id: str) -> str:
    """The part of a persistence id that stays the same in its successor's: ``<app>#<path>#``."""
    return persistence_id.rpartition("#")[0] + "#"


def find_orphan(wanted: Volume, candidates: Iterable[Volume]) -> Volume | None:
    """The abandoned volume that a CREATE is to get, the one that was made last; None where there is none.

    :param wanted: the volume that the CREATE would make
    :param candidates: volumes that no agent offers
    """
    if not is_adoptable(wanted.persistence_id):
        return None
    fitting = [
        volume
        for volume in candidates
        if volume.state is VolumeState.READY
        and not volume.agent
        and is_adoptable(volume.persistence_id)
        and stem(volume.persistence_id) == stem(wanted.persistence_id)
        and (volume.profile, volume.pool, volume.kind) == (wanted.profile, wanted.pool, wanted.kind)
        and (volume.size, volume.framework) == (wanted.size, wanted.framework)
        and role_of(volume.owner) == role_of(wanted.owner)
    ]
    return max(fitting, key=lambda volume: (volume.created, volume.id), default=None)
