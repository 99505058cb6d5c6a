"""Bytes and who has them. The functions work inside a transaction; nothing here knows volumes' states or operations.

What an agent has of a pool for one owner is a *holding* of ``size`` bytes, ``backed`` of which the pool really holds.
The holding of nobody (:data:`~polly_mesos.model.UNRESERVED`) is the lease: its backed bytes are on offer, and the rest
is owed to it, to come when volumes on that agent are gone.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, literal_column, select, update

from polly_mesos.errors import InsufficientCapacity, InvalidRequest, UnknownAgent, UnknownPool
from polly_mesos.ledger.sqlite import LARGEST
from polly_mesos.ledger.store import Prepared, Transaction
from polly_mesos.ledger.tables import agents, holdings, pools, volumes
from polly_mesos.model import UNRESERVED

_here = (
    holdings.c.pool == bindparam("the_pool"),
    holdings.c.agent == bindparam("the_agent"),
    holdings.c.owner == bindparam("the_owner"),
)

_AGENT_EXISTS = Prepared(select(agents.c.id).where(agents.c.id == bindparam("agent")))
_POOL_EXISTS = Prepared(select(pools.c.name).where(pools.c.name == bindparam("pool")))
_HOLDING = Prepared(select(holdings.c.size, holdings.c.backed).where(*_here))
_ADD = Prepared(insert(holdings))
_SET = Prepared(update(holdings).where(*_here).values(size=bindparam("to_size"), backed=bindparam("to_backed")))
_GROW = Prepared(
    update(holdings)
    .where(*_here)
    .values(size=holdings.c.size + bindparam("more"), backed=holdings.c.backed + bindparam("more_backed"))
)
_TAKE_PART = Prepared(
    update(holdings)
    .where(*_here, holdings.c.backed >= bindparam("less"), holdings.c.size > bindparam("less"))
    .values(size=holdings.c.size - bindparam("less"), backed=holdings.c.backed - bindparam("less"))
)
_REMOVE = Prepared(delete(holdings).where(*_here))
_UNBACKED = Prepared(
    select(holdings.c.owner, holdings.c.size, holdings.c.backed)
    .where(
        holdings.c.pool == bindparam("the_pool"),
        holdings.c.agent == bindparam("the_agent"),
        holdings.c.size > holdings.c.backed,
    )
    .order_by(holdings.c.owner.desc())
)
_LEASES = Prepared(
    select(holdings.c.agent, holdings.c.size, holdings.c.backed)
    .where(holdings.c.pool == bindparam("the_pool"), holdings.c.owner == literal_column("''"))
    .order_by(holdings.c.backed.desc(), holdings.c.agent)
)
_FREE = Prepared(
    select(
        pools.c.capacity
        - select(func.coalesce(func.sum(holdings.c.backed), 0))
        .where(holdings.c.pool == bindparam("the_pool"))
        .scalar_subquery()
        - select(func.coalesce(func.sum(volumes.c.size), 0))
        .where(volumes.c.pool == bindparam("the_pool"), volumes.c.state != literal_column("'deleted'"))
        .scalar_subquery()
    ).where(pools.c.name == bindparam("the_pool"))
)


def unknown_agent(agent: str) -> UnknownAgent:
    return UnknownAgent(f"the ledger has no agent {agent!r}", remedy="see which there are: polly ledger show")


def agent_must_exist(transaction: Transaction, agent: str) -> None:
    """:raises UnknownAgent: the ledger has none of that id"""
    if transaction.one(_AGENT_EXISTS, agent=agent) is None:
        raise unknown_agent(agent)


def pool_must_exist(transaction: Transaction, pool: str) -> None:
    """:raises UnknownPool: the ledger has none of that name"""
    if transaction.one(_POOL_EXISTS, pool=pool) is None:
        raise UnknownPool(f"the ledger has no pool {pool!r}", remedy="see which there are: polly ledger show")


def size_must_be_possible(size: int, field: str = "size") -> None:
    """:raises InvalidRequest: the number of bytes is not positive, or beyond what a row can hold"""
    if not 0 < size <= LARGEST:
        raise InvalidRequest(f"{field} is {size} bytes", remedy="ask for at least one byte", field=field, value=size)


def free(transaction: Transaction, pool: str) -> int:
    """Bytes of the pool that are promised to nobody; negative where the platform shrank below what was promised.

    :raises UnknownPool: the ledger has none of that name
    """
    row = transaction.one(_FREE, the_pool=pool)
    if row is None:
        pool_must_exist(transaction, pool)
    return int(row[0]) if row else 0


def take_free(transaction: Transaction, pool: str, size: int) -> None:
    """Make sure that the pool has ``size`` bytes free; the caller puts them somewhere in the same transaction.

    :raises InsufficientCapacity: it has not
    """
    available = free(transaction, pool)
    if size > available:
        raise InsufficientCapacity(
            f"pool {pool} has {max(available, 0)} bytes free, {size} are needed",
            remedy="free space in the pool, or raise its limit or its platform's capacity",
        )


def take(transaction: Transaction, pool: str, agent: str, owner: str, size: int) -> int:
    """Take bytes out of a holding, those that are backed first; returns how many of them were backed.

    Out of a lease only backed bytes can be taken.

    :raises InsufficientCapacity: the holding has fewer
    """
    here = {"the_pool": pool, "the_agent": agent, "the_owner": owner}
    if transaction.run(_TAKE_PART, **here, less=size):
        return size
    had, backed = transaction.one(_HOLDING, **here) or (0, 0)
    available = backed if owner == UNRESERVED else had
    if size > available:
        _refuse(transaction, pool, agent, owner, size, available)
    taken = min(size, backed)
    if size == had:
        transaction.run(_REMOVE, **here)
    else:
        transaction.run(_SET, **here, to_size=had - size, to_backed=backed - taken)
    return int(taken)


def _refuse(transaction: Transaction, pool: str, agent: str, owner: str, size: int, available: int) -> None:
    pool_must_exist(transaction, pool)
    agent_must_exist(transaction, agent)
    if owner == UNRESERVED:
        raise InsufficientCapacity(
            f"agent {agent} has a lease of {available} bytes of pool {pool}, {size} were asked for",
            remedy="wait for the next offer, which shows what there is",
        )
    raise InsufficientCapacity(
        f"the reservation {owner} has {available} bytes of pool {pool} on agent {agent}, {size} were asked for",
        remedy="reserve more first, or ask for less",
    )


def give(transaction: Transaction, pool: str, agent: str, owner: str, size: int, backed: int) -> None:
    """Add bytes to a holding.

    :raises UnknownPool: the ledger has no such pool
    :raises UnknownAgent: the ledger has no such agent
    """
    if not size:
        return
    here = {"the_pool": pool, "the_agent": agent, "the_owner": owner}
    if transaction.run(_GROW, **here, more=size, more_backed=backed):
        return
    pool_must_exist(transaction, pool)
    agent_must_exist(transaction, agent)
    transaction.run(_ADD, pool=pool, agent=agent, owner=owner, size=size, backed=backed)


def settle(transaction: Transaction, pool: str, agent: str, owner: str, size: int) -> None:
    """Distribute the bytes of a volume that is gone: to holdings on its agent that wait for bytes, else to the pool.

    The volume's own owner comes first, then other reservations, the lease last.
    """
    waiting = transaction.all(_UNBACKED, the_pool=pool, the_agent=agent)
    for holder, had, backed in sorted(waiting, key=lambda row: row[0] != owner):
        given = min(size, had - backed)
        if not given:
            return
        transaction.run(_SET, the_pool=pool, the_agent=agent, the_owner=holder, to_size=had, to_backed=backed + given)
        size -= given


def leases(transaction: Transaction, pool: str) -> dict[str, tuple[int, int]]:
    """Agent -> size and backed bytes of its lease of one pool, the largest lease first."""
    return {agent: (size, backed) for agent, size, backed in transaction.all(_LEASES, the_pool=pool)}


def set_lease(transaction: Transaction, pool: str, agent: str, before: tuple[int, int], to: int) -> None:
    """Make the lease's backed bytes ``to``; what is owed to it stays owed.

    :param before: size and backed bytes as they are, zeros where there is no row
    """
    here = {"the_pool": pool, "the_agent": agent, "the_owner": UNRESERVED}
    size, backed = before
    owed = size - backed
    if not to + owed:
        transaction.run(_REMOVE, **here)
    elif not transaction.run(_SET, **here, to_size=to + owed, to_backed=to):
        give(transaction, pool, agent, UNRESERVED, to, to)


def take_unreserved(transaction: Transaction, pool: str, agent: str, size: int) -> None:
    """Make sure that the pool has ``size`` bytes free, if need be out of leases: that of ``agent`` first.

    :raises InsufficientCapacity: free bytes and leases together are fewer
    """
    take_back_leases(transaction, pool, down_to=size, first=agent)
    take_free(transaction, pool, size)


def take_back_leases(transaction: Transaction, pool: str, *, down_to: int = 0, first: str = "") -> None:
    """Shrink leases, that of ``first`` and then the largest first, until ``down_to`` bytes are free or none is left."""
    missing = down_to - free(transaction, pool)
    if missing <= 0:
        return
    for agent, (size, backed) in sorted(leases(transaction, pool).items(), key=lambda lease: lease[0] != first):
        less = min(missing, backed)
        if less <= 0:
            continue
        set_lease(transaction, pool, agent, (size, backed), backed - less)
        transaction.touch(agent)
        missing -= less
        if not missing:
            return
