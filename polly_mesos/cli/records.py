"""``polly volume | pool | operation | agent``: what the scheduler half knows, and what operators change."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from polly_mesos.cli.client import request, scheduler_option, token_option
from polly_mesos.cli.output import format_option, human_size, show
from polly_mesos.config.quantities import Mistake, parse_size
from polly_mesos.errors import InvalidRequest

_VOLUMES = {
    "id": "ID",
    "profile": "PROFILE",
    "size": "SIZE",
    "state": "STATE",
    "persistence_id": "PERSISTENCE ID",
    "agent": "AGENT",
    "error": "ERROR",
}


@click.group()
def volume() -> None:
    """Volumes: list them, make them ahead of their use, delete them."""


@volume.command("list", epilog="Example:  polly volume list --state ready --format json")
@click.option("--agent", help="Only those of one agent.")
@click.option("--state", multiple=True, help="Only those in this state (creating, ready, failed, released, ...).")
@scheduler_option
@format_option
def volume_list(agent: str | None, state: tuple[str, ...], scheduler: str, output: str) -> None:
    """List volumes."""
    query = [("state", value) for value in state] + ([("agent", agent)] if agent else [])
    show(request(scheduler, "GET", "/v1/volumes", query=query), _VOLUMES, output, empty="No volumes.")


@volume.command("create", epilog="Example:  polly volume create --profile gold --size 10GiB --role marathon")
@click.option("--profile", required=True, help="The profile that it belongs to.")
@click.option("--size", required=True, help="As 10GiB or 512MiB; whole MiB.")
@click.option("--role", required=True, help="The Mesos role that it is offered to.")
@click.option("--agent", default="", help="The agent that offers it; by default a connected one with few volumes.")
@scheduler_option
@token_option
@format_option
def volume_create(
    profile: str, size: str, role: str, agent: str, scheduler: str, token_file: Path, output: str
) -> None:
    """Make a volume ahead of its use: it is offered to one role as a MOUNT disk."""
    body = {"profile": profile, "size": _size(size), "role": role, "agent": agent}
    made = request(scheduler, "POST", "/v1/volumes", token_file=token_file, body=body)
    show([made], _VOLUMES, output, empty="")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except Mistake as mistake:
        raise InvalidRequest(f"size {text!r}: {mistake}", field="--size", value=text, remedy=mistake.remedy) from None


@volume.command("delete", epilog="Example:  polly volume delete 6ba7b810-9dad-11d1-80b4-00c04fd430c8")
@click.argument("volume_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@scheduler_option
@token_option
@format_option
def volume_delete(volume_id: str, yes: bool, scheduler: str, token_file: Path, output: str) -> None:
    """Delete a volume and its data for good. Refused while a framework holds it."""
    if not yes:
        known = request(scheduler, "GET", f"/v1/volumes/{volume_id}")
        click.confirm(f"Delete volume {volume_id} ({human_size(known['size'])}) and its data?", abort=True)
    deleted = request(scheduler, "DELETE", f"/v1/volumes/{volume_id}", token_file=token_file)
    show([deleted], _VOLUMES, output, empty="")


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
