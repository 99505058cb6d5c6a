"""What a caller sees of a response, however the network cuts it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from http_parser.http import HttpParser


@dataclass(frozen=True)
class Case:
    wire: bytes
    status: int
    body: bytes
    chunked: bool = False
    ends_at_close: bool = False


SHORT = Case(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nMesos-Stream-Id: 1-2\r\n\r\n3\r\n2\n{\r\n1\r\n}\r\n0\r\n\r\n",
    200,
    b"2\n{}",
    chunked=True,
)

CASES = {
    "chunked": SHORT,
    "chunk extensions and trailers": Case(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nA;name=value\r\n0123456789\r\n0\r\nChecksum: 7\r\n\r\n",
        200,
        b"0123456789",
        chunked=True,
    ),
    "content-length": Case(
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\nno such\r\nid", 400, b"no such\r\nid"
    ),
    "until close": Case(b"HTTP/1.0 200 OK\r\n\r\nall of it\r\n", 200, b"all of it\r\n", ends_at_close=True),
    "accepted without body": Case(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, b""),
    "no content": Case(b"HTTP/1.1 204 No Content\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n", 204, b""),
    "redirect": Case(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //10.0.0.2:5050\r\nContent-Length: 0\r\n\r\n", 307, b""
    ),
    "after continue": Case(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
}


def feed(pieces: list[bytes]) -> tuple[HttpParser, bytes]:
    """Feed the way pymesos does: every piece must be taken whole, the body is fetched whenever there is some."""
    parser, body = HttpParser(), b""
    for piece in pieces:
        assert parser.execute(piece, len(piece)) == len(piece), (piece, pieces)
        assert parser.get_errno() == 0
        if parser.is_partial_body():
            received = parser.recv_body()
            assert received
            body += received
        assert not parser.is_partial_body()
    return parser, body


def check(case: Case, pieces: list[bytes]) -> None:
    parser, body = feed(pieces)
    assert parser.is_headers_complete()
    assert parser.get_status_code() == case.status
    assert parser.is_chunked() is case.chunked
    assert body == case.body
    assert parser.is_message_complete() is not case.ends_at_close
    if case.ends_at_close:
        parser.execute(b"", 0)
        assert parser.get_errno() == 0
        assert parser.is_message_complete()


@pytest.mark.parametrize("name", CASES)
def test_a_response_cut_at_any_byte_reads_the_same(name: str) -> None:
    case = CASES[name]
    for cut in range(1, len(case.wire)):
        check(case, [case.wire[:cut], case.wire[cut:]])


@pytest.mark.parametrize("name", CASES)
def test_a_response_that_arrives_byte_by_byte_reads_the_same(name: str) -> None:
    case = CASES[name]
    check(case, [bytes([byte]) for byte in case.wire])


def test_a_short_response_cut_at_any_two_bytes_reads_the_same() -> None:
    wire = SHORT.wire
    for first, second in itertools.combinations(range(1, len(wire)), 2):
        check(SHORT, [wire[:first], wire[first:second], wire[second:]])


@pytest.mark.parametrize(
    "wire",
    [
        b"NOT HTTP AT ALL\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: seven\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_a_malformed_response_sets_an_error_wherever_it_is_cut(wire: bytes) -> None:
    for cut in range(1, len(wire)):
        parser = HttpParser()
        parser.execute(wire[:cut], cut)
        rest = wire[cut:]
        assert parser.execute(rest, len(rest)) < len(rest)
        assert parser.get_errno() != 0
        assert not parser.is_message_complete()
        assert parser.execute(b"HTTP/1.1 200 OK\r\n\r\n") == 0, "nothing is parsed after an error"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.ends_at_close])
def test_a_stream_that_ends_inside_a_response_is_an_error(name: str) -> None:
    wire = CASES[name].wire
    for cut in range(1, len(wire)):
        parser = HttpParser()
        parser.execute(wire[:cut], cut)
        parser.execute(b"", 0)
        assert not parser.is_message_complete()
        assert parser.get_errno() != 0, wire[:cut]


def test_bytes_after_the_response_are_left_to_the_caller() -> None:
    parser = HttpParser()
    wire = CASES["content-length"].wire
    assert parser.execute(wire + b"HTTP/1.1", len(wire) + 8) == len(wire)
    assert parser.is_message_complete()
    assert parser.get_errno() == 0


def test_nothing_is_known_before_the_headers_are_complete() -> None:
    parser = HttpParser()
    parser.execute(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chun")
    assert not parser.is_headers_complete()
    assert parser.get_status_code() == 0
    assert parser.get_version() == (0, 0)
    assert not parser.is_chunked()
    assert dict(parser.get_headers()) == {}


def test_headers_are_found_in_any_case_and_keep_the_case_they_came_in() -> None:
    parser = HttpParser()
    parser.execute(b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: a\r\nVary: x\r\nvary: y\r\nContent-Length: 0\r\n\r\n")
    headers = parser.get_headers()
    assert headers["MESOS-STREAM-ID"] == "a"
    assert headers["Vary"] == "x, y"
    assert list(headers) == ["Mesos-Stream-Id", "Vary", "Content-Length"]
    assert parser.get_version() == (1, 1)


def test_only_the_given_length_is_parsed() -> None:
    parser = HttpParser()
    wire = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert parser.execute(wire + b"left over from a larger buffer", len(wire)) == len(wire)
    assert parser.is_message_complete()


@pytest.mark.parametrize(("kind", "decompress"), [(0, False), (2, True)])
def test_what_the_stand_in_cannot_do_is_refused(kind: int, decompress: bool) -> None:
    with pytest.raises(NotImplementedError, match="responses only"):
        HttpParser(kind, decompress)
