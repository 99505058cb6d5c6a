"""What the scheduler's and the executor's driver share: a thread that keeps one subscription alive.

It stands in for the loop of pymesos' ``Process``, which ends for good (and interrupts the main thread) when a callback
raises or the peer refuses, reconnects without a pause after a clean close, and never notices silence.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from polly_mesos.errors import MasterUnreachable, MesosError
from polly_mesos.mesos.event_stream import EventStream, Redirected, Reply, StreamBroken, SubscriptionRefused, post
from polly_mesos.model import Json

__all__ = ["Backoff", "DriverProcess", "pymesos"]

logger = logging.getLogger(__name__)

_Handler = Callable[[int, FrameType | None], Any] | int | None


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Importing pymesos replaces the handler of SIGINT: an error outside the main thread, unwanted inside it."""
    install, importer = signal.signal, threading.get_ident()

    def ignore_importer(number: int, handler: _Handler) -> _Handler:
        return signal.getsignal(number) if threading.get_ident() == importer else install(number, handler)

    signal.signal = ignore_importer  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install


with _signals_left_alone():
    import pymesos
    from pymesos.process import Process

# pymesos gives its logger a handler on stderr and a level; both are for the application to choose.
for _handler in list(pymesos.logger.handlers):
    pymesos.logger.removeHandler(_handler)
pymesos.logger.setLevel(logging.NOTSET)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt: doubling, with jitter, so that thousands do not come back at once.

    :param initial: seconds before the first further attempt
    :param maximum: most seconds between attempts
    :param settled: a subscription that lasted this many seconds counts as a success; one that ends sooner does not, so
        that a peer which accepts and closes at once is not stormed
    """

    initial: float = 0.5
    maximum: float = 15.0
    settled: float = 10.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        ceiling: float = min(self.maximum, self.initial * 2.0 ** min(failures - 1, 30))
        return ceiling * random.uniform(0.5, 1.0)


class DriverProcess(Process):  # type: ignore[misc]
    """Subscribes, hands events to ``on_event``, and subscribes again for as long as it is started.

    Mixed in before a pymesos driver, whose event dispatch and calls it serves. Callbacks run on its one thread, one
    after the other.
    """

    _started: bool
    _stream_id: str | None
    _request_timeout: float
    _backoff: Backoff

    def _prepare(self, request_timeout: float, backoff: Backoff) -> None:
        """Set up what this class needs; called once, by the constructor of the driver."""
        self._request_timeout = request_timeout
        self._backoff = backoff
        self._calls = threading.Lock()
        self._stopping = threading.Event()
        self._stream: EventStream | None = None
        self._redirected_to: str | None = None
        self._subscribed_since: float | None = None
        self._usable = False
        self._problem: MesosError | None = None
        self._callback_errors = 0

    @property
    @abstractmethod
    def _path(self) -> str:
        """Path of the API on the peer."""

    @abstractmethod
    def _locate(self) -> str:
        """Address of the peer; raises MesosError where it is not known."""

    @abstractmethod
    def _authorization(self) -> dict[str, str]:
        """Headers that prove who we are."""

    @abstractmethod
    def _subscribe_call(self) -> Json:
        """The SUBSCRIBE call."""

    @abstractmethod
    def _refused(self, answer: str) -> None:
        """The peer refused the subscription; it is tried again after a while."""

    def _unreachable(self, reason: str) -> MesosError:
        """The error for a peer that does not answer."""
        return MasterUnreachable(reason)

    def _gives_up(self, seconds_down: float) -> bool:
        """Whether to end instead of trying again, after so many seconds without a subscription."""
        return False

    @property
    def connected(self) -> bool:
        """Whether the peer has confirmed our subscription and its stream is open."""
        return self._usable

    @property
    def problem(self) -> MesosError | None:
        """Why there is no subscription, as of the last attempt; None while there is one."""
        return self._problem

    @property
    def callback_errors(self) -> int:
        """How many callbacks raised since the driver was made."""
        return self._callback_errors

    def start(self) -> None:
        """Begin subscribing, on a thread of our own; returns at once, whether or not the peer can be reached."""
        with self._lock:
            if self._started:
                return
        self.join()
        self._stopping.clear()
        self._started = True
        self._io_thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._io_thread.start()

    def _end(self) -> None:
        """Stop subscribing; from any thread, callbacks included. No callback begins afterwards."""
        with self._lock:
            self._started = False
            stream = self._stream
        self._stopping.set()
        if stream is not None:
            stream.interrupt()

    def change_master(self, new_master: str | None) -> None:
        """Leave the present peer for another one (host:port); None: for whichever the next look finds."""
        with self._lock:
            self._redirected_to = new_master
        self._drop_stream()

    def _drop_stream(self) -> None:
        """Subscribe anew, because the peer and we may no longer agree on what was said."""
        with self._lock:
            self._usable = False
            stream = self._stream
        if stream is not None:
            stream.interrupt()

    def _run(self) -> None:
        failures, down_since = 0, time.monotonic()
        try:
            while not self.aborted:
                lasted, redirected = self._attempt()
                if lasted is not None:
                    down_since = time.monotonic()
                failures = 0 if lasted is not None and lasted >= self._backoff.settled else failures + 1
                if redirected and failures == 1:
                    continue
                if self.aborted or self._gives_up(time.monotonic() - down_since):
                    break
                self._stopping.wait(self._backoff.delay(max(failures, 1)))
        finally:
            with self._lock:
                self._started = False

    def _attempt(self) -> tuple[float | None, bool]:
        """One subscription, from looking for the peer to its end.

        :return: the seconds that it lasted, None where it did not come to be, and whether we were sent elsewhere
        """
        lasted: float | None = None
        try:
            with self._lock:
                address, self._redirected_to = self._redirected_to, None
            address = address or self._locate()
            try:
                self._follow(address)
            finally:
                lasted = self._closed()
            self._report(self._unreachable(f"{address} ended the event stream"))
        except Redirected as redirect:
            self._redirected_to = redirect.address
            self._report(self._unreachable(str(redirect)))
            return lasted, True
        except SubscriptionRefused as refusal:
            self._refused(str(refusal))
        except StreamBroken as broken:
            self._report(self._unreachable(f"{address}: {broken}"))
        except MesosError as error:
            self._report(error)
        except Exception as error:
            # The driver outlives defects too, its own included: the alternative is a framework without a scheduler.
            logger.exception("%s failed", self)
            self._report(MesosError(f"the driver failed: {type(error).__name__}"))
        return lasted, False

    def _follow(self, address: str) -> None:
        headers = self._authorization()
        stream = EventStream(address, self._path, headers, self._request_timeout)
        with self._lock:
            if not self._started:
                return
            self._stream, self._master = stream, address
        self._stream_id = stream.open(self._subscribe_call())
        for event in stream.events():
            self.process_event(event)
            if self.aborted:
                return

    def _closed(self) -> float | None:
        """Forget the stream and say so to the callbacks; returns how long the subscription lasted."""
        with self._lock:
            stream, self._stream = self._stream, None
            since, self._subscribed_since = self._subscribed_since, None
            self._usable = False
            self._stream_id = None
        if stream is not None:
            stream.close()
        if since is None:
            return None
        lasted = time.monotonic() - since
        if not self.aborted:
            self._guard("the end of the subscription", self.on_close)
        return lasted

    def _subscribed(self, expect_event_within: float | None) -> None:
        """Note that the peer confirmed the subscription.

        :param expect_event_within: seconds of silence after which the peer is taken for lost; None: never
        """
        with self._lock:
            self._subscribed_since = time.monotonic()
            self._usable = True
            self._problem = None
            stream = self._stream
        if stream is not None:
            stream.expect_within(expect_event_within)

    def _report(self, problem: MesosError) -> None:
        if self.aborted:
            return
        repeated = self._problem is not None and str(self._problem) == str(problem)
        self._problem = problem
        logger.log(logging.DEBUG if repeated else logging.WARNING, "%s, trying again", problem)

    def process_event(self, event: Json) -> None:
        """Hand an event to its ``on_...`` method; whatever that raises ends here, except a refused subscription."""
        if self.aborted:
            return
        try:
            self.on_event(event)
        except SubscriptionRefused:
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback, and the driver lives on
            self._count_callback_error(f"the event {event.get('type')}")

    def _guard(self, what: str, callback: Callable[..., object], *arguments: object) -> bool:
        """Run a callback; returns whether it ended without an exception."""
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - logged with its traceback, and the driver lives on
            self._count_callback_error(what)
            return False
        return True

    def _count_callback_error(self, what: str) -> None:
        self._callback_errors += 1
        logger.exception("handling %s failed", what)

    def _call(self, call: Json) -> Reply | None:
        """Make one call in the name of the subscription; calls keep their order.

        :return: the answer; None where there is no subscription or no answer came, so that the peer may or may not
            have seen the call
        """
        with self._calls:
            with self._lock:
                address, stream_id, connected = self._master, self.stream_id, self.connected
            if not connected:
                return None
            headers = self._authorization()
            if stream_id:
                headers["Mesos-Stream-Id"] = stream_id
            try:
                reply = post(address, self._path, headers, call, self._request_timeout)
            except StreamBroken as broken:
                logger.warning("%s to %s was not answered: %s", call["type"], address, broken)
                return None
        if not reply.accepted:
            logger.warning("%s to %s was refused: HTTP %d %s", call["type"], address, reply.status, reply.text.strip())
        return reply

    def _send(self, body: Json, *_: object, **__: object) -> bool:
        """pymesos' own calls come through here; unlike theirs, this one never raises."""
        reply = self._call(body)
        return reply is not None and reply.accepted
