"""One scheduler per ledger: an advisory lock beside the file, which names its holder and goes with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from polly_mesos.errors import LedgerLocked


class LedgerLock:
    """Held from construction to :meth:`release`; the kernel releases it when the process dies.

    :raises LedgerLocked: another scheduler, which is named, holds it
    """

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(ledger.name + ".lock")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
            os.close(self._file)
            raise LedgerLocked(
                f"the ledger {ledger} is in use by {holder}",
                remedy="stop that scheduler first, or give this one another ledger; looking is always possible:"
                f" polly ledger show --ledger {ledger}",
            ) from None
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(note).encode(), 0)

    def release(self) -> None:
        """Let the next scheduler have the ledger. The file stays: removing it would let two hold it at once."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _holder(self) -> str:
        try:
            note = json.loads(os.pread(self._file, 4096, 0))
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(note["since"]))
            return f"the scheduler with process id {note['pid']} on host {note['host']}, since {since}"
        except (ValueError, KeyError, TypeError, OverflowError):
            return "another scheduler"
