"""Ending what this host has lost: a volume that was taken from it while it was away, fenced or believed dead.

Another host may be writing to such a volume, so nothing here waits for tasks to end: they are killed, then the volume
is unmounted and its device let go of. It is done only where the scheduler half says so by name and generation, never
because it does not mention a volume: one with an empty ledger must not make hosts kill tasks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from polly_mesos.errors import AgentUnreachable, MountFailed, PollyError, SchedulerUnreachable
from polly_mesos.executor.holdings import Holding, Holdings
from polly_mesos.executor.mapping import HostTools, Mapper
from polly_mesos.executor.publisher import Publisher

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0


class EndUsers(Protocol):
    """How tasks are ended: :meth:`polly_mesos.executor.agent_view.MesosAgent.end_users`."""

    def __call__(self, place: str, reason: str) -> int:
        """Kill all containers that use the volume at this path; how many there were.

        :raises AgentUnreachable: the agent cannot be told
        """


class Evictions:
    """Ends stale holdings, each in a thread of its own: the storage that one of them waits for may never answer.

    :param patience: seconds after which a file system is unmounted lazily that something still keeps busy
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        end_users: EndUsers,
        mapper: Mapper,
        holdings: Holdings,
        publisher: Publisher,
        tools: HostTools,
        *,
        volume_root: str,
        patience: float = _PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end_users = end_users
        self._mapper = mapper
        self._holdings = holdings
        self._publisher = publisher
        self._tools = tools
        self._volume_root = volume_root
        self._patience = patience
        self._clock = clock
        self._guard = threading.Lock()
        self._over: Mapping[str, int] = {}
        self._begun: dict[str, float] = {}
        self._let_go: dict[str, Holding] = {}
        self._running: set[str] = set()
        self._trouble: dict[str, str] = {}
        self._stopping = threading.Event()

    def assigned(self, over: Mapping[str, int]) -> None:
        """Take the volumes that this host has lost, by the newest generation that is over, and begin to end them."""
        self._publisher.refuse(over)
        with self._guard:
            self._over = dict(over)
            begun = [volume for volume in over if volume not in self._running]
            self._running.update(begun)
        for volume in begun:
            threading.Thread(target=self._end, args=(volume,), name=f"evict-{volume[:8]}", daemon=True).start()

    def stop(self) -> None:
        """Try no more; what is not ended yet is ended after the next start."""
        self._stopping.set()

    def _end(self, volume: str) -> None:
        while not self._stopping.is_set():
            try:
                over = self.attempt(volume)
            except Exception as error:  # a third party's driver may raise anything, and may not a second time
                log.debug("volume %s", volume, exc_info=True)
                self._note_trouble(volume, f"cannot be let go of: {error!r}")
                over = False
            with self._guard:
                if over and self._stale_record(volume) is None:
                    self._running.discard(volume)
                    self._begun.pop(volume, None)
                    self._let_go.pop(volume, None)
                    self._trouble.pop(volume, None)
                    return
            self._stopping.wait(_PAUSE_SECONDS)

    def attempt(self, volume: str) -> bool:
        """Do what can be done now; whether this host holds the volume no more, or not under a generation that is over.

        It is not over before the agent has said that nothing uses the volume: while the agent is away, its tasks run.
        """
        holding = self._stale_record(volume) or self._stale_mount(volume)
        if holding is None:
            return True
        begun = self._begun.setdefault(volume, self._clock())
        self._publisher.forget(holding)
        unused = self._kill_users(holding)
        with self._holdings.lock(holding.target or volume, timeout=0.0) as alone:
            if not alone or (self._stale_record(volume) or holding) != holding:
                return False
            try:
                if self._let_go.get(volume) != holding:
                    self._unmap(holding, lazily=self._clock() - begun >= self._patience)
                    self._let_go[volume] = holding
                if unused:
                    self._mapper.report_unmapped(volume, holding.generation)
            except SchedulerUnreachable:
                log.info("volume %s is let go of; the scheduler is told when it answers", volume)
            except PollyError as error:
                self._note_trouble(volume, str(error))
            else:
                return unused
        return False

    def _kill_users(self, holding: Holding) -> bool:
        """Whether nothing used the volume any more."""
        reason = f"this host has lost volume {holding.volume}, which it held as generation {holding.generation}"
        try:
            return not (holding.target and self._end_users(holding.target, reason))
        except AgentUnreachable as error:
            self._note_trouble(holding.volume, f"tasks that may use it cannot be killed: {error}")
            return False

    def _unmap(self, holding: Holding, *, lazily: bool) -> None:
        try:
            self._mapper.unmap(holding)
        except MountFailed as error:
            if not lazily:
                raise
            log.error("volume %s is taken out of the tree of files as it is: %s", holding.volume, error)
            self._mapper.unmap(holding, lazily=True)

    def _stale_record(self, volume: str) -> Holding | None:
        recorded = self._holdings.get(volume)
        return recorded if recorded is not None and recorded.generation <= self._over.get(volume, -1) else None

    def _stale_mount(self, volume: str) -> Holding | None:
        """A mount of the volume that no record tells the generation of; records are written before mounts are made."""
        if volume not in self._over or self._holdings.get(volume) is not None:
            return None
        target = self._tools.mounted(self._volume_root).get(volume)
        return None if target is None else Holding(volume, target, "", self._over[volume])

    def _note_trouble(self, volume: str, words: str) -> None:
        # Every attempt meets the same trouble again; once is enough for the log.
        if self._trouble.get(volume) != words:
            self._trouble[volume] = words
            log.error("volume %s was taken from this host and %s", volume, words)
