"""The volume types and what each can be. Standard library only.

Source: the Amazon EBS user guide, "Amazon EBS volume types", and the EC2 API reference, CreateVolume.
"""

from __future__ import annotations

from dataclasses import dataclass

from polly_mesos.errors import InvalidRequest, NotSupported

GIB = 1 << 30

_BASE_IOPS = 3000
_IOPS_PER_THROUGHPUT = 4


@dataclass(frozen=True, slots=True)
class VolumeType:
    """One type. Sizes in GiB, throughput in MiB/s.

    :param iops: the least and the most that can be bought; None where they come with the size
    :param iops_per_gib: the most for each GiB
    :param must_buy_iops: whether there is no default
    :param quota: code of the quota on all its volumes together, in TiB, of the service ``ebs`` of Service Quotas
    """

    name: str
    smallest: int
    largest: int
    quota: str
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    must_buy_iops: bool = False
    throughput: tuple[int, int] | None = None
    multi_attach: bool = False


DEFAULT = "gp3"
_TYPES = {
    each.name: each
    for each in (
        VolumeType("gp2", 1, 16384, "L-D18FCD1D"),
        VolumeType("gp3", 1, 65536, "L-7A658B76", (3000, 80000), 500, throughput=(125, 2000)),
        VolumeType("io1", 4, 16384, "L-FD252861", (100, 64000), 50, must_buy_iops=True, multi_attach=True),
        VolumeType("io2", 4, 65536, "L-09BD8365", (100, 256000), 1000, must_buy_iops=True, multi_attach=True),
        VolumeType("st1", 125, 16384, "L-82ACEF56"),
        VolumeType("sc1", 125, 16384, "L-17AF77E8"),
    )
}


def type_named(name: str) -> VolumeType:
    """The type of that name; gp3 where none is named.

    :raises NotSupported: EBS has no such type, or none that Polly makes
    """
    found = _TYPES.get(name or DEFAULT)
    if found is None:
        raise NotSupported(f"EBS has no volume type {name!r} for Polly", remedy=f"use one of {', '.join(_TYPES)}")
    return found


def check_shape(
    kind: VolumeType, size: int, iops: int | None, throughput: int | None, *, multi_attach: bool = False
) -> None:
    """Whether there can be such a volume. Only its numbers are looked at, nothing is asked.

    :raises InvalidRequest: there cannot, with ``field`` size, iops, options.throughput or options.multi_attach
    """
    if not kind.smallest <= size <= kind.largest:
        raise InvalidRequest(
            f"{kind.name} has volumes of {kind.smallest} to {kind.largest} GiB, and {size} GiB were asked for",
            remedy="ask for another size, or use another type",
            field="size",
            value=size * GIB,
        )
    _check_iops(kind, size, iops)
    if throughput is not None:
        _check_throughput(kind, throughput, iops)
    if multi_attach and not kind.multi_attach:
        raise InvalidRequest(
            f"a {kind.name} volume cannot be attached to several instances",
            remedy="use io1 or io2, or leave multi_attach out",
            field="options.multi_attach",
            value=multi_attach,
        )


def _check_iops(kind: VolumeType, size: int, iops: int | None) -> None:
    if iops is None:
        if kind.must_buy_iops:
            raise InvalidRequest(f"{kind.name} needs iops", remedy="write iops in the profile", field="iops", value="")
        return
    if kind.iops is None:
        remedy = "leave iops out, or use gp3, io1 or io2"
        raise InvalidRequest(f"{kind.name} has no iops to buy", remedy=remedy, field="iops", value=iops)
    least, most = kind.iops
    most = min(most, max(kind.iops_per_gib * size, _BASE_IOPS if not kind.must_buy_iops else 0))
    if not least <= iops <= most:
        raise InvalidRequest(
            f"{kind.name} has {least} to {most} iops on a volume of {size} GiB, and {iops} were asked for",
            remedy=f"ask for fewer, or for a larger volume: there are {kind.iops_per_gib} for each GiB at most",
            field="iops",
            value=iops,
        )


def _check_throughput(kind: VolumeType, throughput: int, iops: int | None) -> None:
    if kind.throughput is None:
        raise InvalidRequest(
            f"{kind.name} has no throughput to buy",
            remedy="leave throughput out, or use gp3",
            field="options.throughput",
            value=throughput,
        )
    least, most = kind.throughput
    most = min(most, (iops or _BASE_IOPS) // _IOPS_PER_THROUGHPUT)
    if not least <= throughput <= most:
        raise InvalidRequest(
            f"{kind.name} has {least} to {most} MiB/s with {iops or _BASE_IOPS} iops, and {throughput} were asked for",
            remedy="ask for less, or for more iops: there is 1 MiB/s for each 4",
            field="options.throughput",
            value=throughput,
        )
