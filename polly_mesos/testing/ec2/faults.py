"""What goes wrong between a client and EC2."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

CHANGES = "changes"
"""Stands for every action that changes something."""


class Fault(enum.StrEnum):
    """How one request fails.

    ``LOST`` and ``CUT`` do what was asked and then lose the answer, or the second half of it; ``HTML_AFTER`` does it
    and answers with a page of a proxy. The others do nothing.
    """

    REFUSED = "refused"
    LOST = "lost"
    CUT = "cut"
    HTML = "html"
    HTML_AFTER = "html-after"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    NONSENSE = "nonsense"

    @property
    def happens(self) -> bool:
        """Whether what was asked is done all the same."""
        return self in (Fault.LOST, Fault.CUT, Fault.HTML_AFTER, Fault.NONSENSE)


@dataclass(slots=True)
class _Plan:
    action: str
    fault: Fault | tuple[str, str]
    times: int


class Faults:
    """The faults that are planned, and the calls that were counted."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self._bucket: tuple[float, float] | None = None
        self._left = 0.0
        self._looked = 0.0

    def plan(self, action: str, fault: Fault | tuple[str, str], times: int = 1) -> None:
        """Let the next calls of an action, or of :data:`CHANGES`, fail.

        :param fault: a pair of code and message is refused with these
        """
        with self._lock:
            self._plans.append(_Plan(action, fault, times))

    def forget(self) -> None:
        """Let nothing fail any more that was planned."""
        with self._lock:
            self._plans.clear()

    def limit(self, per_second: float, burst: float) -> None:
        """Throttle what comes faster, as EC2's token buckets do; 0 for no limit."""
        with self._lock:
            self._bucket = (per_second, burst) if per_second else None
            self._left = burst

    def next(self, action: str, clock: Callable[[], float]) -> Fault | tuple[str, str] | None:
        """Count a call, and tell how it is to fail."""
        with self._lock:
            self.calls[action] += 1
            for plan in self._plans:
                if plan.action == action or (plan.action == CHANGES and not action.startswith(("Describe", "Get"))):
                    plan.times -= 1
                    if not plan.times:
                        self._plans.remove(plan)
                    return plan.fault
            return self._throttle(clock())

    def _throttle(self, now: float) -> Fault | None:
        if self._bucket is None:
            return None
        rate, burst = self._bucket
        self._left = min(burst, self._left + (now - self._looked) * rate)
        self._looked = now
        if self._left < 1:
            return Fault.THROTTLED
        self._left -= 1
        return None
