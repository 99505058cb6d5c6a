"""A demo never mixes with what it did not make, nor with a demo that still runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polly_mesos.demo.directory import DemoDirectory, Record
from polly_mesos.demo.errors import DemoFailed
from polly_mesos.demo.supervise import FRAMEWORK, Supervisor
from polly_mesos.mesos.local.processes import Process, spawn


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(DemoFailed, match="not empty"):
        DemoDirectory.prepare(tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


def test_what_a_failed_demo_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    old = DemoDirectory.prepare(path)
    old.log("polly").write_text("it failed")
    new = DemoDirectory.prepare(path)
    assert not new.log("polly").exists()


def test_a_directory_in_which_a_demo_runs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    directory = DemoDirectory.prepare(path)
    sleeper = spawn(["/bin/sleep", "60"], os.environ, tmp_path / "log")
    try:
        directory.save(Record({"polly": sleeper}))
        with pytest.raises(DemoFailed, match="polly demo --stop"):
            DemoDirectory.prepare(path)
    finally:
        Supervisor(directory).end()
    assert not sleeper.alive()
    assert not directory.runs()


def test_only_a_directory_that_the_demo_made_is_removed(tmp_path: Path) -> None:
    DemoDirectory.prepare(tmp_path / "made").remove()
    assert not (tmp_path / "made").exists()
    DemoDirectory.prepare(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_the_record_survives(tmp_path: Path) -> None:
    directory = DemoDirectory.prepare(tmp_path / "demo")
    record = Record({"polly": Process(4711, 99)}, "http://127.0.0.1:7979")
    directory.save(record)
    assert directory.load() == record


def test_half_written_events_are_told_when_they_are_whole(tmp_path: Path) -> None:
    directory = DemoDirectory.prepare(tmp_path / "demo")
    supervisor = Supervisor(directory)
    log = directory.log(FRAMEWORK)
    text = '{"event": "registered"}\nTraceback\n{"event": "réserving"}\n'.encode()
    half = text.index("é".encode()) + 1
    log.write_bytes(text[:half])
    assert supervisor.framework_events() == [{"event": "registered"}]
    log.write_bytes(text)
    assert supervisor.framework_events() == [{"event": "réserving"}]
    assert supervisor.framework_events() == []
