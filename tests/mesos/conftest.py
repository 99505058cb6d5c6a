"""Real Mesos clusters for the tests, always ended, also after a failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from polly_mesos.errors import UnsupportedPlatform
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.package import check_platform

ClusterFactory = Callable[..., LocalCluster]


@pytest.fixture(scope="session")
def mesos_possible() -> None:
    """Skips where no local Mesos can run; a failed download is a failure of the test that needs it."""
    try:
        check_platform()
    except UnsupportedPlatform as error:
        pytest.skip(str(error))


def _make_cluster(stack: ExitStack, **arguments: object) -> LocalCluster:
    # not below pytest's own directories: these keep the paths short and are removed at once
    directory = Path(tempfile.mkdtemp(prefix="polly-mesos-"))
    stack.callback(shutil.rmtree, directory)
    directory.chmod(0o755)  # tasks of other users reach their sandboxes
    cluster = LocalCluster(directory, **arguments)  # type: ignore[arg-type]
    stack.callback(cluster.down)
    cluster.up()
    return cluster


@pytest.fixture
def cluster_factory(mesos_possible: None) -> Iterator[ClusterFactory]:
    """Makes clusters that are up: ``cluster_factory(agents=1, isolation="posix", ...)``, ended after the test."""
    with ExitStack() as stack:
        yield lambda **arguments: _make_cluster(stack, **{"agents": 1, **arguments})


@pytest.fixture(scope="session")
def cluster(mesos_possible: None) -> Iterator[LocalCluster]:
    """One cluster for all tests, of two agents; a test that ends one of them starts it again."""
    with ExitStack() as stack:
        yield _make_cluster(stack, agents=2)
