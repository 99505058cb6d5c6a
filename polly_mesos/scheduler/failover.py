"""The thread that looks after agents which are gone or going: who is away, who is fenced, what moves.

Every part of it looks at the ledger and does the next step, so that it can be stopped anywhere and begun again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from polly_mesos.errors import PollyError
from polly_mesos.mesos.master_client import MasterClient
from polly_mesos.scheduler.evacuation import Evacuation
from polly_mesos.scheduler.fencing import Fencing
from polly_mesos.scheduler.framework import Framework
from polly_mesos.scheduler.roster import Roster

log = logging.getLogger(__name__)

_INTERVAL = 1.0
_CALL_THE_ROLL = 5.0


class Failover:
    """Calls the master's roll, fences, and evacuates, again and again.

    :param client: makes a client of the leading master
    :param connected: whether the framework is registered; before that the master's answers mean nothing to us
    :param moved: called when volumes were moved or agents emptied, so that leases are planned anew
    """

    def __init__(
        self,
        client: Callable[[], MasterClient],
        roster: Roster,
        framework: Framework,
        fencing: Fencing,
        evacuation: Evacuation,
        moved: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._roster = roster
        self._framework = framework
        self._fencing = fencing
        self._evacuation = evacuation
        self._moved = moved
        self._clock = clock
        self._master: MasterClient | None = None
        self._roll_due = 0.0
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="failover", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=15.0)
        if self._master is not None:
            self._master.close()

    def look(self) -> None:
        """Look soon: an agent was lost, or fenced."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            if self._stopping.is_set():
                return
            for step in (self._call_the_roll, self._fencing.once, self._evacuate):
                try:
                    step()
                except PollyError as error:
                    log.warning("looking after agents: %s", error)
                except Exception:
                    log.exception("looking after agents failed; the next look follows")

    def _call_the_roll(self) -> None:
        if self._clock() < self._roll_due or not self._framework.connected.is_set():
            return
        self._roll_due = self._clock() + _CALL_THE_ROLL
        if self._master is None:
            self._master = self._client()
        roll = self._master.roll()
        self._roster.call(roll.registered, self._master.machines_in_maintenance(time.time()))
        self._framework.listed(roll.awaited)

    def _evacuate(self) -> None:
        if self._evacuation.once():
            self._moved()
