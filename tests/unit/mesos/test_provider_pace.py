"""How soon totals are replaced: at once while no offer can hold anything of ours, rarely afterwards."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from polly_mesos.agent_api import Verdict
from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.mesos.provider.machine import Machine
from polly_mesos.mesos.provider.messages import wire_uuid
from polly_mesos.mesos.provider.steps import Timing


def pool(size_mb: int) -> dict[str, Any]:
    return arithmetic.pool_disk(size_mb, root="/polly/gold", profile="gold", vendor="polly.gold")


def updates(actions: list[Any]) -> list[Any]:
    calls = [action.body for action in actions if isinstance(action, steps.Call)]
    return [body["update_state"]["resources"] for body in calls if body["type"] == "UPDATE_STATE"]


def subscribed(*totals: dict[str, Any], now: float) -> Machine:
    machine = Machine(ProviderIdentity("polly", "test"), Timing(settle=1.0, minimum_interval=5.0))
    subscription = {"type": "SUBSCRIBED", "subscribed": {"provider_id": {"value": "provider-1"}}}
    for event in (
        steps.Desire(totals, 1),
        steps.Start(),
        steps.Found("agent-1"),
        steps.Looked(subscribed=False),
        steps.Received(1, subscription),
    ):
        machine.handle(event, now)
    return machine


def test_the_first_disks_are_offered_at_once() -> None:
    machine = subscribed(now=100.0)
    (first,) = updates(machine.handle(steps.Desire([pool(64)], 2), 100.1))
    assert len(first) == 1


def test_a_change_of_what_is_offered_waits_for_the_interval() -> None:
    machine = subscribed(pool(64), now=100.0)
    assert not updates(machine.handle(steps.Desire([pool(128)], 2), 100.1))
    assert machine.deadline == 105.0
    (later,) = updates(machine.handle(steps.Tick(), 105.0))
    assert later[0]["scalar"]["value"] == 128.0


def test_a_status_is_sent_again_after_waits_that_double() -> None:
    machine = subscribed(pool(64), now=100.0)
    operation, status = uuid.uuid4(), str(uuid.uuid4())
    disk = {**arithmetic.normalise(pool(8), "provider-1"), "reservations": [{"type": "DYNAMIC", "role": "dev"}]}
    info = {"type": "RESERVE", "id": {"value": "asked"}, "reserve": {"resources": [disk]}}
    event = {
        "type": "APPLY_OPERATION",
        "apply_operation": {
            "info": info,
            "operation_uuid": wire_uuid(operation),
            "resource_version_uuid": wire_uuid(uuid.uuid4()),
        },
    }
    machine.handle(steps.Received(1, event), 200.0)
    verdict = Verdict(str(operation), "OPERATION_FINISHED", status, info)
    now, sent = 200.0, []
    actions = machine.handle(steps.Judged(operation, verdict), now)
    while len(sent) < 8:
        if any(one.body["type"] == "UPDATE_OPERATION_STATUS" for one in actions if isinstance(one, steps.Call)):
            sent.append(now)
        now = max(now, machine.deadline)
        actions = machine.handle(steps.Tick(), now)
    assert [later - earlier for earlier, later in itertools.pairwise(sent)] == [5, 10, 20, 40, 80, 120, 120]
