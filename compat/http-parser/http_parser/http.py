"""A push parser for HTTP/1 responses with the method names of http-parser's ``HttpParser``, on h11."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import h11

HTTP_RESPONSE = 1
"""Parse a response. The only kind that is implemented."""

HTTP_BOTH = 2
"""The original's default, which finds out by itself; here the same as :data:`HTTP_RESPONSE`."""

ERRNO_OK = 0
ERRNO_PROTOCOL = 1
"""What arrived is not an HTTP/1 response, or the stream ended in the middle of one."""

_MAX_HEAD_BYTES = 256 * 1024


class Headers(Mapping[str, str]):
    """Headers of one message: names keep the case they arrived in and are found in any case.

    Fields that arrived several times are one, joined with commas (RFC 9110, section 5.3).
    """

    def __init__(self, items: list[tuple[bytes, bytes]]) -> None:
        self._fields: dict[str, tuple[str, str]] = {}
        for raw_name, raw_value in items:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            known = self._fields.get(name.lower())
            self._fields[name.lower()] = (known[0], f"{known[1]}, {value}") if known else (name, value)

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)


class HttpParser:
    """Parses one response, in pieces of any size.

    Interim (1xx) responses are passed over. After an error :meth:`get_errno` is not 0 and nothing more is parsed.
    There is deliberately no attribute ``errno``: callers tell the original's two implementations apart by it.

    :param kind: :data:`HTTP_RESPONSE` or :data:`HTTP_BOTH`
    :param decompress: only False is supported
    :raises NotImplementedError: requests or decompression are asked for
    """

    def __init__(self, kind: int = HTTP_BOTH, decompress: bool = False) -> None:
        if kind not in (HTTP_RESPONSE, HTTP_BOTH) or decompress:
            raise NotImplementedError("this stand-in for http-parser parses responses only, and does not decompress")
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        # h11 frames a response by the request that it answers; no caller of this API parses answers to HEAD or CONNECT.
        self._connection.send(h11.Request(method="POST", target="/", headers=[("Host", "response-only")]))
        self._connection.send(h11.EndOfMessage())
        self._response: h11.Response | None = None
        self._headers = Headers([])
        self._body: list[bytes] = []
        self._complete = False
        self._errno = ERRNO_OK

    def execute(self, data: bytes, length: int | None = None) -> int:
        """Parse what arrived; an empty ``data`` says that the stream has ended.

        :param length: parse only the first ``length`` bytes
        :return: the number of bytes parsed. Less than given: bytes after the end of the message were left, or, where
            :meth:`get_errno` is not 0, parsing failed
        """
        if length is not None:
            data = data[:length]
        if self._errno != ERRNO_OK or self._complete:
            return 0
        try:
            self._connection.receive_data(data)
            self._take_events()
        except h11.RemoteProtocolError:
            self._errno = ERRNO_PROTOCOL
            return 0
        return len(data) - len(self._connection.trailing_data[0]) if self._complete else len(data)

    def _take_events(self) -> None:
        while not self._complete:
            event = self._connection.next_event()
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Response):
                self._response = event
                self._headers = Headers(event.headers.raw_items())
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._complete = True

    def get_errno(self) -> int:
        """0, or the code of the error that stopped the parser."""
        return self._errno

    def get_version(self) -> tuple[int, int]:
        """HTTP version of the response; (0, 0) before it is known."""
        if self._response is None:
            return (0, 0)
        major, _, minor = self._response.http_version.partition(b".")
        return (int(major), int(minor))

    def get_status_code(self) -> int:
        """Status of the response; 0 before it is known."""
        return 0 if self._response is None else self._response.status_code

    def get_headers(self) -> Headers:
        """Headers of the response; empty before they are complete."""
        return self._headers

    def is_headers_complete(self) -> bool:
        """Whether status and headers are known."""
        return self._response is not None

    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self._headers.get("transfer-encoding", "").lower()

    def is_partial_body(self) -> bool:
        """Whether :meth:`recv_body` has something to give."""
        return bool(self._body)

    def recv_body(self) -> bytes:
        """The part of the body that arrived since the last call, without the framing of chunks."""
        body, self._body = b"".join(self._body), []
        return body

    def is_message_complete(self) -> bool:
        """Whether the whole response has arrived."""
        return self._complete
