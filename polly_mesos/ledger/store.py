"""The open file: one writer at a time, any number of readers, and what is common to all parts of the ledger.

Writes go through statements that are compiled once (:class:`Prepared`): what remains beside waiting for the disk is a
few microseconds each. Reads use SQLAlchemy's connections in the ordinary way and see the last committed state.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ClauseElement, Connection, Dialect, Engine, select

from polly_mesos.errors import LedgerError, LedgerOfAnotherCluster
from polly_mesos.faults import fault_point
from polly_mesos.ledger import migrate, sqlite, tables
from polly_mesos.ledger.lock import LedgerLock

Listener = Callable[[frozenset[str]], None]
Row = Any
"""One row, in the order of its table's columns."""


class Prepared:
    """A Core statement that is compiled at its first use.

    What it takes is named by its bound parameters; literal values in it stay what they are.
    """

    __slots__ = ("_literals", "_names", "_statement", "_text")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text = ""
        self._names: tuple[str, ...] = ()
        self._literals: dict[str, Any] = {}

    def run(self, cursor: Any, dialect: Dialect, values: dict[str, Any]) -> Any:
        """Execute with ``values``; returns the cursor."""
        if not self._text:
            self._compile(dialect)
        if self._literals:
            values = self._literals | values
        cursor.execute(self._text, [values[name] for name in self._names])
        return cursor

    def insert(self, cursor: Any, dialect: Dialect, row: tuple[Any, ...]) -> None:
        """Execute an INSERT of all columns of a table, in their order."""
        if not self._text:
            self._compile(dialect)
        cursor.execute(self._text, row)

    def _compile(self, dialect: Dialect) -> None:
        compiled: Any = self._statement.compile(dialect=dialect)
        self._names = tuple(compiled.positiontup)
        self._literals = {name: value for name, value in compiled.params.items() if value is not None}
        # The text last: with it another thread takes the rest for ready.
        self._text = str(compiled)


class Transaction:
    """The one transaction that writes. Use it as a context manager; an exception undoes all of it."""

    def __init__(self, engine: Engine, path: Path, notify: Callable[[frozenset[str]], None]) -> None:
        self._path = path
        self._notify = notify
        self._dialect = engine.dialect
        self._pooled = engine.raw_connection()
        self._cursor = self._pooled.cursor()
        self._turn = threading.Lock()
        self._touched: set[str] = set()
        self._open = True

    def __enter__(self) -> Self:
        self._turn.acquire()
        try:
            self._must_be_open()
            self._touched = set()
            self._cursor.execute(sqlite.BEGIN_WRITE)
        except BaseException as error:
            self._turn.release()
            self._raise_explained(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            else:
                self._undo()
                self._raise_explained(error)
            touched = self._touched if error is None else set()
        finally:
            self._turn.release()
        if touched:
            self._notify(frozenset(touched))

    def _raise_explained(self, error: BaseException) -> None:
        explained = sqlite.explain(error, self._path)
        if explained is not None:
            raise explained from error

    def _must_be_open(self) -> None:
        if not self._open:
            raise LedgerError(f"the ledger {self._path} is closed", remedy="open it again")

    def _commit(self) -> None:
        try:
            fault_point("ledger.commit.before-write")
            self._cursor.execute("COMMIT")
        except BaseException as error:
            self._undo()
            self._raise_explained(error)
            raise
        fault_point("ledger.commit.after-write")

    def _undo(self) -> None:
        # After some errors SQLite has rolled back by itself, and answers with another error.
        with contextlib.suppress(Exception):
            self._cursor.execute("ROLLBACK")

    def touch(self, agent: str) -> None:
        """Note that what ``agent`` advertises or may keep mounted can be different after the commit."""
        if agent:
            self._touched.add(agent)

    def run(self, statement: Prepared, **values: Any) -> int:
        """Change rows; returns how many."""
        count: int = statement.run(self._cursor, self._dialect, values).rowcount
        return count

    def add_alone(self, statement: Prepared, row: tuple[Any, ...]) -> bool:
        """Insert one row as a transaction of its own; False where there is one with its key.

        To be called instead of entering the transaction. It is one statement instead of three, because its time is
        added to every change of a platform.

        :param row: its values in the order of the table's columns
        """
        with self._turn:
            self._must_be_open()
            try:
                statement.insert(self._cursor, self._dialect, row)
            except Exception as error:
                if sqlite.is_duplicate(error):
                    return False
                self._raise_explained(error)
                raise
        return True

    def one(self, statement: Prepared, **values: Any) -> Row | None:
        """The first row found."""
        return statement.run(self._cursor, self._dialect, values).fetchone()

    def all(self, statement: Prepared, **values: Any) -> list[Row]:
        """All rows found."""
        rows: list[Row] = statement.run(self._cursor, self._dialect, values).fetchall()
        return rows

    def close(self) -> None:
        """Wait for the transaction under way, then give the connection up."""
        with self._turn:
            self._open = False
            self._cursor.close()
            self._pooled.close()


class Store:
    """The file and its connections; the parts of the ledger derive from it.

    :param path: of the SQLite file
    :param cluster: whose ledger it has to be; None to take any, for readers
    :raises LedgerError: see the classes derived from it
    """

    def __init__(self, path: Path, cluster: str | None, *, read_only: bool) -> None:
        self.path = path
        self._listeners: list[Listener] = []
        self._lock: LedgerLock | None = None
        self._engine: Engine | None = None
        self._writer: Transaction | None = None
        self._moment = threading.local()
        try:
            with sqlite.errors_explained(path):
                self._open(cluster, read_only=read_only)
        except BaseException:
            self.close()
            raise

    def _open(self, cluster: str | None, *, read_only: bool) -> None:
        path = self.path
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = LedgerLock(path)
            _make_if_missing(path, cluster or "")
        elif not path.exists():
            raise LedgerError(f"there is no ledger at {path}", remedy="look at ledger.path, or start polly serve once")
        sqlite.refuse_damaged(path)
        self._engine = sqlite.engine(path, mode="ro" if read_only else "rw")
        with self._engine.begin() as connection:
            sqlite.refuse_damage(connection, path)
            migrate.refuse_unknown(connection, str(path))
            self.cluster = _cluster(connection, cluster, path)
            if read_only:
                migrate.refuse_outdated(connection, str(path))
            else:
                migrate.upgrade(connection)
            self.epoch = int(connection.execute(select(tables.ledger.c.epoch)).scalar_one())
        if not read_only:
            self._writer = Transaction(self._engine, path, self._tell)

    def close(self) -> None:
        """Give up the file and its lock. Closing twice does no harm."""
        if self._writer:
            self._writer.close()
            self._writer = None
        if self._engine:
            self._engine.dispose()
            self._engine = None
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_change(self, listener: Listener) -> None:
        """Call ``listener`` after each commit with the ids of the agents whose assignment may have changed.

        It is called on the thread that made the change, after the writer's turn is over, and must be quick.
        """
        self._listeners.append(listener)

    def _tell(self, agents: frozenset[str]) -> None:
        for listener in self._listeners:
            listener(agents)

    def _write(self) -> Transaction:
        if self._writer is None:
            raise LedgerError(
                f"the ledger {self.path} is closed or open for reading only", remedy="open it for writing"
            )
        return self._writer

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Whatever this thread reads inside is of the same moment, however many methods it calls."""
        with self._connection() as connection:
            self._moment.connection = connection
            try:
                yield
            finally:
                del self._moment.connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which everything read is of the same moment: the one of :meth:`snapshot`, or a new one."""
        pinned: Connection | None = getattr(self._moment, "connection", None)
        if pinned is not None:
            yield pinned
            return
        with self._connection() as connection:
            yield connection

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        if self._engine is None:
            raise LedgerError(f"the ledger {self.path} is closed", remedy="open it again")
        with sqlite.errors_explained(self.path), self._engine.connect() as connection:
            yield connection


def _make_if_missing(path: Path, cluster: str) -> None:
    if path.exists():
        return
    sqlite.refuse_orphaned_log(path)
    made = path.with_name(path.name + ".new")
    made.unlink(missing_ok=True)
    engine = sqlite.engine(made, mode="rwc", write_ahead=False)
    with engine.begin() as connection:
        migrate.upgrade(connection)
        connection.execute(tables.ledger.insert().values(id=1, cluster=cluster, epoch=1, framework_id=""))
    engine.dispose()
    sqlite.put_in_place(made, path)


def _cluster(connection: Connection, wanted: str | None, path: Path) -> str:
    found = str(connection.execute(select(tables.ledger.c.cluster)).scalar_one())
    if wanted is not None and wanted != found:
        raise LedgerOfAnotherCluster(
            f"the ledger {path} belongs to the cluster {found!r}, not to {wanted!r}",
            remedy="correct `cluster` or `ledger.path`; two clusters must never share a ledger",
        )
    return found
