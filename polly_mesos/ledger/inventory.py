"""The parts that hold no promises: framework, pools, agents and their providers."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import bindparam, delete, insert, select, update

from polly_mesos.errors import InvalidRequest
from polly_mesos.ledger import rows, space, tables
from polly_mesos.ledger.sqlite import LARGEST
from polly_mesos.ledger.store import Prepared, Store, Transaction
from polly_mesos.model import Agent, Pool, Provider

_SET_FRAMEWORK = Prepared(update(tables.ledger).values(framework_id=bindparam("framework_id")))

_EPOCH = Prepared(select(tables.ledger.c.epoch))
_SET_EPOCH = Prepared(update(tables.ledger).values(epoch=bindparam("to_epoch")))

_ADD_POOL = Prepared(insert(tables.pools))
_CHANGE_POOL = Prepared(
    update(tables.pools)
    .where(tables.pools.c.name == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in tables.pools.c if not column.primary_key})
)

_AGENT = Prepared(select(tables.agents).where(tables.agents.c.id == bindparam("agent")))
_ADD_AGENT = Prepared(insert(tables.agents))
_CHANGE_AGENT = Prepared(
    update(tables.agents)
    .where(tables.agents.c.id == bindparam("key"))
    .values({column.name: bindparam(column.name) for column in tables.agents.c if not column.primary_key})
)

_ADD_PROVIDER = Prepared(insert(tables.providers))
_FORGET_PROVIDER = Prepared(delete(tables.providers).where(tables.providers.c.agent == bindparam("key")))


class Inventory(Store):
    """What there is: the framework, pools, agents, providers."""

    def framework_id(self) -> str:
        """The id that the master gave us, empty before the first registration."""
        with self.reading() as connection:
            return str(connection.execute(select(tables.ledger.c.framework_id)).scalar_one())

    def set_framework_id(self, value: str) -> None:
        """Keep the framework id; empty to register as a new framework."""
        with self._write() as transaction:
            transaction.run(_SET_FRAMEWORK, framework_id=value)

    def set_epoch(self, epoch: int) -> None:
        """Say which life of the ledger this is.

        :raises InvalidRequest: it had a later one
        """
        with self._write() as transaction:
            _raise_epoch(transaction, epoch)
        self.epoch = epoch

    def bump_epoch(self) -> int:
        """Begin the ledger's next life: it was restored or rebuilt. Returns the new epoch."""
        with self._write() as transaction:
            epoch = _epoch(transaction) + 1
            _raise_epoch(transaction, epoch)
        self.epoch = epoch
        return epoch

    def pools(self) -> dict[str, Pool]:
        """All pools by name."""
        with self.reading() as connection:
            found = connection.execute(select(tables.pools).order_by(tables.pools.c.name))
            return {row.name: rows.to_pool(row) for row in found}

    def set_pool(self, pool: Pool) -> None:
        """Add a pool or change it.

        Where the capacity is less than what was promised, leases are taken back in the same transaction, the largest
        first. Reservations and volumes stay: the pool gives nothing more until they fit again.

        :raises InvalidRequest: the capacity is negative or larger than the ledger can hold
        """
        if not 0 <= pool.capacity <= LARGEST:
            raise InvalidRequest(
                f"the capacity of pool {pool.name} is {pool.capacity} bytes",
                remedy=f"give a number from 0 to {LARGEST}",
                field="capacity",
                value=pool.capacity,
            )
        values = {column.name: getattr(pool, column.name) for column in tables.pools.c}
        with self._write() as transaction:
            if not transaction.run(_CHANGE_POOL, key=pool.name, **values):
                transaction.run(_ADD_POOL, **values)
            space.take_back_leases(transaction, pool.name)

    def agents(self) -> dict[str, Agent]:
        """All agents by id."""
        with self.reading() as connection:
            found = connection.execute(select(tables.agents).order_by(tables.agents.c.id))
            return {row.id: rows.to_agent(row) for row in found}

    def agent(self, agent_id: str) -> Agent:
        """One agent.

        :raises UnknownAgent: the ledger has none of that id
        """
        with self.reading() as connection:
            row = connection.execute(select(tables.agents).where(tables.agents.c.id == agent_id)).first()
        if row is None:
            raise space.unknown_agent(agent_id)
        return rows.to_agent(row)

    def agent_by_token(self, token_hash: str) -> Agent | None:
        """The agent whose executor has the token of this SHA-256; None for an empty hash."""
        if not token_hash:
            return None
        with self.reading() as connection:
            row = connection.execute(select(tables.agents).where(tables.agents.c.token_hash == token_hash)).first()
        return rows.to_agent(row) if row else None

    def put_agent(self, agent: Agent) -> None:
        """Add an agent or change it."""
        with self._write() as transaction:
            before = transaction.one(_AGENT, agent=agent.id)
            if before is None:
                transaction.run(_ADD_AGENT, **rows.from_agent(agent))
                transaction.touch(agent.id)
                return
            transaction.run(_CHANGE_AGENT, key=agent.id, **rows.from_agent(agent))
            if rows.to_agent(before).volume_root != agent.volume_root:
                transaction.touch(agent.id)

    def change_agent(self, agent_id: str, change: Callable[[Agent], Agent]) -> Agent:
        """Change an agent as it is now, so that nothing is lost that another thread changed; returns the new one.

        :param change: called inside the transaction; must be quick and pure, and leave the id alone
        :raises UnknownAgent: the ledger has none of that id
        """
        with self._write() as transaction:
            row = transaction.one(_AGENT, agent=agent_id)
            if row is None:
                raise space.unknown_agent(agent_id)
            before = rows.to_agent(row)
            after = change(before)
            if after != before:
                transaction.run(_CHANGE_AGENT, key=agent_id, **rows.from_agent(after))
            if after.volume_root != before.volume_root or after.state is not before.state:
                transaction.touch(agent_id)
            return after

    def provider(self, agent_id: str) -> Provider | None:
        """The agent's resource provider, None before its first subscription."""
        with self.reading() as connection:
            row = connection.execute(select(tables.providers).where(tables.providers.c.agent == agent_id)).first()
        return rows.to_provider(row) if row else None

    def set_provider(self, provider: Provider) -> None:
        """Keep the id that an agent gave our provider.

        :raises UnknownAgent: the ledger has no such agent
        """
        with self._write() as transaction:
            space.agent_must_exist(transaction, provider.agent)
            transaction.run(_FORGET_PROVIDER, key=provider.agent)
            transaction.run(_ADD_PROVIDER, agent=provider.agent, id=provider.id, type=provider.type, name=provider.name)

    def forget_provider(self, agent_id: str) -> None:
        """Let the agent's next subscription be that of a new provider."""
        with self._write() as transaction:
            transaction.run(_FORGET_PROVIDER, key=agent_id)


def _epoch(transaction: Transaction) -> int:
    row = transaction.one(_EPOCH)
    return int(row[0]) if row else 0


def _raise_epoch(transaction: Transaction, epoch: int) -> None:
    current = _epoch(transaction)
    if epoch < current:
        raise InvalidRequest(
            f"epoch {epoch} is over: the ledger is in its epoch {current}",
            remedy=f"give at least {current}",
            field="epoch",
            value=epoch,
        )
    transaction.run(_SET_EPOCH, to_epoch=epoch)
