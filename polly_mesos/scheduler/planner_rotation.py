"""Whose turn it is to hold a pool's big lease: one that nobody uses moves from agent to agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polly_mesos.config import PlannerSettings
from polly_mesos.scheduler.planner_snapshot import Snapshot, Turn, by_pool, users


def rotate(snapshot: Snapshot, turns: Mapping[str, Turn], now: float, settings: PlannerSettings) -> dict[str, Turn]:
    """Pool -> turn, for the next plan: a big lease that nobody used for ``settings.rotate`` seconds is to move on.

    :param turns: the last answer, empty at first
    :param now: seconds of any clock that does not go back
    """
    held = by_pool(snapshot.leases)
    answer: dict[str, Turn] = {}
    for pool in snapshot.pools:
        usable = users(pool, snapshot.agents)
        if not usable:
            continue
        leases = held.get(pool.name, {})
        holder = max(usable, key=lambda agent: leases.get(agent, 0))
        size = leases.get(holder, 0)
        last = turns.get(pool.name, Turn("", 0, now))
        if last.holder != holder or size < last.size:
            answer[pool.name] = Turn(holder, size, now, last.retired)
        elif now - last.since >= settings.rotate:
            answer[pool.name] = Turn(holder, size, now, retired=holder)
        else:
            answer[pool.name] = Turn(holder, size, last.since, last.retired)
    return answer


def retire(snapshot: Snapshot, turns: Mapping[str, Turn]) -> Snapshot:
    """The snapshot with each pool's retired agent filled in."""
    pools = [replace(pool, retired=turns[pool.name].retired) if pool.name in turns else pool for pool in snapshot.pools]
    return replace(snapshot, pools=pools)
