"""Services as REX-Ray and libStorage wrote them: read, with a note on how they are written today."""

from __future__ import annotations

from typing import Any

from drivers.declaration import Driver
from polly_mesos.config.document import Document, Path


def modern(document: Document, place: Path, values: dict[str, Any], driver: Driver) -> dict[str, Any]:
    """A service's values with every old name replaced by today's; what has none is left out.

    libStorage wrote a driver's settings below the driver's name, so ``ebs: {accessKey: ...}`` counts as ``access_key``.

    :param place: of the service in the document, which learns the new places
    """
    if values["driver"] != driver.name:
        message = f"is called {driver.name} today"
        document.note((*place, "driver"), message, f"write driver: {driver.name}")
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in (driver.name, *driver.old_names) and isinstance(value, dict):
            document.note((*place, key), "is a section of old", "write its keys beside driver")
            for inner, inner_value in value.items():
                _put(found, document, place, (*place, key, inner), inner_value, driver)
        else:
            _put(found, document, place, (*place, key), value, driver)
    return found


def _put(found: dict[str, Any], document: Document, place: Path, written: Path, value: Any, driver: Driver) -> None:
    key = str(written[-1])
    new = _lower(driver.old_settings).get(key.lower(), key)
    if reason := _lower(driver.dropped_settings).get(key.lower()):
        document.note(written, f"means nothing any more: {reason}", "leave it out")
        return
    if new != key:
        document.note(written, f"is called {new} today", f"write {new}: VALUE")
    if (*place, new) != written:
        if new in found:
            document.mistake_at_key(written, f"is given beside {new}, which is its name today", "keep one of the two")
            return
        document.rename(written, (*place, new))
    found[new] = value


def _lower(names: Any) -> dict[str, str]:
    return {name.lower(): new for name, new in names.items()}
