"""``polly config``: checks a polly.yml before it is used."""

from __future__ import annotations

import json
from pathlib import Path

import click
import yaml

from polly_mesos.cli.output import format_option
from polly_mesos.config import describe, load


@click.group()
def config() -> None:
    """The configuration file."""


@config.command("check", epilog="Example:  polly config check /etc/polly/polly.yml")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@format_option
def check(file: Path, output: str) -> None:
    """Tell every mistake with its line, or show what the file means. Secrets are not shown."""
    configuration = load(file)
    for note in configuration.notes:
        click.echo(f"Note: {note}", err=True)
    described = describe(configuration)
    if output == "json":
        click.echo(json.dumps(described, indent=2, default=str))
    else:
        click.echo(yaml.safe_dump(described, sort_keys=False).rstrip())
