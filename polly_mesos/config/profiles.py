"""The section ``profiles``: classes of volume, and how much of its service each may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import Driver, DriverSettings, load_class
from polly_mesos.config.configuration import Service
from polly_mesos.config.document import Document, Path
from polly_mesos.config.quantities import format_size
from polly_mesos.config.services import named_entries
from polly_mesos.config.settings import ProfileSettings
from polly_mesos.config.validation import settings_model, suggestion, validate
from polly_mesos.errors import FieldError, PollyError
from polly_mesos.model import MB, Filesystem, Profile

_SMALLEST = {Filesystem.XFS: 300 * MB}
"""What mkfs refuses to go below."""


def read_profiles(
    document: Document, services: Mapping[str, Service | None]
) -> tuple[dict[str, Profile], dict[str, int]]:
    """The profiles without mistakes, and the capacity limits of those that have one."""
    written: dict[str, ProfileSettings] = {}
    entries = named_entries(document, "profiles", "write at least one profile with its service")
    for name, values in entries.items():
        settings = validate(ProfileSettings, {} if values is None else values, document, ("profiles", name))
        if settings is not None:
            written[name] = settings
    profiles: dict[str, Profile] = {}
    for name, settings in written.items():
        service = services.get(settings.service)
        if settings.service not in services:
            place = ("profiles", name, "service")
            document.mistake(place, "is not one of the services", suggestion(str(settings.service), services))
        profiles[name] = _read_profile(document, name, settings, service)
    capacities: dict[str, int] = {}
    for service in services.values():
        if service is not None and not _is_unclear(document, service.name, written):
            siblings = {name: written[name].capacity for name in profiles if written[name].service == service.name}
            capacities |= _divide(document, service, siblings)
    _check_fit(document, profiles, capacities)
    return profiles, capacities


def _read_profile(document: Document, name: str, settings: ProfileSettings, service: Service | None) -> Profile:
    place = ("profiles", name)
    possible = tuple(Filesystem) if service is None else service.driver.filesystems
    filesystem = settings.filesystem or possible[0]
    if filesystem not in possible and service is not None:
        remedy = f"use {' or '.join(possible)}" if possible != (Filesystem.NONE,) else "leave filesystem out"
        message = f"is not what volumes of service {service.name} (driver {service.driver.name}) can have"
        document.mistake((*place, "filesystem"), message, remedy)
    if settings.mount_options and filesystem is Filesystem.NONE:
        message = "are given, and this service's volumes are directories, which nothing mounts"
        document.mistake((*place, "mount_options"), message, "leave them out")
    platform_smallest = MB if service is None else service.driver.minimum_size
    granularity = MB if service is None else service.driver.granularity
    needed = max(_SMALLEST.get(filesystem, MB), platform_smallest)
    smallest = -(-needed // granularity) * granularity
    minimum = smallest if settings.minimum_size is None else settings.minimum_size
    if minimum < smallest:
        for_what = "a volume" if needed == platform_smallest else filesystem
        document.mistake(
            (*place, "minimum_size"), f"is too small for {for_what}", f"write {format_size(smallest)} or more"
        )
    elif settings.maximum_size is not None and settings.maximum_size < minimum:
        message = f"is less than the smallest volume, {format_size(minimum)}"
        document.mistake((*place, "maximum_size"), message, "raise it, or lower minimum_size")
    profile = Profile(
        name=name,
        service=settings.service,
        filesystem=filesystem,
        mount_options=settings.mount_options,
        reclaim=settings.reclaim,
        offering=settings.offer,
        minimum_size=minimum,
        maximum_size=settings.maximum_size,
        zone=settings.zone,
        platform_type=settings.type,
        iops=settings.iops,
        encryption=settings.encryption,
        adopt=settings.adopt,
        granularity=granularity,
        options={} if service is None else _options(document, (*place, "options"), settings.options, service.driver),
        tags={**({} if service is None else service.tags), **settings.tags},
    )
    if service is not None and isinstance(service.settings, DriverSettings):
        try:
            service.settings.check_profile(profile)
        except FieldError as error:
            document.mistake((*place, *error.field.split(".")), error.message, error.remedy)
    return profile


def _options(document: Document, place: Path, written: Mapping[str, Any], driver: Driver) -> Mapping[str, Any]:
    """What a profile says in its platform's own words, checked against the driver's."""
    if not driver.options:
        if written:
            document.mistake(place, f"are given, and driver {driver.name} has none", "leave them out")
        return {}
    try:
        model = validate(settings_model(load_class(driver.options)), dict(written), document, place)
    except PollyError as error:
        document.mistake(place, f"cannot be read: {error.message}", error.remedy)
        return {}
    return {} if model is None else {key: getattr(model, key) for key in written if hasattr(model, key)}


def _divide(document: Document, service: Service, written: Mapping[str, int | None]) -> dict[str, int]:
    """The capacity of every profile on one service.

    A profile's own ``capacity`` counts. Profiles without one share equally what the others leave of the service's. The
    only profile of a service needs none; of several each must have a limit, or one pool could promise what another has.
    """
    own = {name: size for name, size in written.items() if size is not None}
    without = [name for name, size in written.items() if size is None]
    if service.capacity is None:
        if len(written) > 1:
            for name in without:
                message = f"is missing, and service {service.name} has several profiles"
                remedy = f"write a capacity here, or services.{service.name}.capacity"
                document.mistake(("profiles", name, "capacity"), message, remedy)
        return own
    left = service.capacity - sum(own.values())
    if left < 0:
        total = format_size(service.capacity)
        message = f"is, with the other profiles of service {service.name}, more than that service's {total}"
        document.mistake(("profiles", list(own)[-1], "capacity"), message, "lower it")
        return own
    return own | {name: left // len(without) // MB * MB for name in without}


def _is_unclear(document: Document, service: str, written: Mapping[str, ProfileSettings]) -> bool:
    """Whether a capacity on the service is wrong, so that nothing can be said of the others."""
    places = [("services", service, "capacity")]
    places += [("profiles", name, "capacity") for name, settings in written.items() if settings.service == service]
    return not document.wrong.isdisjoint(places)


def _check_fit(document: Document, profiles: Mapping[str, Profile], capacities: Mapping[str, int]) -> None:
    for name, capacity in capacities.items():
        smallest = profiles[name].minimum_size
        if capacity < smallest:
            message = f"leaves {format_size(capacity)} for a pool whose smallest volume is {format_size(smallest)}"
            place: Path = ("profiles", name, "capacity")
            if place not in document.lines:
                place = ("profiles", name)
            document.mistake(place, message, "raise the capacity, or lower minimum_size")
