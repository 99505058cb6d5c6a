"""Service Quotas: the storage that an account may have of each volume type.

Source: the Service Quotas API reference, GetServiceQuota and GetAWSDefaultServiceQuota; the codes are those of the
service ``ebs`` in the AWS general reference, "Amazon EBS endpoints and quotas".
"""

from __future__ import annotations

import json
from typing import Any

from polly_mesos.testing.ec2.answers import Refusal
from polly_mesos.testing.ec2.state import TIB, Cloud

CODES = {
    "L-D18FCD1D": "gp2",
    "L-7A658B76": "gp3",
    "L-FD252861": "io1",
    "L-09BD8365": "io2",
    "L-82ACEF56": "st1",
    "L-17AF77E8": "sc1",
}
_TARGET = "ServiceQuotasV20190624."


def action_of(target: str) -> str:
    """The action of a request's ``X-Amz-Target``."""
    if not target.startswith(_TARGET):
        raise Refusal("UnknownOperationException", f"{target!r} is not an operation of Service Quotas")
    return target.removeprefix(_TARGET)


def answer(cloud: Cloud, action: str, body: bytes) -> bytes:
    """What Service Quotas says of one quota; an account has its own, or the default of all accounts."""
    try:
        asked: dict[str, Any] = json.loads(body)
    except ValueError as error:
        raise Refusal("SerializationException", "the body is not JSON") from error
    kind = CODES.get(asked.get("QuotaCode", ""))
    if asked.get("ServiceCode") != "ebs" or kind is None:
        raise Refusal("NoSuchResourceException", "The request failed because the specified quota doesn't exist.")
    if action == "GetServiceQuota" and kind in cloud.default_quotas:
        raise Refusal("NoSuchResourceException", "The request failed because the specified quota has no applied value.")
    quota = {"ServiceCode": "ebs", "QuotaCode": asked["QuotaCode"], "Value": cloud.quotas[kind] / TIB}
    return json.dumps({"Quota": {**quota, "Unit": "None", "GlobalQuota": False}}).encode()
