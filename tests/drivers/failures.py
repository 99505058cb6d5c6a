"""System calls that fail, each in turn: a full disk, and a broken one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NEED_SPACE = ("open", "mkdir", "symlink", "fsync", "ftruncate", "copy_file_range")
"""What may find the disk full: making a name, and making sure that what was written is on the disk."""

_MAY_FAIL = (*_NEED_SPACE, "rename", "unlink", "rmdir")
_MOST_CALLS = 100


class FailingDisk:
    """While armed, calls of this process that change the disk fail from, or at, one of them on.

    :param number: counted from 0
    :param error: ENOSPC fails for all later calls that need space too; another error fails once
    """

    def __init__(self, number: int, error: int) -> None:
        self._left = number
        self._error = error
        self.failed = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        """For the length of a block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _NEED_SPACE if self._error == errno.ENOSPC else _MAY_FAIL:
                patch.setattr(os, name, self._failing(name, getattr(os, name)))
            yield

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            harmless = name == "open" and not arguments[1] & os.O_CREAT
            if not harmless and not str(arguments[0]).endswith("/lock"):
                self._left -= 1
                if self._left == -1 or (self._left < 0 and self._error == errno.ENOSPC):
                    self.failed = True
                    raise OSError(self._error, os.strerror(self._error), str(arguments[0]))
            return call(*arguments, **named)

        return instead


def fail_at_every_call(error: int, change: Callable[[], object], refused: type[Exception]) -> Iterator[int]:
    """Run ``change`` on a disk that fails at its first call, yield, then at its second, ..., until none fails.

    :param refused: what the change must raise; with a single failure it may also succeed, where the call was needless
    """
    for number in range(_MOST_CALLS):
        disk = FailingDisk(number, error)
        with disk.armed():
            try:
                change()
            except refused:
                assert disk.failed, "it was refused although nothing failed"
        if not disk.failed:
            assert number >= 2, "the change has too few calls to have failed"
            return
        yield number
    raise AssertionError("the change never ends")
