"""The section ``profiles``: classes of volume, and how much of its service each may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from drivers.declaration import Driver, DriverSettings, load_class
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
    """The profiles by pool, and the capacity limits of the pools that have one."""
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
        profile = _read_profile(document, name, settings, service)
        profiles |= {placed.pool: placed for placed in _placed(document, settings, profile, service)}
    capacities: dict[str, int] = {}
    for service in services.values():
        if service is not None and not _is_unclear(document, service.name, written):
            siblings = {name: one.capacity for name, one in written.items() if one.service == service.name}
            for name, capacity in _divide(document, service, siblings).items():
                pools = [pool for pool, profile in profiles.items() if profile.name == name]
                capacities |= dict.fromkeys(pools, capacity if len(pools) == 1 else capacity // len(pools) // MB * MB)
            _check_limits(document, profiles, capacities, service)
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
    return Profile(
        name=name,
        service=settings.service,
        filesystem=filesystem,
        mount_options=settings.mount_options,
        reclaim=settings.reclaim,
        offering=settings.offer,
        minimum_size=minimum,
        maximum_size=settings.maximum_size,
        platform_type=settings.type,
        iops=settings.iops,
        encryption=settings.encryption,
        adopt=settings.adopt,
        granularity=granularity,
        options={} if service is None else _options(document, (*place, "options"), settings.options, service.driver),
        tags={**({} if service is None else service.tags), **settings.tags},
    )


def _placed(
    document: Document, settings: ProfileSettings, profile: Profile, service: Service | None
) -> Iterator[Profile]:
    """The profile in each of its zones, as its service has them."""
    place = ("profiles", profile.name)
    zones = settings.zones or (settings.zone,)
    if settings.zones and settings.zone:
        document.mistake((*place, "zone"), "is given beside zones", "write one of them")
    if len(set(zones)) < len(zones):
        document.mistake((*place, "zones"), "has a zone twice", "name each once")
    driver = DriverSettings()
    if service is not None and isinstance(service.settings, DriverSettings):
        driver = service.settings
    for index, zone in enumerate(dict.fromkeys(zones)):
        placed = replace(profile, zone=zone)
        try:
            driver.check_profile(placed)
        except FieldError as error:
            at: Path = ("zones", index) if settings.zones and error.field == "zone" else tuple(error.field.split("."))
            if error.field != "zone" or not any(path[:3] == (*place, "zones") for path in document.wrong):
                document.mistake((*place, *at), error.message, error.remedy)
        placed = replace(placed, zone=driver.zone_of(placed))
        yield replace(placed, reach=driver.reach_of(placed))


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

    A profile's own ``capacity`` counts. Profiles without one share equally what the others leave of the service's.
    """
    own = {name: size for name, size in written.items() if size is not None}
    without = [name for name, size in written.items() if size is None]
    if service.capacity is None:
        return own
    left = service.capacity - sum(own.values())
    if left < 0:
        total = format_size(service.capacity)
        message = f"is, with the other profiles of service {service.name}, more than that service's {total}"
        document.mistake(("profiles", list(own)[-1], "capacity"), message, "lower it")
        return own
    return own | {name: left // len(without) // MB * MB for name in without}


def _check_limits(
    document: Document, profiles: Mapping[str, Profile], capacities: Mapping[str, int], service: Service
) -> None:
    """Of several pools each must have a limit, or one could promise what another has; the only one needs none."""
    pools = [profile for profile in profiles.values() if profile.service == service.name]
    for profile in pools:
        if len(pools) > 1 and profile.pool not in capacities:
            several = "profiles" if len({one.name for one in pools}) > 1 else "zones"
            message = f"is missing, and service {service.name} has several {several}"
            remedy = f"write a capacity here, or services.{service.name}.capacity"
            document.mistake(("profiles", profile.name, "capacity"), message, remedy)


def _is_unclear(document: Document, service: str, written: Mapping[str, ProfileSettings]) -> bool:
    """Whether a capacity on the service is wrong, so that nothing can be said of the others."""
    places = [("services", service, "capacity")]
    places += [("profiles", name, "capacity") for name, settings in written.items() if settings.service == service]
    return not document.wrong.isdisjoint(places)


def _check_fit(document: Document, profiles: Mapping[str, Profile], capacities: Mapping[str, int]) -> None:
    for pool, capacity in capacities.items():
        name, smallest = profiles[pool].name, profiles[pool].minimum_size
        if capacity < smallest:
            message = f"leaves {format_size(capacity)} for a pool whose smallest volume is {format_size(smallest)}"
            place: Path = ("profiles", name, "capacity")
            if place not in document.lines:
                place = ("profiles", name)
            document.mistake(place, message, "raise the capacity, or lower minimum_size")
