"""A driver of a third party: installed from a distribution of its own, found, and as good as ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULES = {f"polly_driver_folder/{name}.py" for name in ("__init__", "host")}
POLLY = "import sys; from polly_mesos.cli.main import main; sys.exit(main())"
CONFIGURATION = """
cluster: demo
mesos: {master: "127.0.0.1:5050"}
ledger: {path: ledger.db}
services: {share: {driver: folder, directory: /mnt/share/polly, capacity: 1GiB}}
profiles: {gold: {service: share%s}}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, so that building it leaves nothing in the repository."""
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    return shutil.copytree(
        ROOT / "examples" / "driver-folder", tmp_path_factory.mktemp("source") / "driver", ignore=ignored
    )


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the distribution was installed into, by pip and without a network."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    ran = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}\nbuilding needs setuptools as in requirements.lock"
    return target


def run(installed: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_polly_finds_the_installed_driver(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "polly.yml").write_text(CONFIGURATION % "")
    checked = run(installed, tmp_path, "-c", POLLY, "config", "check", "polly.yml")
    assert checked.returncode == 0, checked.stderr
    described = yaml.safe_load(checked.stdout)
    assert described["services"]["share"]["driver"] == "folder"
    assert described["profiles"]["gold"]["filesystem"] == "none"


def test_what_the_driver_lacks_is_refused_at_its_field(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "polly.yml").write_text(CONFIGURATION % ", iops: 3000")
    checked = run(installed, tmp_path, "-c", POLLY, "config", "check", "polly.yml")
    assert checked.returncode == 2
    assert "profiles.gold.iops: '3000' is nothing that a folder on a share has" in checked.stderr


def test_the_executor_gets_the_host_side_and_not_the_controller_side(installed: Path, tmp_path: Path) -> None:
    build = "from polly_mesos.scheduler.artifact import build; import io, zipfile; "
    build += "data = build(frozenset({'polly_driver_folder.host:FolderHost'})).data; "
    listed = run(installed, tmp_path, "-c", f"{build}print(*zipfile.ZipFile(io.BytesIO(data)).namelist(), sep='\\n')")
    names = {name for name in listed.stdout.splitlines() if name.startswith("polly_driver") and name.endswith(".py")}
    assert names == MODULES, listed.stderr


def test_the_installed_driver_passes_its_own_conformance_test(installed: Path, source: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(source / "tests", tmp_path / "tests")
    shutil.copy(source / "pyproject.toml", tmp_path)
    ran = run(installed, tmp_path, "-m", "pytest", "-p", "no:cacheprovider", str(tests))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 50
    assert not re.search(r"skipped|failed|error", ran.stdout.splitlines()[-1])
