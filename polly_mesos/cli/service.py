"""``polly service``: the storage platforms of a configuration, asked directly and without harm."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from drivers.base import Check
from drivers.declaration import load_class
from polly_mesos.cli.output import format_option, show
from polly_mesos.config import Configuration, load
from polly_mesos.errors import PollyError, UnknownService
from polly_mesos.model import Profile

_FOUND_MISSING = 3

_config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/polly/polly.yml"),
    show_default=True,
    help="The configuration. No scheduler has to run.",
)


@click.group()
def service() -> None:
    """The storage platforms of a configuration."""


@service.command("list", epilog="Example:  polly service list --config polly.yml")
@_config_option
@format_option
def list_(config: Path, output: str) -> None:
    """Every service with its driver and the pools that draw on it. Nothing is contacted."""
    configuration = load(config)
    rows = [
        {
            "name": name,
            "driver": found.driver.name,
            "capacity": found.capacity,
            "pools": ", ".join(one.pool for one in _profiles(configuration, name)),
        }
        for name, found in configuration.services.items()
    ]
    columns = {"name": "SERVICE", "driver": "DRIVER", "capacity": "CAPACITY", "pools": "POOLS"}
    show(rows, columns, output, empty="No service is configured.")


@service.command(
    epilog="""\b
Exit status: 0 where all is there or could not be found out, 3 where something is missing.
\b
Examples:
  polly service check
  polly service check ec2-eu --config polly.yml --format json
"""
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_config_option
@format_option
def check(names: tuple[str, ...], config: Path, output: str) -> None:
    """Prove credentials, permissions, zones, types and quotas of services; all, where none is named.

    Nothing is changed on any platform: where one has dry runs, they are used.
    """
    configuration = load(config)
    for name in names:
        if name not in configuration.services:
            raise UnknownService(
                f"no service {name!r} is configured in {config}",
                remedy=f"there are: {', '.join(configuration.services)}",
            )
    rows = [
        {"service": name, "result": _RESULTS[found.passed], **asdict(found)}
        for name in names or tuple(configuration.services)
        for found in _check(configuration, name)
    ]
    columns = {"service": "SERVICE", "name": "CHECK", "result": "RESULT", "detail": "DETAIL", "remedy": "REMEDY"}
    show(rows, columns, output, empty="No service is configured.")
    if any(row["passed"] is False for row in rows):
        sys.exit(_FOUND_MISSING)


_RESULTS = {True: "ok", False: "MISSING", None: "unknown"}


def _profiles(configuration: Configuration, name: str) -> list[Profile]:
    return [profile for profile in configuration.profiles.values() if profile.service == name]


def _check(configuration: Configuration, name: str) -> Iterable[Check]:
    found = configuration.services[name]
    try:
        controller = load_class(found.driver.controller)(found.settings, configuration.cluster)
    except PollyError as error:
        return [_failed("driver", error)]
    try:
        return list(controller.check(_profiles(configuration, name)))
    except PollyError as error:
        return [_failed("platform", error)]
    finally:
        controller.close()


def _failed(what: str, error: PollyError) -> Check:
    return Check(what, False, error.message, error.remedy)
