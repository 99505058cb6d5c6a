"""``mesos-docker-executor``: the local Mesos has no Docker containerizer, and says so."""

from __future__ import annotations

import sys


def main() -> int:
    """Refuse."""
    print(  # noqa: T201
        "mesos-docker-executor: the local Mesos runs MESOS containers only; use container type MESOS, "
        "or a Mesos that runs elsewhere",
        file=sys.stderr,
    )
    return 1
