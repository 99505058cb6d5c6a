"""``polly pool | operation | agent``: what the scheduler half knows, and what operators change."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from polly_mesos.cli.client import request, scheduler_option, token_option
from polly_mesos.cli.output import format_option, show


@click.group()
def pool() -> None:
    """Pools: the capacity behind each profile."""


@pool.command("list", epilog="Example:  polly pool list")
@scheduler_option
@format_option
def pool_list(scheduler: str, output: str) -> None:
    """List pools, and where their bytes are."""
    columns = {
        "name": "POOL",
        "service": "SERVICE",
        "capacity": "CAPACITY",
        "leased": "LEASED",
        "reserved": "RESERVED",
        "volumes": "VOLUMES",
        "free": "FREE",
    }
    show(request(scheduler, "GET", "/v1/pools"), columns, output, empty="No pools.")


@click.group()
def operation() -> None:
    """Operations: the journal of every change."""


@operation.command("list", epilog="Example:  polly operation list --state intent")
@click.option("--state", type=click.Choice(["intent", "done", "failed"]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@scheduler_option
@format_option
def operation_list(state: str | None, limit: int, scheduler: str, output: str) -> None:
    """List operations, the newest first."""
    query = {"limit": limit, **({"state": state} if state else {})}
    columns = {"id": "ID", "kind": "KIND", "subject": "SUBJECT", "state": "STATE", "agent": "AGENT"}
    show(request(scheduler, "GET", "/v1/operations", query=query), columns, output, empty="No operations.")


@click.command("list", epilog="Example:  polly agent list")
@scheduler_option
@format_option
def agent_list(scheduler: str, output: str) -> None:
    """List the agents that Polly has chosen, and what they lack."""
    columns = {
        "id": "ID",
        "hostname": "HOST",
        "endpoint": "ENDPOINT",
        "state": "STATE",
        "leases": "LEASES",
        "problems": "PROBLEMS",
        "waits_for": "WAITS FOR",
    }
    show(request(scheduler, "GET", "/v1/agents"), columns, output, empty="No agents.")


@click.command(
    "fence",
    epilog="""\b
Examples:
  polly agent fence 10.0.0.7:5051
  polly agent fence agent-7.example.com --service rack-cinder --yes
""",
)
@click.argument("name")
@click.option("--service", "services", multiple=True, help="Only from this service; may be given more than once.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@scheduler_option
@token_option
@format_option
def agent_fence(name: str, services: tuple[str, ...], yes: bool, scheduler: str, token_file: Path, output: str) -> None:
    """Say that the host of an agent which is away cannot write any more, so that others may have its volumes.

    NAME is the agent's id, HOST:PORT or host name. Say so only when the host is powered off or cut off from its
    storage: two hosts that write to one volume destroy it. Where a platform can prove it, Polly asks the platform and
    nobody has to say anything.
    """
    if not yes:
        click.confirm(f"Is the host of {name} powered off, or cut off from its storage?", abort=True)
    path = f"/v1/agents/{quote(name, safe=':')}/fence"
    fenced = request(scheduler, "POST", path, token_file=token_file, body={"services": list(services)})
    columns = {"id": "ID", "hostname": "HOST", "endpoint": "ENDPOINT", "state": "STATE", "waits_for": "WAITS FOR"}
    show([fenced], columns, output, empty="")


@click.command("register", epilog="Example:  polly agent register 10.0.0.7:5051 --token-file TOKEN > executor-token")
@click.argument("endpoint", metavar="HOST:PORT")
@scheduler_option
@token_option
@click.option("--json", "as_json", is_flag=True, help="Print the agent's id as well, as JSON.")
def agent_register(endpoint: str, scheduler: str, token_file: Path, as_json: bool) -> None:
    """Make an agent known whose executor half is started by hand, and print its token."""
    answer = request(scheduler, "POST", "/v1/agents", token_file=token_file, body={"endpoint": endpoint})
    click.echo(json.dumps(answer) if as_json else answer["token"])
