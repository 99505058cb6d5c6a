"""Calls and events of the resource provider API, version 1 (include/mesos/v1/resource_provider in Mesos).

UUIDs are :class:`uuid.UUID` everywhere but on the wire, so that none of another length than 16 bytes can be sent: the
agent aborts on those.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from polly_mesos.agent_api import Verdict
from polly_mesos.errors import InvalidRequest
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.model import Json

log = logging.getLogger(__name__)

FINISHED = "OPERATION_FINISHED"
FAILED = "OPERATION_FAILED"
DROPPED = "OPERATION_DROPPED"


@dataclass(frozen=True, slots=True)
class Answer:
    """The terminal status of an operation, checked: what may be sent to Mesos."""

    state: str
    status_uuid: UUID
    message: str = ""
    converted: tuple[Json, ...] = ()


def wire_uuid(value: UUID) -> Json:
    """A UUID as Mesos writes it in JSON: its 16 bytes in base64."""
    return {"value": base64.b64encode(value.bytes).decode()}


def read_uuid(message: Mapping[str, Any]) -> UUID:
    """The UUID of such a message.

    :raises InvalidRequest: not 16 bytes in base64
    """
    try:
        return UUID(bytes=base64.b64decode(message["value"], validate=True))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidRequest(f"not a UUID of 16 bytes: {message!r}", field="uuid") from error


def named(verdicts: Iterable[Verdict]) -> Iterator[tuple[UUID, Verdict]]:
    """The ledger's verdicts with the UUIDs of their operations; those that have none are left out."""
    for verdict in verdicts:
        try:
            yield UUID(verdict.id), verdict
        except ValueError:
            log.error("the ledger names operation %r, which is no UUID", verdict.id)


def subscribe(identity: ProviderIdentity) -> Json:
    """SUBSCRIBE, with the id if there is one."""
    info: Json = {"type": identity.type, "name": identity.name}
    if identity.id:
        info["id"] = {"value": identity.id}
    return {"type": "SUBSCRIBE", "subscribe": {"resource_provider_info": info}}


def update_state(provider_id: str, resources: Sequence[Json], operations: Sequence[Json], version: UUID) -> Json:
    """UPDATE_STATE: replaces our totals, and names our terminal operations whose status is not acknowledged."""
    body = {"resources": list(resources), "operations": list(operations), "resource_version_uuid": wire_uuid(version)}
    return _call("UPDATE_STATE", provider_id, body)


def operation_status(provider_id: str, operation: UUID, framework: str, info: Json, answer: Answer) -> Json:
    """UPDATE_OPERATION_STATUS."""
    status = _status(provider_id, info, answer)
    body = {"operation_uuid": wire_uuid(operation), "status": status, "latest_status": status, **_framework(framework)}
    return _call("UPDATE_OPERATION_STATUS", provider_id, body)


def listed_operation(identity: ProviderIdentity, operation: UUID, framework: str, info: Json, answer: Answer) -> Json:
    """An Operation as UPDATE_STATE lists it.

    The master aborts on one without ``agent_id`` when it is acknowledged (``has_slave_id()`` in src/master/master.cpp).
    """
    status = _status(identity.id, info, answer)
    return {
        "agent_id": {"value": identity.agent_id},
        "uuid": wire_uuid(operation),
        "info": info,
        "latest_status": status,
        "statuses": [status],
        **_framework(framework),
    }


def publish_status(provider_id: str, request: UUID, published: bool) -> Json:
    """UPDATE_PUBLISH_RESOURCES_STATUS."""
    body = {"uuid": wire_uuid(request), "status": "OK" if published else "FAILED"}
    return _call("UPDATE_PUBLISH_RESOURCES_STATUS", provider_id, body)


def _call(kind: str, provider_id: str, body: Json) -> Json:
    return {"type": kind, "resource_provider_id": {"value": provider_id}, kind.lower(): body}


def _framework(framework: str) -> Json:
    return {"framework_id": {"value": framework}} if framework else {}


def _status(provider_id: str, info: Json, answer: Answer) -> Json:
    status: Json = {
        "state": answer.state,
        "uuid": wire_uuid(answer.status_uuid),
        "resource_provider_id": {"value": provider_id},
    }
    if "id" in info:
        status["operation_id"] = info["id"]
    if answer.message:
        status["message"] = answer.message
    if answer.converted:
        status["converted_resources"] = list(answer.converted)
    return status
