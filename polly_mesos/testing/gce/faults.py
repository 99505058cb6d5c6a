"""What befalls requests on their way: throttling, lost answers, errors of a proxy between."""

from __future__ import annotations

import enum
import threading
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

CHANGE = "change"
"""The next request that changes something, whatever its method is."""


class Kind(enum.Enum):
    """LOST: carried out, and no answer comes. NEVER: the connection ends before anything happens.

    HELD: carried out, and the answer waits until :attr:`Faults.released` is set.
    """

    LOST = "lost"
    NEVER = "never"
    CUT_OFF = "cut off"
    HTML = "html"
    HTML_AFTER = "html after"
    THROTTLED = "throttled"
    SLOW = "slow"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one request.

    :param seconds: how much later a slow answer comes
    """

    kind: Kind
    seconds: float = 0.0


class Faults:
    """Faults that wait for requests, by method, and the count of all requests.

    :ivar held: the requests whose answers wait
    :ivar released: set when they need to wait no longer
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.calls: Counter[str] = Counter()
        self.held = threading.Semaphore(0)
        self.released = threading.Event()

    def inject(self, method: str, kind: Kind, times: int = 1, seconds: float = 0.0) -> None:
        """Let the next requests of a method, as ``disks.insert``, meet a fault."""
        with self._lock:
            self._waiting[method].extend([Fault(kind, seconds)] * times)

    def hold(self) -> None:
        """Let an answer wait."""
        self.held.release()
        self.released.wait()

    def meet(self, method: str, *, changing: bool = False) -> Fault | None:
        """Count a request, and tell what befalls it."""
        with self._lock:
            self.calls[method] += 1
            waiting = self._waiting[method] or (self._waiting[CHANGE] if changing else self._waiting[method])
            return waiting.popleft() if waiting else None
