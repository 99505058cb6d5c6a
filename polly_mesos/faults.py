"""Fault points: named places at which a test, or an operator who tries the recovery, makes Polly fail.

A fault point costs nothing worth measuring until it is armed, and nothing but the environment variable ``POLLY_FAULTS``
or a test arms one::

    POLLY_FAULTS='volume.create.after-call=exit;ledger.commit.before-write=delay:0.5@3*2'
    POLLY_FAULTS=@/path/of/a/file

Each fault is ``NAME=ACTION``, with ``@N`` from the N-th pass on, with ``*N`` at most N times. Faults are separated by
semicolons; in a file also by line ends. The file is read again whenever it changes, so that faults can be armed and
disarmed in running processes; replace it by renaming another. ``polly faults list`` shows the names.

=================  ====================================================================================================
action             what happens at the fault point
=================  ====================================================================================================
``raise``          an exception that nobody expects
``raise:CLASS``    an error of :mod:`polly_mesos.errors`; a PlatformError after a call has ``outcome_unknown``
``hang``           stand still until the fault is disarmed
``hang:SECONDS``   the same, for so long at most
``delay:SECONDS``  go on after so long
``exit``           end the process as SIGKILL would, with status :data:`EXIT_STATUS`
``exit:N``         the same at the N-th pass
=================  ====================================================================================================

Runs on the agents' Python: standard library only.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from polly_mesos import errors
from polly_mesos.errors import ConfigurationError
from polly_mesos.fault_catalogue import CATALOGUE

log = logging.getLogger(__name__)

VARIABLE = "POLLY_FAULTS"
"""The environment variable that arms faults."""

EXIT_STATUS = 86
"""Status of a process that a fault has ended."""

_LOOK_SECONDS = 0.05
_FAULT = re.compile(
    r"(?P<name>[^=\s]+)\s*=\s*(?P<verb>[^:@*\s]+)(?::(?P<argument>[^@*\s]+))?(?:@(?P<first>\d+))?(?:\*(?P<times>\d+))?"
)


class InjectedFault(Exception):
    """What ``raise`` raises: like a mistake in Polly, it is none of the errors that are raised on purpose."""


@dataclass(slots=True, eq=False)
class Fault:
    """An armed fault.

    :ivar passes: how often the fault point was passed since
    :ivar fired: how often it acted
    """

    name: str
    text: str
    act: Callable[[Fault], object] = field(repr=False)
    first: int = 1
    times: int | None = None
    passes: int = 0
    fired: int = 0

    def passed(self) -> bool:
        """Count one pass; whether the fault is to act now."""
        self.passes += 1
        if self.passes < self.first or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True


def fault_point(name: str) -> None:
    """A place in the code at which a fault of this name acts, if one is armed."""
    if _active:
        _faults.pass_by(name)


def check_environment(environment: Mapping[str, str] | None = None) -> tuple[Fault, ...]:
    """Arm what ``POLLY_FAULTS`` says, loudly; both halves call this when they start.

    :raises ConfigurationError: a name or an action is not known; nothing is armed
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if not text:
        return ()
    if text.startswith("@"):
        _faults.follow(text[1:])
        log.warning("FAULTS ARE ARMED: %s is followed; unset %s in production", text[1:], VARIABLE)
    else:
        _faults.arm(parse(text))
    found = _faults.from_environment()
    for fault in found:
        log.warning("FAULT ARMED: %s; unset %s in production", fault.text, VARIABLE)
    return found


@contextlib.contextmanager
def armed(name: str, action: str | Callable[[], object]) -> Iterator[Fault]:
    """Arm one fault for a test.

    :param action: in the words of ``POLLY_FAULTS``, or what is called at the fault point
    """
    if isinstance(action, str):
        (fault,) = parse(f"{name}={action}")
    else:
        call = action
        fault = Fault(_known(name), f"{name}={call!r}", lambda fault: call())
    with _faults.override(fault):
        yield fault


def parse(text: str) -> tuple[Fault, ...]:
    """The faults that a value of ``POLLY_FAULTS``, or a file's text, describes.

    :raises ConfigurationError: it cannot be understood
    """
    entries = [entry.strip() for entry in re.split(r"[;\n]", text)]
    faults = [_parse_one(entry) for entry in entries if entry and not entry.startswith("#")]
    names = [fault.name for fault in faults]
    for name in names:
        if names.count(name) > 1:
            raise _mistake(f"fault point {name!r} is armed twice", name, "arm each fault point once")
    return tuple(faults)


def _parse_one(entry: str) -> Fault:
    found = _FAULT.fullmatch(entry)
    if found is None:
        raise _mistake(f"{entry!r} is no fault", entry, "write NAME=ACTION, NAME=ACTION@N or NAME=ACTION*N")
    name, verb, argument = _known(found["name"]), found["verb"], found["argument"] or ""
    first, times = int(found["first"] or 1), int(found["times"]) if found["times"] else None
    if verb not in _ACTIONS:
        raise _mistake(f"{verb!r} is no action", entry, _nearest(verb, _ACTIONS, "action"))
    if verb == "exit" and argument:
        if not argument.isdigit() or found["first"]:
            raise _mistake(f"{entry!r}: exit takes the number of a pass", entry, "write exit, exit:N or exit@N")
        first, argument = int(argument), ""
    if first < 1 or times == 0:
        raise _mistake(f"{entry!r} would never act", entry, "count from 1")
    return Fault(name, entry, _ACTIONS[verb](entry, name, argument), first, times)


def _known(name: str) -> str:
    if name not in CATALOGUE:
        raise _mistake(f"there is no fault point {name!r}", name, _nearest(name, CATALOGUE, "fault point"))
    return name


def _nearest(word: str, known: Iterable[str], what: str) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}see every {what}: polly faults list{'' if what == 'fault point' else ' --help'}"


def _mistake(message: str, value: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{VARIABLE}: {message}", field=VARIABLE, value=value, remedy=remedy)


# What faults do -------------------------------------------------------------------------------------------------

Act = Callable[[Fault], object]


def _raise(entry: str, name: str, argument: str) -> Act:
    if not argument:
        return _raise_unexpected
    known = {
        word: value
        for word, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PollyError)
    }
    if argument not in known:
        near = difflib.get_close_matches(argument, known, n=1)
        meant = f"did you mean {near[0]}?" if near else "name a class of polly_mesos.errors"
        raise _mistake(f"there is no error {argument!r}", entry, meant)

    def act(fault: Fault) -> NoReturn:
        raise _error(known[argument], fault.name)

    return act


def _raise_unexpected(fault: Fault) -> NoReturn:
    raise InjectedFault(f"fault point {fault.name}")


def _error(kind: type[errors.PollyError], name: str) -> errors.PollyError:
    message = f"fault point {name}"
    if issubclass(kind, errors.PlatformError):
        return kind(message, outcome_unknown=name.endswith(".after-call"))
    if issubclass(kind, errors.UnsafeFormat):
        return kind(message, found="what a fault point says")
    return kind(message)


def _hang(entry: str, name: str, argument: str) -> Act:
    seconds = _seconds(entry, argument) if argument else float("inf")

    def act(fault: Fault) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and _faults.is_armed(fault):
            time.sleep(min(left, _LOOK_SECONDS))

    return act


def _delay(entry: str, name: str, argument: str) -> Act:
    seconds = _seconds(entry, argument)
    return lambda fault: time.sleep(seconds)


def _seconds(entry: str, argument: str) -> float:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise _mistake(f"{entry!r} needs a number of seconds", entry, "write for example delay:0.5")
    return seconds


def _exit(entry: str, name: str, argument: str) -> Act:
    return lambda fault: os._exit(EXIT_STATUS)


_ACTIONS: Mapping[str, Callable[[str, str, str], Act]] = {
    "raise": _raise,
    "hang": _hang,
    "delay": _delay,
    "exit": _exit,
}


# What is armed --------------------------------------------------------------------------------------------------

_Seen = tuple[int, int, int]


class _Faults:
    """The armed faults of this process: those of the environment or its file, and those of tests before them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._environment: dict[str, Fault] = {}
        self._tests: dict[str, Fault] = {}
        self._file = ""
        self._seen: _Seen | None = None

    def pass_by(self, name: str) -> None:
        with self._lock:
            self._look_at_file()
            fault = self._tests.get(name) or self._environment.get(name)
            if fault is None or not fault.passed():
                return
        log.warning("fault point %s acts, at pass %d: %s", name, fault.passes, fault.text)
        fault.act(fault)

    def from_environment(self) -> tuple[Fault, ...]:
        with self._lock:
            return tuple(self._environment.values())

    def is_armed(self, fault: Fault) -> bool:
        with self._lock:
            self._look_at_file()
            return fault in (self._tests.get(fault.name), self._environment.get(fault.name))

    def arm(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._environment = {fault.name: fault for fault in faults}
            self._file, self._seen = "", None
            self._note_whether_active()

    def follow(self, path: str) -> None:
        with self._lock:
            self._seen = _stamp(path)
            self._environment = {fault.name: fault for fault in parse(_text(path))}
            self._file = path
            self._note_whether_active()

    @contextlib.contextmanager
    def override(self, fault: Fault) -> Iterator[None]:
        with self._lock:
            before = self._tests.get(fault.name)
            self._tests[fault.name] = fault
            self._note_whether_active()
        try:
            yield
        finally:
            with self._lock:
                if before is None:
                    del self._tests[fault.name]
                else:
                    self._tests[fault.name] = before
                self._note_whether_active()

    def _note_whether_active(self) -> None:
        global _active
        _active = bool(self._tests or self._environment or self._file)

    def _look_at_file(self) -> None:
        if not self._file or (stamp := _stamp(self._file)) == self._seen:
            return
        self._seen = stamp
        try:
            found = parse(_text(self._file))
        except ConfigurationError as error:
            log.error("%s; nothing is armed until %s changes again", error, self._file)
            found = ()
        known = {fault.text: fault for fault in self._environment.values()}
        # What stands in the file as before has not begun anew: it keeps its count.
        self._environment = {fault.name: known.get(fault.text, fault) for fault in found}
        log.warning("%s armed by %s", ", ".join(fault.text for fault in found) or "no fault is", self._file)


def _stamp(path: str) -> _Seen | None:
    """What changes with the file; None where there is none, which arms nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise _mistake(f"the file {path} cannot be read: {error}", path, "make it readable, or name another") from error


_active = False
_faults = _Faults()
