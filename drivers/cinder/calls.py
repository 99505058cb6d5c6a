"""Single calls of Cinder and Nova: paced, never repeated by the SDK, and with answers that are looked at."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import requests
from keystoneauth1 import exceptions
from openstack import exceptions as sdk_exceptions

from drivers.cinder.failures import absent, failed, refused, request_id_of
from drivers.cinder.login import connect
from drivers.cinder.settings import CinderSettings
from drivers.cinder.versions import newest_microversion
from drivers.rate import RateLimiter
from polly_mesos.errors import PlatformThrottled, PlatformUnavailable
from polly_mesos.model import Json

VOLUMES = "3.44"
"""Microversion of the block storage: attachments are completed from 3.44, extended in use from 3.42."""

COMPUTE = "2.60"
_SUCCESS = range(200, 300)


class Calls:
    """The cloud of one service. Safe to use from several threads.

    :ivar sees_pools: false from when Cinder has refused to show the pools, as it does to all but administrators
    """

    def __init__(self, settings: CinderSettings) -> None:
        self._settings = settings
        self._rate = RateLimiter(settings.calls_per_second)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._microversion: str | None = None
        self._login = "the credentials and the trust of trust_id" if settings.trust_id else "the credentials"
        self.sees_pools = True

    def volumes(
        self, method: str, path: str, doing: str, *, json: Json | None = None, query: Mapping[str, str] | None = None
    ) -> Json:
        """Ask Cinder; the answer's object, empty where there is none.

        :raises PollyError: as :mod:`drivers.cinder.failures` has it
        """
        proxy = self._prepared(doing)
        return self._send(proxy.block_storage, method, path, doing, self._microversion, json, query or {})

    def compute(self, method: str, path: str, doing: str, *, json: Json | None = None) -> Json:
        """Ask Nova."""
        connection = self._prepared(doing)
        try:
            proxy = connection.compute
        except exceptions.ClientException as error:
            raise failed(error, doing, change=False, look_at=self._login) from error
        except sdk_exceptions.SDKException as error:
            raise PlatformUnavailable(f"{doing}: {error}", remedy="see whether the cloud's compute is there") from error
        return self._send(proxy, method, path, doing, COMPUTE, json, {})

    def microversion(self, doing: str) -> tuple[int, int]:
        """The newest of Cinder's microversions up to :data:`VOLUMES`."""
        self._prepared(doing)
        major, minor = (self._microversion or "3.0").split(".")
        return int(major), int(minor)

    def roles(self) -> list[str]:
        """The names of the roles that the login has."""
        connection = self._prepared("logging in")
        return sorted(connection.session.auth.get_access(connection.session).role_names)

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _prepared(self, doing: str) -> Any:
        """Logged in, with what the block storage can; nothing has been asked of it when this fails."""
        with self._lock:
            if self._connection is None or self._microversion is None:
                try:
                    self._connection = self._connection or connect(self._settings)
                    newest = newest_microversion(self._connection.block_storage, doing)
                except exceptions.ClientException as error:
                    raise failed(error, doing, change=False, look_at=self._login) from error
                except sdk_exceptions.ServiceDisabledException as error:
                    raise absent(error, doing) from error
                except sdk_exceptions.SDKException as error:
                    raise PlatformUnavailable(f"{doing}: {error}", remedy="see whether the cloud is there") from error
                self._microversion = VOLUMES if newest >= (3, 44) else f"{newest[0]}.{newest[1]}"
            return self._connection

    def _send(
        self,
        proxy: Any,
        method: str,
        path: str,
        doing: str,
        version: str | None,
        json: Json | None,
        query: Mapping[str, str],
    ) -> Json:
        change = method != "GET"
        self._rate.acquire()
        try:
            answer = proxy.request(
                path, method, params=dict(query), json=json, microversion=version, raise_exc=False, connect_retries=0
            )
        except exceptions.ClientException as error:
            raise failed(error, doing, change=change, look_at=self._login) from error
        except sdk_exceptions.ServiceDisabledException as error:
            raise absent(error, doing, otherwise="; where there is no Nova, write attach_by: cinder") from error
        except (sdk_exceptions.SDKException, requests.RequestException) as error:
            raise PlatformUnavailable(f"{doing}: {error}", outcome_unknown=change) from error
        if answer.status_code not in _SUCCESS:
            error_told = refused(answer, doing, change=change)
            if isinstance(error_told, PlatformThrottled):
                self._rate.throttled()
            raise error_told
        return _object(answer, doing, change=change)


def _object(answer: Any, doing: str, *, change: bool) -> Json:
    if not answer.content:
        return {}
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise PlatformUnavailable(
            f"{doing}: the answer is not what the service's format is",
            remedy="see what answers at the address that the catalogue has",
            outcome_unknown=change,
            request_id=request_id_of(answer),
        )
    return body
