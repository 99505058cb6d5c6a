"""The installed storage drivers, found by the entry-point group ``polly_mesos.drivers``."""

from __future__ import annotations

import difflib
import functools
import logging
from importlib.metadata import EntryPoint, entry_points

from drivers.declaration import Driver
from polly_mesos.errors import UnknownDriver

log = logging.getLogger(__name__)

GROUP = "polly_mesos.drivers"
"""The entry-point group; an entry has the driver's name, and points at a :class:`~drivers.declaration.Driver`."""


def installed_drivers() -> dict[str, Driver]:
    """The drivers that can be used, by name. One that cannot be imported is logged and left out."""
    drivers = {}
    for name, entry in _entries().items():
        try:
            drivers[name] = _load(entry)
        except UnknownDriver as error:
            log.warning("%s", error)
    return drivers


def find_driver(name: str) -> Driver:
    """The driver of that name, or the one that was called so before.

    :raises UnknownDriver: none is installed under it, or it cannot be imported
    """
    entries = _entries()
    if name in entries:
        return _load(entries[name])
    for driver in installed_drivers().values():
        if name in driver.old_names:
            return driver
    close = difflib.get_close_matches(name, entries, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UnknownDriver(
        f"no driver {name!r} is installed", remedy=f"{hint}installed are: {', '.join(sorted(entries)) or 'none'}"
    )


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@functools.cache
def _load(entry: EntryPoint) -> Driver:
    try:
        driver = entry.load()
    except Exception as error:
        # A third party's module may fail with anything; that is its driver's fault, not a reason to stop.
        raise UnknownDriver(
            f"driver {entry.name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}",
            remedy="install what it needs, or remove the package that brings it",
        ) from error
    if not isinstance(driver, Driver):
        raise UnknownDriver(
            f"driver {entry.name!r} ({entry.value}) is not a drivers.declaration.Driver",
            remedy="its package is to be corrected",
        )
    return driver
