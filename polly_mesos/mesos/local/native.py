"""Calling Mesos' C++ through ctypes: just enough of the Itanium ABI and of libstdc++'s layout.

Only what the programs in this package need, for exactly one build (see :mod:`.package`): its layouts are facts, not
guesses, and nothing else is ever loaded. Imports the standard library only, because it runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
"""``std::string`` as it stands in mangled names."""

_PAGE = 1 << 16
_kept: list[object] = []
"""Every block handed to C++: objects live as long as the process, as they would in Mesos' own main functions."""


class NativeError(Exception):
    """Mesos answered with an error; the message is Mesos' own."""


def memory(size: int = _PAGE) -> int:
    """The address of a zeroed block that is never freed."""
    block = ctypes.create_string_buffer(size)
    _kept.append(block)
    return ctypes.addressof(block)


def word(address: int) -> int:
    """The unsigned 64-bit word there, for example a pointer."""
    return ctypes.c_uint64.from_address(address).value


def offset(address: int) -> int:
    """The signed 64-bit word there, for example an offset in a virtual table."""
    return ctypes.c_int64.from_address(address).value


def put(address: int, *words: int) -> int:
    """Write 64-bit words there; returns the address."""
    for index, value in enumerate(words):
        ctypes.c_uint64.from_address(address + 8 * index).value = value
    return address


def string(text: str, at: int | None = None) -> int:
    """A ``std::string`` (pointer, length, capacity) at a given or a new address."""
    encoded = text.encode()
    # a capacity of 16 or more tells libstdc++ that the characters are not stored inside the object
    data = memory(max(len(encoded), 16) + 1)
    ctypes.memmove(data, encoded, len(encoded))
    return put(at or memory(64), data, len(encoded), max(len(encoded), 16), 0)


def option(text: str | None = None) -> int:
    """stout's ``Option<std::string>``: an int, 0 for some and 1 for none, then the value at offset 8."""
    address = memory(64)
    if text is None:
        return put(address, 1)
    put(address, 0)
    string(text, at=address + 8)
    return address


def virtual_bases(address: int) -> list[int]:
    """The offsets of the two virtual bases of an object whose class has two, from its virtual table."""
    table = word(address)
    return sorted({offset(table - 24), offset(table - 32)})


def flags_base(flags: int) -> int:
    """The ``FlagsBase`` inside a flags object that has it by way of ``logging::Flags``.

    Both are virtual bases and their order in the table is not fixed: the one is ``logging::Flags`` whose own virtual
    base lies where the other one does.
    """
    first, second = virtual_bases(flags)
    for logging_flags, base in ((first, second), (second, first)):
        if logging_flags + offset(word(flags + logging_flags) - 24) == base:
            return flags + base
    raise NativeError("the flags object does not look as it does in Mesos 1.11.0")


class Library:
    """A loaded ``libmesos.so``."""

    def __init__(self, path: str) -> None:
        """Load it.

        :raises OSError: the loader's own message, for example a library that this system lacks
        """
        # lazily, because the driver refers to functions of Python 2 which are never called
        with _silent_loader():
            self._dll = ctypes.CDLL(path, mode=os.RTLD_LAZY | os.RTLD_GLOBAL)

    def call(self, symbol: str, *arguments: int | bool | None) -> None:
        """Call a function by its mangled name; bool arguments go as bool, all others as 64-bit words."""
        self._function(symbol, arguments)(*arguments)

    def call_int(self, symbol: str, *arguments: int | bool | None) -> int:
        """As :meth:`call`, for a function that returns an int."""
        function = self._function(symbol, arguments)
        function.restype = ctypes.c_int
        return int(function(*arguments))

    def address(self, symbol: str) -> int:
        """Where an object of that mangled name lies, for example a virtual table."""
        return ctypes.addressof(ctypes.c_char.in_dll(self._dll, symbol))

    def create(self, what: str, symbol: str, *arguments: int | bool | None) -> int:
        """Call a function that returns a ``Try`` of one word, mostly a pointer, and give the word.

        :param what: what it makes, for the error
        :raises NativeError: with the message inside the Try
        """
        outcome = memory()
        self.call(symbol, outcome, *arguments)
        if ctypes.c_int32.from_address(outcome).value == 0:
            return word(outcome + 8)
        raise NativeError(f"{what}: {_error_in_try(outcome + 16)}")

    def load_flags(self, base: int, prefix: str, argv: Sequence[str], *, unknown_allowed: bool) -> None:
        """``FlagsBase::load``: take flags from the environment (by prefix) and from an argument vector.

        :raises NativeError: a flag's value is refused or a required one is missing
        """
        array = (ctypes.c_char_p * len(argv))(*(argument.encode() for argument in argv))
        _kept.append(array)
        outcome = memory()
        self.call(
            f"_ZN5flags9FlagsBase4loadERK6OptionI{STRING}EiPKPKcbb",
            *(outcome, base, option(prefix), len(argv), ctypes.addressof(array), unknown_allowed, False),
        )
        if ctypes.c_int32.from_address(outcome).value != 0:
            raise NativeError(f"flags: {_error_in_try(outcome + 32)}")

    def _function(self, symbol: str, arguments: Sequence[int | bool | None]) -> ctypes._NamedFuncPointer:
        function = self._dll[symbol]
        function.restype = None
        function.argtypes = [ctypes.c_bool if isinstance(value, bool) else ctypes.c_void_p for value in arguments]
        return function


def _error_in_try(address: int) -> str:
    """The text of the ``Option<Error>`` in the second half of a ``Try``."""
    size = word(address + 16)
    return ctypes.string_at(word(address + 8), size).decode(errors="replace")


@contextmanager
def _silent_loader() -> Iterator[None]:
    """Keep the loader's remarks on libraries without symbol versions out of logs and of every task's stderr."""
    error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(error, 2)
        os.close(error)
        os.close(nowhere)
