"""What the handler is told, again and again until it has heard it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.steps import NEVER, Attempts

Notice = steps.Tell | steps.Acknowledge


class Notices:
    """Notices that the handler has not heard yet.

    :param waits: first and longest seconds between attempts
    """

    def __init__(self, waits: Sequence[float]) -> None:
        self._waits = waits
        self._telling: tuple[steps.Tell, Attempts] | None = None
        self._acknowledging: dict[UUID, Attempts] = {}

    def tell(self, agent_id: str, provider_id: str, now: float) -> None:
        """Tell under which id we are known; what was to be told before counts no more."""
        self._telling = (steps.Tell(agent_id, provider_id), Attempts(self._waits, now))

    def acknowledge(self, operation: UUID, now: float) -> None:
        """Tell that an operation's status has arrived."""
        self._acknowledging[operation] = Attempts(self._waits, now)

    def heard(self, notice: Notice) -> None:
        """The handler has taken note."""
        if isinstance(notice, steps.Acknowledge):
            self._acknowledging.pop(notice.operation, None)
        elif self._telling is not None and self._telling[0] == notice:
            self._telling = None

    def failed(self, notice: Notice, now: float) -> None:
        """The handler has not taken note: tell again later."""
        for attempts in self._attempts(notice):
            attempts.failed(now)

    def due(self, now: float) -> list[steps.Action]:
        """Notices to be given now."""
        candidates: list[Notice] = [steps.Acknowledge(operation) for operation in self._acknowledging]
        if self._telling is not None:
            candidates.insert(0, self._telling[0])
        result: list[steps.Action] = []
        for notice in candidates:
            for attempts in self._attempts(notice):
                if attempts.due(now):
                    attempts.begin()
                    result.append(notice)
        return result

    @property
    def deadline(self) -> float:
        """When the next notice is due."""
        times = [attempts.deadline for attempts in self._acknowledging.values()]
        if self._telling is not None:
            times.append(self._telling[1].deadline)
        return min(times, default=NEVER)

    def _attempts(self, notice: Notice) -> list[Attempts]:
        if isinstance(notice, steps.Acknowledge):
            return [self._acknowledging[notice.operation]] if notice.operation in self._acknowledging else []
        return [self._telling[1]] if self._telling is not None and self._telling[0] == notice else []
