"""``polly faults``: the fault points, and what a value of POLLY_FAULTS would do."""

from __future__ import annotations

import click

from polly_mesos.cli.output import format_option, show
from polly_mesos.fault_catalogue import CATALOGUE
from polly_mesos.faults import parse

_ACTIONS = """\b
POLLY_FAULTS='NAME=ACTION;NAME=ACTION...' arms faults in `polly serve` and in the executor half;
POLLY_FAULTS=@FILE reads them, one per line, from a file that is read again when it changes.

\b
Actions:
  raise            an exception that nobody expects
  raise:CLASS      an error of polly_mesos.errors, for example raise:PlatformUnavailable
  hang             stand still until the fault is disarmed
  hang:SECONDS     the same, for so long at most
  delay:SECONDS    go on after so long
  exit             end the process as SIGKILL would
  exit:N           the same at the N-th pass

\b
After an action, @N acts from the N-th pass on, *N at most N times.

\b
Example:
  POLLY_FAULTS='volume.create.after-call=exit' polly serve --config polly.yml
"""


@click.group()
def faults() -> None:
    """Fault points: the places at which Polly can be made to fail, to see that nothing is lost."""


@faults.command("list", epilog=f"{_ACTIONS}  polly faults list --format json")
@format_option
def faults_list(output: str) -> None:
    """List the fault points, in the order in which a volume's way passes them."""
    rows = [{"name": p.name, "half": p.half.value, "description": p.description} for p in CATALOGUE.values()]
    show(rows, {"name": "NAME", "half": "HALF", "description": "AT THAT MOMENT"}, output, empty="")


@faults.command("check", epilog="Example:  polly faults check 'volume.create.after-call=exit@2'")
@click.argument("spec")
@format_option
def faults_check(spec: str, output: str) -> None:
    """Say what a value of POLLY_FAULTS would do, or what is wrong with it."""
    rows = [
        {"name": fault.name, "half": CATALOGUE[fault.name].half.value, "from": fault.first, "times": fault.times}
        | {"fault": fault.text}
        for fault in parse(spec)
    ]
    columns = {"fault": "FAULT", "half": "HALF", "from": "FROM PASS", "times": "TIMES AT MOST"}
    show(rows, columns, output, empty="No fault.")
