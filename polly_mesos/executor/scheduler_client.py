"""The executor half's end of the agent API (:mod:`polly_mesos.agent_api`).

Every route may be repeated, so a call whose answer was lost is made again. A call waits, with growing pauses, while the
scheduler half is away: it may be restarting, or another one may be taking over.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import cattrs
import httpx

from polly_mesos.agent_api import (
    Application,
    Assignment,
    Hello,
    HostReport,
    Progress,
    ProviderReport,
    PublishAnswer,
    PublishRequest,
    Summons,
    Verdict,
    Welcome,
    decode,
    encode,
    error_from_json,
)
from polly_mesos.errors import (
    ConfigurationError,
    InvalidRequest,
    PollyError,
    SchedulerUnreachable,
    Unauthenticated,
)
from polly_mesos.model import Json

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 15.0
_IDLE_SECONDS = 2.0
_RETRY_STATUSES = frozenset({502, 503, 504})


class SchedulerClient:
    """Calls to the scheduler half. Safe to use from several threads.

    Calls wait while there is no token; :meth:`summon` gives one. A refused token is forgotten and never tried again.

    :param shortest_pause: seconds before the first retry; pauses double from there
    :param longest_pause: seconds that a pause never exceeds
    """

    def __init__(
        self, url: str = "", token: str = "", *, shortest_pause: float = 0.1, longest_pause: float = 5.0
    ) -> None:
        self._pauses = (shortest_pause, longest_pause)
        # Idle connections end here before the server ends them, which would meet a request on its way.
        limits = httpx.Limits(keepalive_expiry=_IDLE_SECONDS)
        self._http = httpx.Client(limits=limits, trust_env=False, verify=ssl.create_default_context())
        self._changed = threading.Condition()
        self._summons: Summons | None = None
        self._refused = ""
        self._closed = threading.Event()
        self._away = False
        if url:
            self.summon(Summons(url, token))

    def __repr__(self) -> str:
        summons = self._summons
        return f"SchedulerClient({summons.scheduler if summons else 'not summoned'})"

    @property
    def summoned(self) -> bool:
        """Whether there is a token that was not refused."""
        return self._summons is not None

    def summon(self, summons: Summons) -> bool:
        """Take an address and a token, unless it is the token that was refused last; say whether it was taken.

        :raises ConfigurationError: the address is not an http or https URL
        """
        parts = urlsplit(summons.scheduler)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError(
                f"the scheduler's address {summons.scheduler!r} is not an http or https URL",
                field="scheduler",
                value=summons.scheduler,
                remedy="give it as http://HOST:PORT",
            )
        with self._changed:
            if not summons.token or summons.token == self._refused:
                return False
            self._summons = Summons(summons.scheduler.rstrip("/"), summons.token)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Make every waiting and every later call raise SchedulerUnreachable."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._http.close()

    def hello(self, hello: Hello) -> Welcome:
        """POST /agent/v1/hello."""
        return self._ask(Welcome, "POST", "/agent/v1/hello", hello)

    def host(self, report: HostReport) -> None:
        """POST /agent/v1/host."""
        self._call("POST", "/agent/v1/host", report)

    def provider(self, report: ProviderReport) -> None:
        """POST /agent/v1/provider."""
        self._call("POST", "/agent/v1/provider", report)

    def assignment(self, after: int, wait: float) -> Assignment:
        """GET /agent/v1/assignment: what comes after version ``after``, or the same again after ``wait`` seconds."""
        path = f"/agent/v1/assignment?after={after}&wait={wait:g}"
        return self._ask(Assignment, "GET", path, wait=wait)

    def apply(self, application: Application) -> Verdict:
        """POST /agent/v1/operations."""
        return self._ask(Verdict, "POST", "/agent/v1/operations", application)

    def acknowledged(self, operation_id: str) -> None:
        """POST /agent/v1/operations/ID/acknowledged."""
        self._call("POST", f"/agent/v1/operations/{quote(operation_id, safe='')}/acknowledged")

    def publications(self, request: PublishRequest, patience: float) -> PublishAnswer:
        """POST /agent/v1/publications.

        :param patience: seconds that may pass in all while the scheduler half is away
        :raises SchedulerUnreachable: it was away for longer
        """
        return self._ask(PublishAnswer, "POST", "/agent/v1/publications", request, wait=request.wait, patience=patience)

    def step(self, volume: str, step: str, progress: Progress, patience: float) -> None:
        """POST /agent/v1/publications/VOLUME/STEP.

        :param patience: as in :meth:`publications`
        :raises StaleGeneration: another publication has replaced this one
        """
        path = f"/agent/v1/publications/{quote(volume, safe='')}/{step}"
        self._call("POST", path, progress, patience=patience)

    def _ask(self, kind: type[T], method: str, path: str, message: Any = None, **limits: Any) -> T:
        response = self._call(method, path, message, **limits)
        try:
            return decode(kind, response.json())
        except (ValueError, cattrs.BaseValidationError) as error:
            raise PollyError(
                f"the scheduler's answer to {method} {path} is not a {kind.__name__}: {error!r}",
                remedy="run the same version of Polly on both sides",
            ) from error

    def _call(
        self, method: str, path: str, message: Any = None, *, wait: float = 0.0, patience: float | None = None
    ) -> httpx.Response:
        deadline = None if patience is None else time.monotonic() + patience
        for pause in self._growing_pauses():
            summons = self._await_summons(deadline)
            failure = self._attempt(summons, method, path, message, wait)
            if isinstance(failure, httpx.Response):
                self._note(away=None)
                return failure
            if isinstance(failure, Unauthenticated):
                self._forget(summons)
                continue
            if not _worth_retrying(failure):
                raise failure
            # A request that close() has cut off is no sign of the scheduler half being away.
            self._raise_if_closed()
            self._note(away=failure)
            if deadline is not None and time.monotonic() + pause > deadline:
                raise failure
            self._closed.wait(pause)
        raise AssertionError("pauses never end")

    def _attempt(
        self, summons: Summons, method: str, path: str, message: Any, wait: float
    ) -> httpx.Response | PollyError:
        url = summons.scheduler + path
        try:
            response = self._http.request(
                method,
                url,
                json=None if message is None else encode(message),
                headers={"Authorization": f"Bearer {summons.token}"},
                timeout=httpx.Timeout(wait + _ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            )
        except httpx.HTTPError as error:
            return SchedulerUnreachable(
                f"no answer from the scheduler at {summons.scheduler} ({type(error).__name__}: {error})",
                remedy="see that `polly serve` runs and that this host reaches its address",
            )
        except RuntimeError:
            # httpx' own way to say that close() came first.
            self._raise_if_closed()
            raise
        return response if response.is_success else _failure(response, f"{method} {url}")

    def _await_summons(self, deadline: float | None) -> Summons:
        with self._changed:
            while self._summons is None:
                self._raise_if_closed()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise SchedulerUnreachable("the scheduler has not given this executor a token yet")
                self._changed.wait(left)
            self._raise_if_closed()
            return self._summons

    def _forget(self, summons: Summons) -> None:
        with self._changed:
            if self._summons == summons:
                self._summons, self._refused = None, summons.token
                log.warning("the scheduler at %s refused the token; waiting for another", summons.scheduler)

    def _raise_if_closed(self) -> None:
        if self._closed.is_set():
            raise SchedulerUnreachable("this executor is stopping")

    def _growing_pauses(self) -> Iterator[float]:
        pause, longest = self._pauses
        while True:
            # Spread, so that a thousand executors do not come back in step.
            yield pause * random.uniform(0.5, 1.0)
            pause = min(pause * 2, longest)

    def _note(self, away: PollyError | None) -> None:
        was, self._away = self._away, away is not None
        if away is not None and not was:
            log.warning("%s; asking again until it answers", away)
        elif was and away is None:
            log.info("the scheduler answers again")


def _worth_retrying(failure: PollyError) -> bool:
    return failure.retryable or type(failure) is PollyError


def _failure(response: httpx.Response, request: str) -> PollyError:
    try:
        data: Json = response.json()
    except ValueError:
        data = {}
    if response.status_code == 401:
        return Unauthenticated(f"{request}: the token is not accepted")
    if isinstance(data, dict) and "code" in data:
        return error_from_json(data)
    if response.status_code >= 500:
        words = "does not answer for now" if response.status_code in _RETRY_STATUSES else "failed"
        return SchedulerUnreachable(f"{request}: the scheduler {words} (HTTP {response.status_code})")
    return InvalidRequest(
        f"{request}: refused with HTTP {response.status_code}", remedy="run the same version of Polly on both sides"
    )
