"""How fast Polly is back: after a start with a large ledger, after a SIGKILL, and with a volume whose host is dead.

Run it with ``python -m bench.recovery``. A large ledger is one of 10,000 volumes on 1,000 agents. Ready is a scheduler
half that works off its ledger and has answered an agent what to advertise.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import recovery_mesos
from polly_mesos.config import load
from polly_mesos.ledger.rebuilding import NewLedger, write
from polly_mesos.model import (
    MB,
    Agent,
    AgentState,
    Event,
    FormatState,
    HostIdentity,
    Pool,
    Provider,
    Publication,
    PublicationState,
    Reservation,
    Volume,
    VolumeKind,
    VolumeState,
)
from polly_mesos.scheduler.advertisement import assignment_of
from polly_mesos.scheduler.half import PROVIDER_TYPE, SchedulerHalf

AGENTS = 1_000
VOLUMES = 10_000
GOAL = 2.0
"""Seconds from a loaded program to a ready one."""

_ROUNDS = 5
_READY = "ready"
_CONFIGURATION = """
cluster: bench
mesos: {{master: "127.0.0.1:1"}}
http: {{listen: "127.0.0.1:{port}"}}
ledger: {{path: {directory}/ledger.db}}
agents: {{volume_root: {directory}/volumes}}
services:
  disks: {{driver: directory, directory: {directory}/platform, capacity: 100TiB}}
profiles:
  gold: {{service: disks}}
"""
Row = tuple[str, float, float, float]


def run() -> list[Row]:
    """Name, our seconds, the reference's seconds, their ratio; medians of several processes."""
    with _large() as configuration:
        ready, process, imports, raw = [], [], [], []
        for _ in range(_ROUNDS):
            # In turns, so that all meet the same load.
            seconds, answer = _process("-m", "bench.recovery", _READY, str(configuration))
            ready.append(float(json.loads(answer)))
            process.append(seconds)
            imports.append(_process("-c", "import bench.recovery, polly_mesos.cli.serve, polly_mesos.api.server")[0])
            raw.append(_read_by_sqlite3(configuration.with_name("ledger.db")))
    volumes = f"{VOLUMES:,} volumes, {AGENTS:,} agents"
    rows = [
        _row(f"{volumes}: until ready (other: the goal)", ready, [GOAL]),
        _row(f"{volumes}: until ready (other: sqlite3 reads all rows once)", ready, raw),
        _row(f"{volumes}: process from start to ready (other: its imports)", process, imports),
    ]
    killed, calm = recovery_mesos.killed_scheduler()
    next_operation = "SIGKILL of polly serve to the next admitted operation"
    rows.append(_row(f"{next_operation} (other: the program's imports)", [killed], imports))
    rows.append(_row(f"{next_operation} (other: an operation without a death)", [killed], [calm]))
    fenced = recovery_mesos.fenced_host()
    if fenced is not None:
        ours, fresh = fenced
        rows.append(_row("fenced host to its volume's next task elsewhere (other: a new volume)", [ours], [fresh]))
    return rows


def _row(name: str, ours: list[float], other: list[float]) -> Row:
    mine, theirs = statistics.median(ours), statistics.median(other)
    return name, mine, theirs, mine / theirs


def _process(*arguments: str) -> tuple[float, str]:
    """Run our Python; its seconds and what it printed."""
    begun = time.perf_counter()
    ran = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, ran.stdout


def _read_by_sqlite3(path: Path) -> float:
    begun = time.perf_counter()
    connection = sqlite3.connect(path)
    for table in ("agents", "providers", "holdings", "volumes", "publications", "intents", "verdicts"):
        connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return time.perf_counter() - begun


def seconds_until_ready(configuration: Path) -> float:
    """From the loaded program to the first answer to an agent, in this process."""
    begun = time.perf_counter()
    half = SchedulerHalf(load(configuration))
    try:
        half.start()
        agent = half.ledger.agent(f"agent-{AGENTS // 2}")
        assignment = assignment_of(half.ledger, agent, half.profiles, half.board.version(agent.id))
        seconds = time.perf_counter() - begun
        assert len(assignment.resources) > VOLUMES // AGENTS
    finally:
        half.stop()
    return seconds


@contextmanager
def _large() -> Iterator[Path]:
    """A configuration with a large ledger, below the working directory: that is where disks are measured."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-recovery-") as name:
        directory = Path(name)
        (directory / "platform").mkdir()
        file = directory / "polly.yml"
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file.write_text(_CONFIGURATION.format(directory=directory, port=port))
        write(_content(), directory / "ledger.db")
        yield file


def _content() -> NewLedger:
    agents = [
        Agent(
            f"agent-{number}",
            f"host-{number}",
            f"10.0.{number // 250}.{number % 250}:5051",
            AgentState.CONNECTED,
            identities={"disks": HostIdentity(f"host-{number}")},
            volume_root="/var/lib/polly/volumes",
        )
        for number in range(AGENTS)
    ]
    volumes = [_volume(number) for number in range(VOLUMES)]
    return NewLedger(
        cluster="bench",
        epoch=1,
        framework_id="framework",
        pools=[Pool("gold", "gold", "disks", "", 100 << 40)],
        agents=agents,
        providers=[Provider(agent.id, f"provider of {agent.id}", PROVIDER_TYPE, "bench") for agent in agents],
        reservations=[Reservation("gold", agent.id, _owner(agent.id), 64 * MB, 64 * MB) for agent in agents],
        volumes=volumes,
        publications=[
            Publication(
                volume.id,
                volume.agent,
                volume.agent.replace("agent", "host"),
                1,
                PublicationState.PUBLISHED,
                {"data": "/x"},
                "/x",
                "/y",
            )
            for volume in volumes[::2]
        ],
        event=Event("ledger.rebuilt", "bench", "for a measurement"),
    )


def _volume(number: int) -> Volume:
    name = f"app#data#{number}"
    return Volume(
        str(uuid.uuid4()),
        "gold",
        "gold",
        "disks",
        VolumeKind.PATH,
        256 * MB,
        VolumeState.READY,
        agent=f"agent-{number % AGENTS}",
        owner=_owner(name),
        persistence_id=name,
        persistence={"persistence": {"id": name}, "volume": {"mode": "RW", "container_path": "data"}},
        framework="framework-of-marathon",
        platform_id=f"vol-{number}",
        format_state=FormatState.FORMATTED,
        generation=1,
    )


def _owner(task: str) -> str:
    labels = {"labels": [{"key": "marathon_task_id", "value": task}]}
    reservation = {"labels": labels, "principal": "marathon", "role": "marathon", "type": "DYNAMIC"}
    return json.dumps([reservation], sort_keys=True, separators=(",", ":"))


if __name__ == "__main__":
    if sys.argv[1:2] == [_READY]:
        print(seconds_until_ready(Path(sys.argv[2])))
    else:
        for row in run():
            print(f"{row[0]:<80} {row[1]:8.3f} s {row[2]:8.3f} s {row[3]:6.2f} x")
