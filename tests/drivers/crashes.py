"""Killing a process between any two lines of the drivers' code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import drivers

_DRIVERS = str(Path(drivers.__file__).parent)
_CRASHED, _FINISHED, _RAISED = 9, 0, 1
_MOST_LINES = 5000


def crash_at_every_line(change: Callable[[], object]) -> Iterator[int]:
    """Run ``change`` in a process that dies at its first line, yield, then at its second, ... until it lives.

    No handler and no ``finally`` of the dying process runs, as with SIGKILL. The caller restores the state each time.
    """
    for line in range(_MOST_LINES):
        child = os.fork()
        if child == 0:
            _die_at(line, change)
        _, status = os.waitpid(child, 0)
        outcome = os.waitstatus_to_exitcode(status)
        assert outcome != _RAISED, f"the change failed before line {line}"
        yield line
        if outcome == _FINISHED:
            assert line > 20, "the change was never interrupted"
            return
    raise AssertionError("the change never ends")


def _die_at(line: int, change: Callable[[], object]) -> None:
    passed = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(_DRIVERS):
            return None
        if event == "line":
            if passed == line:
                os._exit(_CRASHED)
            passed += 1
        return trace

    try:
        sys.settrace(trace)
        change()
        sys.settrace(None)
    except BaseException:
        os._exit(_RAISED)
    os._exit(_FINISHED)
