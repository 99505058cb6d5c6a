"""Instances that EC2 knows no more: an hour after its end a terminated one is as if it had never been.

That EC2 does not know an instance proves nothing: the region or the account may be wrong, and lists come true late.
What EC2 says of volumes does: a volume is attached only within its own account and zone, so where it describes a volume
and the instance is not among those that have it, the instance cannot write to it. It cannot get it back either, as
nothing is attached to an instance that is not there, and no id is given twice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from drivers.base import Fence
from drivers.ebs.volumes import Ebs


class Forgotten:
    """What was found of instances that EC2 does not know, and since when it is so without a break.

    :param patience: seconds after which EC2 shows what there is
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[str, tuple[frozenset[str], float]] = {}

    def known(self, instance: str) -> None:
        """EC2 knows it after all."""
        self._since.pop(instance, None)

    def judge(self, instance: str, volumes: Collection[str], found: Mapping[str, Ebs]) -> Fence:
        """Whether the instance cannot write to any of these volumes.

        :param found: those that EC2 described just now
        """
        unknown = f"EC2 has no instance {instance}"
        doubt = self._doubt(instance, volumes, found)
        if doubt:
            self.known(instance)
            return Fence(False, f"{unknown}, {doubt}")
        asked, now = frozenset(volumes), time.monotonic()
        before, since = self._since.get(instance, (asked, now))
        if before != asked:
            since = now
        self._since[instance] = (asked, since)
        told = f"{unknown}, and says that none of the {len(asked)} volumes that it may hold is attached to it"
        if now - since < self._patience:
            return Fence(False, f"{told}; this counts when EC2 has said so for {self._patience:g} seconds")
        return Fence(True, told)

    def _doubt(self, instance: str, volumes: Collection[str], found: Mapping[str, Ebs]) -> str:
        if not volumes:
            return "and there is no volume of which it could say whether the instance has it"
        for volume in sorted(volumes):
            if volume not in found:
                return f"and no volume {volume} of this cluster: the region or the account may be another"
            if state := found[volume].attachments.get(instance):
                return f"and says that volume {volume} is {state[1]} there"
        return ""
