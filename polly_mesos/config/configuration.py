"""A whole polly.yml, validated."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from drivers.declaration import Driver
from polly_mesos.config.settings import (
    AgentSettings,
    CheckSettings,
    Fencing,
    HttpSettings,
    LedgerSettings,
    MesosSettings,
    PlannerSettings,
)
from polly_mesos.model import Profile

_HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Service:
    """A configured storage platform.

    :param settings: an instance of the driver's settings type
    :param capacity: bytes that all its pools may take together, None where the platform alone says
    :param fencing: who says that a host cannot write to it any more; None for the platform where its driver can tell,
        else an operator
    :param tags: the user's own, for every volume of the service
    """

    name: str
    driver: Driver
    settings: Any = dataclasses.field(repr=False)
    capacity: int | None = None
    fencing: Fencing | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What :func:`polly_mesos.config.load` gives.

    :param path: the file it was read from
    :param profiles: pool -> the profile behind it; a profile of several zones is here once for each
    :param capacities: pool -> bytes that it may take at most; a pool that is not here has no limit but its platform's
    :param notes: what is understood, and should be written differently: each a line of text
    """

    path: Path
    cluster: str
    mesos: MesosSettings
    http: HttpSettings
    ledger: LedgerSettings
    agents: AgentSettings
    services: Mapping[str, Service]
    profiles: Mapping[str, Profile]
    planner: PlannerSettings
    check: CheckSettings
    capacities: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def pool_capacity(self, profile: Profile) -> int | None:
        """The most bytes that a profile's pool may take, None where only the platform says.

        Of several pools on one service each has a limit, and their sum is not above the service's.
        """
        return self.capacities.get(profile.pool)


def describe(configuration: Configuration) -> dict[str, Any]:
    """The configuration with every default filled in, as JSON: sizes in bytes, durations in seconds, no secrets."""
    mesos = configuration.mesos.model_dump(mode="json")
    mesos["master"] = re.sub(r"//[^/@]+@", f"//{_HIDDEN}@", mesos["master"])
    return {
        "path": str(configuration.path),
        "cluster": configuration.cluster,
        "mesos": mesos,
        "http": {**configuration.http.model_dump(mode="json"), "advertise": configuration.http.url},
        "ledger": configuration.ledger.model_dump(mode="json"),
        "agents": configuration.agents.model_dump(mode="json", by_alias=True, exclude_none=True),
        "services": {name: _describe_service(service) for name, service in configuration.services.items()},
        "profiles": {
            pool: {**_plain(dataclasses.asdict(profile)), "capacity": configuration.pool_capacity(profile)}
            for pool, profile in configuration.profiles.items()
        },
        "planner": configuration.planner.model_dump(mode="json"),
        "check": configuration.check.model_dump(mode="json"),
    }


def _describe_service(service: Service) -> dict[str, Any]:
    settings = {
        field.name: _HIDDEN if is_secret(field) else _plain(getattr(service.settings, field.name))
        for field in dataclasses.fields(service.settings)
    }
    return {
        "driver": service.driver.name,
        **settings,
        "capacity": service.capacity,
        "fencing": _plain(service.fencing),
        "tags": dict(service.tags),
    }


def is_secret(field: dataclasses.Field[Any]) -> bool:
    """Whether a driver's settings type says that a field must never be shown: ``metadata={"secret": True}``."""
    return bool(field.metadata.get("secret", False))


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
