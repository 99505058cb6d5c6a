"""The three situations in which the local Mesos runs: root, root where less is allowed, and an ordinary user."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.mounts import mounts_below
from polly_mesos.mesos.local.package import Mesos

from .conftest import ClusterFactory, OrdinaryUser
from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos

POLLY = shlex.join([sys.executable, "-c", "from polly_mesos.cli.main import main; main()"])


def run_below(*command: str, directory: Path) -> dict[str, Any]:
    """Start a cluster by way of a shell that another program prepares, run a task on it, and end it.

    :return: the status of the cluster, and as ``left`` the mounts that its namespace still had at the end
    """
    up = f"{POLLY} local up --dir {directory} --port 0 --agents 1 --format json"
    # a line without newlines, so that we see when the cluster is up, and then its end when we say so
    script = (
        f"{up} | tr -d '\\n' && echo && read go && {POLLY} local down --dir {directory} >&2; cat /proc/self/mountinfo"
    )
    with subprocess.Popen([*command, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        status: dict[str, Any] = json.loads(process.stdout.readline())
        with Framework(status["master"]) as framework:
            framework.run("task", "echo hello > said")
            framework.wait_for("task", "TASK_FINISHED")
        left, _ = process.communicate("go\n", timeout=60)
    status["left"] = [line for line in left.splitlines() if str(directory) in line]
    return status


def sh_in_own_mount_namespace(preparation: str) -> list[str]:
    """A command that runs a script, its last argument, where mounts can be changed without anybody else noticing."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("mount namespaces are not allowed here")
    return ["unshare", "--mount", "sh", "-c", f'{preparation} && exec sh -c "$0"']


@pytest.mark.root
def test_as_root_it_is_linux_on_the_hosts_freezer(cluster: LocalCluster) -> None:
    if not Path("/sys/fs/cgroup/freezer").is_dir():
        pytest.skip("this host has no cgroup v1 freezer hierarchy mounted")
    assert cluster.isolation == "linux"
    reason = "The linux isolation, because this is root, on the host's cgroup v1 freezer hierarchy at "
    assert cluster.isolation_reason == reason + "/sys/fs/cgroup/freezer."


@pytest.mark.root
def test_where_the_host_has_only_cgroup_v2_it_mounts_a_freezer_of_its_own(mesos: Mesos, tmp_path: Path) -> None:
    only_v2 = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
    status = run_below(*sh_in_own_mount_namespace(only_v2), directory=tmp_path)
    assert status["isolation"] == "linux"
    assert f"a cgroup v1 freezer hierarchy of its own at {tmp_path}/cgroup/freezer" in status["isolation_reason"]
    assert status["left"] == []


@pytest.mark.root
def test_root_without_the_right_to_mount_gets_posix_and_the_reason(mesos: Mesos, tmp_path: Path) -> None:
    status = run_below("setpriv", "--bounding-set=-sys_admin", "sh", "-c", directory=tmp_path)
    assert status["isolation"] == "posix"
    assert "although this is root" in status["isolation_reason"]
    assert "Operation not permitted" in status["isolation_reason"]
    assert status["left"] == []


@pytest.mark.root
def test_a_freezer_that_is_read_only_means_posix(mesos: Mesos, tmp_path: Path) -> None:
    read_only = "mount -o remount,ro,bind /sys/fs/cgroup/freezer"
    if not Path("/sys/fs/cgroup/freezer").is_dir():
        pytest.skip("this host has no cgroup v1 freezer hierarchy mounted")
    status = run_below(*sh_in_own_mount_namespace(read_only), directory=tmp_path)
    assert status["isolation"] == "posix"
    assert "Read-only file system" in status["isolation_reason"]
    assert status["left"] == []


def test_posix_on_request_says_so(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(agents=0, isolation="posix")
    assert (cluster.isolation, cluster.isolation_reason) == ("posix", "The posix isolation, because it was asked for.")


@pytest.mark.root
def test_a_mount_made_in_a_task_reaches_the_host(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(isolation="linux")
    path = str(cluster.volumes)
    host_path = {"path": path, "mount_propagation": {"mode": "BIDIRECTIONAL"}}
    volume = {"container_path": path, "mode": "RW", "source": {"type": "HOST_PATH", "host_path": host_path}}
    script = f"mkdir {path}/inner && mount -t tmpfs none {path}/inner && echo hello > {path}/inner/said && sleep 1000"
    with Framework(cluster.master) as framework:
        framework.run("mounts", script, container={"type": "MESOS", "volumes": [volume]})
        wait_until((cluster.volumes / "inner/said").exists)
        assert os.path.ismount(cluster.volumes / "inner")
        cluster.agents[0].kill()
        framework.leave()
        cluster.down()
    assert mounts_below(cluster.directory) == []
    assert list((cluster.volumes / "inner").iterdir()) == []


@pytest.mark.root
def test_a_mount_made_in_a_task_stays_there_otherwise(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(isolation="linux")
    with Framework(cluster.master) as framework:
        framework.run(
            "mounts", "mkdir inner && mount -t tmpfs none inner && echo hello > inner/said && touch done; sleep 99"
        )
        (place,) = wait_until(
            lambda: [*cluster.agents[0].work_dir.glob("slaves/*/frameworks/*/executors/*/runs/latest")]
        )
        wait_until((place / "done").exists)
        assert list((place / "inner").iterdir()) == []


def test_an_ordinary_user_gets_posix_and_the_reason(ordinary_user: OrdinaryUser) -> None:
    directory = ordinary_user.directory / "cluster"
    where = ["--dir", str(directory)]
    up = ordinary_user.polly("local", "up", "--port", "0", "--format", "json", *where)
    try:
        status = json.loads(up)
        assert status["isolation"] == "posix"
        assert status["isolation_reason"] == "The posix isolation, because the linux isolation needs root."
        assert Path(f"/proc/{status['pid']}").owner() == ordinary_user.name
        with Framework(status["master"], user=ordinary_user.name) as framework:
            framework.run("mine", "id -un > who; exit 4")
            assert framework.wait_for("mine", "TASK_FAILED")["message"] == "Command exited with status 4"
        (said,) = directory.glob("agents/*/work/slaves/*/frameworks/*/executors/mine/runs/latest/who")
        assert said.read_text().strip() == ordinary_user.name
    finally:
        ordinary_user.polly("local", "down", *where)
    assert json.loads(ordinary_user.polly("local", "status", "--format", "json", *where))["up"] is False


def test_an_ordinary_user_cannot_insist_on_linux(ordinary_user: OrdinaryUser) -> None:
    insist = "import sys; from pathlib import Path; from polly_mesos.mesos.local.cluster import LocalCluster;"
    insist += "LocalCluster(Path(sys.argv[1]), isolation='linux').up()"
    with ordinary_user.popen("-c", insist, str(ordinary_user.directory / "insists"), stderr=subprocess.PIPE) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"{LocalMesosError.__name__}: the linux isolation needs root" in errors
