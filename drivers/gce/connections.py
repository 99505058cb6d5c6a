"""The connections of one controller side, so that closing it ends the calls that wait for an answer.

Closing a session of ``requests`` leaves those connections alone on which somebody waits. Their sockets are shut down
here, and the call fails as it does when a platform goes away.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any

from google.auth.transport.requests import AuthorizedSession
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Connections:
    """All connections that the covered sessions have open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._closed = False
        self._pools = _pools_of(self)

    def cover(self, session: AuthorizedSession) -> None:
        """Hear of the connections of a session, and of those on which it gets its tokens.

        One that the user has given a certificate of its own (mutual TLS) keeps its way of making connections.
        """
        for each in (session, session._auth_request_session):
            if each is not None:
                self._cover(each)

    def close(self) -> None:
        """End all calls that wait on a connection, and open none any more; one that is being made may take its time."""
        with self._lock:
            self._closed = True
            sockets = [connection.sock for connection in self._open]
        for each in sockets:
            if each is not None:
                with contextlib.suppress(OSError):
                    # That of the socket itself: TLS has one of its own, which disturbs another thread that reads.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

    def check(self) -> None:
        """Refuse to connect once it is closed."""
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("Polly stops")

    def add(self, connection: HTTPConnection) -> None:
        """One was opened."""
        with self._lock:
            closed = self._closed
            self._open.add(connection)
        if closed:
            connection.close()
            self.check()

    def _cover(self, session: Session) -> None:
        for prefix, adapter in list(session.adapters.items()):
            if type(adapter) is HTTPAdapter:
                session.mount(prefix, _Adapter(self._pools, adapter.max_retries))


class _Adapter(HTTPAdapter):
    def __init__(self, pools: dict[str, type[HTTPConnectionPool]], retries: Any) -> None:
        self._pools = pools
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools_of(connections: Connections) -> dict[str, type[HTTPConnectionPool]]:
    """Pools whose connections are told, by scheme."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            connections.check()
            super().connect()
            connections.add(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            connections.check()
            super().connect()
            connections.add(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
