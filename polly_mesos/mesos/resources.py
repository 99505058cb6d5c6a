"""Arithmetic on Mesos resources as the agent does it, for the disks of a resource provider.

A resource is a JSON object as Mesos writes it. Functions accept every format that Mesos sends (reservations as
``role`` and ``reservation``, as the list ``reservations``, or both) and give the list (post-refinement) format.
The rules are those of src/common/resources.cpp and src/common/resources_utils.cpp of Mesos 1.11: PATH disks with the
same source, and RAW disks without an id, add and subtract; MOUNT and BLOCK disks, RAW disks with an id and persistent
volumes are exclusive: one is taken whole or not at all.

Sizes are MB (1,048,576 bytes) with three exact decimals, as Mesos computes them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polly_mesos.errors import Conflict, InvalidRequest, NotSupported
from polly_mesos.model import MB, UNRESERVED, Json

SPECULATIVE = frozenset({"RESERVE", "UNRESERVE", "CREATE", "DESTROY"})
"""Operations whose outcome the master and the agent assume at once, before the provider answers
(isSpeculativeOperation in src/common/protobuf_utils.cpp)."""

CONVERTING = frozenset({"CREATE_DISK", "DESTROY_DISK"})
"""Operations whose outcome only the provider's answer tells."""

_RESERVED_NOWHERE = "*"


class NotContained(Conflict):
    """Something was to be taken from resources that do not hold it."""

    code = "resources-not-contained"


def normalise(resource: Mapping[str, Any], provider_id: str | None = None) -> Json:
    """The resource in the one form that this module works with.

    ``allocation_info`` and empty parts go, reservations become the list format, the size gets three exact decimals.

    :param provider_id: set as the resource's provider, unless None
    :raises InvalidRequest: not a scalar resource with a name and a size of at least 0
    """
    name = resource.get("name")
    if not isinstance(name, str) or resource.get("type", "SCALAR") != "SCALAR":
        raise InvalidRequest(f"not a scalar resource with a name: {canonical(resource)}", field="resource")
    result: Json = {"name": name, "type": "SCALAR", "scalar": {"value": _thousandths(resource) / 1000}}
    if provider_id is not None:
        result["provider_id"] = {"value": provider_id}
    elif resource.get("provider_id"):
        result["provider_id"] = dict(resource["provider_id"])
    reservations = _reservations(resource)
    if reservations:
        result["reservations"] = reservations
    if resource.get("disk"):
        result["disk"] = dict(resource["disk"])
    for presence in ("shared", "revocable"):
        if resource.get(presence) is not None:
            result[presence] = {}
    return result


def megabytes(resource: Mapping[str, Any]) -> float:
    """The resource's size in MB, exact to a thousandth."""
    return _thousandths(resource) / 1000


def size_of(resource: Mapping[str, Any]) -> int:
    """The resource's size in bytes.

    :raises InvalidRequest: the size is not a whole number of MB, which is all that Polly admits
    """
    thousandths = _thousandths(resource)
    if thousandths % 1000:
        raise InvalidRequest(
            f"a disk of {thousandths / 1000} MB",
            remedy="ask for a whole number of MB",
            field="scalar.value",
            value=thousandths / 1000,
        )
    return thousandths // 1000 * MB


def provider_of(resource: Mapping[str, Any]) -> str:
    """The id of the resource's provider, empty for the agent's own resources."""
    return str((resource.get("provider_id") or {}).get("value", ""))


def persistence_of(resource: Mapping[str, Any]) -> str:
    """The persistence id, empty where the resource is no persistent volume."""
    return str(((resource.get("disk") or {}).get("persistence") or {}).get("id", ""))


def role_of(resource: Mapping[str, Any]) -> str:
    """The role that holds the resource, empty where it is unreserved."""
    reservations = _reservations(resource)
    return str(reservations[-1].get("role", "")) if reservations else ""


def owner_of(resource: Mapping[str, Any]) -> str:
    """The reservation stack as the ledger compares it: canonical JSON, :data:`UNRESERVED` where there is none.

    The order of labels means nothing to Mesos, so they are sorted.
    """
    reservations = _reservations(resource)
    return canonical([_with_sorted_labels(one) for one in reservations]) if reservations else UNRESERVED


def reservations_of(owner: str) -> list[Json]:
    """The reservation stack that :func:`owner_of` made the text of."""
    stack: list[Json] = [] if owner == UNRESERVED else json.loads(owner)
    return stack


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def pool_disk(
    size_mb: float,
    *,
    root: str,
    profile: str,
    vendor: str,
    owner: str = UNRESERVED,
    disk: Mapping[str, Any] | None = None,
) -> Json:
    """A part of a divisible PATH pool.

    :param owner: the reservation stack, as :func:`owner_of` gives it
    :param disk: DiskInfo's ``persistence`` and ``volume`` of a persistent volume made of this part
    """
    source = {"type": "PATH", "path": {"root": root}, "profile": profile, "vendor": vendor}
    return _disk(size_mb, source, owner, disk)


def raw_disk(size_mb: float, *, profile: str, vendor: str, owner: str = UNRESERVED) -> Json:
    """A part of a RAW pool, which frameworks turn into disks by CREATE_DISK."""
    return _disk(size_mb, {"type": "RAW", "profile": profile, "vendor": vendor}, owner, None)


def mount_disk(
    size_mb: float,
    *,
    root: str,
    disk_id: str,
    profile: str,
    vendor: str,
    owner: str = UNRESERVED,
    disk: Mapping[str, Any] | None = None,
) -> Json:
    """An exclusive MOUNT disk: a volume that exists already. Parameters as for :func:`pool_disk`."""
    source = {"type": "MOUNT", "mount": {"root": root}, "id": disk_id, "profile": profile, "vendor": vendor}
    return _disk(size_mb, source, owner, disk)


def _disk(size_mb: float, source: Json, owner: str, disk: Mapping[str, Any] | None) -> Json:
    resource: Json = {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": size_mb},
        "reservations": reservations_of(owner),
        "disk": {**(disk or {}), "source": source},
    }
    return normalise(resource)


def is_exclusive(resource: Mapping[str, Any]) -> bool:
    """Whether the resource can only be taken whole."""
    disk = resource.get("disk") or {}
    source = disk.get("source") or {}
    kind = source.get("type")
    return bool(disk.get("persistence")) or kind in ("MOUNT", "BLOCK") or (kind == "RAW" and "id" in source)


class _Tally:
    """A multiset of resources: sizes of divisible kinds, counts of exclusive things."""

    def __init__(self, resources: Iterable[Mapping[str, Any]] = ()) -> None:
        self.samples: dict[str, Json] = {}
        self.amounts: Counter[str] = Counter()
        for resource in resources:
            self.add(resource)

    def add(self, resource: Mapping[str, Any]) -> None:
        key, sample, amount = _identity(resource)
        if amount:
            self.samples.setdefault(key, sample)
            self.amounts[key] += amount

    def subtract(self, other: _Tally) -> None:
        for key, amount in other.amounts.items():
            if self.amounts[key] < amount:
                raise NotContained(f"{_describe(other.samples[key], amount)} is not contained in {self.describe()}")
        self.amounts.subtract(other.amounts)
        self.amounts = +self.amounts

    def holds(self, other: _Tally) -> bool:
        return self.amounts >= other.amounts

    def resources(self) -> list[Json]:
        result: list[Json] = []
        for key, amount in self.amounts.items():
            sample = self.samples[key]
            if is_exclusive(sample):
                result += [sample] * amount
            else:
                result.append({**sample, "scalar": {"value": amount / 1000}})
        return result

    def describe(self) -> str:
        return ", ".join(_describe(self.samples[key], amount) for key, amount in self.amounts.items()) or "nothing"


def _identity(resource: Mapping[str, Any]) -> tuple[str, Json, int]:
    """What two resources must share to be added: key, normal form, and amount (thousandths of MB, or a count)."""
    sample = normalise(resource)
    thousandths = _thousandths(sample)
    disk = sample.get("disk", {})
    comparable = {key: value for key, value in sample.items() if key not in ("scalar", "disk", "reservations")}
    comparable["reservations"] = owner_of(sample)
    # How a framework mounts a volume, and who made it, does not make it another volume (DiskInfo's operator==).
    comparable["disk"] = {"source": disk.get("source"), "persistence": persistence_of(sample)} if disk else None
    if not is_exclusive(sample):
        return canonical(comparable), sample, thousandths
    comparable["size"] = thousandths
    return canonical(comparable), sample, 1 if thousandths else 0


def add(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Both together, in normal form; divisible kinds are merged, resources of size 0 vanish."""
    return _Tally([*left, *right]).resources()


def subtract(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> list[Json]:
    """``left`` without ``right``.

    :raises NotContained: ``left`` does not hold all of ``right``
    """
    tally = _Tally(left)
    tally.subtract(_Tally(right))
    return tally.resources()


def contains(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> bool:
    """Whether ``left`` holds all of ``right``."""
    return _Tally(left).holds(_Tally(right))


def equal(left: Iterable[Mapping[str, Any]], right: Iterable[Mapping[str, Any]]) -> bool:
    """Whether Mesos takes both for the same resources, in whatever order and pieces they are listed."""
    return _Tally(left).amounts == _Tally(right).amounts


def conversions(
    info: Mapping[str, Any], converted: Sequence[Mapping[str, Any]] | None = None
) -> tuple[list[Json], list[Json]]:
    """What an Offer.Operation takes from the totals and what it puts there instead.

    :param converted: the provider's answer to a CREATE_DISK or DESTROY_DISK; for other operations it follows from the
        operation and is not looked at
    :raises NotSupported: not an operation on a provider's disks
    :raises InvalidRequest: the operation is malformed, or ``converted`` is missing or of another size than what is
        taken, which would abort the master (CHECK in src/master/allocator/mesos/hierarchical.cpp)
    """
    kind = str(info.get("type", ""))
    if kind in CONVERTING:
        source = (info.get(kind.lower()) or {}).get("source")
        if not source or converted is None:
            raise InvalidRequest(f"{kind} without {'converted resources' if source else 'a source'}", field="converted")
        taken, given = [normalise(source)], [normalise(one) for one in converted]
    elif kind in SPECULATIVE:
        taken, given = _speculative(kind, info.get(kind.lower()) or {})
    else:
        raise NotSupported(f"{kind or 'an operation without type'} is not an operation on a resource provider's disks")
    before, after = sum(map(_thousandths, taken)), sum(map(_thousandths, given))
    if before != after:
        raise InvalidRequest(
            f"{kind} turns {before / 1000} MB into {after / 1000} MB; Mesos needs the same size",
            field="converted",
            value=after / 1000,
        )
    return taken, given


def apply(
    totals: Iterable[Mapping[str, Any]], info: Mapping[str, Any], converted: Sequence[Mapping[str, Any]] | None = None
) -> list[Json]:
    """The totals after an Offer.Operation. Parameters and errors as for :func:`conversions`.

    :raises NotContained: the totals do not hold what the operation takes
    """
    taken, given = conversions(info, converted)
    return add(subtract(totals, taken), given)


def _speculative(kind: str, detail: Mapping[str, Any]) -> tuple[list[Json], list[Json]]:
    listed = [normalise(one) for one in detail.get("volumes" if kind in ("CREATE", "DESTROY") else "resources") or ()]
    if not listed:
        raise InvalidRequest(f"{kind} without resources", field="resources")
    if kind == "RESERVE":
        source = [normalise(one) for one in detail.get("source") or ()]
        return source or [_without_last_reservation(one) for one in listed], listed
    if kind == "UNRESERVE":
        return listed, [_without_last_reservation(one) for one in listed]
    plain = [_without_persistence(one) for one in listed]
    return (plain, listed) if kind == "CREATE" else (listed, plain)


def _without_last_reservation(resource: Json) -> Json:
    if not resource.get("reservations"):
        raise InvalidRequest(f"{canonical(resource)} has no reservation to take away", field="reservations")
    return normalise({**resource, "reservations": resource["reservations"][:-1]})


def _without_persistence(resource: Json) -> Json:
    if not persistence_of(resource):
        raise InvalidRequest(f"{canonical(resource)} is not a persistent volume", field="disk.persistence")
    plain = {key: value for key, value in resource.items() if key not in ("shared", "disk")}
    if "source" in resource["disk"]:
        plain["disk"] = {key: value for key, value in resource["disk"].items() if key not in ("persistence", "volume")}
    return plain


def volume_path(resource: Mapping[str, Any]) -> str:
    """The absolute host path where the agent looks for a volume (getPersistentVolumePath in src/slave/paths.cpp).

    :raises InvalidRequest: the agent would find no such path: no PATH or MOUNT source with an absolute root, or a PATH
        volume that is not reserved or not persistent, or an id that is no plain name
    """
    source = (resource.get("disk") or {}).get("source") or {}
    kind = str(source.get("type", ""))
    root = str((source.get(kind.lower()) or {}).get("root", ""))
    if kind not in ("PATH", "MOUNT") or not root.startswith("/"):
        raise InvalidRequest(f"no PATH or MOUNT disk with an absolute root: {canonical(resource)}", field="disk.source")
    if "id" in source:
        root = f"{root}/{_encoded(_plain_name(str(source['id'])))}/target"
    if kind == "MOUNT":
        return root
    role = role_of(resource)
    if not role:
        raise InvalidRequest(f"a volume that no role holds: {canonical(resource)}", field="reservations")
    return f"{root}/volumes/roles/{role.replace('/', ' ')}/{_plain_name(persistence_of(resource))}"


def _plain_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidRequest(f"{name!r} cannot be part of a path", field="id", value=name)
    return name


_NOT_ENCODED = frozenset(map(chr, range(0x21, 0x7F))) - frozenset('$&+,/:;=?@"<>#%{}|\\^~[]`')


def _encoded(name: str) -> str:
    # libprocess' own percent encoding (http::encode): unlike RFC 3986 it encodes "~" and leaves "!'()*".
    return "".join(c if c in _NOT_ENCODED else "".join(f"%{byte:02X}" for byte in c.encode()) for c in name)


def _thousandths(resource: Mapping[str, Any]) -> int:
    value = (resource.get("scalar") or {}).get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InvalidRequest(f"no size of at least 0 MB: {canonical(resource)}", field="scalar.value", value=value)
    return round(value * 1000)


def _reservations(resource: Mapping[str, Any]) -> list[Json]:
    if resource.get("reservations"):
        return [{"type": "DYNAMIC", **one} for one in resource["reservations"]]
    role = resource.get("role", _RESERVED_NOWHERE)
    if role == _RESERVED_NOWHERE:
        return []
    if resource.get("reservation") is None:
        return [{"type": "STATIC", "role": role}]
    return [{**resource["reservation"], "type": "DYNAMIC", "role": role}]


def _with_sorted_labels(reservation: Json) -> Json:
    labels = (reservation.get("labels") or {}).get("labels")
    if labels is None:
        return reservation
    return {**reservation, "labels": {"labels": sorted(labels, key=canonical)}}


def _describe(resource: Mapping[str, Any], amount: int) -> str:
    disk = resource.get("disk") or {}
    source = disk.get("source") or {}
    size = megabytes(resource) if is_exclusive(resource) else amount / 1000
    words = [f"{size:g} MB of {source.get('type', resource['name'])} disk"]
    words += [f"{key} {source[key]}" for key in ("profile", "id") if source.get(key)]
    if persistence_of(resource):
        words.append(f"volume {persistence_of(resource)}")
    words.append(f"of role {role_of(resource)}" if role_of(resource) else "unreserved")
    return " ".join(words)
