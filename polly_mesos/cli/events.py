"""``polly events``: what happened, and what happens now."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from polly_mesos.cli.client import request, scheduler_option
from polly_mesos.cli.output import format_option, show
from polly_mesos.errors import SchedulerUnreachable

_WAIT = 20.0
_AGAIN = 1.0
_COLUMNS = {"when": "TIME", "severity": "SEVERITY", "kind": "KIND", "subject": "SUBJECT", "message": "MESSAGE"}


@click.command(
    epilog="""\b
Examples:
  polly events
  polly events --follow --kind agent.fenced --kind volume.moved
  polly events --subject 6ba7b810-9dad-11d1-80b4-00c04fd430c8 --format json
""",
)
@click.option("--follow", is_flag=True, help="Go on with what happens, until interrupted; JSON is one object a line.")
@click.option("--kind", multiple=True, help="Only these kinds, as drift.found; may be given more than once.")
@click.option("--subject", help="Only those about this volume, agent or service.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many to begin with.")
@scheduler_option
@format_option
def events(follow: bool, kind: tuple[str, ...], subject: str | None, limit: int, scheduler: str, output: str) -> None:
    """Show the newest events: hosts fenced, volumes moved or adopted, drift found and gone."""
    chosen: list[tuple[str, str]] = [("kind", one) for one in kind] + ([("subject", subject)] if subject else [])
    newest = request(scheduler, "GET", "/v1/events", query=[*chosen, ("limit", str(limit))])
    if not follow:
        show([_row(event, output) for event in newest], _COLUMNS, output, empty="No events.")
        return
    _print(newest, output)
    for found in _following(scheduler, chosen, newest[-1]["number"] if newest else 0):
        _print(found, output)


def _following(scheduler: str, chosen: list[tuple[str, str]], after: int) -> Iterator[list[dict[str, Any]]]:
    """What comes after an event; waits while the scheduler half is away, for it may be restarting."""
    away = False
    while True:
        query = [*chosen, ("after", str(after)), ("wait", str(_WAIT))]
        try:
            found = request(scheduler, "GET", "/v1/events", query=query, timeout=_WAIT + 30.0)
        except SchedulerUnreachable as error:
            if not away:
                click.echo(f"{error.message}; asking again until it answers", err=True)
            away = True
            time.sleep(_AGAIN)
            continue
        away = False
        if found:
            after = found[-1]["number"]
            yield found


def _print(found: list[dict[str, Any]], output: str) -> None:
    for event in found:
        if output == "json":
            click.echo(json.dumps(event))
        else:
            row = _row(event, output)
            click.echo(f"{row['when']}  {event['severity']:8}{event['kind']:24}{event['subject']}  {event['message']}")


def _row(event: dict[str, Any], output: str) -> dict[str, Any]:
    if output == "json":
        return event
    moment = datetime.fromtimestamp(event["time"], UTC).astimezone()
    return {**event, "when": moment.strftime("%Y-%m-%d %H:%M:%S")}
