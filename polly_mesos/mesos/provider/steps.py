"""What happens to a resource provider (events) and what it is to do (actions)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.mesos.resources import persistence_of
from polly_mesos.model import Json

NEVER = float("inf")
"""A time that does not come."""

# Actions that ask somebody: each is answered by its own event or by Failed, once.


@dataclass(frozen=True, slots=True)
class Find:
    """Ask the agent for its id. Answered by :class:`Found`."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the agent whether it still holds a stream of this provider. Answered by :class:`Looked`."""

    identity: ProviderIdentity


@dataclass(frozen=True, slots=True)
class Apply:
    """Ask the handler to judge an operation. Answered by :class:`Judged`."""

    operation: UUID
    application: Application


@dataclass(frozen=True, slots=True)
class Publish:
    """Ask the handler to make volumes available. Answered by :class:`Published`."""

    stream: int
    request: UUID
    resources: tuple[Json, ...]

    @property
    def volumes(self) -> frozenset[str]:
        """The persistence ids of the volumes among the resources."""
        return frozenset(map(persistence_of, self.resources)) - {""}


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the handler under which id the agent knows us. Answered by :class:`Heard`."""

    agent_id: str
    provider_id: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the handler that an operation's status has arrived. Answered by :class:`Heard`."""

    operation: UUID


Ask = Find | Look | Apply | Publish | Tell | Acknowledge

# Actions on the stream.


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Open a stream. Followed by any number of :class:`Received` and exactly one :class:`Ended`."""

    stream: int
    identity: ProviderIdentity


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream. Its :class:`Ended` follows."""

    stream: int


@dataclass(frozen=True, slots=True)
class Call:
    """Send a call on the stream. If it fails, no later call of the stream is sent and :class:`CallFailed` follows."""

    stream: int
    body: Json


Action = Ask | Subscribe | Close | Call

# Events.


@dataclass(frozen=True, slots=True)
class Start:
    """The owner wants the provider to subscribe, and holds the lock."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The owner wants the provider to leave."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has passed."""


@dataclass(frozen=True, slots=True)
class Desire:
    """The ledger's totals."""

    resources: tuple[Json, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """Finished operations whose acknowledgement the ledger does not know of."""

    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The agent's id."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Looked:
    """Whether the agent holds a stream of this provider, None where it does not tell."""

    subscribed: bool | None


@dataclass(frozen=True, slots=True)
class Judged:
    """The handler's verdict."""

    operation: UUID
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Published:
    """Whether the volumes are available."""

    stream: int
    request: UUID
    published: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """The handler has taken note."""

    ask: Tell | Acknowledge


@dataclass(frozen=True, slots=True)
class Failed:
    """Nobody answered."""

    ask: Ask
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """An event of the agent."""

    stream: int
    event: Json


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is over, or could not be opened.

    :param clean: the agent accepted the call and ended the stream in good order
    """

    stream: int
    reason: str
    clean: bool


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call was not accepted, or it is not known whether it was."""

    stream: int
    reason: str


Event = (
    Start
    | Stop
    | Tick
    | Desire
    | Unacknowledged
    | Found
    | Looked
    | Judged
    | Published
    | Heard
    | Failed
    | Received
    | Ended
    | CallFailed
)


@dataclass(frozen=True, slots=True)
class Timing:
    """All times are seconds.

    :param settle: without operations before totals are replaced: one that is on its way when totals shrink below what
        it takes aborts the agent
    :param minimum_interval: between replacements of totals: each rescinds all offers with our disks
    :param drain: least time between the end of a stream and the next subscription
    :param look: between looks whether the agent has forgotten the former stream
    :param subscribe: until an opened stream must have brought SUBSCRIBED
    :param retry: first and longest time between attempts to reach agent or handler
    :param leave: without operations and without statuses being sent before we begin to leave
    :param leave_by: longest time that leaving is put off
    :param empty: after each time that the agent is told, on the way out, that we have nothing (:mod:`~.leaving`)
    :param resend: first and longest time between sendings of an unacknowledged status
    """

    settle: float = 2.0
    minimum_interval: float = 5.0
    drain: float = 2.0
    look: float = 0.25
    subscribe: float = 30.0
    leave: float = 0.5
    leave_by: float = 2.0
    empty: tuple[float, ...] = (0.5, 0.3)
    retry: tuple[float, float] = (0.25, 10.0)
    resend: tuple[float, float] = (5.0, 120.0)


class Attempts:
    """When to try again: at once, then after waits that double."""

    def __init__(self, waits: Sequence[float], at: float) -> None:
        self._first, self._longest = waits
        self._wait = self._first
        self.at = at
        self.running = False

    def due(self, now: float) -> bool:
        """Whether an attempt is to begin."""
        return not self.running and now >= self.at

    def begin(self) -> None:
        """An attempt begins; :meth:`failed` or :meth:`reset` ends it."""
        self.running = True

    def failed(self, now: float) -> None:
        """The attempt did not succeed: wait, the next time longer."""
        self.running = False
        self.at = now + self._wait
        self._wait = min(self._wait * 2, self._longest)

    def reset(self, now: float) -> None:
        """Begin anew, at once."""
        self.running, self.at, self._wait = False, now, self._first

    @property
    def deadline(self) -> float:
        """When the next attempt is due, infinity while one is running."""
        return NEVER if self.running else self.at
