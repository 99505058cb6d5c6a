"""Mesos' RecordIO: how its streaming APIs frame their events.

Each record is its length in decimal digits, a newline, and that many bytes (3rdparty/stout/include/stout/recordio.hpp);
here each record is a JSON object.
"""

from __future__ import annotations

import json

from polly_mesos.errors import MesosError
from polly_mesos.model import Json

MAXIMUM_RECORD = 256 * 1024 * 1024
"""Bytes in the largest record that is accepted. A master's whole state comes as one record."""

_MAXIMUM_DIGITS = 20


class MalformedStream(MesosError):
    """What the server sent is not RecordIO with JSON objects; the stream cannot be read on."""

    code = "malformed-stream"


class RecordDecoder:
    """Takes a stream in pieces of any size and gives its records.

    After an error the decoder is of no more use, as the place of the next record is unknown.

    :param maximum: bytes in the largest record that is accepted
    """

    def __init__(self, maximum: int = MAXIMUM_RECORD) -> None:
        self._maximum = maximum
        self._buffer = bytearray()
        self._length: int | None = None

    def feed(self, data: bytes) -> list[Json]:
        """The records that are complete with these bytes, oldest first.

        :raises MalformedStream: a length is not a number or beyond the maximum, or a record is not a JSON object
        """
        self._buffer += data
        records: list[Json] = []
        start = 0
        while True:
            if self._length is None:
                newline = self._buffer.find(b"\n", start, start + _MAXIMUM_DIGITS + 1)
                if newline < 0:
                    self._check_beginning(bytes(self._buffer[start : start + _MAXIMUM_DIGITS + 1]))
                    break
                self._length = self._parse_length(bytes(self._buffer[start:newline]))
                start = newline + 1
            if len(self._buffer) - start < self._length:
                break
            records.append(_parse_record(bytes(self._buffer[start : start + self._length])))
            start += self._length
            self._length = None
        del self._buffer[:start]
        return records

    def _check_beginning(self, digits: bytes) -> None:
        """Fail on what cannot become a length, rather than wait for the rest of it."""
        if digits:
            self._parse_length(digits)

    def _parse_length(self, digits: bytes) -> int:
        if not digits.isdigit() or len(digits) > _MAXIMUM_DIGITS:
            raise MalformedStream(f"a record begins with {digits[:40]!r} where its length should stand")
        length = int(digits)
        if length > self._maximum:
            raise MalformedStream(f"a record of {length} bytes is announced, more than the {self._maximum} accepted")
        return length


def encode_record(record: Json) -> bytes:
    """The record as RecordIO."""
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%d\n%b" % (len(body), body)


def _parse_record(body: bytes) -> Json:
    try:
        record = json.loads(body)
    except ValueError as error:
        raise MalformedStream(f"a record is not JSON: {error}; it begins with {body[:80]!r}") from error
    if not isinstance(record, dict):
        raise MalformedStream(f"a record is not a JSON object; it begins with {body[:80]!r}")
    return record
