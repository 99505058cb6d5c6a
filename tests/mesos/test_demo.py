"""``polly demo`` as its user meets it: it ends well in every situation, whatever is killed, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chaos.watch import WINDOWS
from polly_mesos.demo.directory import DemoDirectory
from polly_mesos.demo.steps import STEPS
from polly_mesos.demo.supervise import FRAMEWORK, POLLY, polly_command
from polly_mesos.mesos.local.package import Mesos
from polly_mesos.model import MB
from tests.leftovers import loop_devices_below, mounts_below

from .conftest import OrdinaryUser

pytestmark = [pytest.mark.mesos, pytest.mark.slow, pytest.mark.timeout(300)]

ALL_STEPS = ["mesos", *(step.name for step in STEPS)]


@pytest.fixture
def directory(mesos: Mesos) -> Iterator[Path]:
    """Where a demo may make its directory; whatever still runs in it is ended."""
    parent = Path(tempfile.mkdtemp(prefix="polly-demo-test-"))
    parent.chmod(0o755)
    path = parent / "demo"
    yield path
    if path.exists():
        subprocess.run(polly_command("demo", "--stop", "--dir", str(path)), check=False, capture_output=True)
    shutil.rmtree(parent)


class RunningDemo:
    """A ``polly demo --json`` in the background."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = DemoDirectory(directory)
        command = polly_command("demo", "--json", "--dir", str(directory), *arguments)
        # Tests that were started in the background ignore SIGINT, and what they start would as well.
        command = ["env", "--default-signal=INT", *command]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read_steps)
        self._reader.start()

    def _read_steps(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def __enter__(self) -> RunningDemo:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def wait_for_event(self, event: str) -> None:
        """Until the framework has told of an event, as ``launching``."""
        log = self.directory.log(FRAMEWORK)
        self._wait_until(lambda: log.exists() and f'"event": "{event}"' in log.read_text())

    def wait_for_scheduler(self) -> int:
        """Until ``polly serve`` runs; its process id."""
        self._wait_until(lambda: self._scheduler() is not None)
        pid = self._scheduler()
        assert pid is not None
        return pid

    def _scheduler(self) -> int | None:
        record = self.directory.load()
        process = record.processes.get(POLLY) if record is not None else None
        return process.pid if process is not None else None

    def executors(self) -> list[int]:
        """The process ids of Polly's executors on the demo's agents."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                below = (entry / "cwd").readlink().is_relative_to(self.directory.mesos)
                if entry.name.isdigit() and below and any("polly-executor" in word for word in command):
                    found.append(int(entry.name))
        return found

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, f"the demo ended early: {self.said}"
            assert time.monotonic() < deadline, f"waited in vain: {self.said}"
            time.sleep(0.01)

    def result(self) -> dict[str, Any]:
        """What it said at its end, which must be a good one."""
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        assert self.process.wait(60) == 0, "".join(self.said)
        report: dict[str, Any] = json.loads(text)
        return report


def assert_complete(report: dict[str, Any], directory: Path) -> None:
    """The task found its data, the capacity is back, the ledger is clean, and nothing is left."""
    assert report["ok"]
    assert [step["name"] for step in report["steps"]] == ALL_STEPS
    capacity = report["capacity"]
    assert capacity["during"]["volumes"] == capacity["during"]["claimed"] == 256 * MB
    assert capacity["after"] == {**capacity["before"], "volumes": 0, "reserved": 0, "claimed": 0}
    assert "clean" in report["ledger"]
    assert not directory.exists()
    assert mounts_below(directory) == []
    assert loop_devices_below(directory) == []
    assert processes_of(directory) == []


def processes_of(directory: Path) -> list[str]:
    """The command lines of processes that have to do with a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if entry.name.isdigit() and f"{directory}/" in command:
                found.append(command)
    return found


@pytest.mark.root
@pytest.mark.parametrize("isolation", ["linux", "posix"])
def test_as_root_it_uses_the_loop_driver_with_either_isolation(directory: Path, isolation: str) -> None:
    if not os.access("/dev/loop-control", os.W_OK):
        pytest.skip("this host has no loop devices")
    if isolation == "linux" and "freezer" not in Path("/proc/cgroups").read_text():
        pytest.skip("this kernel has no cgroup v1 freezer")
    with RunningDemo(directory, "--isolation", isolation) as demo:
        report = demo.result()
    assert (report["isolation"], report["driver"]) == (isolation, "loop")
    assert report["volume"]["publication"]["device"].startswith("/dev/loop")
    assert_complete(report, directory)


def test_as_an_ordinary_user_it_uses_the_directory_driver(ordinary_user: OrdinaryUser) -> None:
    path = ordinary_user.directory / "demo"
    report = json.loads(ordinary_user.polly("demo", "--json", "--dir", str(path)))
    assert (report["isolation"], report["driver"]) == ("posix", "directory")
    assert_complete(report, path)


@pytest.mark.parametrize("event", ["reserving", "launching", "task-finished", "destroying"])
def test_killing_the_executors_delays_it_only(directory: Path, event: str) -> None:
    """An agent that ends in a window of Mesos' own, which no dead executor can close, makes it begin anew."""
    for left in reversed(range(3)):
        with RunningDemo(directory) as demo:
            demo.wait_for_event(event)
            killed = demo.executors()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            try:
                report = demo.result()
                break
            except AssertionError:
                logs = [log.read_text(errors="replace") for log in directory.glob("mesos/agents/*/log")]
                if not left or not any(map(WINDOWS.search, logs)):
                    raise
        shutil.rmtree(directory)
    assert len(killed) == 2
    assert_complete(report, directory)


@pytest.mark.parametrize("event", ["reserving", "launching", "task-finished", "destroying"])
def test_killing_the_scheduler_delays_it_only(directory: Path, event: str) -> None:
    with RunningDemo(directory) as demo:
        demo.wait_for_event(event)
        os.kill(demo.wait_for_scheduler(), signal.SIGKILL)
        report = demo.result()
    assert report["restarts"] == 1
    assert_complete(report, directory)


def test_a_scheduler_killed_while_it_starts_is_started_again(directory: Path) -> None:
    with RunningDemo(directory) as demo:
        pid = demo.wait_for_scheduler()
        os.kill(pid, signal.SIGKILL)
        report = demo.result()
    assert report["restarts"] == 1
    assert_complete(report, directory)


def test_interrupting_it_leaves_nothing(directory: Path) -> None:
    with RunningDemo(directory) as demo:
        demo.wait_for_event("task-running")
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(60) == 130
    assert not directory.exists()
    assert processes_of(directory) == []
    assert mounts_below(directory) == []
    assert loop_devices_below(directory) == []


def test_what_was_kept_is_ended_by_stop(directory: Path) -> None:
    with RunningDemo(directory, "--keep") as demo:
        report = demo.result()
    assert report["addresses"]["stop"] == f"polly demo --stop --dir {directory}"
    listed = subprocess.run(
        polly_command("pool", "list", "--format", "json", "--scheduler", report["addresses"]["polly"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [pool["name"] for pool in json.loads(listed.stdout)] == ["gold"]
    subprocess.run(polly_command("demo", "--stop", "--dir", str(directory)), check=True, capture_output=True)
    assert not directory.exists()
    assert processes_of(directory) == []
    assert mounts_below(directory) == []


def test_a_demo_that_fails_says_why_and_where_its_logs_are(directory: Path) -> None:
    with RunningDemo(directory) as demo:
        demo.wait_for_event("reserving")
        record = demo.directory.load()
        assert record is not None
        os.kill(record.processes[FRAMEWORK].pid, signal.SIGKILL)
        assert demo.process.stdout is not None
        report = json.loads(demo.process.stdout.read())
        assert demo.process.wait(60) == 20
    assert not report["ok"]
    assert "the framework has ended early" in report["error"]["message"]
    assert str(demo.directory.log(FRAMEWORK)) in report["logs"]
    assert all(Path(log).exists() for log in report["logs"])
    assert processes_of(directory) == []
    assert mounts_below(directory) == []
    assert loop_devices_below(directory) == []
