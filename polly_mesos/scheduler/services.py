"""The configured storage platforms: each service's controller side, and what its pools can hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from drivers.base import Capability, ControllerDriver
from drivers.declaration import load_class
from polly_mesos.agent_api import HostService
from polly_mesos.config import Configuration, Fencing
from polly_mesos.errors import PollyError
from polly_mesos.model import Filesystem, HostIdentity, Json, Pool, Profile, Volume

log = logging.getLogger(__name__)


class Services:
    """All services of a configuration. Makes each controller side once; only this process holds their credentials."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._controllers: dict[str, ControllerDriver] = {}
        for name, service in configuration.services.items():
            controller = load_class(service.driver.controller)
            self._controllers[name] = controller(service.settings, configuration.cluster)

    def fencing(self, service: str) -> Fencing:
        """Who says that a host cannot write to the service's volumes any more."""
        can = Capability.FENCE in self._controllers[service].capabilities
        return self._configuration.services[service].fencing or (Fencing.PLATFORM if can else Fencing.OPERATOR)

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """The configured profiles by name."""
        return self._configuration.profiles

    @property
    def names(self) -> tuple[str, ...]:
        """The configured services."""
        return tuple(self._controllers)

    def controller(self, service: str) -> ControllerDriver:
        """The controller side of a service."""
        return self._controllers[service]

    def known_host(self, service: str, host: HostIdentity) -> HostIdentity:
        """A host as the service's platform knows it, or as it came where that is not known."""
        controller = self._controllers.get(service)
        if controller is None:
            return host
        try:
            return controller.known_host(host)
        except PollyError as error:
            log.warning("service %s: host %s counts as what it says that it is: %s", service, host.host, error)
            return host

    def secrets(self, volume: Volume, attachment: Json) -> Json:
        """What the volume's platform tells of an attachment for one call of its host."""
        return self._controllers[volume.service].secrets(volume.platform_id, attachment)

    def close(self) -> None:
        """Let no call wait for its platform any more."""
        for controller in self._controllers.values():
            controller.close()

    def host_services(self) -> tuple[HostService, ...]:
        """What hosts may know of the services: no credentials."""
        result = []
        for name, service in self._configuration.services.items():
            allowed = {key: getattr(service.settings, key) for key in service.driver.host_settings}
            result.append(HostService(name, service.driver.host, allowed, self._filesystems(name)))
        return tuple(result)

    def _filesystems(self, service: str) -> tuple[Filesystem, ...]:
        return tuple(sorted({p.filesystem for p in self.profiles.values() if p.service == service}))

    def pools(self) -> list[Pool]:
        """Every pool with the capacity that configuration and platform allow together.

        A platform that does not answer is left out, so that its pools keep what the ledger knows.
        """
        result = []
        for profile in self.profiles.values():
            limit = self._configuration.pool_capacity(profile)
            try:
                told = self.controller(profile.service).capacity(profile.zone, profile.platform_type)
            except PollyError as error:
                log.warning("capacity of service %s is not known now: %s", profile.service, error)
                continue
            limits = [limit] if told.total is None else [limit, self._share(profile, told.total)]
            known = [value for value in limits if value is not None]
            result.append(
                Pool(
                    name=profile.pool,
                    profile=profile.name,
                    service=profile.service,
                    zone=profile.zone,
                    capacity=min(known, default=0),
                    updated=time.time(),
                )
            )
        return result

    def _share(self, profile: Profile, total: int) -> int:
        """What one pool may take of a service that several profiles draw on, so that their sum is never too much."""
        siblings = [p for p in self.profiles.values() if p.service == profile.service]
        limits = [self._configuration.pool_capacity(sibling) or 0 for sibling in siblings]
        promised = sum(limits)
        if promised <= total or len(siblings) == 1:
            return total
        own = self._configuration.pool_capacity(profile) or 0
        return total * own // promised
