"""Real Mesos clusters for the tests, ended also after a failure; and an ordinary user to be, where we are root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.errors import LocalMesosError, UnsupportedPlatform
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.network import check_possible
from polly_mesos.mesos.local.package import Mesos, check_platform, ensure_mesos
from polly_mesos.mesos.local.zookeeper import find_java

ClusterFactory = Callable[..., LocalCluster]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs root before any cluster is started for it."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="session")
def mesos() -> Mesos:
    """The installed Mesos. Skips where none can run; a failed download is a failure of the test that needs it."""
    try:
        check_platform()
    except UnsupportedPlatform as error:
        pytest.skip(str(error))
    return ensure_mesos()


def require_zookeeper() -> None:
    """Skip where ZooKeeper is not installed."""
    try:
        find_java()
    except LocalMesosError as error:
        pytest.skip(str(error))


def require_namespaces() -> None:
    """Skip where network namespaces cannot be made, for example in a container without the right to."""
    try:
        check_possible()
    except LocalMesosError as error:
        pytest.skip(str(error))
    name = f"polly-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"network namespaces are not allowed here: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "delete", name], check=True)


def make_cluster(stack: ExitStack, **arguments: Any) -> LocalCluster:
    """Start a cluster that the stack ends."""
    # not below pytest's own directories: this keeps the paths short, and it is removed at once
    directory = Path(tempfile.mkdtemp(prefix="polly-mesos-"))
    stack.callback(shutil.rmtree, directory)
    directory.chmod(0o755)  # tasks of other users reach their sandboxes
    cluster = LocalCluster(directory, **arguments)
    stack.callback(cluster.down)
    cluster.up()
    return cluster


@pytest.fixture
def cluster_factory(mesos: Mesos) -> Iterator[ClusterFactory]:
    """Makes clusters that are up: ``cluster_factory(agents=1, isolation="posix", ...)``, ended after the test."""
    with ExitStack() as stack:
        yield lambda **arguments: make_cluster(stack, **{"agents": 1, **arguments})


@pytest.fixture(scope="session")
def cluster(mesos: Mesos) -> Iterator[LocalCluster]:
    """One cluster for all tests, of two agents; a test that ends one of them starts it again."""
    with ExitStack() as stack:
        yield make_cluster(stack, agents=2)


@dataclass(frozen=True)
class OrdinaryUser:
    """A user without privileges who can run the project.

    :param prefix: the beginning of a command line that makes its rest run as the user; empty where we are ordinary
    :param python: a Python that the user can run, of our own version
    :param directory: an empty directory of the user's own, also the home
    :param environment: the whole environment to give: PATH, HOME, PYTHONPATH, and where Mesos is
    """

    name: str
    prefix: list[str]
    python: str
    directory: Path
    environment: Mapping[str, str]

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the user's Python with these arguments, its output as text."""
        command = [*self.prefix, self.python, *arguments]
        return subprocess.Popen(command, env=dict(self.environment), cwd=self.directory, text=True, **options)

    def polly(self, *arguments: str, timeout: float = 110) -> str:
        """Run the ``polly`` command as the user; returns its stdout. It must succeed."""
        run = "from polly_mesos.cli.main import main; main()"
        with self.popen("-c", run, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors
        return output


@pytest.fixture(scope="session")
def ordinary_user(mesos: Mesos) -> Iterator[OrdinaryUser]:
    """Ourselves, or as root the user nobody; skips where that user can run no suitable Python."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="polly-user-"))
        stack.callback(shutil.rmtree, directory)
        environment = {
            "PATH": os.defpath,
            "HOME": str(directory),
            "POLLY_MESOS_CACHE": str(mesos.libraries.parent.parent),
        }
        paths = _import_paths()
        if os.geteuid() != 0:
            environment["PYTHONPATH"] = os.pathsep.join(paths)
            yield OrdinaryUser(pwd.getpwuid(os.getuid()).pw_name, [], sys.executable, directory, environment)
            return
        user = pwd.getpwnam("nobody")
        os.chown(directory, user.pw_uid, user.pw_gid)
        shared = Path(tempfile.mkdtemp(prefix="polly-shared-"))
        stack.callback(shutil.rmtree, shared)
        shared.chmod(0o755)
        environment["POLLY_MESOS_CACHE"] = _readable_mesos(mesos, shared)
        # setpriv itself could still run what only root may reach; env no longer can
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", "env"]
        python = _find_python(prefix)
        if not _can_import(prefix, python, paths):
            paths = _readable_copies(paths, shared)
            assert _can_import(prefix, python, paths)
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        yield OrdinaryUser(user.pw_name, prefix, python, directory, environment)


def _import_paths() -> list[str]:
    """Where the project and all that it needs can be imported from, also what is installed as editable."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for package in ("click", "http_parser", "drivers", "polly_mesos"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        found.insert(0, str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(found))


def _readable_mesos(mesos: Mesos, shared: Path) -> str:
    """A cache that everybody can read, by hard links where the file system lets us."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    home = mesos.libraries.parent
    shutil.copytree(home, shared / "cache" / home.name, copy_function=link, symlinks=True)
    return str(shared / "cache")


def _readable_copies(paths: list[str], shared: Path) -> list[str]:
    copies = []
    for number, path in enumerate(paths):
        # of a checkout only its packages, of a site-packages directory all
        only = None if path.endswith("site-packages") else {"polly_mesos", "drivers", "http_parser"}
        copy = shared / f"path-{number}"
        for entry in Path(path).iterdir():
            if entry.is_dir() and (only is None or entry.name in only):
                shutil.copytree(entry, copy / entry.name)
            elif entry.suffix == ".py" and only is None:
                copy.mkdir(exist_ok=True)
                shutil.copy2(entry, copy)
        copies.append(str(copy))
    return copies


def _find_python(prefix: list[str]) -> str:
    """A Python of our own version, for which the installed packages are, that the user can run."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [os.path.realpath(sys.executable), "/usr/bin/python3", f"/usr/bin/python{version}"]
    candidates += [found for name in ("python3", f"python{version}") if (found := shutil.which(name))]
    for candidate in candidates:
        ask = [*prefix, candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=False, cwd="/")
        if answer.stdout.strip() == version:
            return candidate
    pytest.skip(f"the user nobody can run no Python {version} here; tried {', '.join(dict.fromkeys(candidates))}")


def _can_import(prefix: list[str], python: str, paths: list[str]) -> bool:
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    what = "import http_parser, pydantic, sqlalchemy, polly_mesos.cli.main, drivers.base"
    ask = [*prefix, python, "-c", what]
    return subprocess.run(ask, env=environment, capture_output=True, check=False, cwd="/").returncode == 0
