"""Text in tags: what is written comes back, in letters that every platform takes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from drivers.escaping import escape, unescape


@given(st.text())
def test_any_text_comes_back_from_few_letters(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9+\-=._:/@]*", escape(text))
    assert unescape(escape(text)) == text


def test_what_people_wrote_there_is_read_as_well_as_it_can_be() -> None:
    assert unescape("plain text") == "plain text"
    assert unescape("half=C3") == "half\ufffd"
    assert unescape("a=b") == "a=b"
