"""The library that ``blkid`` and ``wipefs`` are made of, called directly: starting them takes longer than all the rest.

Names and values are those of its header ``blkid/blkid.h``.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator

from polly_mesos.errors import HostError

_LIBRARY = "libblkid.so.1"
_SUBLKS_UUID, _SUBLKS_TYPE, _SUBLKS_BADCSUM = 1 << 3, 1 << 5, 1 << 10
_PARTS_FORCE_GPT, _PARTS_MAGIC = 1 << 1, 1 << 3
_FOUND, _NO_MORE = 0, 1


@functools.cache
def is_installed() -> bool:
    """Whether the library is on this host."""
    try:
        _library()
    except OSError:
        return False
    return True


def signatures(descriptor: int) -> list[tuple[str, str]]:
    """Type and UUID of everything that is recognised on an open device, damaged signatures included, as wipefs does.

    :raises HostError: the device cannot be looked at
    """
    library = _library()
    probe = library.blkid_new_probe()
    if not probe:
        raise HostError("libblkid has no memory to look at a device")
    try:
        if library.blkid_probe_set_device(probe, descriptor, 0, 0) != 0:
            raise HostError("libblkid cannot read the device")
        library.blkid_probe_enable_superblocks(probe, 1)
        library.blkid_probe_set_superblocks_flags(probe, _SUBLKS_UUID | _SUBLKS_TYPE | _SUBLKS_BADCSUM)
        library.blkid_probe_enable_partitions(probe, 1)
        library.blkid_probe_set_partitions_flags(probe, _PARTS_FORCE_GPT | _PARTS_MAGIC)
        return list(_found(library, probe))
    finally:
        library.blkid_free_probe(probe)


def _found(library: ctypes.CDLL, probe: int) -> Iterator[tuple[str, str]]:
    while (outcome := library.blkid_do_probe(probe)) == _FOUND:
        kind = _value(library, probe, b"TYPE") or _value(library, probe, b"PTTYPE")
        yield kind, _value(library, probe, b"UUID") or _value(library, probe, b"PTUUID")
    if outcome != _NO_MORE:
        raise HostError("libblkid failed while it looked at the device", remedy="look at the kernel's messages")


def _value(library: ctypes.CDLL, probe: int, name: bytes) -> str:
    value = ctypes.c_char_p()
    if library.blkid_probe_lookup_value(probe, name, ctypes.byref(value), None) != 0 or value.value is None:
        return ""
    return value.value.decode(errors="replace")


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.blkid_new_probe.restype = pointer
    library.blkid_free_probe.argtypes = [pointer]
    library.blkid_probe_set_device.argtypes = [pointer, number, ctypes.c_int64, ctypes.c_int64]
    library.blkid_do_probe.argtypes = [pointer]
    for name in ("enable_superblocks", "set_superblocks_flags", "enable_partitions", "set_partitions_flags"):
        getattr(library, f"blkid_probe_{name}").argtypes = [pointer, number]
    library.blkid_probe_lookup_value.argtypes = [
        pointer,
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    return library
