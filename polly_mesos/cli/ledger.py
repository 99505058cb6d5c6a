"""``polly ledger``: the record itself. ``show`` and ``check`` read its file whether or not a scheduler runs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from polly_mesos.cli.ledger_copies import backup_ledger, rebuild_ledger, restore_ledger
from polly_mesos.cli.output import format_option, show
from polly_mesos.config import load
from polly_mesos.errors import ConfigurationError
from polly_mesos.ledger import Ledger
from polly_mesos.ledger.check import OLD_INTENT_SECONDS, check
from polly_mesos.model import OperationState, VolumeState

_UNFINISHED_SHOWN = 1000

_SECTIONS: Mapping[str, Mapping[str, str]] = {
    "pools": {
        "name": "POOL",
        "capacity": "CAPACITY",
        "leased": "LEASED",
        "reserved": "RESERVED",
        "unbacked": "UNBACKED",
        "volumes": "VOLUMES",
        "free": "FREE",
    },
    "volumes": {
        "id": "VOLUME",
        "pool": "POOL",
        "kind": "KIND",
        "size": "SIZE",
        "state": "STATE",
        "agent": "AGENT",
        "persistence_id": "PERSISTENCE ID",
        "error": "ERROR",
    },
    "reservations": {"pool": "POOL", "agent": "AGENT", "size": "SIZE", "backed": "BACKED", "owner": "OWNER"},
    "leases": {"pool": "POOL", "agent": "AGENT", "size": "SIZE"},
    "publications": {
        "volume": "VOLUME",
        "agent": "AGENT",
        "host": "HOST",
        "generation": "GENERATION",
        "state": "STATE",
        "target": "TARGET",
    },
    "unfinished": {"kind": "OPERATION", "subject": "SUBJECT", "agent": "AGENT", "id": "ID"},
}
_FINDING = {"severity": "SEVERITY", "code": "CODE", "what": "WHAT", "remedy": "REMEDY"}


@click.group()
def ledger() -> None:
    """The ledger: who has what.

    show, check and backup only read, also while the scheduler runs; restore and rebuild need it stopped.
    """


ledger.add_command(backup_ledger)
ledger.add_command(restore_ledger)
ledger.add_command(rebuild_ledger)


def _which(command: Any) -> Any:
    command = click.option(
        "--config", type=click.Path(path_type=Path), help="The polly.yml that names the ledger.", metavar="FILE"
    )(command)
    return click.option(
        "--ledger", "path", type=click.Path(path_type=Path), help="The ledger's file itself.", metavar="FILE"
    )(command)


@ledger.command(
    "show",
    epilog="Examples:  polly ledger show --config polly.yml  ·  polly ledger show --ledger ledger.db --format json",
)
@_which
@format_option
def show_ledger(path: Path | None, config: Path | None, output: str) -> None:
    """Print pools with their balance, volumes, reservations, leases, publications and unfinished operations."""
    with _open(path, config) as opened:
        content = _content(opened)
    if output == "json":
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(f"Ledger of cluster {content['cluster']}, epoch {content['epoch']}")
    for name, columns in _SECTIONS.items():
        click.echo()
        show(content[name], columns, output, empty=f"No {name}." if name != "unfinished" else "Nothing unfinished.")


@ledger.command(
    "check", epilog="Examples:  polly ledger check --config polly.yml  ·  polly ledger check --ledger ledger.db"
)
@_which
@click.option(
    "--intent-age",
    type=click.FloatRange(min=0),
    default=OLD_INTENT_SECONDS,
    show_default=True,
    help="Seconds after which an operation without outcome is reported.",
)
@format_option
def check_ledger(path: Path | None, config: Path | None, intent_age: float, output: str) -> None:
    """Look for contradictions and for what waits too long; exit status 0 only where there is nothing."""
    with _open(path, config) as opened:
        found = check(opened, intent_age=intent_age)
    show([dataclasses.asdict(finding) for finding in found], _FINDING, output, empty="The ledger is clean.")
    if found:
        sys.exit(1)


def _open(path: Path | None, config: Path | None) -> Ledger:
    if (path is None) == (config is None):
        raise ConfigurationError(
            "which ledger is meant?", field="--ledger", remedy="give either --config polly.yml or --ledger FILE"
        )
    if config is not None:
        settings = load(config)
        return Ledger.open(settings.ledger.path, settings.cluster, read_only=True)
    assert path is not None
    return Ledger.open(path, None, read_only=True)


def _content(opened: Ledger) -> dict[str, Any]:
    with opened.snapshot():
        balances = opened.balance()
        return {
            "cluster": opened.cluster,
            "epoch": opened.epoch,
            "framework_id": opened.framework_id(),
            "pools": [
                {**dataclasses.asdict(pool), **dataclasses.asdict(balances[name]), "free": balances[name].free}
                for name, pool in opened.pools().items()
            ],
            "volumes": _records(opened.volumes(states=frozenset(VolumeState) - {VolumeState.DELETED})),
            "reservations": _records(opened.reservations()),
            "leases": _records(opened.leases()),
            "publications": _records(opened.publications()),
            "unfinished": _records(opened.operations(state=OperationState.INTENT, limit=_UNFINISHED_SHOWN)),
        }


def _records(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(record) for record in found]
