"""Leases, reservations and balances: what the capacity planner reads and changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, case, func, select

from polly_mesos.errors import InvalidRequest
from polly_mesos.ledger import space
from polly_mesos.ledger.changes import Balance
from polly_mesos.ledger.sqlite import LARGEST
from polly_mesos.ledger.store import Store
from polly_mesos.ledger.tables import holdings, pools, volumes
from polly_mesos.model import UNRESERVED, Lease, LeaseChange, Reservation, VolumeState

_is_lease = holdings.c.owner == UNRESERVED


class Leases(Store):
    """What agents have of the pools."""

    def leases(self, agent: str | None = None) -> list[Lease]:
        """The leases of one agent, or all; those of no size are left out."""
        query = select(holdings.c.pool, holdings.c.agent, holdings.c.backed).where(_is_lease, holdings.c.backed > 0)
        with self.reading() as connection:
            found = connection.execute(query.where(*_of(agent)).order_by(holdings.c.pool, holdings.c.agent))
            return [Lease(*row) for row in found]

    def reservations(self, agent: str | None = None) -> list[Reservation]:
        """The reservations on one agent, or all."""
        return [holding for holding in self.holdings(agent) if holding.owner != UNRESERVED]

    def holdings(self, agent: str | None = None) -> list[Reservation]:
        """The reservations, and the leases as the reservations of nobody, on one agent or all.

        What of a lease is not backed is owed to it: it comes when volumes on that agent are gone.
        """
        query = select(holdings).where(*_of(agent))
        with self.reading() as connection:
            found = connection.execute(query.order_by(holdings.c.pool, holdings.c.agent, holdings.c.owner))
            return [Reservation(*row) for row in found]

    def apply_leases(self, changes: Sequence[LeaseChange]) -> list[LeaseChange]:
        """Apply those changes of a plan that still hold, in one transaction, and return them.

        A change is left out where its lease is not ``before`` any more, or where the pool has not enough free bytes
        for its growth. Leases that shrink come first, so that what they free can be given in the same call.

        :raises InvalidRequest: a size is negative
        :raises UnknownPool: the ledger has no such pool
        :raises UnknownAgent: the ledger has no such agent
        """
        by_pool: defaultdict[str, list[LeaseChange]] = defaultdict(list)
        for change in changes:
            _must_be_possible(change)
            by_pool[change.pool].append(change)
        applied: list[LeaseChange] = []
        with self._write() as transaction:
            for pool, wanted in by_pool.items():
                free = space.free(transaction, pool)
                current = space.leases(transaction, pool)
                for change in sorted(wanted, key=lambda change: change.after - change.before):
                    growth = change.after - change.before
                    size, backed = current.get(change.agent, (0, 0))
                    if backed != change.before or growth > max(free, 0):
                        continue
                    space.set_lease(transaction, pool, change.agent, (size, backed), change.after)
                    current[change.agent] = (size + growth, change.after)
                    free -= growth
                    applied.append(change)
                    transaction.touch(change.agent)
        return applied

    def balance(self) -> dict[str, Balance]:
        """Where each pool's bytes are, by pool."""
        with self.reading() as connection:
            held = {
                row.pool: row
                for row in connection.execute(
                    select(
                        holdings.c.pool,
                        func.sum(case((_is_lease, holdings.c.backed), else_=0)).label("leased"),
                        func.sum(case((_is_lease, 0), else_=holdings.c.backed)).label("reserved"),
                        func.sum(holdings.c.size - holdings.c.backed).label("unbacked"),
                    ).group_by(holdings.c.pool)
                )
            }
            made = {
                row.pool: int(row.size)
                for row in connection.execute(
                    select(volumes.c.pool, func.sum(volumes.c.size).label("size"))
                    .where(volumes.c.state != VolumeState.DELETED.value)
                    .group_by(volumes.c.pool)
                )
            }
            return {
                row.name: Balance(
                    pool=row.name,
                    capacity=row.capacity,
                    leased=int(held[row.name].leased) if row.name in held else 0,
                    reserved=int(held[row.name].reserved) if row.name in held else 0,
                    unbacked=int(held[row.name].unbacked) if row.name in held else 0,
                    volumes=made.get(row.name, 0),
                )
                for row in connection.execute(select(pools.c.name, pools.c.capacity).order_by(pools.c.name))
            }


def _of(agent: str | None) -> list[ColumnElement[bool]]:
    if agent is None:
        return []
    # Holdings are ordered by pool: naming the pools, which are few, lets the database go straight to the rows.
    return [holdings.c.agent == agent, holdings.c.pool.in_(select(pools.c.name))]


def _must_be_possible(change: LeaseChange) -> None:
    for field, size in (("before", change.before), ("after", change.after)):
        if not 0 <= size <= LARGEST:
            raise InvalidRequest(
                f"the lease of pool {change.pool} on agent {change.agent} is to be {size} bytes",
                remedy=f"give a number from 0 to {LARGEST}",
                field=field,
                value=size,
            )
