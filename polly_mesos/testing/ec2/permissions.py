"""Which permissions a request needs, on which resources, and what conditions can be laid on each.

Source: the Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2", "... for AWS Key
Management Service"; the EC2 user guide, "Grant permission to tag resources during creation"; the EBS user guide,
"Requirements for Amazon EBS encryption", whose five permissions are asked for here where each is of use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from polly_mesos.testing.ec2.answers import Parameters, Refusal, text_of
from polly_mesos.testing.ec2.policy import Context, Need, Policy
from polly_mesos.testing.ec2.state import ACCOUNT, Cloud, Key

_CREATES = {"CreateVolume": "volume", "CreateSnapshot": "snapshot"}
_ABOUT: dict[str, tuple[str, ...]] = {
    "CreateVolume": ("SnapshotId",),
    "CreateSnapshot": ("VolumeId",),
    "AttachVolume": ("VolumeId", "InstanceId"),
    "DetachVolume": ("VolumeId", "InstanceId"),
    "DeleteVolume": ("VolumeId",),
    "ModifyVolume": ("VolumeId",),
    "DeleteSnapshot": ("SnapshotId",),
}
_KINDS = {"VolumeId": "volume", "SnapshotId": "snapshot", "InstanceId": "instance"}

DATA_KEY = ("kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext")
"""What a volume that is made encrypted needs of its key."""
OTHER_KEY = ("kms:ReEncryptFrom", "kms:ReEncryptTo")
"""What a volume that is made of an encrypted snapshot needs beside that."""
GRANT = ("kms:CreateGrant",)
"""What an encrypted volume needs when it is attached."""


def check(cloud: Cloud, policy: Policy | None, service: str, action: str, parameters: Parameters) -> None:
    """Whether a policy allows a request, and whether it is more than a question for that.

    :raises Refusal: it does not, or the request is a dry run
    """
    if policy is not None:
        for need in _needs(cloud, service, action, parameters):
            if not policy.allows(need):
                code = "UnauthorizedOperation" if service == "ec2" else "AccessDeniedException"
                told = f"User is not authorized to perform: {need} because no identity-based policy allows it"
                raise Refusal(code, f"You are not authorized to perform this operation. {told}")
    if parameters.flag("DryRun"):
        raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


def can_use(cloud: Cloud, policy: Policy | None, key: Key, actions: tuple[str, ...]) -> bool:
    """Whether EC2 can use a key on behalf of who asks: it is enabled, and the policy allows it."""
    context: dict[str, tuple[str, ...]] = {
        "kms:ViaService": (f"ec2.{cloud.region}.amazonaws.com",),
        "kms:ResourceAliases": key.aliases,
        "kms:GrantIsForAWSResource": ("true",),
    }
    if key.state != "Enabled":
        return False
    return policy is None or all(policy.allows(Need(action, key.arn(cloud.region), context)) for action in actions)


def _needs(cloud: Cloud, service: str, action: str, parameters: Parameters) -> Iterator[Need]:
    permission = f"{service}:{action}"
    if action == "CreateTags":
        asked = _request_tags(parameters.listed_tags("Tag"))
        for name in parameters.several("ResourceId"):
            arn = _arn(cloud, "snapshot" if name.startswith("snap-") else "volume", name)
            yield Need(permission, arn, {**_resource_tags(cloud, name), **asked})
        return
    if action not in _ABOUT:
        yield Need(permission)
        return
    if action in _CREATES:
        kind = _CREATES[action]
        made, asked = _arn(cloud, kind, "*"), _request_tags(parameters.tags(kind))
        yield Need(permission, made, asked)
        if parameters.tags(kind):
            yield Need("ec2:CreateTags", made, {**asked, "ec2:CreateAction": (action,)})
    for name in _ABOUT[action]:
        resource = parameters.get(name) or _implied(cloud, name, parameters)
        if resource:
            yield Need(permission, _arn(cloud, _KINDS[name], resource), _resource_tags(cloud, resource))


def _implied(cloud: Cloud, name: str, parameters: Parameters) -> str:
    """The instance that a volume is detached from, where it was not named."""
    volume = cloud.volumes.get(parameters.get("VolumeId", ""))
    return next(iter(volume.attachments), "") if volume is not None and name == "InstanceId" else ""


def _arn(cloud: Cloud, kind: str, name: str) -> str:
    return f"arn:aws:ec2:{cloud.region}:{'' if kind == 'snapshot' else ACCOUNT}:{kind}/{name}"


def _request_tags(tags: Mapping[str, str]) -> Context:
    keys = {"aws:TagKeys": tuple(tags)} if tags else {}
    return {**{f"aws:RequestTag/{key}": (value,) for key, value in tags.items()}, **keys}


def _resource_tags(cloud: Cloud, name: str) -> Context:
    answer = cloud.wire.ask("DescribeTags", {"Filter.1.Name": "resource-id", "Filter.1.Value.1": name})
    items = answer.findall("tagSet/item")
    return {f"aws:ResourceTag/{text_of(item, 'key')}": (text_of(item, "value"),) for item in items}
