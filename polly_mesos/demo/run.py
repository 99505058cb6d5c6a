"""The demo from beginning to end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from polly_mesos.demo.console import Narrator
from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.demo.environment import (
    PROFILE,
    VOLUME_MB,
    choose_storage,
    clear_remains,
    remains,
    write_configuration,
)
from polly_mesos.demo.errors import DemoFailed
from polly_mesos.demo.observe import Observer
from polly_mesos.demo.report import Report
from polly_mesos.demo.steps import STEPS, Step, World
from polly_mesos.demo.supervise import FRAMEWORK, Supervisor, polly_command
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.isolation import Wanted
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.local.progress import Progress
from polly_mesos.mesos.local.progress import Step as Progressed

_STEP_SECONDS = 180.0
_LOOK_EVERY = 0.25
_FRAMEWORK_NOTES = ("giving-up", "task-failed", "freeing-leftovers", "error")


class Demo:
    """One demo in one directory.

    :param narrator: told what happens
    :param progress: told how the download of Mesos goes on
    """

    def __init__(
        self, directory: DemoDirectory, *, agents: int, isolation: Wanted, narrator: Narrator, progress: Progress
    ) -> None:
        self.directory = directory
        self.report = Report()
        self.cluster = LocalCluster(directory.mesos, agents=agents, isolation=isolation)
        self._agents = agents
        self._narrator = narrator
        self._progress = progress
        self._supervisor = Supervisor(directory)
        self._began = time.monotonic()

    def run(self) -> None:
        """All steps; everything runs afterwards, whether they were reached or not.

        :raises DemoFailed: a step was not reached
        :raises PollyError: what the parts raise
        """
        polly = self._start_mesos()
        observer = Observer(polly, self.cluster.master)
        world = World(polly, observer.master, self._agents, framework_log=str(self.directory.log(FRAMEWORK)))
        self._supervisor.start_polly(polly)
        try:
            for step in STEPS:
                self._narrator.waiting(f"{step.title} ...")
                detail = self._wait(step, world, observer)
                self.report.reach(step.name, step.title, detail, self._seconds())
                self._narrator.step(step, world, detail, self._seconds())
                if step.name == "offered":
                    self._supervisor.start_framework(self.cluster.master, profile=PROFILE, size_mb=VOLUME_MB)
        finally:
            observer.close()
            self.report.volume = world.volume
            self.report.before, self.report.during, self.report.after = world.before, world.during, world.after
            self.report.restarts = self._supervisor.restarts

    def check_ledger(self) -> None:
        """Have ``polly ledger check`` look at the ledger.

        :raises DemoFailed: it found something
        """
        command = polly_command("ledger", "check", "--config", str(self.directory.configuration))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
        if done.returncode != 0:
            raise DemoFailed(f"polly ledger check found something:\n{said}")
        self.report.ledger = said

    def addresses(self) -> dict[str, str]:
        """What runs where, and how to end it."""
        # late, because it loads the web server
        from polly_mesos.api.server import operator_token_file

        directory = self.directory
        return {
            "mesos": f"http://{self.cluster.master}",
            "polly": self._supervisor.polly,
            "config": str(directory.configuration),
            "token": str(operator_token_file(directory.configuration)),
            "logs": str(directory.logs),
            "stop": f"polly demo --stop --dir {directory.path}",
        }

    def end(self) -> None:
        """End all processes and remove all mounts and loop devices; the logs stay."""
        self._narrator.waiting("Ending all processes ...")
        end(self.directory)

    def check_nothing_left(self) -> None:
        """Look for what the demo should have removed.

        :raises DemoFailed: something is there
        """
        left = str(remains(self.directory, self.cluster.volumes))
        mounts = [str(mount.target) for mount in mounts_below(self.directory.path)]
        if left or mounts:
            raise DemoFailed(f"something is left: {left or ', '.join(mounts)}")

    def logs(self) -> list[Path]:
        """Where to look when something failed: our processes, Mesos, and what the executors said in their sandboxes."""
        of_executors = "agents/*/work/slaves/*/frameworks/*/executors/polly/runs/latest/stderr"
        mesos = self.directory.mesos
        return [
            *sorted(self.directory.logs.glob("*.log")),
            *sorted(mesos.glob("master/log")),
            *sorted(mesos.glob("agents/*/log")),
            *sorted(mesos.glob(of_executors)),
        ]

    def _start_mesos(self) -> str:
        self._narrator.waiting("Starting Mesos ...")
        self.cluster.up(self._show_download)
        storage = choose_storage()
        self.report.isolation, self.report.driver = self.cluster.isolation, storage.driver
        title = "A Mesos master and its agents run"
        detail = f"{self.cluster.master}, {self._agents} agents"
        self.report.reach("mesos", title, detail, self._seconds())
        self._narrator.reached(title, detail, f"curl http://{self.cluster.master}/slaves", self._seconds())
        self._narrator.note(self.cluster.isolation_reason)
        self._narrator.note(storage.reason)
        return write_configuration(self.directory, self.cluster, storage)

    def _show_download(self, step: Progressed) -> None:
        if step.total is not None or step.done:
            self._progress(step)

    def _wait(self, step: Step, world: World, observer: Observer) -> str:
        deadline = time.monotonic() + _STEP_SECONDS
        while time.monotonic() < deadline:
            world.see(observer.look())
            self._listen(world)
            if step.name == STEPS[-1].name:
                world.left = str(remains(self.directory, self.cluster.volumes))
            detail = step.reached(world)
            if detail is not None:
                return detail
            self._check_processes(world)
            time.sleep(_LOOK_EVERY)
        raise DemoFailed(
            f"not reached in {_STEP_SECONDS:.0f} s: {step.title}" + (f" ({world.left})" if world.left else "")
        )

    def _listen(self, world: World) -> None:
        for event in self._supervisor.framework_events() if world.before is not None else ():
            world.hear(event)
            if event["event"] in _FRAMEWORK_NOTES:
                words = " ".join(f"{value}" for name, value in event.items() if name != "event")
                self._narrator.note(f"framework: {event['event']}: {words}")
            if event["event"] == "data-lost":
                raise DemoFailed(f"the task did not find its data again; it printed {event['lines']}")

    def _check_processes(self, world: World) -> None:
        if self._supervisor.keep_polly(healthy=bool(world.now.health)):
            self._narrator.note("polly serve has died; it is started again")
        for agent in self.cluster.agents:
            if not agent.alive():
                raise DemoFailed(f"Mesos {agent.name} has died", remedy=f"its log: {agent.log}")
        if world.before is not None and not self._supervisor.framework_runs():
            self._listen(world)
            if "released" not in world.events:
                raise DemoFailed(f"the framework has ended early:\n{self._supervisor.tail(FRAMEWORK)}")

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def end(directory: DemoDirectory) -> None:
    """End whatever runs of a demo, from this process or another one."""
    Supervisor(directory).end()
    LocalCluster(directory.mesos).down()
    clear_remains(directory)
