"""The way out of an agent: in a quiet moment, with empty totals, and only then the end of the stream.

What is on its way to a provider when its stream ends aborts Mesos 1.11: an operation or the acknowledgement of a status
aborts the agent (src/slave/slave.cpp, addOperation and removeOperation), an offer of its disks that is accepted later
aborts the master (src/master/master.cpp, _apply). So the agent is first told that the provider has nothing:

1. Totals without anything, and no operations. The agent forgets the operations, so that an acknowledgement that comes
   late is only logged; the master takes back all offers with the provider's disks.
2. The same again: an offer that the allocator had made before the first, and the master has sent since, is taken back.
3. Nothing can be on its way any more, and the stream is ended.

What is left is an operation that crosses the first of these calls (slave.cpp, apply), and an offer that is accepted
between the first and the second. A process that is killed closes nothing.
"""

from __future__ import annotations

from polly_mesos.mesos.provider.steps import NEVER, Timing


class Leaving:
    """When each step of the way out is due. Pure, as the machine is."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._by = NEVER
        self._waits = list(timing.empty)
        self._step_at: float | None = None
        self._over = False

    @property
    def wanted(self) -> bool:
        """Whether the owner wants to leave."""
        return self._by != NEVER

    def begin(self, now: float) -> None:
        """The owner wants to leave; wanting it twice does not put it off."""
        self._by = min(self._by, now + self._timing.leave_by)

    def due(self, busy_at: float, *, subscribed: bool) -> float:
        """When the next step is due.

        :param busy_at: when an operation came, was answered, or a status was sent last
        """
        if not self.wanted or self._over:
            return NEVER
        if not subscribed:
            return -NEVER
        return self._step_at if self._step_at is not None else min(self._by, busy_at + self._timing.leave)

    def step(self, now: float, *, offered: bool) -> bool:
        """Take the next step: whether it is to tell the agent that we have nothing; else the stream is to be ended.

        :param offered: whether the agent can be told, and may have had anything of ours to offer
        """
        if offered and self._waits:
            self._step_at = now + self._waits.pop(0)
            return True
        self._over = True
        return False
