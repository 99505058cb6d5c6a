"""Mapping one volume to the host and letting go of it: driver, file system, mount, and the report of each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from drivers.base import HostDriver
from polly_mesos.agent_api import Progress, PublishTarget
from polly_mesos.errors import Conflict, MountFailed, NotFound, PollyError, StaleGeneration, UnknownDriver
from polly_mesos.executor.holdings import Holding, Holdings
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.faults import fault_point
from polly_mesos.model import Filesystem, FormatState

log = logging.getLogger(__name__)

_STEP_PATIENCE = 60.0
_LOCATE_SECONDS = 120.0


class HostTools(Protocol):
    """What is done with the host's own programs and kernel; :class:`polly_mesos.executor.linux.LinuxHost` on Linux."""

    def publish(
        self,
        target: str,
        volume: str,
        located: str,
        filesystem: Filesystem,
        options: Sequence[str],
        *,
        format_state: FormatState,
        begin: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        """Bring the volume to ``target``, formatted first where it never was; succeeds where it is there.

        :param located: a device or, where ``filesystem`` is NONE, a directory
        :param begin: called before mkfs, ``done`` after it
        :raises UnsafeFormat: the device holds something else
        :raises MountFailed: something else is at the target, or the kernel refused
        """

    def unpublish(self, target: str, *, lazily: bool = False) -> None:
        """Take away what :meth:`publish` brought to ``target``; succeeds where nothing is.

        :param lazily: also where it is in use: no path leads there any more, but what is open stays open
        :raises MountFailed: it is in use
        """

    def volume_at(self, target: str) -> str | None:
        """The id of the volume that can be used at exactly this path now, None where none of ours can."""

    def mounted(self, volume_root: str) -> Mapping[str, str]:
        """Volume id -> path of all volumes that are published below the volume root."""

    def device_at(self, target: str) -> str:
        """The device that is mounted at exactly this path, empty where none is."""

    def is_device_mounted(self, device: str) -> bool:
        """Whether the device is mounted anywhere on this host, as far as this process sees."""


class Mapper:
    """Does the steps; its callers hold the lock of the volume's place (:meth:`Holdings.lock`).

    :param drivers: service name -> host side of its driver
    """

    def __init__(
        self, client: SchedulerClient, drivers: Mapping[str, HostDriver], tools: HostTools, holdings: Holdings
    ) -> None:
        self._client = client
        self._drivers = drivers
        self._tools = tools
        self._holdings = holdings

    def is_mapped(self, holding: Holding) -> bool:
        """Whether the volume is mounted at its place, by the host's mount table."""
        return self._tools.volume_at(holding.target) == holding.volume

    def map(self, answer: PublishTarget, deadline: float) -> Holding:
        """Mount a volume that the platform has attached, and say so to the scheduler half.

        :param deadline: monotonic time at which to give up
        :raises HostError: a step on the host failed; the record of the holding stays, to be undone or tried again
        :raises StaleGeneration: the volume was taken away from this host meanwhile
        """
        self._clear(answer)
        holding = Holding(answer.volume, answer.target, answer.service, answer.generation, answer.attachment)
        try:
            return self._map(holding, answer, deadline)
        except StaleGeneration:
            self._take_back(holding)
            raise

    def _map(self, holding: Holding, answer: PublishTarget, deadline: float) -> Holding:
        driver = self._driver(answer.service)
        self._holdings.put(holding)
        left = max(deadline - time.monotonic(), 1.0)
        fault_point("volume.locate.before-call")
        whole = {**answer.attachment, **answer.secrets}  # for this call alone: the holding's file has no secret
        holding = replace(holding, device=driver.locate(whole, min(left, _LOCATE_SECONDS)))
        fault_point("volume.locate.after-call")
        self._holdings.put(holding)
        self._tools.publish(
            holding.target,
            holding.volume,
            holding.device,
            answer.filesystem if driver.block else Filesystem.NONE,
            answer.mount_options,
            format_state=answer.format_state,
            begin=lambda: self._begin_format(holding),
            done=lambda: self._format_done(holding),
        )
        fault_point("volume.mount.after-call")
        if not self.is_mapped(holding):
            raise MountFailed(f"volume {holding.volume} is not the one that is mounted at {holding.target}")
        self._holdings.note_change()
        fault_point("publication.report.before-send")
        self._step(holding, "published")
        fault_point("publication.report.after-answer")
        log.info("volume %s is mounted at %s from %s", holding.volume, holding.target, holding.device)
        return holding

    def _take_back(self, holding: Holding) -> None:
        """Undo a mapping at once that was overtaken: another host may be given the volume now."""
        try:
            self.unmap(holding)
        except PollyError as error:
            log.warning("volume %s came too late, and is let go of later: %s", holding.volume, error)
        else:
            self._holdings.drop(holding.volume)

    def unmap(self, holding: Holding, *, lazily: bool = False) -> None:
        """Unmount a volume and let go of its device; what is done already is no error.

        :param lazily: as in :meth:`HostTools.unpublish`
        :raises MountFailed: a process still uses it
        """
        driver = self._drivers.get(holding.service)
        was_mapped = self.is_mapped(holding)
        fault_point("volume.unmount.before-call")
        self._tools.unpublish(holding.target, lazily=lazily)
        self._holdings.note_change()
        fault_point("volume.unmount.after-call")
        if driver is None:
            log.warning(
                "volume %s: %s, so its device may stay attached here until the host is restarted",
                holding.volume,
                f"its service {holding.service!r} is not known here any more"
                if holding.service
                else "nothing tells which service it came from",
            )
        else:
            driver.release(holding.attachment)
            fault_point("volume.release.after-call")
        if was_mapped:
            log.info("volume %s is unmounted from %s", holding.volume, holding.target)

    def report_unmapped(self, volume: str, generation: int) -> None:
        """Tell the scheduler half that this host has let go of a volume, then forget it.

        :raises SchedulerUnreachable: it does not answer now; the record stays, so that it is told later
        """
        fault_point("unpublication.report.before-send")
        try:
            self._client.step(volume, "unpublished", Progress(generation), patience=0.0)
        except (Conflict, NotFound) as error:
            log.info("volume %s had been taken from this host already: %s", volume, error.message)
        fault_point("unpublication.report.after-answer")
        self._holdings.drop(volume)

    def _clear(self, answer: PublishTarget) -> None:
        """Let go of what an earlier publication left in the way: another volume there, or an older mapping of this."""
        found = (self._holdings.at(answer.target), self._holdings.get(answer.volume))
        for earlier in {holding.volume: holding for holding in found if holding is not None}.values():
            if (earlier.volume, earlier.generation) == (answer.volume, answer.generation):
                continue
            self.unmap(earlier)
            self.report_unmapped(earlier.volume, earlier.generation)

    def _begin_format(self, holding: Holding) -> None:
        fault_point("volume.format.before-intent")
        self._step(holding, "formatting")
        fault_point("volume.format.after-intent")

    def _format_done(self, holding: Holding) -> None:
        fault_point("volume.format.after-mkfs")
        self._step(holding, "formatted")
        fault_point("volume.format.after-outcome")

    def _step(self, holding: Holding, step: str) -> None:
        progress = Progress(holding.generation, device=holding.device, target=holding.target)
        self._client.step(holding.volume, step, progress, patience=_STEP_PATIENCE)

    def _driver(self, service: str) -> HostDriver:
        driver = self._drivers.get(service)
        if driver is None:
            raise UnknownDriver(
                f"service {service!r} cannot be used on this host", remedy="see `polly agent list` for what it lacks"
            )
        return driver
