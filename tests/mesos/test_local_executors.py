"""Executors of a framework's own on the local Mesos: they get nothing of the agent's environment, and are ended too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster

from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos


def processes_below(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(f"{directory}/"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("isolation", ["posix", "auto"])
def test_down_ends_an_executor_that_ignores_its_agents_end(
    cluster_factory: Callable[..., LocalCluster], isolation: str
) -> None:
    cluster = cluster_factory(agents=1, isolation=isolation)
    with Framework(cluster.master) as framework:
        command = "trap '' TERM HUP; touch started; while true; do sleep 1; done"
        executor = {"type": "CUSTOM", "executor_id": {"value": "own"}, "command": {"shell": True, "value": command}}
        framework.launch({"task_id": {"value": "t"}, "executor": executor})
        wait_until(lambda: list(cluster.agents[0].work_dir.glob("slaves/*/frameworks/*/executors/own/runs/*/started")))
        framework.leave()
        cluster.agents[0].kill()
        assert processes_below(cluster.agents[0].work_dir)
        cluster.down()
        assert not processes_below(cluster.directory)
