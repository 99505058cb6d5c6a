"""How many agents the capacity planner decides for per second: 5,000 agents and 10 pools, as a large company has them.

Run it with ``python -m bench.planner``. A decision is one agent and one pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from polly_mesos.config import PlannerSettings
from polly_mesos.model import MB
from polly_mesos.scheduler.planner import AgentSnapshot, PoolSnapshot, Snapshot, plan, retire, rotate, shared_view

AGENTS = 5_000
POOLS = 10
ROUNDS = 5
GOAL = 1_000.0
"""Agent decisions per second."""


def run() -> list[tuple[str, float, float, float]]:
    """Name, our decisions per second, the goal, and their ratio."""
    empty = _empty()
    changes = plan(empty, PlannerSettings())
    planned = replace(empty, leases={(change.pool, change.agent): change.after for change in changes})
    turns = rotate(planned, {}, 0.0, PlannerSettings())
    due = retire(planned, rotate(planned, turns, 1000.0, PlannerSettings()))
    pools = [replace(pool, capacity=pool.capacity // 2) for pool in planned.pools]
    halved = replace(planned, pools=pools)
    return [
        _measure("first plan (5,000 agents, 10 pools)", lambda: plan(empty, PlannerSettings())),
        _measure("plan that changes nothing", lambda: plan(planned, PlannerSettings())),
        _measure("plan that hands on the big leases", lambda: plan(due, PlannerSettings())),
        _measure("plan after all pools lost half", lambda: plan(halved, PlannerSettings())),
        _measure("shared view", lambda: shared_view(empty, {})),
    ]


def _empty() -> Snapshot:
    zones = ("east", "west", "north")
    agents = [
        AgentSnapshot(f"c0ffee-S{number}", {"disks": "", "cloud": zones[number % 3]}, {"cloud": number % 27})
        for number in range(AGENTS)
    ]
    pools = [
        PoolSnapshot(
            name=f"pool-{number}",
            service="cloud" if number % 2 else "disks",
            zones=frozenset({zones[number % 3]} if number % 2 else ()),
            capacity=5_000_000 * 1024 * MB,
            minimum_size=300 * MB,
        )
        for number in range(POOLS)
    ]
    return Snapshot(pools, agents, {})


def _measure(name: str, decide: Callable[[], object]) -> tuple[str, float, float, float]:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        decide()
        best = min(best, time.perf_counter() - start)
    rate = AGENTS * POOLS / best
    return name, rate, GOAL, rate / GOAL


def main() -> None:
    """Print the figures."""
    for name, ours, goal, ratio in run():
        print(f"{name:40} {ours:11,.0f}/s   goal {goal:9,.0f}/s   ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
