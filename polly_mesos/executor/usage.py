"""Letting go of volumes: after their last task, or as soon as the scheduler half wants them back.

Mesos never tells a provider that a volume is not used any more, so the agent is asked. While it cannot be asked,
nothing is unmounted: a task that nobody can see may still be writing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from polly_mesos.agent_api import Assignment
from polly_mesos.errors import AgentUnreachable, PollyError, SchedulerUnreachable
from polly_mesos.executor.holdings import Holding, Holdings
from polly_mesos.executor.mapping import HostTools, Mapper
from polly_mesos.executor.publisher import Publisher

log = logging.getLogger(__name__)

_SHORTEST_INTERVAL = 0.2
_LONGEST_INTERVAL = 5.0


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the scheduler half last said, and the monotonic time at which it was asked."""

    keep: Mapping[str, int]
    revoke: Mapping[str, int]
    asked: float

    def generation(self, volume: str) -> int:
        return self.keep.get(volume, self.revoke.get(volume, 0))

    def ends(self, holding: Holding, held_since: float) -> bool:
        """Whether this host is to let go of the volume at once."""
        if holding.volume in self.keep:
            return self.keep[holding.volume] > holding.generation
        # What this host was given after it had asked cannot be in the answer yet.
        return holding.volume in self.revoke or held_since < self.asked


class UsageWatch:
    """Unmounts and releases what is not used, one look at a time or in a thread of its own.

    :param places_in_use: paths that the agent's tasks use or wait for; raises AgentUnreachable where it cannot be told
    :param grace: seconds that a volume stays mounted after its last task
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        places_in_use: Callable[[], AbstractSet[str]],
        mapper: Mapper,
        holdings: Holdings,
        publisher: Publisher,
        tools: HostTools,
        *,
        volume_root: str,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places_in_use = places_in_use
        self._mapper = mapper
        self._holdings = holdings
        self._publisher = publisher
        self._tools = tools
        self._volume_root = volume_root
        self._grace = grace
        self._clock = clock
        self._wishes: _Wishes | None = None
        self._idle_since: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self._wake = threading.Event()
        self._stopping = False

    def assigned(self, assignment: Assignment, asked: float) -> None:
        """Take the scheduler half's newest wishes; ``asked`` is the monotonic time at which it was asked for them."""
        self._wishes = _Wishes(dict(assignment.keep), dict(assignment.revoke), asked)
        self._wake.set()

    def run(self) -> None:
        """Look again and again until :meth:`stop`."""
        interval = min(max(self._grace / 4, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
        while not self._stopping:
            self._wake.wait(interval)
            self._wake.clear()
            try:
                self.look()
            except Exception:
                log.exception("looking for unused volumes failed; the next look follows")

    def hurry(self) -> None:
        """Look now, and grant no grace any more."""
        self._grace = 0.0
        self._wake.set()

    def stop(self) -> None:
        """End :meth:`run`; what is mounted stays mounted."""
        self._stopping = True
        self._wake.set()

    def look(self) -> None:
        """Let go of every volume whose time has come; does nothing before the first :meth:`assigned`."""
        wishes = self._wishes
        if wishes is None:
            return
        candidates = self._candidates(wishes)
        self._idle_since = {volume: self._idle_since.get(volume, self._clock()) for volume in candidates}
        if not candidates:
            return
        in_use = self._ask_agent()
        if in_use is None:
            return
        for holding in candidates.values():
            if self._stopping:
                return
            if holding.target in in_use or self._publisher.awaits(holding.volume):
                self._idle_since[holding.volume] = self._clock()
            elif self._is_due(holding, wishes):
                self._end(holding, wishes)

    def _candidates(self, wishes: _Wishes) -> Mapping[str, Holding]:
        """Everything that may have to end: what is recorded, what is mounted, what the scheduler half believes."""
        found = {holding.volume: holding for holding in self._holdings.all()}
        for volume, target in self._tools.mounted(self._volume_root).items():
            found.setdefault(volume, Holding(volume, target, "", wishes.generation(volume)))
        for volume in (*wishes.keep, *wishes.revoke):
            found.setdefault(volume, Holding(volume, "", "", wishes.generation(volume)))
        return found

    def _is_due(self, holding: Holding, wishes: _Wishes) -> bool:
        if wishes.ends(holding, self._holdings.since(holding.volume)):
            return True
        idle_since = max(self._idle_since[holding.volume], self._publisher.last_wanted(holding.target))
        return self._clock() - idle_since >= self._grace

    def _end(self, holding: Holding, wishes: _Wishes) -> None:
        with self._holdings.lock(holding.target or holding.volume, timeout=0.0) as alone:
            recorded = self._holdings.get(holding.volume)
            unchanged = recorded == holding or (recorded is None and not holding.service)
            if not (alone and unchanged and self._is_due(holding, wishes)):
                return
            # From here on a PUBLISH_RESOURCES waits for the lock, so the agent's answer cannot become old.
            in_use = self._ask_agent()
            if in_use is None or holding.target in in_use:
                return
            self._publisher.forget(holding)
            try:
                if holding.target:
                    self._mapper.unmap(holding)
                if recorded or wishes.generation(holding.volume):
                    self._mapper.report_unmapped(holding.volume, holding.generation)
            except SchedulerUnreachable:
                self._note_trouble(holding.volume, "is unmounted, and the scheduler is told when it answers")
            except PollyError as error:
                self._note_trouble(holding.volume, str(error))
            except Exception as error:  # a third party's driver may raise anything; other volumes must go on
                log.debug("volume %s", holding.volume, exc_info=True)
                self._note_trouble(holding.volume, f"cannot be let go of: {error!r}")
            else:
                self._trouble.pop(holding.volume, None)
                self._wishes = _without(self._wishes, holding)

    def _ask_agent(self) -> AbstractSet[str] | None:
        try:
            in_use = self._places_in_use()
        except AgentUnreachable as error:
            self._note_trouble("", f"nothing is unmounted while the agent cannot be asked: {error}")
            return None
        self._trouble.pop("", None)
        return in_use

    def _note_trouble(self, subject: str, words: str) -> None:
        # Every look meets the same trouble again; once is enough for the log.
        if self._trouble.get(subject) != words:
            self._trouble[subject] = words
            log.warning("%s%s", f"volume {subject}: " if subject else "", words)


def _without(wishes: _Wishes | None, holding: Holding) -> _Wishes | None:
    if wishes is None:
        return None

    def others(volumes: Mapping[str, int]) -> Mapping[str, int]:
        return {
            volume: generation
            for volume, generation in volumes.items()
            if volume != holding.volume or generation > holding.generation
        }

    return _Wishes(others(wishes.keep), others(wishes.revoke), wishes.asked)
