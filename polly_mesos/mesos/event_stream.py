"""One call of Mesos' HTTP API: either a SUBSCRIBE with the stream of events that answers it, or a single request.

A stream is a 200 with a body in RecordIO that does not end (Mesos' docs/scheduler-http-api.md). Nothing here retries,
or knows which half of Mesos is spoken to.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from urllib.parse import urlsplit

from polly_mesos.mesos.recordio import RecordDecoder
from polly_mesos.model import Json

_PIECE = 64 * 1024
_LONGEST_ERROR_TEXT = 64 * 1024


class StreamBroken(Exception):
    """There is no stream (any more): the connection was refused or lost, the peer is not ready or fell silent."""


class SubscriptionRefused(Exception):
    """The peer understood the SUBSCRIBE and said no, in the words of the message."""


class Redirected(Exception):
    """The peer does not lead; ``address`` (host:port) does."""

    def __init__(self, address: str) -> None:
        super().__init__(f"redirected to {address}")
        self.address = address


@dataclass(frozen=True, slots=True)
class Reply:
    """What a single call was answered."""

    status: int
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the peer took the call (Mesos answers 202)."""
        return 200 <= self.status < 300


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``.

    :raises ValueError: it is none of these
    """
    parts = urlsplit(f"//{address}")
    if (
        not parts.hostname
        or parts.netloc != address
        or any(map(str.isspace, address))
        or parts.username is not None
        or parts.password is not None
    ):
        raise ValueError(f"{address!r} is not host:port")
    return parts.hostname, parts.port or default_port


def join_address(host: str, port: int) -> str:
    """The text form of a host and port, with brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def post(address: str, path: str, headers: Mapping[str, str], call: Json, timeout: float) -> Reply:
    """Make one call on a connection of its own, so that it can neither inherit nor leave a broken one.

    :param timeout: seconds to wait for each step: the connection, and every piece of the answer
    :raises StreamBroken: no answer; the peer may or may not have seen the call
    """
    connection = HTTPConnection(*split_address(address, 0), timeout=timeout)
    try:
        _request(connection, path, headers, call)
        response = connection.getresponse()
        return Reply(response.status, response.read(_LONGEST_ERROR_TEXT).decode("utf-8", "replace"))
    except (OSError, HTTPException) as error:
        raise StreamBroken(_words(error)) from error
    finally:
        connection.close()


class EventStream:
    """A subscription: :meth:`open` it, iterate over :meth:`events`, :meth:`close` it.

    All methods but :meth:`interrupt` belong to one thread.

    :param address: host:port of the master or agent
    :param timeout: seconds to wait for the connection, for the answer to SUBSCRIBE and, until :meth:`expect_within` is
        called, for each event
    """

    def __init__(self, address: str, path: str, headers: Mapping[str, str], timeout: float) -> None:
        self._connection = HTTPConnection(*split_address(address, 0), timeout=timeout)
        self._path = path
        self._headers = headers
        self._patience: float | None = timeout
        self._socket: socket.socket | None = None
        self._response: HTTPResponse | None = None
        self._interrupted = False

    def open(self, call: Json) -> str:
        """Send the SUBSCRIBE call.

        :return: the stream id that all other calls must carry; empty where the peer gives none, as agents do
        :raises Redirected: another master leads
        :raises SubscriptionRefused: the answer is neither 200 nor a sign that trying again helps
        :raises StreamBroken: no answer, or the peer is not ready (503, or 404)
        """
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            if self._interrupted:
                raise StreamBroken("interrupted")
            # A peer that vanished without a word is found even where it sends no heartbeats.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _request(self._connection, self._path, self._headers, call)
            response = self._response = self._connection.getresponse()
            if response.status != 200:
                _raise_for(response)
        except (OSError, HTTPException) as error:
            raise StreamBroken(_words(error)) from error
        return response.getheader("Mesos-Stream-Id", "") or ""

    def expect_within(self, seconds: float | None) -> None:
        """Give up the stream when nothing arrives for this long; None: wait for ever."""
        self._patience = seconds
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def events(self) -> Iterator[Json]:
        """The events, as they come; ends when the peer ends the stream.

        :raises StreamBroken: the connection was lost, or nothing came for too long
        :raises MalformedStream: what came is not RecordIO
        """
        assert self._response is not None, "events() before open()"
        decoder = RecordDecoder()
        while True:
            try:
                data = self._response.read1(_PIECE)
            except TimeoutError as error:
                raise StreamBroken(f"nothing came for {self._patience} s") from error
            except (OSError, HTTPException) as error:
                raise StreamBroken(_words(error)) from error
            if not data:
                return
            yield from decoder.feed(data)

    def interrupt(self) -> None:
        """End the stream from another thread: whoever waits for an event sees its end at once."""
        self._interrupted = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It was closed meanwhile, which is what is wanted.

    def close(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.close()
        self._connection.close()


def _request(connection: HTTPConnection, path: str, headers: Mapping[str, str], call: Json) -> None:
    connection.request(
        "POST",
        path,
        body=json.dumps(call).encode(),
        headers={
            **headers,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Connection": "close",
        },
    )


def _raise_for(response: HTTPResponse) -> None:
    location = response.getheader("Location")
    if response.status in (307, 308) and location:
        raise Redirected(urlsplit(location).netloc or location)
    text = response.read(_LONGEST_ERROR_TEXT).decode("utf-8", "replace").strip()
    answer = f"HTTP {response.status} {response.reason}" + (f": {text}" if text else "")
    # a master or agent that is starting listens before its API is there, and answers 404 until then
    if response.status in (404, 503):
        raise StreamBroken(answer)
    raise SubscriptionRefused(answer)


def _words(error: Exception) -> str:
    if isinstance(error, IncompleteRead):
        return "the connection was lost"
    return str(error) or type(error).__name__
