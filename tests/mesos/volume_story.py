"""The whole way of a volume, as a framework sees it: the same on every platform."""

from __future__ import annotations

from collections.abc import Callable

from polly_mesos.model import Json
from tests.mesos.framework import Framework, wait_until
from tests.mesos.operations import create, destroy, launch, persistent, reserve, unreserve
from tests.mesos.test_scheduler_half import disks


def goes_the_whole_way(
    framework: Framework,
    size: float,
    *,
    written: Callable[[], None],
    attached: Callable[[], bool],
    there: Callable[[], bool],
) -> None:
    """A volume is offered, reserved, created, published, used by two tasks after each other, and destroyed.

    :param size: MB
    :param written: looks at the platform while the first task has the volume, or had it just now
    :param attached: whether the platform says that a host has it; it loses it between the tasks
    :param there: whether the platform still has it
    """
    offer, disk = disks(framework, type="PATH", profile="gold")
    made = persistent(disk, size, "kept")
    write = launch(offer, "write", made, "echo precious > data/file && sync")
    framework.accept(offer, reserve(disk, size), create(disk, size, "kept"), write)
    framework.wait_for("write", "TASK_FINISHED")
    written()
    wait_until(lambda: not attached())
    offer, volume = _kept(framework)
    framework.accept(offer, launch(offer, "read", volume, "grep precious data/file"))
    framework.wait_for("read", "TASK_FINISHED")
    offer, volume = _kept(framework)
    plain = {**volume, "disk": {"source": volume["disk"]["source"]}}
    framework.accept(offer, destroy(volume), unreserve(plain))
    wait_until(lambda: not there())


def _kept(framework: Framework) -> tuple[Json, Json]:
    """An offer with the persistent volume, and that volume."""

    def look() -> tuple[Json, Json] | None:
        offer = framework.offer()
        for one in offer["resources"]:
            if one.get("disk", {}).get("persistence", {}).get("id") == "kept":
                return offer, one
        framework.accept(offer)
        return None

    found: tuple[Json, Json] = wait_until(look)
    return found
