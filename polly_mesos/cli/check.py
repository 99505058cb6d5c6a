"""``polly check``: is everything where the ledger says it is?"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from polly_mesos.cli.client import request, scheduler_option
from polly_mesos.cli.output import format_option
from polly_mesos.config import load
from polly_mesos.errors import SchedulerUnreachable

_FOUND_ERRORS = 3
_PATIENCE = 120.0


@click.command(
    epilog="""\b
Exit status: 0 where nothing is wrong or there are only warnings, 3 where there is an error, others where it could
not be looked.
\b
Examples:
  polly check
  polly check --repair --token-file /var/lib/polly/operator-token
  polly check --offline --config /etc/polly/polly.yml
""",
)
@click.option("--repair", is_flag=True, help="Do what cannot lose data; never deletes, formats or forces.")
@click.option("--offline", is_flag=True, help="Without a scheduler: the ledger's file and the platforms alone.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The polly.yml, for --offline.")
@click.option(
    "--pause",
    type=click.FloatRange(0, 60),
    default=2.0,
    show_default=True,
    help="Seconds between the two looks: only what both show is told.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="POLLY_TOKEN_FILE",
    help="The operator's token, for --repair. [env: POLLY_TOKEN_FILE]",
)
@scheduler_option
@format_option
def check(
    repair: bool, offline: bool, config: Path | None, pause: float, token_file: Path | None, scheduler: str, output: str
) -> None:
    """Compare ledger, platforms, the master's view and every host's mounts, and name each difference.

    Everything is looked at twice, so that what only moves is not taken for a difference.
    """
    if offline != (config is not None):
        raise click.UsageError("--offline and --config FILE belong together")
    if repair and offline:
        raise click.UsageError("--repair needs a running scheduler: leave out --offline")
    if repair and token_file is None:
        raise click.UsageError("--repair needs --token-file FILE, or POLLY_TOKEN_FILE in the environment")
    asked_with = token_file if repair else None
    answer = _ask(scheduler, pause, asked_with) if config is None else _offline(config, pause)
    report = answer.get("after", answer)
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    else:
        _tell_repairs(answer.get("repaired", ()))
        _tell(report)
    if report["errors"]:
        sys.exit(_FOUND_ERRORS)


def _ask(scheduler: str, pause: float, token_file: Path | None) -> dict[str, Any]:
    method, path = ("GET", "/v1/check") if token_file is None else ("POST", "/v1/check/repair")
    try:
        answer: dict[str, Any] = request(
            scheduler,
            method,
            path,
            token_file=token_file,
            query={"pause": pause},
            timeout=_PATIENCE + 4 * pause,
        )
    except SchedulerUnreachable as error:
        raise SchedulerUnreachable(
            error.message,
            remedy=f"{error.remedy}; or see what can be seen without it: polly check --offline --config FILE",
        ) from error
    return answer


def _offline(config: Path, pause: float) -> dict[str, Any]:
    # Late, so that asking a scheduler does not load the platforms' libraries.
    from polly_mesos.api.check import ReportView
    from polly_mesos.audit.auditing import Audit
    from polly_mesos.audit.gathering import Gathering
    from polly_mesos.ledger import Ledger
    from polly_mesos.scheduler.half import PROVIDER_TYPE
    from polly_mesos.scheduler.services import Services

    configuration = load(config)
    with Ledger.open(configuration.ledger.path, configuration.cluster, read_only=True) as ledger:
        services = Services(configuration)
        gathering = Gathering(ledger, services, configuration.profiles, provider_type=PROVIDER_TYPE)
        return ReportView.of(Audit(gathering).run(pause)).model_dump(mode="json")


def _tell_repairs(repaired: list[Mapping[str, Any]]) -> None:
    for one in repaired:
        click.echo(f"{'DONE' if one['done'] else 'LEFT':8}{one['finding']['code']}  {one['finding']['subject']}")
        click.echo(f"        {one['result']}")
    if repaired:
        click.echo("\nAfter that:\n")


def _tell(report: Mapping[str, Any]) -> None:
    for finding in report["findings"]:
        click.echo(f"{finding['severity'].upper():8}{finding['code']}  {finding['subject']}")
        click.echo(f"        {finding['what']}")
        click.echo(f"        -> {finding['remedy']}" + ("; --repair does what it can" if finding["repairable"] else ""))
    for unseen in report["unseen"]:
        click.echo(f"NOT SEEN  {unseen}")
    errors, all_found = report["errors"], len(report["findings"])
    if all_found:
        click.echo(f"{errors} errors, {all_found - errors} warnings.")
    elif report["unseen"]:
        click.echo("Nothing is wrong in what was seen.")
    else:
        click.echo("Clean: ledger, platforms, master and hosts agree.")
