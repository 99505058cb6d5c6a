"""``polly volume``: volumes, made ahead of their use, deleted, and taken in from the platforms."""

from __future__ import annotations

from pathlib import Path

import click

from polly_mesos.cli.client import request, scheduler_option, token_option
from polly_mesos.cli.output import format_option, human_size, show
from polly_mesos.config.quantities import Mistake, parse_size
from polly_mesos.errors import InvalidRequest

_PATIENCE = 120.0
"""Seconds for answers that need a look at every platform."""

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


_ORPHANS = {
    "service": "SERVICE",
    "platform_id": "PLATFORM ID",
    "size": "SIZE",
    "profile": "PROFILE",
    "role": "ROLE",
    "persistence_id": "PERSISTENCE ID",
    "attached_to": "ATTACHED TO",
    "known": "LEDGER",
}


@volume.command("orphans", epilog="Example:  polly volume orphans")
@scheduler_option
@format_option
def volume_orphans(scheduler: str, output: str) -> None:
    """List platform volumes that carry our tags and that the ledger lacks. Polly never deletes them by itself.

    LEDGER says what the ledger has of the volume that the tag names: unknown (it can be adopted), deleted, or duplicate
    (another platform volume is that one).
    """
    found = request(scheduler, "GET", "/v1/orphans", timeout=_PATIENCE)
    show(found, _ORPHANS, output, empty="No orphans: the ledger knows every platform volume with our tags.")


@volume.command(
    "adopt",
    epilog="""\b
Examples:
  polly volume adopt rack vol-0a1b2c3d
  polly volume adopt rack vol-0a1b2c3d --role marathon --persistence-id 'db#data#1' --agent 10.0.0.7:5051
""",
)
@click.argument("service")
@click.argument("platform_id")
@click.option(
    "--agent", default="", help="The agent that offers it: id, host name or address; by default any that fits."
)
@click.option("--role", default="", help="The Mesos role that gets it; by default the one that had it.")
@click.option("--persistence-id", default="", help="By which that role knows it; by default as before.")
@scheduler_option
@token_option
@format_option
def volume_adopt(
    service: str,
    platform_id: str,
    agent: str,
    role: str,
    persistence_id: str,
    scheduler: str,
    token_file: Path,
    output: str,
) -> None:
    """Take a platform volume with its data into the ledger.

    With the role and persistence id of its tags it is exactly the disk that its framework had. For another role
    without a persistence id it is a MOUNT disk. Where no role is known it is kept as a released volume, which nobody is
    offered.
    """
    body = {
        "service": service,
        "platform_id": platform_id,
        "agent": agent,
        "role": role,
        "persistence_id": persistence_id,
    }
    adopted = request(scheduler, "POST", "/v1/volumes/adopt", token_file=token_file, body=body)
    show([adopted], _VOLUMES, output, empty="")
