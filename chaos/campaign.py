"""One campaign: rounds of faults, after each of which everything is healed, comes to rest, and is judged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from chaos import judge
from chaos.actions import ACTIONS
from chaos.plan import Fault, Kind, Round, draw
from chaos.report import Outcome
from chaos.stage import AGENTS, CAPACITY_MB, Stage
from chaos.view import NoAnswer, View, Viewer
from chaos.volumes import Memory
from chaos.watch import Watch
from chaos.workload import Workload

log = logging.getLogger(__name__)

START_SECONDS = 60.0
REST_SECONDS = 90.0
"""How long everything may take to come to rest after a round; what has not by then is a violation."""

_LOOK_EVERY = 0.3
_WARM_UP_SECONDS = 3.0

Tell = Callable[[str], None]


class Campaign:
    """A campaign in an empty directory.

    :param kinds: which faults, of those that can be caused here; None: all
    :param tell: told one line for every round
    """

    def __init__(self, directory: Path, seed: int, *, kinds: Collection[Kind] | None, tell: Tell) -> None:
        self.stage = Stage(directory)
        self.kinds = self.stage.kinds & set(Kind if kinds is None else kinds)
        self.outcome = Outcome(seed, self.stage.storage.driver)
        self._tell = tell
        self._abandoned = threading.Event()

    def run(self, *, faults: int = 0, rounds: int = 0) -> Outcome:
        """All rounds, or those up to the first violation; everything is ended and removed afterwards.

        :raises PollyError: the cluster could not be started or ended
        """
        begun = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._abandoned.set)
            stack.callback(self.stage.close)
            self.stage.prepare()
            workload = Workload(self.stage.cluster.master_url, Memory(self.stage.memory), self.outcome.seed)
            watch = Watch(self.stage)
            viewer = Viewer(self.stage)
            stack.callback(viewer.close)
            stack.callback(workload.stop)
            stack.callback(watch.stop)
            _Rounds(self.stage, workload, watch, viewer, self.outcome, self._tell, self._abandoned).run(
                draw(self.outcome.seed, self.kinds, AGENTS, faults=faults, rounds=rounds)
            )
            self.outcome.operations = workload.done()
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome


class _Rounds:
    def __init__(
        self,
        stage: Stage,
        workload: Workload,
        watch: Watch,
        viewer: Viewer,
        outcome: Outcome,
        tell: Tell,
        abandoned: threading.Event,
    ) -> None:
        self._stage, self._workload, self._watch, self._viewer = stage, workload, watch, viewer
        self._outcome, self._tell, self._abandoned = outcome, tell, abandoned

    def run(self, rounds: Iterator[Round]) -> None:
        self._watch.start()
        self._wait(lambda view: judge.not_serving(view, len(AGENTS)), START_SECONDS, "before the first round")
        self._workload.work(0)
        self._workload.start()
        time.sleep(_WARM_UP_SECONDS)
        while not self._outcome.violations and (drawn := next(rounds, None)) is not None:
            self._play(drawn)

    def _play(self, drawn: Round) -> None:
        begun = time.monotonic()
        log.info("round %d begins", drawn.number)
        self._workload.work(drawn.number)
        where = f"round {drawn.number}"
        with (
            ThreadPoolExecutor(max_workers=len(drawn.faults), thread_name_prefix="fault") as pool,
            ExitStack() as stack,
        ):
            # whatever happens, the last faults are healed before the pool waits for its threads
            last = threading.Event()
            stack.callback(last.set)
            healed = {fault: threading.Event() for fault in drawn.faults}
            running = {
                pool.submit(self._cause, fault, begun, last, healed, list(drawn.faults[:number])): fault
                for number, fault in enumerate(drawn.faults)
            }
            lasting = {future: fault for future, fault in running.items() if fault.outlasts_round}
            self._await({future: fault for future, fault in running.items() if future not in lasting}, where)
            served, rested = self._judge(where, len(AGENTS) - len(lasting))
            if lasting:
                last.set()
                self._await(lasting, where)
                self._judge(f"{where}, with all hosts again", len(AGENTS))
        self._outcome.rounds += 1
        self._outcome.recoveries.append(served)
        self._outcome.rests.append(rested)
        names = ", ".join(str(fault) for fault in drawn.faults)
        result = f"{len(self._outcome.violations)} VIOLATIONS" if self._outcome.violations else "clean"
        took = time.monotonic() - begun
        self._tell(
            f"round {drawn.number}: {len(drawn.faults)} faults, {result}; served after {served:.1f} s, at rest after"
            f" {rested:.1f} s, took {took:.1f} s  [{names}]"
        )

    def _cause(
        self,
        fault: Fault,
        begun: float,
        last: threading.Event,
        healed: Mapping[Fault, threading.Event],
        earlier: Sequence[Fault],
    ) -> None:
        """Cause a fault at its time, and heal it.

        :param earlier: those that begin before it; on a slow machine, what they happen to can still be on its way back
        """
        try:
            if self._abandoned.wait(begun + fault.at - time.monotonic()):
                return
            for other in earlier:
                if fault.shares(other):
                    healed[other].wait()
            log.info("%s", fault)
            with ACTIONS[fault.kind](self._stage, fault):
                if fault.outlasts_round:
                    last.wait()
                else:
                    self._abandoned.wait(fault.lasts)
            log.info("healed: %s", fault)
        finally:
            healed[fault].set()

    def _await(self, running: Mapping[Future[None], Fault], where: str) -> None:
        """Until the faults are healed."""
        for future, fault in running.items():
            if (error := future.exception()) is not None:
                log.error("%s failed", fault, exc_info=error)
                self._violate(where, [f"the campaign failed at '{fault}': {error}"])
            else:
                self._outcome.faults[fault.kind] += 1

    def _judge(self, where: str, agents: int) -> tuple[float, float]:
        """Let everything come to rest and hold it against the rules.

        :param agents: how many are there
        :returns: the seconds until all of them were served, and until all was at rest
        """
        healed = time.monotonic()
        self._workload.settle()
        self._wait(lambda view: judge.not_serving(view, agents), REST_SECONDS, where)
        served = time.monotonic() - healed
        view = self._wait(lambda view: self._unfinished(view, agents), REST_SECONDS, where)
        rested = time.monotonic() - healed
        if view is not None:
            broken = [*judge.broken(view, CAPACITY_MB), *self._findings(all_there=agents == len(AGENTS))]
            self._violate(where, broken)
            self._outcome.leaked += sum(words.startswith("leaked") for words in broken)
        self._violate(where, [*self._watch.violations(), *self._workload.violations()])
        self._outcome.aborts, self._outcome.windows = self._watch.aborts, self._watch.windows
        return served, rested

    def _findings(self, *, all_there: bool) -> Iterator[str]:
        """What Polly's own checks find; while a host is off, that it is missing is no mistake."""
        try:
            yield from (words for words in self._viewer.check() if all_there or "warning agent." not in words)
        except NoAnswer as error:
            yield str(error)

    def _unfinished(self, view: View, agents: int) -> Iterator[str]:
        yield from judge.not_serving(view, agents)
        yield from self._workload.unsettled(view.active)
        yield from judge.not_at_rest(view, self._workload.needed())

    def _wait(self, reasons: Callable[[View], Iterator[str]], seconds: float, where: str) -> View | None:
        """Until there are no reasons left to wait; None and violations where they are not gone in time."""
        deadline = time.monotonic() + seconds
        said: list[str] = []
        while True:
            try:
                view = self._viewer.look()
                found = list(reasons(view))
                if not found:
                    return view
            except NoAnswer as error:
                found = [str(error)]
            if found != said:
                log.info("waiting: %s", "; ".join(found))
                said = found
            damage = [*self._watch.violations(), *self._workload.violations()]
            if damage or time.monotonic() > deadline:
                self._violate(where, damage or [f"after {seconds:.0f} s still: {reason}" for reason in found])
                return None
            self._abandoned.wait(_LOOK_EVERY)

    def _violate(self, where: str, found: list[str]) -> None:
        known = {violation.partition(": ")[2] for violation in self._outcome.violations}
        self._outcome.violations += [f"{where}: {words}" for words in found if words not in known]
