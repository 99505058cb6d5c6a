"""Waiting for a platform that says "soon": with growing pauses, a deadline, and an end when Polly stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_if_result,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)
from tenacity.nap import sleep_using_event

from polly_mesos.errors import PlatformUnavailable

Found = TypeVar("Found")


class Waiter:
    """The waits of one controller side; :meth:`close` ends them all."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def until(
        self,
        look: Callable[[], Found | None],
        deadline: float,
        what: str,
        *,
        first: float = 0.2,
        longest: float = 5.0,
    ) -> Found:
        """The first answer of ``look`` that is not None; it is asked at once, then after growing pauses.

        :param deadline: seconds to wait in all
        :param what: what is waited for, as ``volume vol-1 to be attached``
        :param first: seconds of the first pause; ``longest`` of the last ones
        :raises PlatformUnavailable: it did not come in time, or Polly stops; it may come yet
        """
        retrying = Retrying(
            retry=retry_if_result(lambda found: found is None),
            stop=stop_after_delay(deadline) | stop_when_event_set(self._closed),
            wait=wait_exponential(multiplier=first, max=longest, exp_base=1.5) + wait_random(0, first / 4),
            sleep=sleep_using_event(self._closed),
        )
        try:
            found = retrying(look)
        except RetryError as error:
            ended = "Polly stops" if self._closed.is_set() else f"{deadline:g} seconds are over"
            raise PlatformUnavailable(
                f"{ended}, and the wait for {what} was in vain so far",
                remedy="it is looked at again; see the platform's own console where this goes on",
                outcome_unknown=True,
            ) from error
        assert found is not None
        return found

    def close(self) -> None:
        """End all waits now, and those that begin later after their first look."""
        self._closed.set()
