"""How each kind of fault is caused and healed: a context in which it lasts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from chaos.plan import Fault, Kind
from chaos.stage import SCHEDULER, Stage
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
def _kill_node(stage: Stage, fault: Fault) -> Iterator[None]:
    node = stage.node(fault.target)
    with stage.away(fault.target):
        node.kill()
        yield
        node.launch()


@contextmanager
def _restart_node(stage: Stage, fault: Fault) -> Iterator[None]:
    node = stage.node(fault.target)
    with stage.away(fault.target):
        node.stop()
        yield
        node.launch()


@contextmanager
def _stop_node(stage: Stage, fault: Fault) -> Iterator[None]:
    node = stage.node(fault.target)
    node.pause()
    yield
    node.resume()


@contextmanager
def _wipe_agent(stage: Stage, fault: Fault) -> Iterator[None]:
    """Polly's executor goes on, and the agent that comes back does not know it."""
    agent = stage.cluster.agent(fault.target)
    with stage.away(fault.target):
        agent.kill()
        # their sandboxes go, with the volumes that are mounted there: what they wrote next would be on no volume
        stage.kill_tasks(fault.target)
        agent.wipe()
        yield
        agent.launch()


@contextmanager
def _power_off(stage: Stage, fault: Fault) -> Iterator[None]:
    agent = stage.cluster.agent(fault.target)
    with stage.away(fault.target):
        agent.power_off()
        stage.release_devices(agent.endpoint)
        yield
        agent.launch()


@contextmanager
def _cut_link(stage: Stage, fault: Fault) -> Iterator[None]:
    one, _, other = fault.target.partition("|")
    stage.cluster.cut(one, other)
    yield
    stage.cluster.heal(one, other)


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
    with stage.away(SCHEDULER):
        stage.scheduler.arm([f"{_fault_point(Half.SCHEDULER, fault)}=exit"])
        yield
        stage.scheduler.arm([])
        stage.scheduler.start()


@contextmanager
def _crash_executors(stage: Stage, fault: Fault) -> Iterator[None]:
    """Every executor dies where it passes the fault point next: what is armed in the scheduler reaches them."""
    stage.scheduler.arm([f"{_fault_point(Half.EXECUTOR, fault)}=exit"])
    yield
    stage.scheduler.arm([])


def _fault_point(half: Half, fault: Fault) -> str:
    points = [point.name for point in CATALOGUE.values() if point.half is half]
    return points[int(fault.choice * len(points))]


ACTIONS: Mapping[Kind, Action] = {
    Kind.KILL_SCHEDULER: _kill_scheduler,
    Kind.STOP_SCHEDULER: _stop_scheduler,
    Kind.KILL_EXECUTOR: _kill_executor,
    Kind.STOP_EXECUTOR: _stop_executor,
    Kind.KILL_AGENT: _kill_node,
    Kind.RESTART_AGENT: _restart_node,
    Kind.STOP_AGENT: _stop_node,
    Kind.WIPE_AGENT: _wipe_agent,
    Kind.POWER_OFF: _power_off,
    Kind.KILL_MASTER: _kill_node,
    Kind.STOP_MASTER: _stop_node,
    Kind.CUT_LINK: _cut_link,
    Kind.FILL_LEDGER_DISK: _fill_ledger_disk,
    Kind.FILL_PLATFORM_DISK: _fill_platform_disk,
    Kind.SLOW_DRIVER: _slow_driver,
    Kind.FAILING_DRIVER: _failing_driver,
    Kind.CRASH_SCHEDULER: _crash_scheduler,
    Kind.CRASH_EXECUTORS: _crash_executors,
}
