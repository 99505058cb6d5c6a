"""Mesos operations, as an agent passes them on, put before the ledger.

A framework's RESERVE, UNRESERVE, CREATE, DESTROY, CREATE_DISK or DESTROY_DISK is translated into ledger changes, judged
in one transaction, and answered with a verdict that stays the same however often it is asked for.

Sources: Mesos ``Offer.Operation`` (mesos.proto), the conversions in Mesos' ``src/common/resources_utils.cpp``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.errors import InvalidRequest, NotSupported, PollyError
from polly_mesos.faults import fault_point
from polly_mesos.ledger import (
    AdoptVolume,
    Change,
    ClearPersistence,
    CreateDisk,
    CreateVolume,
    DestroyDisk,
    DestroyVolume,
    Ledger,
    Reserve,
    SetOwner,
    SetPersistence,
    Unreserve,
)
from polly_mesos.ledger.volumes import LIVE
from polly_mesos.model import (
    MB,
    Agent,
    Json,
    Operation,
    OperationState,
    Profile,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.disks import Disk, converted_disk, outer_owner, parse_disk, source_of
from polly_mesos.scheduler.orphans import find_orphan

_NAMESPACE = uuid.UUID("5f0c3d1e-8f6a-4e0b-9a55-0d7f6c1b2a90")


class Admission:
    """Judges operations. Safe to call from several threads; the ledger orders them.

    :param shared: whether pools are shared by all agents rather than leased in slices
    """

    def __init__(
        self,
        ledger: Ledger,
        profiles: Mapping[str, Profile],
        *,
        shared: bool,
        on_volume: Callable[[str], None] = lambda volume: None,
    ) -> None:
        self._ledger = ledger
        self._profiles = profiles
        self._shared = shared
        self._on_volume = on_volume
        self._plans: Mapping[str, Callable[[Application, Agent, Sequence[Disk]], _Plan]] = {
            "RESERVE": self._reserve,
            "UNRESERVE": self._unreserve,
            "CREATE": self._create,
            "DESTROY": self._destroy,
            "CREATE_DISK": self._create_disk,
            "DESTROY_DISK": self._destroy_disk,
        }

    def apply(self, application: Application, agent: Agent) -> Verdict:
        """Judge one operation and record the judgement before it is returned."""
        kind = str(application.info.get("type", ""))
        operation = Operation(
            id=application.id,
            kind=f"mesos.{kind}",
            subject=agent.id,
            state=OperationState.INTENT,
            agent=agent.id,
            framework=application.framework,
            detail=application.info,
            status_uuid=str(uuid.uuid5(_NAMESPACE, f"status {application.id}")),
        )
        try:
            plan = self._plan(kind, application, agent)
            fault_point("operation.admit.before-ledger")
            stored = self._ledger.admit(_with_outcome(operation, plan), *plan.changes)
        except PollyError as error:
            if error.retryable:
                raise
            return verdict_of(self._ledger.refuse(operation, error))
        fault_point("operation.admit.after-ledger")
        for volume in plan.volumes:
            self._on_volume(volume)
        return verdict_of(stored)

    def _plan(self, kind: str, application: Application, agent: Agent) -> _Plan:
        plan = self._plans.get(kind)
        if plan is None:
            raise NotSupported(
                f"operation {kind or '(none)'} is not possible on Polly's disks",
                remedy=f"use one of {', '.join(self._plans)}",
            )
        disks = [parse_disk(resource, self._profiles) for resource in _resources(kind, application.info)]
        return plan(application, agent, disks)

    def _reserve(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        changes: list[Change] = []
        for disk in disks:
            before = outer_owner(disk.owner)
            if disk.volume_id:
                changes.append(SetOwner(disk.volume_id, disk.owner))
            else:
                shared = self._shared and not before
                changes.append(Reserve(disk.pool, agent.id, before, disk.owner, disk.size, shared))
        return _Plan(changes, [disk.resource for disk in disks])

    def _unreserve(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        changes: list[Change] = []
        converted = []
        for disk in disks:
            after = outer_owner(disk.owner)
            if disk.volume_id:
                changes.append(SetOwner(disk.volume_id, after))
            else:
                shared = self._shared and not after
                changes.append(Unreserve(disk.pool, agent.id, disk.owner, after, disk.size, shared))
            converted.append(converted_disk(disk.resource, owner=after))
        return _Plan(changes, converted)

    def _create(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        changes: list[Change] = []
        volumes = []
        for index, disk in enumerate(disks):
            if not disk.persistence_id:
                raise InvalidRequest(
                    "a CREATE without disk.persistence.id", field="disk.persistence.id", remedy="give the volume an id"
                )
            if disk.volume_id:
                changes.append(SetPersistence(disk.volume_id, disk.persistence_id, disk.persistence, disk.owner))
                continue
            _check_size(disk)
            volume = _new_volume(application, agent, disk, index, VolumeKind.PATH)
            if orphan := self._orphan(volume, disk.profile):
                volumes.append(orphan.id)
                changes.append(_adoption(orphan, volume))
                continue
            volumes.append(volume.id)
            changes.append(CreateVolume(volume))
        return _Plan(changes, [disk.resource for disk in disks], volumes)

    def _orphan(self, wanted: Volume, profile: Profile) -> Volume | None:
        return find_orphan(wanted, self._ledger.volumes(agent="", states=LIVE)) if profile.adopt else None

    def _destroy(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        changes: list[Change] = []
        converted = []
        volumes = []
        for disk in disks:
            volume_id = disk.volume_id
            if volume_id:
                changes.append(ClearPersistence(volume_id, disk.profile.reclaim))
            else:
                volume_id = self._volume_of(agent, disk).id
                changes.append(DestroyVolume(volume_id, disk.profile.reclaim))
            volumes.append(volume_id)
            converted.append(converted_disk(disk.resource, owner=disk.owner))
        return _Plan(changes, converted, volumes)

    def _create_disk(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        target = application.info["create_disk"].get("target_type")
        if target != "MOUNT":
            raise NotSupported(
                f"CREATE_DISK with target_type {target} is not possible", remedy="ask for target_type MOUNT"
            )
        (disk,) = disks
        if disk.volume_id:
            raise InvalidRequest("CREATE_DISK needs a RAW disk without an id", field="source.id", value=disk.volume_id)
        _check_size(disk)
        volume = _new_volume(application, agent, disk, 0, VolumeKind.MOUNT)
        source = source_of(VolumeKind.MOUNT, disk.profile, agent.volume_root, volume.id)
        converted = {**disk.resource, "disk": {"source": source}}
        return _Plan([CreateDisk(volume, self._shared and not disk.owner)], [converted], [volume.id])

    def _destroy_disk(self, application: Application, agent: Agent, disks: Sequence[Disk]) -> _Plan:
        (disk,) = disks
        source = source_of(None, disk.profile, agent.volume_root, "")
        converted = {**disk.resource, "disk": {"source": source}}
        return _Plan([DestroyDisk(disk.volume_id, self._shared and not disk.owner)], [converted], [disk.volume_id])

    def _volume_of(self, agent: Agent, disk: Disk) -> Volume:
        volume = self._ledger.find_volume(agent.id, disk.owner, disk.persistence_id)
        if volume is None:
            raise InvalidRequest(
                f"no volume {disk.persistence_id!r} is known on this agent",
                field="disk.persistence.id",
                value=disk.persistence_id,
                remedy="see `polly volume list`",
            )
        return volume


@dataclass(frozen=True, slots=True)
class _Plan:
    changes: Sequence[Change]
    converted: Sequence[Json]
    volumes: Sequence[str] = ()


def _adoption(orphan: Volume, wanted: Volume) -> AdoptVolume:
    return AdoptVolume(
        orphan.id, wanted.agent, wanted.owner, wanted.persistence_id, wanted.persistence, wanted.framework
    )


def _with_outcome(operation: Operation, plan: _Plan) -> Operation:
    subject = plan.volumes[0] if plan.volumes else operation.subject
    return Operation(
        id=operation.id,
        kind=operation.kind,
        subject=subject,
        state=OperationState.DONE,
        agent=operation.agent,
        framework=operation.framework,
        detail=operation.detail,
        outcome={"converted": list(plan.converted)},
        status_uuid=operation.status_uuid,
    )


def verdict_of(operation: Operation) -> Verdict:
    """The verdict that a recorded Mesos operation stands for."""
    done = operation.state is OperationState.DONE
    return Verdict(
        id=operation.id,
        state="OPERATION_FINISHED" if done else "OPERATION_FAILED",
        status_uuid=operation.status_uuid,
        info=operation.detail,
        framework=operation.framework,
        message="" if done else _why(operation.outcome),
        converted=tuple(operation.outcome.get("converted", ())) if done else (),
    )


def _why(outcome: Json) -> str:
    message, remedy = str(outcome.get("message", "")), str(outcome.get("remedy", ""))
    return f"{message} ({remedy})" if remedy else message


def _resources(kind: str, info: Json) -> Sequence[Json]:
    body = info.get(kind.lower(), {})
    if kind in ("CREATE_DISK", "DESTROY_DISK"):
        return [body["source"]]
    resources: Sequence[Json] = body.get("volumes" if kind in ("CREATE", "DESTROY") else "resources", [])
    return resources


def _check_size(disk: Disk) -> None:
    profile, size_mb = disk.profile, disk.size // MB
    if disk.size < profile.minimum_size:
        raise InvalidRequest(
            f"a volume of {size_mb} MB is below the smallest of profile {profile.name!r}",
            field="scalar.value",
            value=size_mb,
            remedy=f"ask for at least {-(-profile.minimum_size // MB)} MB",
        )
    if disk.size % profile.granularity:
        step = profile.granularity // MB
        raise InvalidRequest(
            f"volumes of profile {profile.name!r} come in steps of {step} MB, and {size_mb} MB is none",
            field="scalar.value",
            value=size_mb,
            remedy=f"ask for {-(-size_mb // step) * step} MB",
        )
    if profile.maximum_size is not None and disk.size > profile.maximum_size:
        raise InvalidRequest(
            f"a volume of {size_mb} MB is above the largest of profile {profile.name!r}",
            field="scalar.value",
            value=size_mb,
            remedy=f"ask for at most {profile.maximum_size // MB} MB",
        )


def _new_volume(application: Application, agent: Agent, disk: Disk, index: int, kind: VolumeKind) -> Volume:
    # Derived from the operation, so that asking again cannot make a second volume.
    identity = uuid.uuid5(_NAMESPACE, f"volume {application.id} {index}")
    return Volume(
        id=str(identity),
        pool=disk.pool,
        profile=disk.profile.name,
        service=disk.profile.service,
        kind=kind,
        size=disk.size,
        state=VolumeState.CREATING,
        agent=agent.id,
        owner=disk.owner,
        persistence_id=disk.persistence_id,
        persistence=disk.persistence,
        framework=application.framework,
    )
