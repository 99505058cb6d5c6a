"""The capacity planner: how much of each pool every agent advertises. Pure: a snapshot in, changes out.

Under the ``lease`` policy slices are strict. The space of a pool that is neither reserved nor in volumes is divided
between the agents that can use it. One of them, the *holder*, aims at a big lease, so that a large volume fits
somewhere; the others aim at a base slice. Base slices are powers of two: while the free space shrinks, targets stay
where they are until it has halved. What is left over belongs to the holder, which so becomes the pool's reservoir: a
slice that runs low is filled up from it, and space that comes free goes to it. Either is one or two changes, however
many agents there are.

A lease changes only if

- its agent cannot use the pool (any more): it goes to zero;
- it is below the low-water mark of its target, or below the smallest volume: it is filled up;
- another lease needs it, or the pool has become smaller: what exceeds its target is taken, the largest excess first;
- enough space has come free, or the big lease is handed on: the holder gets it.

Each change is safe alone: growths are paid from what is free now, never from shrinks of the same plan, because the
ledger may refuse those. So it takes two plans to move space from one agent to another.

All sizes are bytes, and all results are whole MB, the unit of Mesos' scalars.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polly_mesos.config import PlannerSettings, Policy
from polly_mesos.model import MB, LeaseChange
from polly_mesos.scheduler.planner_rotation import retire, rotate
from polly_mesos.scheduler.planner_shared import shared_view
from polly_mesos.scheduler.planner_snapshot import (
    AgentSnapshot,
    Leases,
    PoolSnapshot,
    Snapshot,
    Turn,
    by_pool,
    users,
    whole_mb,
)

__all__ = ["AgentSnapshot", "Leases", "PoolSnapshot", "Snapshot", "Turn", "plan", "retire", "rotate", "shared_view"]

_MOST_SLACK = 1024 * MB


@dataclass(frozen=True, slots=True)
class _Targets:
    """What the agents of one pool aim at; who is neither the holder nor in ``base`` aims at nothing."""

    holder: str = ""
    big: int = 0
    slice: int = 0
    base: frozenset[str] = frozenset()

    def of(self, agent: str) -> int:
        if agent == self.holder:
            return self.big
        return self.slice if agent in self.base else 0


def plan(snapshot: Snapshot, settings: PlannerSettings) -> tuple[LeaseChange, ...]:
    """The changes that bring the leases nearer to their targets; none where they are good enough.

    Applying any of them in any order never promises more than a pool has. Shrinks come first.
    """
    held = by_pool(snapshot.leases)
    retrievable = {agent.id for agent in snapshot.agents if agent.eligible or agent.reclaimable}
    shrinks: list[LeaseChange] = []
    grows: list[LeaseChange] = []
    for pool in snapshot.pools:
        leases = held.get(pool.name, {})
        usable = users(pool, snapshot.agents) if settings.policy is Policy.LEASE else []
        dropped = (leases.keys() & retrievable).difference(usable)
        after = dict.fromkeys(sorted(dropped), 0)
        if usable:
            after |= _PoolPlan(pool, leases, usable, dropped, settings).changes()
        for agent, size in after.items():
            before = leases.get(agent, 0)
            if size != before:
                (shrinks if size < before else grows).append(LeaseChange(pool.name, agent, before, size))
    return (*shrinks, *grows)


class _PoolPlan:
    """The plan for the agents that can use one pool.

    :param dropped: agents whose leases are taken back in the same plan
    """

    def __init__(
        self,
        pool: PoolSnapshot,
        leases: Mapping[str, int],
        usable: Sequence[str],
        dropped: set[str],
        settings: PlannerSettings,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._sizes = {agent: leases.get(agent, 0) for agent in usable}
        self._minimum = max(MB, whole_mb(pool.minimum_size + MB - 1))
        self._free = pool.capacity - pool.committed - sum(leases.values())
        self._dropped = sum(leases[agent] for agent in dropped)
        self._divisible = whole_mb(self._free + self._dropped + sum(self._sizes.values()))
        self._slack = min(max(self._minimum, self._divisible // 64), _MOST_SLACK)
        self._spare = 0
        if self._free < 0:
            # A platform whose capacity trembles must not cost a change each time it does.
            self._spare = max(0, min(self._slack // 2 // MB * MB, self._divisible - self._minimum))
            self._divisible -= self._spare
        self._targets = self._divide()

    def changes(self) -> dict[str, int]:
        """Agent -> new size, for those that change."""
        needs = self._needs()
        dust = [
            agent for agent, size in self._sizes.items() if 0 < size < self._minimum and not self._targets.of(agent)
        ]
        missing = (
            self._spare + sum(needs.values()) - self._free - self._dropped - sum(self._sizes[agent] for agent in dust)
        )
        grown = self._grow(needs)
        rest = whole_mb(self._free - sum(needs.values()))
        if self._targets.holder and rest >= self._slack:
            grown.setdefault(self._targets.holder, self._sizes[self._targets.holder])
        if grown:
            grown[list(grown)[-1]] += rest
        return dict.fromkeys(dust, 0) | self._shrink(missing) | grown

    def _divide(self) -> _Targets:
        """The holder's part is at least ``big_share`` of the space, or one volume of the largest size."""
        minimum, divisible, others = self._minimum, self._divisible, len(self._sizes) - 1
        if divisible < minimum:
            return _Targets()
        big = whole_mb(int(divisible * self._settings.big_share) + MB - 1)
        if self._pool.maximum_size is not None:
            big = min(big, whole_mb(self._pool.maximum_size))
        for_others = divisible - max(big, minimum)
        # However small big_share is, the big lease is to be two slices at least: or it would not be worth handing on.
        largest_slice = min(for_others // max(others, 1), divisible // (others + 2))
        slice_size = max(_power_of_two(largest_slice), minimum)
        count = min(others, for_others // slice_size)
        big = divisible - count * slice_size
        holder = self._choose_holder(big, slice_size)
        rest = [agent for agent in self._sizes if agent != holder]
        if count < others:
            rest.sort(key=lambda agent: (self._sizes[agent] < minimum, agent))
        return _Targets(holder, big, slice_size, frozenset(rest[:count]))

    def _choose_holder(self, big: int, slice_size: int) -> str:
        """Who has the big lease, or is to get it: the agent after the retired one, or the first time any."""
        sizes = self._sizes
        candidates = [agent for agent in sizes if agent != self._pool.retired] or list(sizes)
        largest = max(candidates, key=lambda agent: sizes[agent])
        if sizes[largest] > slice_size and sizes[largest] >= big * self._settings.low_water:
            return largest
        if self._pool.retired:
            return candidates[bisect_right(candidates, self._pool.retired) % len(candidates)]
        # Of several pools, each begins on another agent, and the same one after every restart.
        return max(candidates, key=lambda agent: zlib.crc32(f"{self._pool.name}/{agent}".encode()))

    def _needs(self) -> dict[str, int]:
        """Bytes that leases below their low-water mark lack to their target; base slices before the big lease."""
        sizes, targets, low_water = self._sizes, self._targets, self._settings.low_water
        mark = max(targets.slice * low_water, self._minimum)
        needy = sorted((sizes[agent], agent) for agent in targets.base if sizes[agent] < mark)
        needs = {agent: targets.slice - size for size, agent in needy}
        if targets.holder:
            lack = targets.big - sizes[targets.holder]
            if sizes[targets.holder] < max(targets.big * low_water, self._minimum):
                needs[targets.holder] = lack
            elif sizes.get(self._pool.retired, 0) * 2 >= sizes[targets.holder] * 3:
                handed_on = whole_mb(min(lack, sizes[self._pool.retired] - targets.of(self._pool.retired)))
                if handed_on >= self._slack:
                    needs[targets.holder] = handed_on
        return needs

    def _shrink(self, missing: int) -> dict[str, int]:
        """Take ``missing`` bytes from what exceeds the targets, the largest excess first, and leave nothing useless."""
        if missing <= 0:
            return {}
        after: dict[str, int] = {}
        targets = self._targets
        excess = sorted(
            (targets.of(agent) - size, agent)
            for agent, size in self._sizes.items()
            if size >= self._minimum and size > targets.of(agent)
        )
        for negative, agent in excess:
            if missing <= 0:
                break
            left = whole_mb(self._sizes[agent] - min(missing, -negative))
            after[agent] = left if left >= self._minimum else targets.of(agent)
            missing -= self._sizes[agent] - after[agent]
        return after

    def _grow(self, needs: Mapping[str, int]) -> dict[str, int]:
        """Meet the needs that the free space can pay in full; the others wait until the shrinks are made."""
        after: dict[str, int] = {}
        free = self._free
        for agent, need in needs.items():
            if need <= free:
                after[agent] = self._sizes[agent] + need
                free -= need
        return after


def _power_of_two(size: int) -> int:
    """The largest power of two of MB that is not above ``size``; nothing below 1 MB."""
    return MB << (size // MB).bit_length() - 1 if size >= MB else 0
