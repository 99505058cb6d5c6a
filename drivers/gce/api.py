"""Calls of the Compute Engine API: our endpoint, our pace, our deadlines, no retries of the SDK's.

The operations that the SDK gives back poll through a hidden client of their own, which knows no endpoint but Google's.
So the plain methods (``insert_unary``) are used, and operations are waited for here.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import compute_v1

from drivers.gce import credentials
from drivers.gce.connections import Connections
from drivers.gce.errors import SDK_ERRORS, Missing, of_operation, translate
from drivers.gce.settings import GceSettings
from drivers.rate import RateLimiter
from drivers.waiting import Waiter
from polly_mesos.errors import ConfigurationError, PlatformError, PlatformThrottled, PlatformUnavailable

_LOOK = 5.0
"""Seconds for which one request waits for an operation."""

_DONE = compute_v1.Operation.Status.DONE

Answer = TypeVar("Answer")


class Api:
    """One project's API."""

    def __init__(self, settings: GceSettings) -> None:
        self._settings = settings
        self.credentials, found = credentials.find(settings.key_file)
        self.project = settings.project or found
        if not self.project:
            message = "project is missing, and the credentials name none"
            raise ConfigurationError(message, remedy="write project: ID", field="project", value="")
        self._closed = threading.Event()
        rate = settings.requests_per_second
        self._limiter = RateLimiter(rate, max(20, int(rate)), sleep=self._pause)
        self.waiter = Waiter()
        self._connections = Connections()
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def client(self, name: str) -> Any:
        """The SDK's client for ``Disks``, ``RegionDisks`` and so on."""
        with self._lock:
            if name not in self._clients:
                options = ClientOptions(api_endpoint=self._settings.endpoint or None)
                kind = getattr(compute_v1, f"{name}Client")
                made = kind(credentials=self.credentials, client_options=options)
                self._connections.cover(made.transport._session)
                self._clients[name] = made
            return self._clients[name]

    def close(self) -> None:
        """End all waits: for operations, for answers, and for a turn. No call is made any more."""
        self._closed.set()
        self.waiter.close()
        self._connections.close()

    def call(self, client: str, method: str, request: Any, what: str, *, changing: bool = False) -> Any:
        """Make one call.

        :param what: what it is for, for people
        :raises PollyError: it failed
        """
        return self._paced(
            lambda: getattr(self.client(client), method)(
                request=request, retry=None, timeout=self._settings.request_timeout
            ),
            what,
            changing=changing,
            request_id=getattr(request, "request_id", "") if changing else "",
        )

    def change(self, client: str, method: str, request: Any, what: str) -> Any:
        """Ask for a change and wait until it is done."""
        return self.wait(self.call(client, method, request, what, changing=True), what)

    def wait(self, operation: Any, what: str) -> Any:
        """The operation once it is done.

        :raises PollyError: it failed, or what becomes of it cannot be seen now; then the outcome is unknown
        """
        if operation.status != _DONE:
            told, name = f"{what} (operation {operation.name})", operation.name
            try:
                with after_change():
                    operation = self._paced(
                        lambda: self.waiter.until(self._look(operation), self._settings.operation_timeout, told),
                        what,
                        changing=True,
                        request_id=name,
                        begun=True,
                    )
            except Missing as lost:
                message = f"{told}: Google does not know of it any more"
                raise PlatformUnavailable(message, outcome_unknown=True, request_id=name) from lost
        if error := of_operation(operation, what):
            raise error
        return operation

    def _look(self, operation: Any) -> Callable[[], Any]:
        """Asks what became of an operation; None while it is under way."""
        place, name = ("Zone", operation.zone) if operation.zone else ("Region", operation.region)
        where = {place.lower(): name.rpartition("/")[2]} if name else {}
        place = place if name else "Global"
        kind = getattr(compute_v1, f"Wait{place}OperationRequest")
        request = kind(project=self.project, operation=operation.name, **where)

        def look() -> Any:
            try:
                found = self.client(f"{place}Operations").wait(request=request, retry=None, timeout=_LOOK)
            except requests.Timeout:
                return None
            return found if found.status == _DONE else None

        return look

    def test_permissions(self, permissions: list[str]) -> set[str]:
        """Those that the credentials have in the project, by the Cloud Resource Manager API."""
        session = AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]
        self._connections.cover(session)
        url = f"{self._settings.resource_manager_endpoint}/v1/projects/{self.project}:testIamPermissions"

        def ask() -> set[str]:
            answer = session.post(url, json={"permissions": permissions}, timeout=self._settings.request_timeout)
            answer.raise_for_status()
            return set(answer.json().get("permissions", ()))

        with session:
            return self._paced(ask, "asking for permissions", changing=False, request_id="")

    def _paced(
        self, call: Callable[[], Answer], what: str, *, changing: bool, request_id: str, begun: bool = False
    ) -> Answer:
        """Make a call when it is its turn.

        :param begun: the change was asked for before, and this looks what became of it
        """
        self._limiter.acquire()
        if self._closed.is_set():
            if not begun:
                raise PlatformUnavailable(f"Polly stops, and {what} was not begun")
            message = f"Polly stops, and {what} is not waited for"
            raise PlatformUnavailable(message, outcome_unknown=True, request_id=request_id)
        try:
            return call()
        except SDK_ERRORS as error:
            if self._closed.is_set() and not isinstance(error, GoogleAPICallError):
                message = f"Polly stops, and {what} is not waited for"
                raise PlatformUnavailable(message, outcome_unknown=changing, request_id=request_id) from error
            translated = translate(error, what, changing=changing, request_id=request_id)
            if isinstance(translated, PlatformThrottled):
                self._limiter.throttled()
            raise translated from error

    def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)


@contextlib.contextmanager
def after_change() -> Iterator[None]:
    """What fails in the block was asked after a change: that may have happened, whatever the error says."""
    try:
        yield
    except PlatformError as error:
        error.outcome_unknown = True
        raise


def request_id(*parts: object) -> str:
    """The same for the same parts, so that the platform does once what is asked twice."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(parts)))
