"""The ``shared`` policy: every agent shows what is free in the whole pool, and the ledger judges each reservation."""

from __future__ import annotations

from polly_mesos.model import MB
from polly_mesos.scheduler.planner_snapshot import Leases, PoolSnapshot, Snapshot, by_pool, users, whole_mb


def shared_view(snapshot: Snapshot, previous: Leases) -> dict[tuple[str, str], int]:
    """What every agent shows: the pool's free space, and not more than one volume of the largest size.

    It is rounded down to three significant binary digits of MB, kept while that much is free, and raised only when it
    can grow by a quarter: so most reservations change no agent's view. Agents that show nothing are not in the answer.

    :param previous: the last answer
    """
    held, shown = by_pool(snapshot.leases), by_pool(previous)
    view: dict[tuple[str, str], int] = {}
    for pool in snapshot.pools:
        free = pool.capacity - pool.committed - sum(held.get(pool.name, {}).values())
        size = _shown_size(pool, free, last=max(shown.get(pool.name, {}).values(), default=0))
        if size >= max(pool.minimum_size, MB):
            view |= {(pool.name, agent): size for agent in users(pool, snapshot.agents)}
    return view


def _shown_size(pool: PoolSnapshot, free: int, last: int) -> int:
    if pool.maximum_size is not None and free >= pool.maximum_size:
        return whole_mb(pool.maximum_size)
    keeps = MB <= last <= free < last + last // 4
    return last if keeps else _three_digits(free)


def _three_digits(size: int) -> int:
    megabytes = max(0, size // MB)
    dropped = max(0, megabytes.bit_length() - 3)
    return (megabytes >> dropped << dropped) * MB
