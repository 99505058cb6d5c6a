"""What EC2 takes and what it refuses, written down apart from the driver, so that each can find the other's mistakes.

Sources: the EBS user guide, "EBS volume types" and "Device names"; the EC2 API reference, CreateVolume and
ModifyVolume; the EC2 user guide, "Tag restrictions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from polly_mesos.testing.ec2.answers import Refusal


@dataclass(frozen=True, slots=True)
class Rule:
    """One volume type. Sizes in GiB, throughput in MiB/s.

    :param ratio: the most operations per second for each GiB
    """

    smallest: int
    largest: int
    iops: tuple[int, int] | None = None
    needs_iops: bool = False
    ratio: int = 0
    throughput: tuple[int, int] | None = None
    multi_attach: bool = False


RULES = {
    "gp2": Rule(1, 16384),
    "gp3": Rule(1, 65536, (3000, 80000), ratio=500, throughput=(125, 2000)),
    "io1": Rule(4, 16384, (100, 64000), True, 50, multi_attach=True),
    "io2": Rule(4, 65536, (100, 256000), True, 1000, multi_attach=True),
    "st1": Rule(125, 16384),
    "sc1": Rule(125, 16384),
}

_BASE_IOPS = 3000
_THROUGHPUT_PER_IOPS = 4
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 128, 256
_TAG = re.compile(r"[\w \t+\-=.:/@]*")
_DEVICE = re.compile(r"/dev/(sd[b-z]|xvd[b-z]|xvd[a-d][a-z])")
_ID = re.compile(r"[a-z]+-([0-9a-f]{8}|[0-9a-f]{17})")


def check_volume(kind: str, size: int, iops: int | None, throughput: int | None, *, multi_attach: bool = False) -> None:
    """Whether there can be such a volume.

    :raises Refusal: there cannot
    """
    if kind not in RULES:
        raise Refusal("InvalidParameterValue", f"Value ({kind}) for parameter volumeType is invalid.")
    rule = RULES[kind]
    if not rule.smallest <= size <= rule.largest:
        raise Refusal(
            "InvalidParameterValue",
            f"Volume of {size}GiB is invalid for {kind}; must be between {rule.smallest}GiB and {rule.largest}GiB.",
        )
    _check_iops(kind, rule, size, iops)
    if throughput is not None:
        if rule.throughput is None:
            raise Refusal(
                "InvalidParameterCombination", f"The parameter throughput is not supported for {kind} volumes."
            )
        if not rule.throughput[0] <= throughput <= rule.throughput[1]:
            raise Refusal(
                "InvalidParameterValue", f"Volume throughput of {throughput} MiB/s is not between {rule.throughput}."
            )
        if throughput * _THROUGHPUT_PER_IOPS > (iops or _BASE_IOPS):
            raise Refusal("InvalidParameterValue", "Throughput (MiBps) to iops ratio of more than 0.25 is too high.")
    if multi_attach and not rule.multi_attach:
        raise Refusal("InvalidParameterCombination", f"MultiAttach is not supported for {kind} volumes.")


def _check_iops(kind: str, rule: Rule, size: int, iops: int | None) -> None:
    if iops is None:
        if rule.needs_iops:
            raise Refusal("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
        return
    if rule.iops is None:
        raise Refusal("InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes.")
    if not rule.iops[0] <= iops <= rule.iops[1]:
        raise Refusal(
            "InvalidParameterValue", f"Volume iops of {iops} is not between {rule.iops[0]} and {rule.iops[1]}."
        )
    if iops > max(rule.ratio * size, _BASE_IOPS if kind == "gp3" else 0):
        raise Refusal(
            "InvalidParameterValue",
            f"Iops to volume size ratio of {iops / size:.1f} is too high; maximum is {rule.ratio}.",
        )


def check_tags(tags: Mapping[str, str]) -> None:
    """Whether tags are of the form that all AWS services take.

    :raises Refusal: they are not
    """
    if len(tags) > _MOST_TAGS:
        raise Refusal("TagLimitExceeded", f"More than {_MOST_TAGS} tags specified")
    for key, value in tags.items():
        if not key or len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            raise Refusal("InvalidParameterValue", f"Tag key or value exceeds the maximum length: {key!r}")
        if key.lower().startswith("aws:"):
            raise Refusal(
                "InvalidParameterValue", f"Tag keys starting with 'aws:' are reserved for internal use: {key!r}"
            )
        if not _TAG.fullmatch(key) or not _TAG.fullmatch(value):
            raise Refusal("InvalidParameterValue", f"Tag {key!r} has characters that are not allowed")


def check_device(device: str) -> None:
    """Whether a volume can be attached by this name.

    :raises Refusal: it cannot
    """
    if not _DEVICE.fullmatch(device):
        raise Refusal(
            "InvalidParameterValue",
            f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.",
        )


def slot(device: str) -> str:
    """What two names of one place have in common: sdf and xvdf are one place."""
    return re.sub(r"^/dev/(sd|xvd)", "", device)


def check_id(kind: str, found: str) -> None:
    """Whether an id has the form of its kind: ``volume``, ``instance`` or ``snapshot``.

    :raises Refusal: it has not
    """
    prefix, code = {
        "volume": ("vol-", "InvalidParameterValue"),
        "instance": ("i-", "InvalidInstanceID.Malformed"),
        "snapshot": ("snap-", "InvalidParameterValue"),
    }[kind]
    if not found.startswith(prefix) or not _ID.fullmatch(found):
        raise Refusal(code, f'Invalid id: "{found}" (expecting "{prefix}...")')
