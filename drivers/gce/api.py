"""Calls of the Compute Engine API: our endpoint, our pace, our deadlines, no retries of the SDK's.

The operations that the SDK gives back poll through a hidden client of their own, which knows no endpoint but Google's.
So the plain methods (``insert_unary``) are used, and operations are waited for here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from google.api_core.client_options import ClientOptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud import compute_v1

from drivers.gce import credentials
from drivers.gce.errors import SDK_ERRORS, of_operation, translate
from drivers.gce.settings import GceSettings
from drivers.rate import RateLimiter
from drivers.waiting import Waiter
from polly_mesos.errors import ConfigurationError, PlatformThrottled

_LOOK = 5.0
"""Seconds for which one request waits for an operation, so that closing does not take longer."""

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
        self._limiter = RateLimiter(settings.requests_per_second, max(20, int(settings.requests_per_second)))
        self.waiter = Waiter()
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def client(self, name: str) -> Any:
        """The SDK's client for ``Disks``, ``RegionDisks`` and so on."""
        with self._lock:
            if name not in self._clients:
                options = ClientOptions(api_endpoint=self._settings.endpoint or None)
                kind = getattr(compute_v1, f"{name}Client")
                self._clients[name] = kind(credentials=self.credentials, client_options=options)
            return self._clients[name]

    def close(self) -> None:
        """End all waits."""
        self.waiter.close()

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

        :raises PollyError: it failed, or is not done in time
        """
        done = compute_v1.Operation.Status.DONE
        if operation.status != done:
            place, name = ("Zone", operation.zone) if operation.zone else ("Region", operation.region)
            where = {place.lower(): name.rpartition("/")[2]} if name else {}
            place = place if name else "Global"
            request = getattr(compute_v1, f"Wait{place}OperationRequest")(
                project=self.project, operation=operation.name, **where
            )

            def look() -> Any:
                try:
                    found = self.client(f"{place}Operations").wait(request=request, retry=None, timeout=_LOOK)
                except requests.Timeout:
                    return None
                return found if found.status == done else None

            deadline = self._settings.operation_timeout
            operation = self._paced(
                lambda: self.waiter.until(look, deadline, f"{what} (operation {operation.name})"),
                what,
                changing=True,
                request_id=operation.name,
            )
        if error := of_operation(operation, what):
            raise error
        return operation

    def test_permissions(self, permissions: list[str]) -> set[str]:
        """Those that the credentials have in the project, by the Cloud Resource Manager API."""
        session = AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]
        url = f"{self._settings.resource_manager_endpoint}/v1/projects/{self.project}:testIamPermissions"

        def ask() -> set[str]:
            answer = session.post(url, json={"permissions": permissions}, timeout=self._settings.request_timeout)
            answer.raise_for_status()
            return set(answer.json().get("permissions", ()))

        with session:
            return self._paced(ask, "asking for permissions", changing=False, request_id="")

    def _paced(self, call: Callable[[], Answer], what: str, *, changing: bool, request_id: str) -> Answer:
        self._limiter.acquire()
        try:
            return call()
        except SDK_ERRORS as error:
            translated = translate(error, what, changing=changing, request_id=request_id)
            if isinstance(translated, PlatformThrottled):
                self._limiter.throttled()
            raise translated from error


def request_id(*parts: object) -> str:
    """The same for the same parts, so that the platform does once what is asked twice."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(parts)))
