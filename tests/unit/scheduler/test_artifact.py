"""The executor's artifact needs nothing but Python."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from polly_mesos.errors import ConfigurationError
from polly_mesos.scheduler.artifact import build

HOSTS = frozenset({"drivers.loop.host:LoopHost", "drivers.directory.host:DirectoryHost"})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = build(HOSTS)
    path = tmp_path_factory.mktemp("artifact") / artifact.name
    path.write_bytes(artifact.data)
    return path


def test_the_same_contents_have_the_same_name_and_bytes(file: Path) -> None:
    again = build.__wrapped__(HOSTS)
    assert again.name == file.name
    assert again.data == file.read_bytes()


def test_it_holds_no_compiled_library_no_controller_side_and_no_ledger(file: Path) -> None:
    names = zipfile.ZipFile(file).namelist()
    assert "drivers/loop/host.py" in names
    assert not [name for name in names if name.endswith(".so")]
    assert not [name for name in names if "controller" in name]
    assert not [name for name in names if name.startswith(("polly_mesos/ledger", "polly_mesos/scheduler"))]


def test_every_module_that_the_executor_needs_can_be_imported_without_installed_packages(file: Path) -> None:
    modules = "polly_mesos.executor.__main__, polly_mesos.executor.mesos_executor, drivers.loop.host"
    script = f"import sys; sys.path.insert(0, {str(file)!r}); import {modules}; print(httpx_from())"
    script = script.replace("httpx_from()", "sys.modules['httpx'].__file__")
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert str(file) in ran.stdout


def test_a_start_unpacks_nothing(file: Path, tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(file)!r})
from polly_mesos.executor.scheduler_client import SchedulerClient
from polly_mesos.mesos.agent_client import AgentClient
AgentClient("127.0.0.1:1").close()
SchedulerClient("http://127.0.0.1:1", "token").close()
"""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={"TMPDIR": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigurationError, match="drivers_of_nobody"):
        build(frozenset({"drivers_of_nobody.host:Host"}))
