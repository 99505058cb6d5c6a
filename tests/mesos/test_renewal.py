"""An upgrade on a real Mesos: executors of another build are replaced, and tasks keep their volumes throughout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from polly_mesos.mesos.local.cluster import LocalCluster
from tests.mesos.framework import Framework, wait_until
from tests.mesos.polly import Polly
from tests.mesos.test_failover import ROLES, written
from tests.mesos.test_scheduler_half import executor_pids

pytestmark = [pytest.mark.mesos, pytest.mark.root, pytest.mark.timeout(180)]


def test_an_upgrade_replaces_the_executor_and_the_task_keeps_its_volume(
    cluster_factory: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster = cluster_factory(agents=1)
    with Polly(cluster, tmp_path) as polly:
        polly.connected(1)
        with Framework(cluster.master, **ROLES) as framework:
            written(framework, command="sleep 1000 & while sleep 0.1; do date +%s.%N > data/beat; done")
            framework.rest()
            (before,) = polly.get("/v1/volumes")
            old = executor_pids(cluster)
            polly.kill()
            # Another driver makes another artifact, as another version of Polly does.
            changed = yaml.safe_load(polly.configuration.read_text())
            (tmp_path / "more").mkdir()
            changed["services"]["more"] = {
                "driver": "directory",
                "directory": str(tmp_path / "more"),
                "capacity": "1GiB",
            }
            changed["profiles"]["silver"] = {"service": "more"}
            polly.configuration.write_text(yaml.safe_dump(changed))
            polly.start()
            wait_until(lambda: executor_pids(cluster) and not executor_pids(cluster) & old)
            polly.connected(1)
            wait_until(lambda: polly.pool("silver")["leased"])
            (after,) = polly.get("/v1/volumes")
            assert after["publication"] == before["publication"], "not mounted anew"
            beat = Path(after["publication"]["target"]) / "beat"
            last = beat.read_text()
            wait_until(lambda: beat.read_text() not in ("", last))
            assert [status["state"] for status in framework.updates("writer")][-1] == "TASK_RUNNING"
