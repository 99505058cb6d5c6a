"""What an executor half finds that it has no record of: mounts and devices of ours whose record was lost.

The mount table tells what is mounted and the drivers what the host holds (:meth:`drivers.base.HostDriver.held`), the
scheduler half under which generation. A mount gets its record back, so that it is let go of like any other; a device
that nothing mounts is let go of at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from drivers.base import HostDriver
from polly_mesos.agent_api import Assignment
from polly_mesos.executor.holdings import Holding, Holdings
from polly_mesos.executor.mapping import HostTools
from polly_mesos.model import Json

log = logging.getLogger(__name__)


def recover(
    holdings: Holdings,
    drivers: Mapping[str, HostDriver],
    tools: HostTools,
    volume_root: str,
    assignment: Assignment,
) -> None:
    """Put the records in order with what the host shows. To be called before anything is published.

    :param drivers: service name -> host side of its driver
    """
    held = dict(_held(drivers))
    for volume, target in tools.mounted(volume_root).items():
        if holdings.get(volume) is None:
            device = tools.device_at(target)
            service, attachment = held.get(device, ("", {}))
            generation = _generation(assignment, volume)
            holdings.put(Holding(volume, target, service, generation, attachment, device))
            log.warning("volume %s is mounted at %s without a record, and has one again", volume, target)
    recorded = [(holding.service, holding.attachment) for holding in holdings.all()]
    for device, (service, attachment) in held.items():
        if (service, attachment) not in recorded and not tools.is_device_mounted(device):
            _let_go(drivers[service], device, attachment)


def _held(drivers: Mapping[str, HostDriver]) -> Iterator[tuple[str, tuple[str, Json]]]:
    for service, driver in drivers.items():
        try:
            found = driver.held()
        except Exception:  # a third party's driver may raise anything; the others' devices must be found
            log.exception("service %s: its driver cannot tell what this host holds", service)
            continue
        for device, attachment in found.items():
            yield device, (service, attachment)


def _generation(assignment: Assignment, volume: str) -> int:
    """What the scheduler half takes the mount for, 0 where it knows nothing of it."""
    for known in (assignment.keep, assignment.revoke, assignment.stop):
        if volume in known:
            return known[volume]
    return 0


def _let_go(driver: HostDriver, device: str, attachment: Json) -> None:
    log.warning("%s is held without a mount and without a record, and is let go of", device)
    try:
        driver.release(attachment)
    except Exception:  # see above; the next start tries again
        log.exception("%s cannot be let go of", device)
