"""The local Mesos as its user meets it: up, status, one agent ended and started, down."""

from __future__ import annotations

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster

pytestmark = pytest.mark.mesos


def test_all_agents_are_registered_once_it_is_up(cluster: LocalCluster) -> None:
    status = cluster.status()
    assert status.up
    assert status.alive
    assert [(agent.name, agent.alive, agent.registered) for agent in status.agents] == [
        ("agent-1", True, True),
        ("agent-2", True, True),
    ]
