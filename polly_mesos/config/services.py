"""The section ``services``: storage platforms, each with its driver's own settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from drivers.base import Capability
from drivers.declaration import Driver, DriverSettings, load_class
from polly_mesos.config.configuration import Service, is_secret
from polly_mesos.config.document import Document, Path
from polly_mesos.config.old_settings import modern
from polly_mesos.config.quantities import Mistake
from polly_mesos.config.settings import Fencing, ServiceSettings, check_name
from polly_mesos.config.validation import settings_model, validate
from polly_mesos.errors import FieldError, PollyError, UnknownDriver
from polly_mesos.plugins import find_driver

_OF_EVERY_SERVICE = frozenset({"driver", "fencing", "tags"})


def read_services(document: Document) -> dict[str, Service | None]:
    """Every service that the file names; None for those that have mistakes."""
    return {
        name: _read_service(document, name, values)
        for name, values in named_entries(document, "services", "write at least one service with its driver").items()
    }


def named_entries(document: Document, section: str, remedy: str) -> dict[str, Any]:
    """The entries of a section that maps names to something; mistakes where it does not."""
    entries = document.values.get(section)
    if not entries:
        document.mistake((section,), "is missing" if entries is None else "is empty", remedy)
        return {}
    if not isinstance(entries, dict):
        document.mistake((section,), "is not a mapping of names to settings", remedy)
        return {}
    for name in entries:
        try:
            check_name(name)
        except Mistake as mistake:
            document.mistake_at_key((section, name), mistake.message, mistake.remedy)
    return entries


def _read_service(document: Document, name: str, values: Any) -> Service | None:
    place: Path = ("services", name)
    common = validate(ServiceSettings, {} if values is None else values, document, place)
    if common is None or not isinstance(common.driver, str):
        return None
    try:
        driver = find_driver(common.driver)
        values = modern(document, place, values, driver)
        kind = load_class(driver.settings)
        _check_names(kind)
    except PollyError as error:
        document.mistake((*place, "driver"), f"is not a driver that can be used: {error.message}", error.remedy)
        return None
    settings = _driver_settings(document, place, values, driver, kind)
    if common.fencing is Fencing.PLATFORM:
        _check_fencing(document, place, driver, settings)
    if settings is None:
        return None
    return Service(name, driver, settings, common.capacity, common.fencing, common.tags)


def _check_names(kind: type[Any]) -> None:
    if taken := _OF_EVERY_SERVICE.intersection(field.name for field in dataclasses.fields(kind)):
        raise UnknownDriver(
            f"its settings have {', '.join(sorted(taken))}, which every service has with a meaning of its own",
            remedy="this is for the driver's author: call the setting otherwise",
        )


def _check_fencing(document: Document, place: Path, driver: Driver, settings: Any) -> None:
    """Only a driver that says it can is asked whether a host is stopped; its controller side is imported to know."""
    try:
        controller = load_class(driver.controller)
    except PollyError as error:
        document.mistake((*place, "driver"), f"is not a driver that can be used: {error.message}", error.remedy)
        return
    chosen_not_to = isinstance(settings, DriverSettings) and not settings.can_fence
    if Capability.FENCE not in controller.capabilities or chosen_not_to:
        how = ", set up like this," if chosen_not_to else ""
        message = f"is not possible: driver {driver.name}{how} cannot tell whether a host is stopped"
        remedy = "write fencing: operator, and fence hosts with `polly agent fence`"
        document.mistake((*place, "fencing"), message, remedy)


def _driver_settings(document: Document, place: Path, values: dict[str, Any], driver: Driver, kind: type[Any]) -> Any:
    """The driver's own settings; its ``capacity``, where it has one, is the service's."""
    fields = dataclasses.fields(kind)
    document.secret |= {(*place, field.name) for field in fields if is_secret(field)}
    common = {*_OF_EVERY_SERVICE, "capacity"} - {field.name for field in fields}
    own = {key: value for key, value in values.items() if key not in common}
    _refuse_written_secrets(document, place, own, fields)
    model = validate(settings_model(kind), own, document, place)
    if model is None or any(_is_required(field) and (*place, field.name) in document.wrong for field in fields):
        return None
    try:
        return kind(**{field.name: getattr(model, field.name) for field in fields})
    except FieldError as error:
        document.mistake((*place, error.field) if error.field else place, error.message, error.remedy)
    except ValueError as error:
        document.mistake(_named_field(place, str(error), fields), f"is refused by driver {driver.name}: {error}")
    return None


def _refuse_written_secrets(
    document: Document, place: Path, own: dict[str, Any], fields: tuple[dataclasses.Field[Any], ...]
) -> None:
    for field in fields:
        path = (*place, field.name)
        if is_secret(field) and own.get(field.name) and path not in document.referred:
            document.mistake(path, "must not stand in the file", f"write {field.name}: ${{NAME}}")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _named_field(place: Path, message: str, fields: tuple[dataclasses.Field[Any], ...]) -> Path:
    """Where a driver's complaint belongs: at the field that it begins with, else at the service."""
    first = message.split(" ", 1)[0]
    return (*place, first) if first in {field.name for field in fields} else place
