"""A process that is killed in the middle, and many threads at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polly_mesos.errors import InsufficientCapacity
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import check
from polly_mesos.model import MB, Agent, AgentState, OperationState, Pool

if TYPE_CHECKING:
    from tests.unit.ledger.conftest import Desk

OWNER = '[{"role":"marathon","type":"DYNAMIC"}]'

WRITER = textwrap.dedent(
    """
    import sys, uuid
    from polly_mesos.ledger import CreateVolume, LeaseChange, Ledger, Reserve
    from polly_mesos.model import MB, Operation, OperationState, Volume, VolumeKind, VolumeState

    owner = '[{"role":"marathon","type":"DYNAMIC"}]'
    ledger = Ledger.open(sys.argv[1], "test")
    ledger.apply_leases([LeaseChange("gold", "a1", 0, 1 << 40)])
    for number in range(1_000_000):
        volume = Volume(
            id=str(uuid.uuid4()), pool="gold", profile="gold", service="disks", kind=VolumeKind.PATH, size=MB,
            state=VolumeState.CREATING, agent="a1", owner=owner, persistence_id=f"p{number}",
        )
        operation = Operation(str(uuid.uuid4()), "mesos.CREATE", volume.id, OperationState.INTENT, "a1")
        admitted = ledger.admit(operation, Reserve("gold", "a1", "", owner, MB), CreateVolume(volume))
        begun = ledger.begin("volume.create", volume.id, {})
        print(admitted.id, volume.id, begun.id, flush=True)
    """
)


@pytest.mark.parametrize("after", [1, 7, 40])
def test_after_a_kill_everything_that_was_answered_is_there_and_nothing_is_half_done(path: Path, after: int) -> None:
    with Ledger.open(path, "test") as ledger:
        ledger.set_pool(Pool("gold", "gold", "disks", "", 1 << 40))
        ledger.put_agent(Agent("a1", "host1", "host1:5051", AgentState.CONNECTED))
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        answered = [writer.stdout.readline().split() for _ in range(after)]
        writer.kill()
        answered += [line.split() for line in writer.stdout if line.endswith("\n")]
    with Ledger.open(path, "test") as ledger:
        for operation_id, volume_id, intent_id in answered:
            assert ledger.operation(operation_id).state is OperationState.DONE
            assert ledger.volume(volume_id).size == MB
            assert ledger.operation(intent_id).subject == volume_id
        made = len(ledger.volumes())
        assert made == len(ledger.unacknowledged("a1")) >= len(answered)
        balance = ledger.balance()["gold"]
        assert (balance.volumes, balance.reserved, balance.leased) == (made * MB, 0, (1 << 40) - made * MB)
        assert check(ledger) == []


def test_threads_never_get_the_same_bytes_and_each_hears_of_its_own(desk: Desk) -> None:
    desk.lease(50 * MB)
    heard: list[frozenset[str]] = []
    desk.ledger.on_change(heard.append)

    def ask(number: int) -> str:
        intent = desk.ledger.begin("volume.create", f"v{number}", {})
        desk.ledger.finish(intent.id, {})
        try:
            return desk.reserve(MB, OWNER).id
        except InsufficientCapacity:
            return ""

    with ThreadPoolExecutor(8) as threads:
        admitted = [operation_id for operation_id in threads.map(ask, range(80)) if operation_id]
    assert len(admitted) == len(set(admitted)) == 50
    assert (desk.leased(), desk.reserved(OWNER)) == (0, (50 * MB, 50 * MB))
    assert {operation.id for operation in desk.ledger.unacknowledged("a1")} == set(admitted)
    assert len(desk.ledger.operations(state=OperationState.DONE, limit=1000)) == 130
    assert heard == [frozenset({"a1"})] * 50


def test_threads_that_begin_the_same_step_get_one_operation(desk: Desk) -> None:
    with ThreadPoolExecutor(8) as threads:
        begun = list(threads.map(lambda _: desk.ledger.begin("volume.create", "v1", {"a": 1}), range(40)))
    assert len({operation.id for operation in begun}) == 1
    assert uuid.UUID(begun[0].id)
    assert len(desk.ledger.operations()) == 1
