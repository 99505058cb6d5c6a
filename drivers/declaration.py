"""What a driver says of itself: the object that its entry point names, and how its settings are judged.

Nothing here imports a driver's sides or a platform's SDK: all drivers are declared, and few are used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polly_mesos.errors import UnknownDriver
from polly_mesos.model import MB, Filesystem, Profile


class DriverSettings:
    """What a driver's settings type may inherit, to judge more than its own fields."""

    __slots__ = ()

    @property
    def can_fence(self) -> bool:
        """Whether the platform can tell of hosts that they are stopped, set up like this, where its driver can."""
        return True

    def zone_of(self, profile: Profile) -> str:
        """The zone where the profile's volumes are made: its own, or what the service has for profiles without one."""
        return profile.zone

    def reach_of(self, profile: Profile) -> tuple[str, ...]:
        """The zones whose hosts can have the profile's volumes; empty where all can.

        :param profile: with the zone that :meth:`zone_of` gave
        """
        return (profile.zone,) if profile.zone else ()

    def check_profile(self, profile: Profile) -> None:
        """Refuse a profile that this service cannot fulfil, before anything is asked of the platform.

        :raises FieldError: with ``field`` as polly.yml names it below the profile: ``type``, ``options.throughput``
        """


@dataclass(frozen=True, slots=True)
class Driver:
    """What the entry-point group ``polly_mesos.drivers`` points at.

    :param controller: ``module:class`` of the controller side, imported only when a service uses it
    :param host: ``module:class`` of the host side; what it imports of its own package goes to the agents with it
    :param settings: ``module:class`` of a frozen dataclass that polly.yml's service is checked against; ``driver``,
        ``fencing`` and ``tags`` are words of every service, and no field can be called so
    :param host_settings: names of the settings that hosts may know; credentials never are among them
    :param filesystems: what its volumes can hold; the first is meant where a profile names none
    :param options: ``module:class`` of a frozen dataclass that a profile's ``options`` are checked against; empty where
        its profiles have none
    :param granularity: bytes; what the platform allocates at once: Polly asks for multiples alone
    :param minimum_size: bytes of the smallest volume
    :param old_names: what else polly.yml may call the driver; a note tells the name of today
    :param old_settings: what else polly.yml may call its settings, in any case, and what they are called today
    :param dropped_settings: settings of old that mean nothing any more, and why, in one sentence
    """

    name: str
    controller: str
    host: str
    settings: str
    host_settings: tuple[str, ...] = ()
    filesystems: tuple[Filesystem, ...] = (Filesystem.EXT4, Filesystem.XFS)
    options: str = ""
    granularity: int = MB
    minimum_size: int = MB
    old_names: tuple[str, ...] = ()
    old_settings: Mapping[str, str] = field(default_factory=dict)
    dropped_settings: Mapping[str, str] = field(default_factory=dict)


def load_class(spec: str) -> type[Any]:
    """The class that ``module:class`` names, as the fields of :class:`Driver` do.

    :raises UnknownDriver: the module cannot be imported, or has no such class
    """
    module_name, separator, class_name = spec.partition(":")
    if not (module_name and separator and class_name):
        raise UnknownDriver(f"{spec!r} does not name a class", remedy="write module:class")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ImportError as error:
        raise UnknownDriver(
            f"the driver's module {module_name!r} cannot be imported: {error}",
            remedy="install the package, or the extra of polly-mesos, that has the driver and its platform's library",
        ) from error
    if not isinstance(found, type):
        raise UnknownDriver(f"module {module_name!r} has no class {class_name!r}")
    return found
