"""The planner at work: takes snapshots of the ledger, plans, applies; again whenever something changed, and in turns.

Deciding is pure and stands in :mod:`polly_mesos.scheduler.planner`; the ledger judges again when a plan is applied.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from polly_mesos.config import PlannerSettings, Policy
from polly_mesos.errors import PollyError
from polly_mesos.faults import fault_point
from polly_mesos.ledger import Ledger
from polly_mesos.model import Agent, AgentState, Pool, Profile, VolumeState
from polly_mesos.scheduler.planner import plan
from polly_mesos.scheduler.planner_rotation import retire, rotate
from polly_mesos.scheduler.planner_shared import shared_view
from polly_mesos.scheduler.planner_snapshot import AgentSnapshot, PoolSnapshot, Snapshot, Turn

log = logging.getLogger(__name__)

_CAPACITY_INTERVAL = 30.0
_GATHER = 0.5


class Planning:
    """Runs the planner in a thread of its own.

    :param pools: asks the platforms for the pools' capacity
    :param on_view: told the agents whose shared view changed
    :param draining: ids of the agents that are to be empty
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: PlannerSettings,
        profiles: Mapping[str, Profile],
        pools: Callable[[], Iterable[Pool]],
        on_view: Callable[[Iterable[str]], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        draining: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._profiles = profiles
        self._pools = pools
        self._on_view = on_view
        self._draining = draining
        self._clock = clock
        self._turns: Mapping[str, Turn] = {}
        self._view: dict[tuple[str, str], int] = {}
        self._capacity_due = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planning", daemon=True)

    def start(self) -> None:
        """Learn the capacities, then begin."""
        self._learn_capacity()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """Plan soon: something changed."""
        self._wake.set()

    def shared_view(self, agent: str) -> dict[str, int] | None:
        """Pool name -> bytes that an agent is to show; None under the ``lease`` policy."""
        if self._settings.policy is not Policy.SHARED:
            return None
        return {pool: size for (pool, shown_to), size in self._view.items() if shown_to == agent}

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._settings.interval)
            # Agents tend to arrive together; one plan then serves them all.
            if self._stopping.wait(_GATHER):
                return
            self._wake.clear()
            try:
                self.once()
            except PollyError as error:
                log.warning("planning: %s", error)
            except Exception:
                log.exception("planning failed; trying again in %g s", self._settings.interval)

    def _learn_capacity(self) -> None:
        known = self._ledger.pools()
        short = False
        for pool in self._pools():
            before = known.get(pool.name)
            short |= before is not None and pool.capacity < before.capacity
            if before is None or before.capacity != pool.capacity:
                log.info("pool %s: capacity is %d bytes", pool.name, pool.capacity)
                self._ledger.set_pool(pool)
        # A platform that has less than before, or than was promised on it, may be short for a moment only.
        short |= any(balance.free < 0 for balance in self._ledger.balance().values())
        self._capacity_due = self._clock() + (self._settings.interval if short else _CAPACITY_INTERVAL)

    def once(self) -> None:
        """The capacities where it is time to learn them, one snapshot, one plan, applied."""
        if self._clock() >= self._capacity_due:
            self._learn_capacity()
        snapshot = self.snapshot()
        self._turns = rotate(snapshot, self._turns, self._clock(), self._settings)
        snapshot = retire(snapshot, self._turns)
        changes = plan(snapshot, self._settings)
        if changes:
            fault_point("lease.plan.before-ledger")
            applied = self._ledger.apply_leases(changes)
            fault_point("lease.plan.after-ledger")
            log.info("planned %d lease changes, %d applied", len(changes), len(applied))
            if applied:
                self._wake.set()
        if self._settings.policy is Policy.SHARED:
            self._show(shared_view(snapshot, self._view))

    def _show(self, view: dict[tuple[str, str], int]) -> None:
        before, self._view = self._view, view
        changed = {agent for (pool, agent), size in view.items() if before.get((pool, agent)) != size}
        changed |= {agent for (pool, agent) in before if (pool, agent) not in view}
        if changed:
            self._on_view(changed)

    def snapshot(self) -> Snapshot:
        """The ledger as the planner sees it."""
        draining = self._draining()
        leases = {(lease.pool, lease.agent): lease.size for lease in self._ledger.leases()}
        pools = self._ledger.pools()
        balances = self._ledger.balance()
        attached: Counter[tuple[str, str]] = Counter()
        for volume in self._ledger.volumes(states=set(VolumeState) - {VolumeState.DELETED}):
            attached[volume.agent, volume.service] += 1
        return Snapshot(
            pools=[
                PoolSnapshot(
                    name=name,
                    service=profile.service,
                    zones=frozenset(profile.reach),
                    capacity=pools[name].capacity,
                    committed=balances[name].reserved + balances[name].volumes,
                    minimum_size=profile.minimum_size,
                    maximum_size=profile.maximum_size,
                )
                for name, profile in self._profiles.items()
                if name in pools
            ],
            agents=[_agent_snapshot(agent, attached, draining) for agent in self._ledger.agents().values()],
            leases=leases,
        )


def _agent_snapshot(agent: Agent, attached: Mapping[tuple[str, str], int], draining: Collection[str]) -> AgentSnapshot:
    usable = {name: identity for name, identity in agent.identities.items() if name not in agent.problems}
    return AgentSnapshot(
        id=agent.id,
        zones={name: identity.zone for name, identity in usable.items()},
        slots={
            name: max(0, identity.attach_limit - attached.get((agent.id, name), 0))
            for name, identity in usable.items()
            if identity.attach_limit is not None
        },
        eligible=agent.state is AgentState.CONNECTED and agent.id not in draining,
        reclaimable=agent.state in (AgentState.LOST, AgentState.FENCED) or agent.id in draining,
    )
