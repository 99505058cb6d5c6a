"""The services that this host may get volumes from: their drivers' host sides, and what the host lacks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drivers.base import HostDriver
from drivers.declaration import load_class
from polly_mesos.agent_api import HostService
from polly_mesos.errors import PollyError
from polly_mesos.model import Filesystem, HostIdentity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """Who the host is to each service, and why a service cannot be used here; no service is in both.

    :param problems: service name -> what is missing and how to get it
    """

    identities: Mapping[str, HostIdentity]
    problems: Mapping[str, str]


class Services:
    """Loaded host sides, by service name.

    :param node: ``host:port`` of the agent's API
    :param lacking: names what the host lacks for the given file systems and programs, empty where nothing
    :param mount_problem: says why a mount made here would not reach the tasks, empty where it would
    """

    def __init__(
        self,
        services: Sequence[HostService],
        node: str,
        *,
        lacking: Callable[[Sequence[Filesystem], Sequence[str]], str],
        mount_problem: Callable[[], str],
    ) -> None:
        self._services = {service.name: service for service in services}
        self._lacking = lacking
        self._mount_problem = mount_problem
        self._unusable: dict[str, str] = {}
        self.drivers: dict[str, HostDriver] = {}
        for service in services:
            try:
                self.drivers[service.name] = load_class(service.driver)(service.settings, node)
            except Exception as error:  # a third party's driver may raise anything; other services must go on
                log.exception("service %s: its driver %s does not start", service.name, service.driver)
                self._unusable[service.name] = f"its driver does not start: {error}"

    def look(self) -> Findings:
        """Ask every driver who the host is, and look for what the host lacks; cheap enough to be repeated."""
        identities: dict[str, HostIdentity] = {}
        problems = dict(self._unusable)
        for name, driver in self.drivers.items():
            try:
                problem = self._problem(self._services[name], driver)
                if problem:
                    problems[name] = problem
                else:
                    identities[name] = driver.identify()
            except PollyError as error:
                problems[name] = str(error)
            except Exception as error:
                log.exception("service %s: its driver cannot tell who this host is", name)
                problems[name] = f"its driver cannot tell who this host is: {error}"
        return Findings(identities, problems)

    def _problem(self, service: HostService, driver: HostDriver) -> str:
        filesystems = service.filesystems if driver.block else ()
        return self._lacking(filesystems, driver.tools) or (self._mount_problem() if driver.block else "")
