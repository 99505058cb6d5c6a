"""How fast one service's platform is asked: one limiter, shared by all threads, that learns from being refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SLOWEST = 0.1
_BACK_OFF = 0.5
_RECOVERY_SECONDS = 60.0


class RateLimiter:
    """A bucket of tokens that fills at a rate. When the platform throttles, the rate is halved; then it grows back.

    :param rate: calls per second; also what the rate grows back to, within a minute
    :param burst: how many calls may come at once after a pause
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        rate: float,
        burst: int = 20,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a rate of {rate} calls per second with a burst of {burst} lets nothing through")
        self._full_rate = self.rate = rate
        self._burst = float(burst)
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = self._burst
        self._filled = clock()
        self._slowed = float("-inf")

    def acquire(self) -> None:
        """Wait for this caller's turn. Callers get their turns in the order in which they came."""
        with self._lock:
            self._fill()
            self._tokens -= 1.0
            pause = -self._tokens / self.rate
        if pause > 0:
            self._sleep(pause)

    def throttled(self) -> None:
        """The platform said that it was asked too often: halve the rate, and have no burst until it has recovered.

        The answers to calls that were on their way together count once.
        """
        with self._lock:
            self._fill()
            now = self._clock()
            if now - self._slowed >= 1.0 / self.rate:
                self.rate = max(min(_SLOWEST, self._full_rate), self.rate * _BACK_OFF)
                self._slowed = now
            self._tokens = min(self._tokens, 0.0)

    def _fill(self) -> None:
        now = self._clock()
        passed, self._filled = now - self._filled, now
        self._tokens = min(self._burst, self._tokens + passed * self.rate)
        self.rate = min(self._full_rate, self.rate + passed * self._full_rate / _RECOVERY_SECONDS)
