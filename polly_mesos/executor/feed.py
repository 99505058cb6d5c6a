"""The scheduler half's assignments, fetched by a thread of its own, so that waiting for the next one can be ended."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from polly_mesos.agent_api import Assignment
from polly_mesos.errors import PollyError
from polly_mesos.executor.scheduler_client import SchedulerClient

_POLL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """An assignment, and the monotonic time at which it was asked for: it knows nothing of what came later."""

    assignment: Assignment
    asked: float


class AssignmentFeed:
    """Long polls, one after the other."""

    def __init__(self, client: SchedulerClient) -> None:
        self._client = client
        self._received: queue.SimpleQueue[Received | Exception] = queue.SimpleQueue()
        self._stopped = False
        threading.Thread(target=self._fetch, name="assignments", daemon=True).start()

    def next(self, timeout: float) -> Received | None:
        """The next assignment, None where none came within ``timeout`` seconds.

        :raises PollyError: the scheduler half refused; the feed has ended
        """
        try:
            received = self._received.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(received, Exception):
            raise received
        return received

    def stop(self) -> None:
        """Fetch no more."""
        self._stopped = True

    def _fetch(self) -> None:
        version, wait = 0, 0.0
        while not self._stopped:
            asked = time.monotonic()
            try:
                assignment = self._client.assignment(after=version, wait=wait)
            except PollyError as error:
                self._received.put(error)
                return
            self._received.put(Received(assignment, asked))
            version, wait = assignment.version, _POLL_SECONDS
