"""``polly ledger backup | restore | rebuild``: the ledger's copies, and a new ledger when none is left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from polly_mesos.cli.output import format_option, human_size, show
from polly_mesos.config import load
from polly_mesos.errors import ConfigurationError
from polly_mesos.ledger.backup import Contents, backup, moment

_DIFFERENCE = {
    "kind": "WHAT",
    "volume": "VOLUME",
    "platform_id": "ON PLATFORM",
    "persistence_id": "PERSISTENCE ID",
    "what": "WHY",
}
_RECOVERED = {
    "volume": "VOLUME",
    "state": "STATE",
    "agent": "AGENT",
    "persistence_id": "PERSISTENCE ID",
    "said_by": "SAID BY",
    "unknown": "NOT KNOWN",
    "remark": "WHY",
}


def config_option(command: Any) -> Any:
    """``--config FILE``, which is needed."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        required=True,
        help="The polly.yml of the scheduler half.",
        metavar="FILE",
    )(command)


@click.command(
    "backup",
    epilog="""\b
Examples:
  polly ledger backup --config polly.yml /backups/ledger-monday
  polly ledger backup --ledger ledger.db ledger.copy --force --format json
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="The polly.yml that names the ledger.", metavar="FILE")
@click.option("--ledger", "path", type=click.Path(path_type=Path), help="The ledger's file itself.", metavar="FILE")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@format_option
def backup_ledger(file: Path, config: Path | None, path: Path | None, force: bool, output: str) -> None:
    """Copy the ledger to FILE, of one moment, whether or not polly serve runs; the copy is checked.

    Take copies regularly, and keep them elsewhere: together with the platforms they are all that Polly needs.
    """
    if (path is None) == (config is None):
        raise ConfigurationError(
            "which ledger is meant?", field="--ledger", remedy="give either --config polly.yml or --ledger FILE"
        )
    cluster = None
    if config is not None:
        settings = load(config)
        path, cluster = settings.ledger.path, settings.cluster
    assert path is not None
    contents = backup(path, file, cluster, force=force)
    size = file.stat().st_size
    if output == "json":
        click.echo(json.dumps({"file": str(file), "bytes": size, **dataclasses.asdict(contents)}, indent=2))
        return
    click.echo(f"{file}: {human_size(size)}, checked. {describe(contents)}")


def describe(contents: Contents) -> str:
    """What a copy holds, in a sentence."""
    volumes = ", ".join(f"{count} {state}" for state, count in sorted(contents.volumes.items())) or "none"
    return (
        f"Cluster {contents.cluster}, epoch {contents.epoch}, newest change {moment(contents.newest)}."
        f" Volumes: {volumes}. Reservations: {contents.reservations}, publications: {contents.publications},"
        f" pools: {contents.pools}, agents: {contents.agents}, unfinished operations: {contents.unfinished}."
    )


@click.command("restore", epilog="Example:  polly ledger restore --config polly.yml /backups/ledger-monday")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@format_option
def restore_ledger(file: Path, config: Path, output: str) -> None:
    """Put FILE, which polly ledger backup made, in the place of the ledger; polly serve must not run.

    The ledger that is there is kept beside it. Volumes that were made since the copy, and that an agent offers, are
    adopted; what else is different is told, and nothing is deleted.
    """
    # Late: other commands of the ledger need neither drivers nor Mesos.
    from polly_mesos.scheduler.restoration import NEXT, restore_ledger

    done = restore_ledger(load(config), file)
    as_json = done.as_json()
    if output == "json":
        click.echo(json.dumps(as_json, indent=2))
        return
    click.echo(f"Restored {done.path}; its epoch is {done.epoch} now. The copy: {describe(done.contents)}")
    if done.kept is not None:
        click.echo(f"What was there before is {done.kept}")
    click.echo()
    show(
        as_json["differences"], _DIFFERENCE, output, empty="No volume was made, moved or deleted since, as far as told."
    )
    _tell("You should know", done.warnings)
    _tell("Next", NEXT)


@click.command(
    "rebuild",
    epilog="""\b
Examples:
  polly ledger rebuild --config polly.yml --dry-run
  polly ledger rebuild --config polly.yml --force --format json
""",
)
@config_option
@click.option("--force", is_flag=True, help="Keep a ledger that is there aside, and make a new one.")
@click.option("--dry-run", is_flag=True, help="Only show what the ledger would hold.")
@format_option
def rebuild_ledger(config: Path, force: bool, dry_run: bool, output: str) -> None:
    """Make a new ledger from the platforms' tags and from Mesos, when the old one and all its copies are lost.

    Whatever cannot be known is chosen so that no data can be lost, and said for each volume. polly serve must not run.
    """
    # Late: other commands of the ledger need neither drivers nor Mesos.
    from polly_mesos.scheduler.rebuild import rebuild

    done = rebuild(load(config), force=force, dry_run=dry_run)
    as_json = done.as_json()
    if output == "json":
        click.echo(json.dumps(as_json, indent=2))
        return
    verb = "Made" if done.written else "Not made, only shown:"
    click.echo(
        f"{verb} {done.path}: cluster {as_json['cluster']}, epoch {as_json['epoch']}, {as_json['agents']} agents,"
        f" {len(as_json['volumes'])} volumes, {as_json['reservations']} reservations."
    )
    if done.kept is not None:
        click.echo(f"What was there before is {done.kept}")
    click.echo()
    rows = [{**volume, "unknown": "; ".join(volume["unknown"])} for volume in as_json["volumes"]]
    show(rows, _RECOVERED, output, empty="No volumes.")
    _tell("You should know", done.plan.statements)
    if done.written:
        _tell("Next", ("start polly serve, then run polly check, and again after a few minutes",))


def _tell(heading: str, sentences: Iterable[str]) -> None:
    lines = list(sentences)
    if lines:
        click.echo(f"\n{heading}:")
        for line in lines:
            click.echo(f"- {line}")
