"""The HTTP that all our Mesos clients share: JSON calls with time-outs, and streams that another thread can end.

Proxies from the environment are not used: masters and agents are reached directly, as they reach each other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType

import httpx

from polly_mesos.errors import MesosError
from polly_mesos.mesos.recordio import RecordDecoder
from polly_mesos.model import Json

REQUEST_TIMEOUT = 15.0
"""Seconds that a call may take to connect, to be sent and to begin its answer, each."""

_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]


class MesosRefused(MesosError):
    """A master or an agent answered a call with an HTTP error.

    :param status: the HTTP status
    """

    code = "mesos-refused"

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class Redirected(MesosError):
    """A master that does not lead names the one that does.

    :param base: the leader's URL
    """

    code = "mesos-redirected"

    def __init__(self, message: str, *, base: str) -> None:
        super().__init__(message)
        self.base = base


def base_url(endpoint: str) -> str:
    """``host:port`` or a URL as a URL without a slash at its end."""
    return (endpoint if "://" in endpoint else f"http://{endpoint}").rstrip("/")


def client(
    *,
    token: str | None = None,
    principal: str | None = None,
    secret: str | None = None,
    timeout: float = REQUEST_TIMEOUT,
) -> httpx.Client:
    """An HTTP client for Mesos.

    Its connections are probed by TCP, so that a stream on which nothing is sent ends when the other host is gone.

    :param token: sent as ``Authorization: Bearer``
    :param principal: with ``secret``, sent as HTTP basic authentication
    """
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    auth = httpx.BasicAuth(principal, secret or "") if principal is not None else None
    return httpx.Client(
        headers=headers,
        auth=auth,
        timeout=timeout,
        # The system's certificates, as those that httpx brings would be unpacked anew from the executor's artifact.
        transport=httpx.HTTPTransport(verify=ssl.create_default_context(), socket_options=_KEEPALIVE),
        trust_env=False,
    )


def check_answer(response: httpx.Response, what: str, unreachable: type[MesosError]) -> None:
    """Raise where a call was not accepted.

    :raises MesosRefused: the call is refused, and will be again
    :raises Redirected: another server is to be asked
    :raises unreachable: the server cannot answer now (5xx)
    """
    if response.status_code < 300:
        return
    if response.status_code == 307 and "Location" in response.headers:
        target = response.url.join(response.headers["Location"])
        raise Redirected(f"{what}: ask {target.host}", base=f"{target.scheme}://{target.netloc.decode()}")
    text = response.text.strip()
    message = f"{what}: HTTP {response.status_code}" + (f": {text}" if text else "")
    if response.status_code >= 500:
        raise unreachable(message)
    remedy = "give a principal and secret, or a token" if response.status_code in (401, 403) else ""
    raise MesosRefused(message, status=response.status_code, remedy=remedy)


class EventStream:
    """An open streaming answer: iterate for its events. Iteration ends where the server ends the stream.

    Only one thread may iterate and leave the ``with`` block; any thread may :meth:`close`.

    :raises MesosRefused: the server refuses the call
    :raises Redirected: another server is to be asked
    :raises unreachable: the server is not reached, or the stream breaks off (while iterating)
    :raises MalformedStream: the server does not speak RecordIO (while iterating)
    """

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        call: Json,
        *,
        unreachable: type[MesosError],
        read_timeout: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._url = url
        self._unreachable = unreachable
        timeout = httpx.Timeout(REQUEST_TIMEOUT, read=read_timeout)
        request = http.build_request("POST", url, json=call, headers=headers, timeout=timeout)
        try:
            self._response = http.send(request, stream=True)
            if self._response.status_code != 200:
                self._response.read()
        except httpx.HTTPError as error:
            raise unreachable(f"{url}: {error or type(error).__name__}") from error
        try:
            check_answer(self._response, url, unreachable)
        except MesosError:
            self._response.close()
            raise

    @property
    def response(self) -> httpx.Response:
        """The answer's status and headers."""
        return self._response

    def __iter__(self) -> Iterator[Json]:
        decoder = RecordDecoder()
        try:
            for piece in self._response.iter_bytes():
                yield from decoder.feed(piece)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._unreachable(f"{self._url}: the stream broke off: {error or type(error).__name__}") from error

    def close(self) -> None:
        """End the stream now; a thread that waits for its next event sees it end."""
        connection = self._response.extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._response.close()
