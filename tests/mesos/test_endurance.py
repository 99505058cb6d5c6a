"""Polly never takes down an agent or a master, whatever it and its frameworks are in the middle of.

The providers of several agents are disturbed again and again, all at once: started anew under the same id, their
streams cut, their totals changed, their agents killed and started. Before each time a framework reserves, unreserves,
creates, destroys and launches on every disk that it is offered, half of the ledgers go away in the middle of it, and
every fifth status is left unacknowledged. In the end agents and ledgers must agree, every operation must have its
outcome, and no process of Mesos may have ended by itself. What is left out, and why, stands at
:class:`tests.mesos.endurance.Endurance`.

What it meets is chance, and some of it aborts Mesos whatever a provider does, so it is not among the tests that all
run: with POLLY_ENDURANCE set, pytest does a few cycles. Thousands are done, and their sums printed, by::

    python -m tests.mesos.test_endurance --cycles 2000 --seed 1
"""

from __future__ import annotations

import os
import signal
import sys
import time

import click
import pytest

from polly_mesos.mesos.local.package import Mesos, ensure_mesos

from .endurance import endurance

_ROUND = 100


@pytest.mark.mesos
@pytest.mark.slow
@pytest.mark.skipif("POLLY_ENDURANCE" not in os.environ, reason="takes minutes and meets chance: set POLLY_ENDURANCE")
@pytest.mark.timeout(300)
def test_mesos_comes_through_every_disturbance(mesos: Mesos) -> None:
    with endurance(seed=11) as made:
        made.run(12)
        assert made.counts["SUBSCRIBED"] > len(made.worn), "nothing was disturbed"
        assert made.counts["OPERATION_FINISHED"] > 0


@click.command()
@click.option("--cycles", default=2000, show_default=True, help="Disturbances in all.")
@click.option("--seed", default=1, show_default=True)
@click.option("--agents", default=4, show_default=True)
def main(cycles: int, seed: int, agents: int) -> None:
    """Wear a real Mesos out; fails where a process of it ends by itself, or where it does not come to rest."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the cluster goes down too
    ensure_mesos()
    begun = time.monotonic()
    with endurance(seed=seed, agents=agents) as made:
        while made.cycles < cycles:
            made.run(min(_ROUND, cycles - made.cycles))
            click.echo(f"{made.cycles} cycles, {time.monotonic() - begun:.0f} s, no process ended by itself")
        for name, count in sorted(made.counts.items()):
            click.echo(f"{name:20} {count}")


if __name__ == "__main__":
    main()
