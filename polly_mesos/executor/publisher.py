"""Answers to PUBLISH_RESOURCES: the agent starts a task when its volumes are where the task will look for them.

The agent sends all disks of this provider that are in use on it, the new task's among them, and sets no limit of time;
it can be told nothing but yes or no, so every no has its reason in this executor's log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from polly_mesos.agent_api import PublishRequest, PublishState, PublishTarget
from polly_mesos.errors import InvalidRequest, PollyError, StaleGeneration, WrongState
from polly_mesos.executor.holdings import Holding, Holdings
from polly_mesos.executor.mapping import Mapper
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.faults import fault_point
from polly_mesos.mesos.resources import persistence_of, volume_path
from polly_mesos.model import Json

log = logging.getLogger(__name__)

_LONG_POLL_SECONDS = 10.0
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Publisher:
    """Maps what tasks are about to use. Safe to call from several threads.

    :param allow_scratch: whether tasks may use a pool's disk without making a volume
    :param patience: seconds in all that one PUBLISH_RESOURCES may take
    """

    def __init__(
        self,
        client: SchedulerClient,
        mapper: Mapper,
        holdings: Holdings,
        *,
        allow_scratch: bool,
        patience: float = 300.0,
    ) -> None:
        self._client = client
        self._mapper = mapper
        self._holdings = holdings
        self._allow_scratch = allow_scratch
        self._patience = patience
        self._guard = threading.Lock()
        self._confirmed: dict[str, Holding] = {}
        self._wanted: dict[str, float] = {}
        self._awaited: dict[str, str] = {}
        self._over: Mapping[str, int] = {}

    def refuse(self, over: Mapping[str, int]) -> None:
        """Refuse volumes for as long as this host holds them under a generation that is over.

        :param over: volume id -> newest generation that is over; replaces what was said before
        """
        with self._guard:
            self._over = dict(over)

    def publish(self, resources: Sequence[Json]) -> bool:
        """Whether every volume that the resources name is mounted now where the agent looks for it."""
        deadline = time.monotonic() + self._patience
        places: dict[str, Json] = {}
        for resource in resources:
            try:
                if persistence_of(resource):
                    places[volume_path(resource)] = resource
                elif not self._allow_scratch:
                    raise _scratch_refused(resource)
            except InvalidRequest as error:
                log.error("refused: %s", error)
                return False
        missing = [target for target in places if not self._is_still_mounted(target)]
        if not missing:
            return True
        with ThreadPoolExecutor(max_workers=len(missing), thread_name_prefix="publish") as pool:
            return all(pool.map(lambda target: self._publish(target, places[target], deadline), missing))

    def last_wanted(self, target: str) -> float:
        """Monotonic time at which a PUBLISH_RESOURCES last named the place, 0.0 where none did."""
        with self._guard:
            return self._wanted.get(target, 0.0)

    def awaits(self, volume: str) -> bool:
        """Whether a PUBLISH_RESOURCES waits for the volume at this moment."""
        with self._guard:
            return volume in self._awaited.values()

    def forget(self, holding: Holding) -> None:
        """Take a volume for unknown from now on: it was, or is about to be, unmounted or taken from this host."""
        with self._guard:
            if self._confirmed.get(holding.target) == holding:
                del self._confirmed[holding.target]

    def _is_still_mounted(self, target: str) -> bool:
        """The answer from local knowledge alone, which needs no scheduler half; the mount table has the last word."""
        with self._holdings.lock(target, timeout=0.0) as alone:
            if not alone:
                return False
            self._note_wanted(target)
            with self._guard:
                holding = self._confirmed.get(target)
            return holding is not None and self._is_held_by_right(holding)

    def _publish(self, target: str, resource: Json, deadline: float) -> bool:
        with self._holdings.lock(target, timeout=deadline - time.monotonic()) as alone:
            if not alone:
                log.error("refused: %s is still being worked on after %.0f seconds", target, self._patience)
                return False
            with self._guard:
                holding = self._confirmed.get(target)
            if holding is not None and self._is_held_by_right(holding):
                return True
            try:
                holding = self._map_when_ready(target, resource, deadline)
            except PollyError as error:
                log.error("refused: %s cannot be published: %s", target, error)
                return False
            except Exception:
                log.exception("refused: %s cannot be published, for a mistake in Polly or a driver", target)
                return False
            finally:
                with self._guard:
                    self._awaited.pop(target, None)
                    self._wanted[target] = time.monotonic()
            with self._guard:
                self._confirmed[target] = holding
            return True

    def _map_when_ready(self, target: str, resource: Json, deadline: float) -> Holding:
        # The first answer comes at once and names the volume, so that nobody takes it for unused meanwhile.
        wait = 0.0
        for pause in _growing_pauses():
            left = deadline - time.monotonic()
            answer = self._ask(resource, wait, left)
            with self._guard:
                self._awaited[target] = answer.volume
            self._refuse_while_letting_go(answer.volume)
            if answer.state is PublishState.REFUSED:
                raise WrongState(f"volume {answer.volume}: {answer.reason}")
            if answer.state is PublishState.READY and self._is_over(answer.volume, answer.generation):
                self._return(answer)
            elif answer.state is PublishState.READY:
                fault_point("publication.ask.after-answer")
                _check_place(answer, target)
                try:
                    return self._mapper.map(answer, deadline)
                except StaleGeneration as error:
                    log.info("volume %s changed hands, asking again: %s", answer.volume, error.message)
            if left < pause:
                raise WrongState(f"volume {answer.volume} waited {self._patience:.0f} seconds: {answer.reason}")
            time.sleep(pause)
            wait = min(_LONG_POLL_SECONDS, left - pause)
        raise AssertionError("pauses never end")

    def _ask(self, resource: Json, wait: float, patience: float) -> PublishTarget:
        answer = self._client.publications(PublishRequest((resource,), wait=wait), patience)
        if len(answer.targets) != 1:
            raise InvalidRequest(
                f"the scheduler sees {len(answer.targets)} volumes in one disk: {_words(resource)}",
                remedy="run the same version of Polly on both sides",
            )
        return answer.targets[0]

    def _is_held_by_right(self, holding: Holding) -> bool:
        return not self._is_over(holding.volume, holding.generation) and self._mapper.is_mapped(holding)

    def _is_over(self, volume: str, generation: int) -> bool:
        with self._guard:
            return volume in self._over and generation <= self._over[volume]

    def _refuse_while_letting_go(self, volume: str) -> None:
        held = self._holdings.get(volume)
        if held is not None and self._is_over(held.volume, held.generation):
            raise WrongState(f"volume {volume} was taken from this host, which is still letting go of it")

    def _return(self, answer: PublishTarget) -> None:
        """Give back a generation that was over before it came: a restored ledger may know nothing of its end."""
        if self._holdings.get(answer.volume) is None:
            log.info("volume %s was over here as generation %d, asking again", answer.volume, answer.generation)
            self._mapper.report_unmapped(answer.volume, answer.generation)

    def _note_wanted(self, target: str) -> None:
        with self._guard:
            self._wanted[target] = time.monotonic()


def _check_place(answer: PublishTarget, target: str) -> None:
    if answer.target != target:
        raise WrongState(
            f"volume {answer.volume} would be mounted at {answer.target}, but the agent looks for it at {target}",
            remedy="run the same version of Polly on both sides",
        )


def _growing_pauses() -> Iterator[float]:
    pause = _SHORTEST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


def _scratch_refused(resource: Json) -> InvalidRequest:
    return InvalidRequest(
        f"a task uses {_words(resource)} without a volume",
        field="disk.persistence",
        remedy="CREATE a persistent volume there and use that, or set allow_scratch in polly.yml",
    )


def _words(resource: Json) -> str:
    source = resource.get("disk", {}).get("source", {})
    size = resource.get("scalar", {}).get("value", "?")
    return f"{size} MB of profile {source.get('profile', '?')!r}"
