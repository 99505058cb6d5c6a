"""Both hardened drivers on a real master and a real agent."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.errors import FrameworkRefused
from polly_mesos.mesos.driver_process import Backoff
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.scheduler_driver import SchedulerDriver

pytestmark = pytest.mark.mesos

# Reports every turn of its life as an update, as updates arrive and messages may not.
EXECUTOR = """
import logging, os, sys
from polly_mesos.mesos.executor_driver import ExecutorDriver

logging.basicConfig(level=logging.INFO, stream=sys.stderr)

class Executor:
    def registered(self, executor_info, framework_info, agent_info):
        pass
    def reregistered(self, agent_info):
        driver.send_update("task", "TASK_RUNNING", message="again with " + agent_info["id"]["value"])
    def disconnected(self):
        driver.send_update("task", "TASK_RUNNING", message="made while the agent was away")
    def launch(self, task):
        driver.send_update(task["task_id"]["value"], "TASK_RUNNING", message=driver._path)
    def kill(self, task_id, grace_seconds):
        driver.send_update(task_id, "TASK_KILLED", message=str(grace_seconds))
        driver.stop()
    def message(self, data):
        driver.send_message(b"echo " + data)
    def shutdown(self, grace_seconds):
        pass

driver = ExecutorDriver(Executor())
driver.start()
driver.join()
"""


class Scheduler:
    """Launches one task on the first offer, and remembers what it is told."""

    def __init__(self) -> None:
        self.driver: SchedulerDriver
        self.task: dict[str, Any] = {}
        self.launched = False
        self.told: list[tuple[Any, ...]] = []
        self._news = threading.Condition()

    def wait_for(self, *beginning: Any) -> tuple[Any, ...]:
        """The first that was told and begins so."""
        deadline = time.monotonic() + 60.0
        with self._news:
            while not (found := [told for told in self.told if told[: len(beginning)] == beginning]):
                assert self._news.wait(deadline - time.monotonic()), f"{beginning} did not come, but {self.told}"
        return found[0]

    def _tell(self, *told: Any) -> None:
        with self._news:
            self.told.append(told)
            self._news.notify_all()

    def registered(self, framework_id: str, master_info: dict[str, Any]) -> None:
        self._tell("registered", framework_id, master_info)

    def disconnected(self) -> None:
        self._tell("disconnected")

    def offers(self, offers: list[dict[str, Any]]) -> None:
        for offer in offers:
            if self.launched or not self.task:
                assert self.driver.decline([offer["id"]], 3600.0)
                continue
            task = {**self.task, "agent_id": offer["agent_id"]}
            operation = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
            self.launched = self.driver.accept([offer["id"]], [operation], 3600.0)

    def rescinded(self, offer_id: str) -> None:
        self._tell("rescinded", offer_id)

    def update(self, status: dict[str, Any]) -> None:
        self._tell("update", status["state"], status.get("message"), status)

    def message(self, executor_id: str, agent_id: str, data: bytes) -> None:
        self._tell("message", data)

    def agent_lost(self, agent_id: str) -> None:
        self._tell("agent_lost", agent_id)

    def executor_lost(self, executor_id: str, agent_id: str, status: int) -> None:
        self._tell("executor_lost", executor_id, status)

    def refused(self, message: str) -> None:
        self._tell("refused", message)


def resources(**amounts: float) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": "SCALAR", "scalar": {"value": amount}, "allocation_info": {"role": "test"}}
        for name, amount in amounts.items()
    ]


def framework(**fields: Any) -> dict[str, Any]:
    capabilities = [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]
    return {
        "user": "root",
        "name": "drivers",
        "roles": ["test"],
        "checkpoint": True,
        "capabilities": capabilities,
        **fields,
    }


def executor_task(directory: Path) -> dict[str, Any]:
    program = directory / "executor.py"
    program.write_text(EXECUTOR)
    root = Path(__file__).parents[2]
    return {
        "name": "task",
        "task_id": {"value": "task"},
        "resources": resources(cpus=0.1, mem=32),
        "executor": {
            "executor_id": {"value": "executor"},
            "command": {"value": f"exec env PYTHONPATH={root} {sys.executable} {program}"},
            "resources": resources(cpus=0.1, mem=32),
        },
    }


def start(scheduler: Scheduler, master: str, **fields: Any) -> SchedulerDriver:
    scheduler.driver = SchedulerDriver(scheduler, framework(**fields), master, backoff=Backoff(0.1, 1.0))
    scheduler.driver.start()
    return scheduler.driver


def test_a_task_lives_through_its_scheduler_and_its_agent(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster = cluster_factory(agents=1, isolation="posix")
    first = Scheduler()
    first.task = executor_task(tmp_path)
    driver = start(first, cluster.master)
    try:
        _, _, path, status = first.wait_for("update", "TASK_RUNNING")
        assert path == "/slave(1)/api/v1/executor"
        agent_id = status["agent_id"]["value"]
        assert driver.send_to_executor("executor", agent_id, b"\x00\xff")
        first.wait_for("message", b"echo \x00\xff")
        driver.stop()
        driver.join()

        second = Scheduler()
        driver = start(second, cluster.master, id={"value": driver.framework_id})
        assert second.wait_for("registered")[1] == driver.framework_id
        assert driver.reconcile([])
        second.wait_for("update", "TASK_RUNNING")

        agent = cluster.agents[0]
        agent.kill()
        agent.start()
        second.wait_for("update", "TASK_RUNNING", "made while the agent was away")
        second.wait_for("update", "TASK_RUNNING", f"again with {agent_id}")
        assert driver.kill("task", agent_id)
        second.wait_for("update", "TASK_KILLED", "None")
        second.wait_for("executor_lost", "executor", 0)
        assert driver.callback_errors == 0
    finally:
        assert driver.stop(teardown=True)
        driver.join()


def test_a_framework_id_that_was_torn_down_is_refused(cluster: LocalCluster) -> None:
    scheduler = Scheduler()
    driver = start(scheduler, cluster.master)
    framework_id = scheduler.wait_for("registered")[1]
    assert driver.stop(teardown=True)
    driver.join()

    late = Scheduler()
    driver = start(late, cluster.master, id={"value": framework_id})
    try:
        assert "removed" in late.wait_for("refused")[1]
        assert isinstance(driver.problem, FrameworkRefused)
        assert framework_id in str(driver.problem)
    finally:
        driver.stop()
        driver.join()


def test_a_scheduler_whose_id_another_one_takes_ends_and_leaves_it_to_the_other(cluster: LocalCluster) -> None:
    older, newer = Scheduler(), Scheduler()
    driver = start(older, cluster.master)
    framework_id = older.wait_for("registered")[1]
    successor = start(newer, cluster.master, id={"value": framework_id})
    try:
        newer.wait_for("registered", framework_id)
        assert "failed over" in older.wait_for("refused")[1]
        driver.join()
        assert driver.aborted
        assert successor.connected
    finally:
        driver.stop()
        assert successor.stop(teardown=True)
        successor.join()
