"""Secrets of attachments, asked of the platforms when a host is about to connect, and kept by nobody.

A platform that is slow must not hold up the agent API, whose answers come from few threads: it is asked on threads of
this module, and whoever waits is answered after a short time that it is being asked. The answer is kept in memory until
it is fetched, or a minute after that another volume's is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from polly_mesos.errors import PlatformUnavailable
from polly_mesos.model import Json, Publication, Volume

_THREADS = 4
_PATIENCE = 1.0
_KEPT = 60.0

Ask = Callable[[Volume, Json], Json]
"""Given a volume and its attachment as the ledger has it, what the platform tells besides."""


@dataclass(frozen=True, slots=True)
class _Asked:
    answer: Future[Json] = field(repr=False)
    since: float


class Secrets:
    """What hosts need for one call. Safe to use from several threads.

    :param ask: asks the platform; may raise any of our errors, and take long
    :param answered: told the agent that was sent away, when the platform has answered
    """

    def __init__(self, ask: Ask, answered: Callable[[str], None]) -> None:
        self._ask, self._answered = ask, answered
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], _Asked] = {}
        self._workers = ThreadPoolExecutor(_THREADS, "attachment-secrets")

    def of(self, volume: Volume, publication: Publication) -> Json:
        """The secrets of a publication, fetched anew from the platform.

        :raises PlatformUnavailable: it has not answered yet; ask again soon
        :raises PollyError: the platform refused
        """
        key = (volume.id, publication.generation)
        with self._lock:
            self._forget_old()
            asked = self._asked.get(key)
            if asked is None:
                asked = self._asked[key] = self._begin(volume, publication)
        try:
            found = asked.answer.result(_PATIENCE)
        except TimeoutError:
            if asked.answer.done():
                self._forget(key)
            raise PlatformUnavailable("the platform is being asked how to connect", remedy="ask again soon") from None
        except BaseException:
            self._forget(key)
            raise
        self._forget(key)
        return found

    def close(self) -> None:
        """Ask nothing more; what is being asked ends with the platform's patience."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _begin(self, volume: Volume, publication: Publication) -> _Asked:
        since = time.monotonic()

        def done(_: Future[Json]) -> None:
            if time.monotonic() - since > _PATIENCE / 2:  # earlier, nobody was sent away yet
                self._answered(publication.agent)

        answer = self._workers.submit(self._ask, volume, publication.attachment)
        answer.add_done_callback(done)
        return _Asked(answer, since)

    def _forget(self, key: tuple[str, int]) -> None:
        with self._lock:
            self._asked.pop(key, None)

    def _forget_old(self) -> None:
        old = [key for key, asked in self._asked.items() if time.monotonic() - asked.since > _KEPT]
        for key in old:
            if self._asked[key].answer.done():
                del self._asked[key]
