"""Any text in the few characters that all platforms and consoles take in tags: letters, digits and ``+-=._:/@``."""

from __future__ import annotations

import re

_TO_ESCAPE = re.compile(rb"[^A-Za-z0-9+\-._:/@]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def escape(text: str) -> str:
    """The text; whatever else is in it becomes ``=`` and two digits for each byte of UTF-8."""
    return _TO_ESCAPE.sub(lambda found: b"=%02X" % found[0][0], text.encode(errors="surrogatepass")).decode()


def unescape(text: str) -> str:
    """The text that :func:`escape` was given; what people wrote there since is read as well as it can be."""
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode(errors="surrogatepass"))
    try:
        return plain.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return plain.decode(errors="replace")
