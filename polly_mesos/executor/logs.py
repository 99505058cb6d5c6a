"""The executor half's log: one line per event on standard error, which Mesos keeps in the executor's sandbox."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO


class OneLine(logging.Formatter):
    """``TIME LEVEL LOGGER MESSAGE`` in UTC; line ends inside, those of tracebacks too, become `` | ``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """The event's time in UTC, so that logs of several hosts can be laid side by side."""
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(line.strip() for line in super().format(record).splitlines() if line.strip())


def log_to(stream: TextIO | None = None, *, verbose: bool = False) -> None:
    """Send every logger's events to ``stream`` (standard error) from now on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO, force=True)
    # These tell of every request, and at DEBUG of its headers, where the token is.
    for chatty in ("httpx", "httpcore", "kazoo"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
