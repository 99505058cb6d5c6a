"""How soon totals are replaced: at once while no offer can hold anything of ours, rarely afterwards."""

from __future__ import annotations

from typing import Any

from polly_mesos.mesos import resources as arithmetic
from polly_mesos.mesos.provider import steps
from polly_mesos.mesos.provider.contract import ProviderIdentity
from polly_mesos.mesos.provider.machine import Machine
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
