"""Killing a process between any two lines of the drivers' code that leave the disk different."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import drivers

_DRIVERS = str(Path(drivers.__file__).parent)
_CRASHED, _FINISHED, _RAISED = 9, 0, 1
_MOST_STATES = 100
_SMALL = 4096

State = list[tuple[str, int, int, bytes]]


def crash_in_every_state(directory: Path, change: Callable[[], object]) -> Iterator[int]:
    """Run ``change`` in a process that dies in the first state of the directory, yield, then in the second, ...

    The last time the process lives. No handler and no ``finally`` of a dying process runs, as with SIGKILL. The caller
    puts the directory back each time.
    """
    for number in range(_MOST_STATES):
        child = os.fork()
        if child == 0:
            _die_in(number, directory, change)
        _, status = os.waitpid(child, 0)
        outcome = os.waitstatus_to_exitcode(status)
        assert outcome in (_CRASHED, _FINISHED), f"the change failed in state {number}"
        yield number
        if outcome == _FINISHED:
            assert number >= 2, "the change has too few states to have been interrupted"
            return
    raise AssertionError("the change never ends")


def _die_in(number: int, directory: Path, change: Callable[[], object]) -> None:
    states = [_state_of(directory)]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_DRIVERS):
            return None
        if event == "line":
            state = _state_of(directory)
            if state != states[-1]:
                states.append(state)
            if len(states) > number:
                os._exit(_CRASHED)
        return trace

    try:
        sys.settrace(trace)
        change()
        sys.settrace(None)
    except BaseException:
        os._exit(_RAISED)
    os._exit(_FINISHED)


def _state_of(directory: Path) -> State:
    """Names, sizes, blocks, and what is in small files."""
    state = []
    for folder, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(found.st_mode) and found.st_size < _SMALL else b""
            state.append((path, found.st_size, found.st_blocks, content))
        state.append((folder, 0, 0, b""))
    return sorted(state)
