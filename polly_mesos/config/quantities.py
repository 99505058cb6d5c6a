"""Sizes and durations as people write them in polly.yml.

A size has a unit: ``KiB MiB GiB TiB PiB`` count in 1024s, ``kB MB GB TB PB`` in 1000s, ``B`` counts bytes. Note that
Mesos itself writes MB for 1,048,576 bytes; Polly's configuration does not. ``10G`` says neither and is refused.
A duration is one or more numbers with units: ``500ms``, ``30s``, ``2m``, ``1h30m``, ``1d``, ``1w``.
"""

from __future__ import annotations

import re
from decimal import Decimal

_DECIMAL = {unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb", "pb"))}
_BINARY = {unit: 1024**power for power, unit in enumerate(("b", "kib", "mib", "gib", "tib", "pib"))}
_SIZE_UNITS = _DECIMAL | _BINARY
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}

_SIZE = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhdw])\s*)+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])", re.ASCII)


class Mistake(ValueError):
    """One wrong value.

    :param remedy: what to write instead
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def parse_size(text: object) -> int:
    """Bytes in a size; zero and less are refused.

    :raises Mistake: it is not a size
    """
    match = _SIZE.fullmatch(str(text).strip()) if isinstance(text, (str, int, float)) else None
    if match is None or isinstance(text, bool):
        raise Mistake("is not a size", "write a number and a unit, as 10GiB, 512MiB or 5GB")
    number, unit = Decimal(match[1]), match[2].lower()
    if not unit:
        raise Mistake("is a size without a unit", f"write {match[1]}GiB or {match[1]}MiB")
    if len(unit) == 1 and unit in "kmgtp":
        letter = unit.upper()
        raise Mistake(
            f"does not say whether {letter} counts in 1000s or 1024s",
            f"write {match[1]}{letter}iB or {match[1]}{letter}B",
        )
    if unit not in _SIZE_UNITS:
        raise Mistake(f"has an unknown unit {match[2]!r}", "use B, KiB, MiB, GiB, TiB, PiB, kB, MB, GB, TB or PB")
    size = number * _SIZE_UNITS[unit]
    if size <= 0:
        raise Mistake("must be greater than zero", "write a size as 10GiB")
    if size != int(size):
        raise Mistake("is not a whole number of bytes", "use a smaller unit")
    return int(size)


def parse_duration(text: object) -> float:
    """Seconds in a duration; ``0s`` is allowed.

    :raises Mistake: it is not a duration
    """
    written = str(text).strip()
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise Mistake("is a duration without a unit", f"write {written}s, {written}m or {written}h")
    if not isinstance(text, str) or not _DURATION.fullmatch(written):
        raise Mistake("is not a duration", "write a number and a unit: 500ms, 30s, 2m, 1h, 1d or 1w")
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(written)))


def format_size(size: int) -> str:
    """A size as :func:`parse_size` reads it back: in the largest binary unit that it is a whole number of."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        factor = _BINARY[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
