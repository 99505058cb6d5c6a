"""The operations that the agent passed on to us, until their status is acknowledged."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from polly_mesos.agent_api import Application, Verdict
from polly_mesos.errors import InvalidRequest, PollyError
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider.messages import DROPPED, FAILED, FINISHED, Answer
from polly_mesos.mesos.provider.steps import Attempts
from polly_mesos.model import Json

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_ENOUGH = 5
_LISTS = ("resources", "volumes", "source")


@dataclass(slots=True)
class Operation:
    """One operation.

    :param info: Mesos' Offer.Operation; empty for one that only a RECONCILE_OPERATIONS told of
    :param known_on: the stream on which the agent knows that we know it
    :param sent: how often its status was sent on the present stream
    :param judging: attempts to have it judged, until there is an answer
    :param sending: attempts to have its status acknowledged, once there is an answer
    :param journaled: whether the ledger knows it
    """

    id: UUID
    framework: str
    info: Json
    known_on: int
    judging: Attempts
    sending: Attempts
    answer: Answer | None = None
    journaled: bool = True
    sent: int = 0

    @property
    def converting(self) -> bool:
        """Whether the agent changes its totals only when we answer."""
        return self.info.get("type") in arithmetic.CONVERTING

    @property
    def sent_enough(self) -> bool:
        """Whether the status was sent as often on this stream as one for which no framework waits ever is."""
        return self.sent >= _ENOUGH and "id" not in self.info

    def answer_ourselves(self, state: str, status_uuid: UUID, message: str) -> None:
        """Answer without asking the ledger, which therefore does not know the operation."""
        log.warning("operation %s: %s: %s", self.id, state, message)
        self.answer = Answer(state, status_uuid, message)
        self.journaled = False

    @property
    def application(self) -> Application:
        """What the handler is asked."""
        return Application(id=str(self.id), info=self.info, framework=self.framework)


class Journal:
    """Operations in the order in which they came, and a memory of those that are done with."""

    def __init__(self) -> None:
        self._operations: dict[UUID, Operation] = {}
        self._settled: OrderedDict[UUID, Operation] = OrderedDict()

    def __iter__(self) -> Iterator[Operation]:
        return iter(list(self._operations.values()))

    def get(self, operation: UUID) -> Operation | None:
        """An operation that is not done with."""
        return self._operations.get(operation)

    def add(self, operation: Operation) -> None:
        """An operation that came in."""
        self._operations[operation.id] = operation

    def settle(self, operation: Operation) -> None:
        """Nothing is left to be done for it. Its answer is remembered in case that the agent asks again."""
        self._operations.pop(operation.id, None)
        self._settled[operation.id] = operation
        while len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    def revive(self, identifier: UUID) -> Operation | None:
        """The operation; one that was over is taken up again, without another word to the ledger. None if unknown."""
        operation = self.get(identifier)
        if operation is None and (operation := self.settled(identifier)) is not None:
            operation.journaled = False
            self.add(operation)
        return operation

    def settled(self, operation: UUID) -> Operation | None:
        """An operation that is done with, if it is remembered."""
        return self._settled.get(operation)

    def forget(self) -> None:
        """The operations belonged to a provider that is no more."""
        self._operations.clear()
        self._settled.clear()

    @property
    def unanswered(self) -> Operation | None:
        """The oldest operation that is not answered."""
        return next((one for one in self._operations.values() if one.answer is None), None)

    def creates(self, volumes: Collection[str]) -> bool:
        """Whether an operation that is not answered makes a volume with one of these persistence ids."""
        for operation in self._operations.values():
            made = (operation.info.get("create") or {}).get("volumes", ()) if operation.answer is None else ()
            if any(arithmetic.persistence_of(volume) in volumes for volume in made):
                return True
        return False

    def answered(self) -> list[Operation]:
        """Operations whose status is to be sent."""
        return [one for one in self._operations.values() if one.answer is not None]


def provider_of_operation(info: Mapping[str, Any]) -> str:
    """The provider whose resources the operation takes, as the agent finds it: that of the first resource.

    Source: getResourceProviderId in src/common/resources_utils.cpp. The agent aborts where an operation that
    UPDATE_STATE lists belongs to a provider that is not subscribed.
    """
    detail = info.get(str(info.get("type", "")).lower()) or {}
    for key in _LISTS:
        listed = detail.get(key)
        if listed:
            return arithmetic.provider_of(listed[0] if isinstance(listed, list) else listed)
    return ""


def sound_answer(operation: UUID, info: Json, verdict: Verdict, provider_id: str) -> Answer:
    """The verdict as it may be sent to Mesos.

    One that Mesos would not survive (another size than what was taken, a malformed UUID, a state that is not terminal)
    becomes a failure, the same one each time.
    """
    try:
        return _checked_answer(info, verdict, provider_id)
    except (PollyError, ValueError) as error:
        log.error("operation %s fails: its verdict cannot be sent to Mesos: %s", operation, error)
        return Answer(FAILED, uuid5(operation, "refused by the provider client"), f"an invalid verdict: {error}")


def _checked_answer(info: Json, verdict: Verdict, provider_id: str) -> Answer:
    if verdict.state not in (FINISHED, FAILED, DROPPED):
        raise InvalidRequest(f"{verdict.state!r} ends no operation", field="state", value=verdict.state)
    status_uuid = UUID(verdict.status_uuid)
    if verdict.state != FINISHED:
        return Answer(verdict.state, status_uuid, verdict.message)
    converted = [arithmetic.normalise(one, provider_id) for one in verdict.converted]
    _, given = arithmetic.conversions(info, converted)
    return Answer(FINISHED, status_uuid, verdict.message, tuple(_allocated(given, info)))


def _allocated(given: Sequence[Json], info: Json) -> Sequence[Json]:
    """Converted resources, allocated to whom the source was.

    The master aborts (``has_allocation_info()`` in src/common/resources.cpp) on those of a CREATE_DISK or DESTROY_DISK
    that lack it; for the other operations it infers the conversion itself.
    """
    if info.get("type") not in arithmetic.CONVERTING:
        return given
    allocation = info[str(info["type"]).lower()]["source"].get("allocation_info")
    return given if allocation is None else [{**one, "allocation_info": allocation} for one in given]


def impossible(info: Json) -> str:
    """Why the operation must fail whatever the ledger says, empty where it may be judged.

    The agent ends itself (LOG(FATAL) in src/slave/paths.cpp) when it looks for a persistent volume on a RAW or BLOCK
    disk.
    """
    try:
        if info.get("type") in arithmetic.CONVERTING:
            source = (info.get(str(info["type"]).lower()) or {}).get("source")
            arithmetic.conversions(info, [source] if source else None)
            return ""
        _, given = arithmetic.conversions(info)
    except PollyError as error:
        return str(error)
    return next(
        (f"a persistent volume needs a PATH or MOUNT disk, not {kind}" for kind in map(_unusable, given) if kind), ""
    )


def _unusable(resource: Json) -> str:
    kind = str(((resource.get("disk") or {}).get("source") or {}).get("type", "the agent's own"))
    return kind if arithmetic.persistence_of(resource) and kind not in ("PATH", "MOUNT") else ""
