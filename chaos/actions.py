"""How each kind of fault is caused and healed: a context in which it lasts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from chaos.plan import Fault, Kind
from chaos.stage import MASTER, SCHEDULER, Stage
from polly_mesos.fault_catalogue import CATALOGUE, Half

Action = Callable[[Stage, Fault], AbstractContextManager[None]]

_DRIVER_CALLS = ("create", "attach", "detach", "delete")
_ERRORS = ("PlatformUnavailable", "PlatformThrottled", "PlatformError")


@contextmanager
def _kill_scheduler(stage: Stage, fault: Fault) -> Iterator[None]:
    with stage.away(SCHEDULER):
        stage.scheduler.kill()
        yield
        stage.scheduler.start()


@contextmanager
def _stop_scheduler(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.scheduler.pause()
    yield
    stage.scheduler.resume()


@contextmanager
def _kill_executor(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.signal_executor(fault.target, signal.SIGKILL)
    yield


@contextmanager
def _stop_executor(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.signal_executor(fault.target, signal.SIGSTOP)
    yield
    stage.signal_executor(fault.target, signal.SIGCONT)


@contextmanager
def _kill_agent(stage: Stage, fault: Fault) -> Iterator[None]:
    agent = stage.cluster.agent(fault.target)
    with stage.away(fault.target):
        agent.kill()
        yield
        agent.start()


@contextmanager
def _restart_agent(stage: Stage, fault: Fault) -> Iterator[None]:
    agent = stage.cluster.agent(fault.target)
    with stage.away(fault.target):
        agent.stop()
        yield
        agent.start()


@contextmanager
def _stop_node(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.signal_node(fault.target, signal.SIGSTOP)
    yield
    stage.signal_node(fault.target, signal.SIGCONT)


@contextmanager
def _stop_master(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.signal_node(MASTER, signal.SIGSTOP)
    yield
    stage.signal_node(MASTER, signal.SIGCONT)


@contextmanager
def _fill_ledger_disk(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.ledger_disk.fill()
    yield
    stage.ledger_disk.free()


@contextmanager
def _fill_platform_disk(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.platform_disk.fill()
    yield
    stage.platform_disk.free()


@contextmanager
def _slow_driver(stage: Stage, fault: Fault) -> Iterator[None]:
    stage.scheduler.arm([f"volume.{call}.before-call=delay:{0.2 + fault.choice:.2f}" for call in _DRIVER_CALLS])
    yield
    stage.scheduler.arm([])


@contextmanager
def _failing_driver(stage: Stage, fault: Fault) -> Iterator[None]:
    """Calls fail before they happened, or after, when nobody knows whether they did."""
    error = _ERRORS[int(fault.choice * len(_ERRORS))]
    moment = "before-call" if fault.choice * 100 % 2 < 1 else "after-call"
    stage.scheduler.arm([f"volume.{call}.{moment}=raise:{error}" for call in _DRIVER_CALLS])
    yield
    stage.scheduler.arm([])


@contextmanager
def _crash_scheduler(stage: Stage, fault: Fault) -> Iterator[None]:
    """The scheduler dies where it passes the fault point next; it is started again as an init system would."""
    points = sorted(point.name for point in CATALOGUE.values() if point.half is Half.SCHEDULER)
    with stage.away(SCHEDULER):
        stage.scheduler.arm([f"{points[int(fault.choice * len(points))]}=exit"])
        yield
        stage.scheduler.arm([])
        stage.scheduler.start()


ACTIONS: Mapping[Kind, Action] = {
    Kind.KILL_SCHEDULER: _kill_scheduler,
    Kind.STOP_SCHEDULER: _stop_scheduler,
    Kind.KILL_EXECUTOR: _kill_executor,
    Kind.STOP_EXECUTOR: _stop_executor,
    Kind.KILL_AGENT: _kill_agent,
    Kind.RESTART_AGENT: _restart_agent,
    Kind.STOP_AGENT: _stop_node,
    Kind.STOP_MASTER: _stop_master,
    Kind.FILL_LEDGER_DISK: _fill_ledger_disk,
    Kind.FILL_PLATFORM_DISK: _fill_platform_disk,
    Kind.SLOW_DRIVER: _slow_driver,
    Kind.FAILING_DRIVER: _failing_driver,
    Kind.CRASH_SCHEDULER: _crash_scheduler,
}
