"""The helpers that the packages lack, as tasks on the real agent meet them."""

from __future__ import annotations

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster

from .framework import Framework

pytestmark = pytest.mark.mesos


def test_a_command_task_runs_and_finishes(cluster: LocalCluster) -> None:
    with Framework(cluster.master) as framework:
        framework.run("finishes", "true")
        assert framework.wait_for("finishes", "TASK_FINISHED")["message"] == "Command exited with status 0"
