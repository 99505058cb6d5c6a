"""The fault points of :mod:`polly_mesos.faults`, in the order in which a volume's way passes them.

A name is THING.STEP.PLACE. ``before-ledger`` and ``after-ledger`` lie on both sides of a ledger transaction,
``before-call`` and ``after-call`` of a call to a platform or a driver, and ``after-outcome`` follows when the journal
has what came of that call.

Runs on the agents' Python: standard library only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Half(enum.StrEnum):
    """In whose processes a fault point lies."""

    SCHEDULER = "scheduler"
    EXECUTOR = "executor"


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """A named place in the code.

    :param description: what is done at that moment, and what is not
    """

    name: str
    half: Half
    description: str


def _scheduler(name: str, description: str) -> FaultPoint:
    return FaultPoint(name, Half.SCHEDULER, description)


def _executor(name: str, description: str) -> FaultPoint:
    return FaultPoint(name, Half.EXECUTOR, description)


_POINTS = (
    # An agent gets its executor half.
    _scheduler(
        "agent.launch.before-accept", "The ledger has the agent; Mesos is not yet asked to launch its executor."
    ),
    _scheduler("agent.launch.after-accept", "Mesos is asked to launch the executor; nothing of it is known yet."),
    _scheduler("token.issue.after-ledger", "The ledger has the hash of an executor's token; nobody has the token."),
    _executor("executor.hello.before-send", "The executor knows its agent; the scheduler half is not greeted."),
    _executor("executor.hello.after-answer", "The executor was welcomed; nothing of that is used."),
    _executor("host.report.before-send", "The executor has looked at its host; the scheduler half is not told."),
    _executor("host.report.after-answer", "The scheduler half knows the host; the executor has not noted that."),
    # The agent gets its lease.
    _scheduler("lease.plan.before-ledger", "Lease changes are planned; the ledger has none of them."),
    _scheduler("lease.plan.after-ledger", "The ledger has the lease changes; the planner has not noted that."),
    _scheduler("assignment.answer.before-send", "An agent's assignment is put together; the executor has no answer."),
    _executor("provider.subscribe.before-send", "The provider is about to subscribe with its agent."),
    _executor(
        "provider.subscribed.before-report", "The agent has accepted the provider; the scheduler half is not told."
    ),
    _executor("provider.subscribed.after-report", "The scheduler half knows the provider's id."),
    _executor("provider.call.before-send", "Totals, a status or a yes or no are about to go to the agent."),
    _executor("provider.call.after-send", "The agent has taken what was sent; the provider goes on."),
    # A framework's operation.
    _executor("operation.apply.before-ask", "The agent has sent an operation; the ledger is not asked."),
    _scheduler("operation.admit.before-ledger", "An operation is understood; the ledger has not judged it."),
    _scheduler("ledger.commit.before-write", "A transaction is complete; it is not committed."),
    _scheduler("ledger.commit.after-write", "A transaction is on the disk; nobody is told."),
    _scheduler("operation.admit.after-ledger", "The ledger has judged; neither volume controller nor executor know."),
    _scheduler("operation.answer.before-send", "The volume controller knows of the operation; the executor does not."),
    _executor("operation.apply.after-answer", "The executor has the verdict; the agent has not."),
    _executor("operation.acknowledge.before-ask", "The agent has the operation's status; the ledger is not told."),
    _scheduler("operation.acknowledge.before-ledger", "An acknowledgement has come; the ledger has not noted it."),
    _scheduler("operation.acknowledge.after-ledger", "The ledger has the acknowledgement; the executor has no answer."),
    _executor(
        "operation.acknowledge.after-answer", "The ledger has the acknowledgement; the provider has not noted it."
    ),
    # The platform makes the volume.
    _scheduler("ledger.intent.before-write", "The platform is to be called; the intent is not written."),
    _scheduler("ledger.intent.after-write", "The intent is on the disk; the platform is not called."),
    _scheduler("volume.create.before-call", "The intent is written; the platform is not yet asked for a volume."),
    _scheduler("volume.create.after-call", "The platform has made the volume; the ledger does not know."),
    _scheduler(
        "volume.create.after-outcome", "The journal knows the volume; its record still says that it is being made."
    ),
    # A task starts: the volume comes to the host.
    _executor("provider.publish.before-map", "The agent has asked for a task's volumes; none is looked for."),
    _scheduler("publication.begin.before-ledger", "A host asks for a volume; the ledger has not given it."),
    _scheduler("publication.begin.after-ledger", "The ledger gives the volume to the host; nobody attaches it yet."),
    _scheduler("volume.attach.before-call", "The intent is written; the platform is not yet asked to attach."),
    _scheduler("volume.attach.after-call", "The platform has attached the volume; the ledger does not know."),
    _scheduler("volume.attach.after-outcome", "The journal knows of the attachment; the publication does not."),
    _scheduler("publication.answer.before-send", "The host may have the volume; it has not been told."),
    _executor("publication.ask.after-answer", "The host may map the volume; it has recorded nothing."),
    _executor("holding.write.before-replace", "The record of a holding is written beside its place."),
    _executor("holding.write.after-replace", "The record of a holding is in its place."),
    _executor("volume.locate.before-call", "The volume is recorded as held; its device is not looked for."),
    _executor("volume.locate.after-call", "The device is found; nothing was done with it."),
    _executor(
        "volume.format.before-intent", "The device is blank; the ledger does not know that it will be formatted."
    ),
    _executor("volume.format.after-intent", "The ledger knows that the device will be formatted; mkfs has not begun."),
    _executor("volume.format.after-mkfs", "The device is formatted; the ledger does not know."),
    _executor("volume.format.after-outcome", "The ledger knows of the file system; it is not mounted."),
    _scheduler("publication.step.before-ledger", "A host says what it did or will do; the ledger has not noted it."),
    _scheduler("publication.step.after-ledger", "The ledger has noted a host's step; the host has no answer."),
    _executor("volume.mount.after-call", "The volume is mounted; it is not verified and nobody is told."),
    _executor("publication.report.before-send", "The mount is verified; the scheduler half is not told."),
    _executor("publication.report.after-answer", "The ledger has the volume as published; the agent is not told."),
    _executor("provider.publish.after-map", "All volumes of a task are mounted; the agent waits for the yes."),
    # The task has ended: the volume leaves the host.
    _executor("volume.unmount.before-call", "The volume is not used any more; it is still mounted."),
    _executor("volume.unmount.after-call", "The volume is unmounted; its driver still holds the device."),
    _executor("volume.release.after-call", "The host has let go of the device; the scheduler half is not told."),
    _executor("unpublication.report.before-send", "The host has let go of the volume and is about to say so."),
    _executor(
        "unpublication.report.after-answer", "The ledger knows; the host's record of the holding is still there."
    ),
    _executor("holding.drop.after-unlink", "The host's record of the holding is gone."),
    _scheduler("volume.detach.before-call", "The intent is written; the platform is not yet asked to detach."),
    _scheduler("volume.detach.after-call", "The platform has detached the volume; the ledger does not know."),
    _scheduler("volume.detach.after-outcome", "The journal knows of the detachment; the publication is still there."),
    # The framework destroys the volume.
    _scheduler("volume.delete.before-call", "The intent is written; the platform is not yet asked to delete."),
    _scheduler("volume.delete.after-call", "The platform has deleted the volume; the ledger does not know."),
    _scheduler("volume.delete.after-outcome", "The journal knows of the deletion; the volume still takes its space."),
)

CATALOGUE: Mapping[str, FaultPoint] = {point.name: point for point in _POINTS}
"""Name -> fault point, in order."""
