"""What the agent believes that we have, and what it is to believe.

Believed: the totals of our last UPDATE_STATE and the operations that the agent applied since. Wanted: what the ledger
last said, and the operations that it has judged since. Where they differ, the agent is to be told anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from polly_mesos.errors import PollyError
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.model import Json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A finished operation that the ledger's last totals may not show yet; ``version`` 0 where that is not known."""

    version: int
    info: Json
    converted: tuple[Json, ...]


class Totals:
    """Both views of one provider's totals."""

    def __init__(self) -> None:
        self._provider_id: str | None = None
        self._desired: list[Json] | None = None
        self._desired_version = 0
        self._judged: list[_Judged] = []
        self._believed: list[Json] | None = None
        self._doubted = False
        self.wanted: list[Json] | None = None
        """The totals that the agent is to have, None while they are not known."""
        self.differ = False
        """Whether the agent has totals and they are, or may be, other than wanted."""

    def bind(self, provider_id: str) -> None:
        """The agent knows us by this id, which all resources carry from now on."""
        if provider_id != self._provider_id:
            self._provider_id, self._judged = provider_id, []
            self._compare()

    def forget(self) -> None:
        """It is another agent: nothing that was said about the former one counts."""
        self._desired, self._desired_version, self._judged = None, 0, []
        self.disconnected()

    def disconnected(self) -> None:
        """The stream ended: the agent has no totals of ours any more."""
        self._believed, self._doubted = None, False
        self._compare()

    def desire(self, resources: Sequence[Json], version: int) -> None:
        """The ledger's totals of that version; a lower version than before begins a new count of versions."""
        begins_anew = version < self._desired_version
        self._desired, self._desired_version = list(resources), version
        self._judged = [] if begins_anew else [one for one in self._judged if one.version > version]
        self._compare()

    def sent(self) -> None:
        """UPDATE_STATE with the wanted totals is sent."""
        self._believed, self._doubted = self.wanted, False
        self._compare()

    @property
    def offered(self) -> bool:
        """Whether the agent has anything of ours that could be in an offer, as far as is known."""
        return bool(self._believed) or self._doubted

    def doubt(self) -> None:
        """The agent may have applied an operation before or after our last UPDATE_STATE."""
        self._doubted = True
        self._compare()

    def applied(self, info: Json, converted: Sequence[Json] | None = None) -> None:
        """The agent applied an operation."""
        if self._believed is None:
            return
        try:
            self._believed = arithmetic.apply(self._believed, info, converted)
        except PollyError as error:
            log.error("the agent applied an operation that its totals, as far as known, do not allow: %s", error)
            self._doubted = True
        self._compare()

    def judged(self, info: Json, converted: tuple[Json, ...], version: int) -> None:
        """The ledger finished an operation; its totals of ``version`` and later show it."""
        if version and version <= self._desired_version:
            return
        if not version and self._believed is not None and not self.differ:
            return  # the ledger's totals arrived before its verdict
        self._judged.append(_Judged(version, info, converted))
        self._compare()

    def _compare(self) -> None:
        wanted = None
        if self._desired is not None:
            wanted = [arithmetic.normalise(one, self._provider_id) for one in self._desired]
            for one in self._judged:
                try:
                    wanted = arithmetic.apply(wanted, one.info, one.converted)
                except PollyError as error:
                    log.debug("the ledger's totals seem to show %s already: %s", one.info.get("type"), error)
        self.wanted = wanted
        known = wanted is not None and self._believed is not None
        self.differ = known and (self._doubted or not arithmetic.equal(wanted or (), self._believed or ()))
