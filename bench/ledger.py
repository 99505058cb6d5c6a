"""How fast durable ledger operations are, against single-row SQLite commits on the same disk in the same run.

The single row is the one that ``begin`` writes, under the same key, by sqlite3 alone and with its values ready-made.

Run it with ``python -m bench.ledger``. Each figure is the best of several rounds in which ours and the raw commits
take turns, so that a disk that is busy for a while slows both.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from polly_mesos.ledger import LeaseChange, Ledger, Reserve
from polly_mesos.model import MB, Agent, AgentState, Operation, OperationState, Pool

ROUNDS = 40
REPEATS = 100
OWNER = '[{"labels":{"labels":[{"key":"marathon_framework_id","value":"f1"}]},"role":"marathon","type":"DYNAMIC"}]'

Step = Callable[[], object]


def run() -> list[tuple[str, float, float, float]]:
    """Name, our operations per second, raw commits per second, and their ratio."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-ledger-") as directory:
        raw = _raw(Path(directory) / "raw.sqlite")
        with Ledger.open(Path(directory) / "ledger.sqlite", "bench") as ledger:
            return _compare(_steps(ledger), raw)


def _raw(path: Path) -> Step:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    columns = ("subject", "kind", "id", "agent", "detail", "created")
    connection.execute(f"CREATE TABLE rows ({', '.join(columns)}, PRIMARY KEY (subject, kind)) WITHOUT ROWID")
    ids = [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(ROUNDS * REPEATS)]

    def commit() -> None:
        subject, operation = ids.pop()
        row = (subject, "volume.create", operation, "a1", '{"size":1048576,"pool":"gold"}', 1.0)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")

    return commit


def _steps(ledger: Ledger) -> dict[str, Step]:
    ledger.set_pool(Pool("gold", "gold", "disks", "", 1 << 60))
    ledger.put_agent(Agent("a1", "host1", "host1:5051", AgentState.CONNECTED))
    ledger.apply_leases([LeaseChange("gold", "a1", 0, 1 << 50)])
    subjects = [str(uuid.uuid4()) for _ in range(ROUNDS * REPEATS)]
    operations = [_operation() for _ in range(ROUNDS * REPEATS)]
    begun: list[str] = []
    admitted: list[str] = []

    def begin() -> None:
        begun.append(ledger.begin("volume.create", subjects.pop(), {"size": MB, "pool": "gold"}, "a1").id)

    def finish() -> None:
        ledger.finish(begun.pop(), {"platform_id": "vol-1"})

    def admit() -> None:
        admitted.append(ledger.admit(operations.pop(), Reserve("gold", "a1", "", OWNER, MB)).id)

    def acknowledge() -> None:
        ledger.acknowledge(admitted.pop())

    return {
        "ledger: begin (write an intent)": begin,
        "ledger: finish (write its outcome)": finish,
        "ledger: admit a RESERVE": admit,
        "ledger: acknowledge": acknowledge,
    }


def _operation() -> Operation:
    return Operation(
        id=str(uuid.uuid4()),
        kind="mesos.RESERVE",
        subject="a1",
        state=OperationState.INTENT,
        agent="a1",
        framework="f1",
        detail={"type": "RESERVE", "reserve": {"resources": [{"name": "disk", "scalar": {"value": 1}}]}},
        outcome={"converted": [{"name": "disk", "scalar": {"value": 1}}]},
        status_uuid=str(uuid.uuid4()),
    )


def _compare(steps: dict[str, Step], raw: Step) -> list[tuple[str, float, float, float]]:
    # A round does every step equally often, so that what was begun is finished: the ledger's usual state.
    best = dict.fromkeys(["raw", *steps], float("inf"))
    for _ in range(ROUNDS):
        for name, step in {"raw": raw, **steps}.items():
            best[name] = min(best[name], _seconds(step))
    theirs = REPEATS / best["raw"]
    return [(name, REPEATS / best[name], theirs, REPEATS / best[name] / theirs) for name in steps]


def _seconds(step: Step) -> float:
    start = time.perf_counter()
    for _ in range(REPEATS):
        step()
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    for name, ours, raw, ratio in run():
        print(f"{name:40} {ours:9.0f}/s   raw {raw:9.0f}/s   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
