"""Records come whole, however the network cuts the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polly_mesos.mesos.recordio import MalformedStream, RecordDecoder, encode_record

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=3), max_size=6)


@given(RECORDS, st.data())
def test_any_cut_gives_the_same_records(records, data):
    stream = b"".join(encode_record(record) for record in records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = RecordDecoder()
    seen = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += decoder.feed(stream[start:end])
    assert seen == records


def test_byte_by_byte():
    stream = encode_record({"type": "A", "text": "ä\n12\n"}) + encode_record({})
    decoder = RecordDecoder()
    assert [record for byte in stream for record in decoder.feed(bytes([byte]))] == [
        {"type": "A", "text": "ä\n12\n"},
        {},
    ]


@pytest.mark.parametrize("stream", [b"x\n{}", b"\n{}", b"-2\n{}", b" 2\n{}", b"1" * 40, b"<html>"])
def test_a_malformed_length_is_refused_and_shown(stream):
    with pytest.raises(MalformedStream, match="where its length should stand"):
        RecordDecoder().feed(stream)


def test_a_record_beyond_the_limit_is_refused_before_it_is_read():
    with pytest.raises(MalformedStream, match="a record of 11 bytes is announced, more than the 10 accepted"):
        RecordDecoder(maximum=10).feed(b"11\n")


@pytest.mark.parametrize(
    ("body", "message"), [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"\xff\xff", "not JSON")]
)
def test_a_record_that_is_no_json_object_is_refused(body, message):
    with pytest.raises(MalformedStream, match=message):
        RecordDecoder().feed(b"%d\n%b" % (len(body), body))
