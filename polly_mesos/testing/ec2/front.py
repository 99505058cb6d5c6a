"""The strict front: what a client talks to instead of EC2 and Service Quotas."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl

from polly_mesos.testing.ec2 import attachments, permissions, quotas, snapshots, volumes
from polly_mesos.testing.ec2.answers import Element, Parameters, Refusal, written
from polly_mesos.testing.ec2.faults import Fault, Faults
from polly_mesos.testing.ec2.server import HttpServer
from polly_mesos.testing.ec2.signature import Account, verified
from polly_mesos.testing.ec2.state import Cloud

_LISTED = ("Filter", "MaxResults", "NextToken")
_ACTIONS: dict[str, tuple[Callable[[Cloud, Parameters], Element], tuple[str, ...]]] = {
    "CreateVolume": (
        volumes.create,
        (
            *("AvailabilityZone", "Size", "SnapshotId", "VolumeType", "Iops", "Throughput", "Encrypted", "KmsKeyId"),
            *("MultiAttachEnabled", "ClientToken", "TagSpecification"),
        ),
    ),
    "DescribeVolumes": (volumes.describe, ("VolumeId", *_LISTED)),
    "DeleteVolume": (volumes.delete, ("VolumeId",)),
    "ModifyVolume": (volumes.modify, ("VolumeId", "Size", "VolumeType", "Iops", "Throughput")),
    "DescribeVolumesModifications": (volumes.describe_modifications, ("VolumeId",)),
    "AttachVolume": (attachments.attach, ("VolumeId", "InstanceId", "Device")),
    "DetachVolume": (attachments.detach, ("VolumeId", "InstanceId", "Device", "Force")),
    "DescribeInstances": (attachments.describe_instances, ("InstanceId", *_LISTED)),
    "DescribeInstanceTypes": (attachments.describe_instance_types, ("InstanceType", *_LISTED)),
    "DescribeAvailabilityZones": (attachments.describe_zones, ("ZoneName",)),
    "CreateSnapshot": (snapshots.create, ("VolumeId", "Description", "TagSpecification")),
    "DescribeSnapshots": (snapshots.describe, ("SnapshotId", "Owner", *_LISTED)),
    "DeleteSnapshot": (snapshots.delete, ("SnapshotId",)),
    "CreateTags": (volumes.create_tags, ("ResourceId", "Tag")),
}
_HTML = b"<html><head><title>500 Internal Server Error</title></head><body><h1>Server Error</h1></body></html>"


class Front:
    """Listens on 127.0.0.1.

    :param accounts: access key -> who may ask with it, and for what
    """

    def __init__(self, cloud: Cloud, faults: Faults, accounts: dict[str, Account]) -> None:
        self._cloud = cloud
        self._faults = faults
        self._accounts = accounts
        self.server = HttpServer(self._handle)

    def _handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        request_id = str(uuid.uuid4())
        headers = {key.lower(): value for key, value in request.headers.items()}
        is_json = "x-amz-target" in headers
        fault: Fault | tuple[str, str] | None = None
        try:
            parameters = Parameters({} if is_json else dict(parse_qsl(body.decode(), keep_blank_values=True)))
            action = quotas.action_of(headers["x-amz-target"]) if is_json else parameters.required("Action")
            fault = self._faults.next(action, self._cloud.now)
            if isinstance(fault, tuple):
                raise Refusal(*fault)
            if fault is None or fault.happens:
                account, service = verified(self._accounts, self._cloud.region, request.path, headers, body)
                parameters.policy = account.policy
                status, answer = 200, self._do(service, action, parameters, body, request_id, is_json=is_json)
            else:
                status, answer = _failed(fault, request_id)
        except Refusal as refusal:
            status, answer = refusal.status, _refused(refusal, request_id, is_json=is_json)
        self._send(request, status, answer, request_id, fault, is_json=is_json)

    def _do(
        self, service: str, action: str, parameters: Parameters, body: bytes, request_id: str, *, is_json: bool
    ) -> bytes:
        with self._cloud.lock:
            self._cloud.settle()
            permissions.check(self._cloud, parameters.policy, service, action, parameters)
            if is_json:
                return quotas.answer(self._cloud, action, body)
            if action not in _ACTIONS:
                raise Refusal("InvalidAction", f"The action {action} is not valid for this web service.")
            perform, known = _ACTIONS[action]
            parameters.check_known(known)
            return written(perform(self._cloud, parameters), request_id)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        answer: bytes,
        request_id: str,
        fault: Fault | tuple[str, str] | None,
        *,
        is_json: bool,
    ) -> None:
        if fault in (Fault.LOST, Fault.REFUSED):
            request.close_connection = True
            request.connection.shutdown(2)
            return
        if fault in (Fault.HTML, Fault.HTML_AFTER):
            status, answer = 500, _HTML
        if fault is Fault.NONSENSE:
            answer = b"<CreateVolumeResponse><volumeId"
        request.send_response(status)
        kind = "application/x-amz-json-1.1" if is_json else "text/xml;charset=UTF-8"
        request.send_header("Content-Type", "text/html" if answer is _HTML else kind)
        request.send_header("x-amzn-RequestId", request_id)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer[: len(answer) // 2] if fault is Fault.CUT else answer)
        if fault is Fault.CUT:
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(2)


def _failed(fault: Fault, request_id: str) -> tuple[int, bytes]:
    refusals = {
        Fault.THROTTLED: Refusal("RequestLimitExceeded", "Request limit exceeded."),
        Fault.UNAVAILABLE: Refusal("Unavailable", "The server is overloaded and can't handle the request.", 503),
        Fault.INTERNAL: Refusal("InternalError", "An internal error has occurred.", 500),
    }
    refusal = refusals.get(fault)
    return (0, b"") if refusal is None else (refusal.status, refusal.body(request_id))


def _refused(refusal: Refusal, request_id: str, *, is_json: bool) -> bytes:
    if not is_json:
        return refusal.body(request_id)
    kind, message = refusal.code, refusal.message.replace('"', "'")
    return f'{{"__type": "{kind}", "Message": "{message}"}}'.encode()
